"""Judging chunks of frames: exactly one result for each, whatever its picture is like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeinspect.domain import ModelKind, ModelSpec
from edgeinspect.errors import DataError, EngineFault
from edgeinspect.imaging import ReadSettings, read_image
from edgeinspect.imaging.letterbox import letterbox
from edgeinspect.ports import Engine
from edgeinspect.system import decode_json, unescape_name
from edgeinspect.tools.rescore.plan import RescoreFrame


class FrameScore(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the engine says of one frame."""

    frame: str
    defect_prob: float | None = None
    """A gate's."""
    area_px: dict[str, float] = {}
    """A segmenter's, by class, in frame pixels; classes without a pixel are left out."""
    score: dict[str, float] = {}
    problem: str = ""
    """Why there is no result, in words: the picture is gone or broken, or the engine failed."""


@dataclass(frozen=True, slots=True)
class ScorerConfig:
    """What a scorer needs; goes to other processes and machines."""

    source: str
    model: str
    backend: str
    store: str | None = None


class FrameScorer:
    """Loads the engine once. Not thread-safe; a process has one.

    Ray makes it from a `Request` in each worker and calls it with a row.
    """

    def __init__(self, request: ScorerConfig, engine: Engine | None = None) -> None:
        """Open the engine; raises as `evaluate.opening.open_engine`."""
        self._source = Path(request.source)
        self.engine = engine or open_scorer_engine(request)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Judge one chunk: `{chunk, frames}` as it lies in a Ray data set."""
        frames = decode_json(row["frames"], list[RescoreFrame])
        return {"chunk": row["chunk"], "part": self.score_chunk(frames)}

    def score_chunk(self, frames: Sequence[RescoreFrame]) -> bytes:
        """The results of some frames in their order, a line of JSON each."""
        return b"".join(msgspec.json.encode(self.score_frame(frame)) + b"\n" for frame in frames)

    def score_frame(self, frame: RescoreFrame) -> FrameScore:
        """One frame; never raises for the frame's own sake."""
        try:
            outputs: Any = self.engine.infer(self._read_image(frame))
        except (DataError, EngineFault) as error:
            return FrameScore(frame=frame.name, problem=str(error))
        spec = self.engine.spec
        if spec.kind is ModelKind.GATE:
            prob = float(outputs[0][0])
            if prob != prob:
                return FrameScore(frame=frame.name, problem="the gate gave no number")
            return FrameScore(frame=frame.name, defect_prob=prob)
        areas, scores = outputs[1][0] * spec.output_stride**2, outputs[2][0]
        found = np.flatnonzero(areas).tolist()
        return FrameScore(
            frame=frame.name,
            area_px={spec.classes[index]: float(areas[index]) for index in found},
            score={spec.classes[index]: round(float(scores[index]), 6) for index in found},
        )

    def _read_image(self, frame: RescoreFrame) -> Any:
        path, spec = self._source / unescape_name(frame.path), self.engine.spec
        picture = read_image(path, ReadSettings(spec.color, frame.bits, frame.flat_end))
        height, width = spec.shape.height_px, spec.shape.width_px
        if picture.shape[:2] != (height, width):
            picture = letterbox(picture, height, width)[0]
        return np.ascontiguousarray(picture.reshape(spec.shape.dims))


def open_scorer_engine(request: ScorerConfig) -> Engine:
    """The engine that a request names."""
    from edgeinspect.learning.evaluate import load_engine
    from edgeinspect.storage.model_store import ModelStore

    store = ModelStore(Path(request.store)) if request.store else None
    return load_engine(request.model, request.backend, store=store)


def read_model_spec(
    request: ScorerConfig, opened: Callable[[ScorerConfig], Engine] = open_scorer_engine
) -> ModelSpec:
    """The model that a request names: verified, loaded once, and let go."""
    engine = opened(request)
    try:
        return engine.spec
    finally:
        engine.close()
