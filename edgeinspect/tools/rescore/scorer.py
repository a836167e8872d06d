"""Scoring of chunks: exactly one result for each frame, even if its image cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeinspect.domain import ModelKind, ModelSpec
from edgeinspect.errors import DataError, EngineFault
from edgeinspect.imaging import ReadSettings, letterbox_image, read_image
from edgeinspect.ports import Engine
from edgeinspect.system import decode_json, unescape_name
from edgeinspect.tools.rescore.plan import RescoreFrame


class FrameScore(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Result of one frame."""

    frame: str
    defect_prob: float | None = None
    """Probability of a gate, or of a good-parts model."""
    kind_prob: dict[str, float] = {}
    """Probabilities of a gate's kinds."""
    area_px: dict[str, float] = {}
    """Areas of a segmenter by class, in frame pixels; classes without a pixel are omitted."""
    score: dict[str, float] = {}
    problem: str = ""
    """Why there is no result: the image is missing or damaged, or the engine failed."""


@dataclass(frozen=True, slots=True)
class ScorerConfig:
    """What a scorer loads; sent to other processes and machines."""

    source: str
    model: str
    backend: str
    store: str | None = None


class FrameScorer:
    """Scores frames with one engine. Not thread-safe.

    Ray creates one from a `ScorerConfig` in each worker and calls it with a row.
    """

    def __init__(self, config: ScorerConfig, engine: Engine | None = None) -> None:
        """Load the engine unless one is given."""
        self._source = Path(config.source)
        self.engine = engine or open_scorer_engine(config)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Score one chunk: a row `{chunk, frames}` of a Ray data set."""
        frames = decode_json(row["frames"], list[RescoreFrame])
        return {"chunk": row["chunk"], "results": self.score_chunk(frames)}

    def score_chunk(self, frames: Sequence[RescoreFrame]) -> bytes:
        """Return the results of frames in their order, as JSON lines."""
        return b"".join(msgspec.json.encode(self.score_frame(frame)) + b"\n" for frame in frames)

    def score_frame(self, frame: RescoreFrame) -> FrameScore:
        """Score one frame; problems of the frame are a result, not an exception."""
        try:
            outputs: Any = self.engine.infer(self._read_image(frame))
        except (DataError, EngineFault) as error:
            return FrameScore(frame=frame.name, problem=str(error))
        spec = self.engine.spec
        if spec.kind is ModelKind.GATE:
            prob = float(outputs[0][0])
            if prob != prob:
                return FrameScore(frame=frame.name, problem="the gate returned NaN")
            kinds = outputs[1][0].tolist() if spec.kinds else ()
            kind_prob = {
                name: round(each, 6) for name, each in zip(spec.kinds, kinds, strict=False)
            }
            return FrameScore(frame=frame.name, defect_prob=prob, kind_prob=kind_prob)
        image_prob = float(outputs[3][0]) if len(spec.outputs) > 3 else None
        if image_prob is not None and image_prob != image_prob:
            return FrameScore(frame=frame.name, problem="the model returned NaN")
        areas, scores = outputs[1][0] * spec.output_stride**2, outputs[2][0]
        classes_found = np.flatnonzero(areas).tolist()
        return FrameScore(
            frame=frame.name,
            defect_prob=image_prob,
            area_px={spec.classes[index]: float(areas[index]) for index in classes_found},
            score={spec.classes[index]: round(float(scores[index]), 6) for index in classes_found},
        )

    def _read_image(self, frame: RescoreFrame) -> Any:
        path, spec = self._source / unescape_name(frame.path), self.engine.spec
        image = read_image(path, ReadSettings(spec.color, frame.bits, frame.flat_end))
        height, width = spec.shape.height_px, spec.shape.width_px
        if image.shape[:2] != (height, width):
            image = letterbox_image(image, height, width)[0]
        return np.ascontiguousarray(image.reshape(spec.shape.dims))


def open_scorer_engine(config: ScorerConfig) -> Engine:
    """Load the engine that a configuration names."""
    from edgeinspect.learning.evaluate import load_engine
    from edgeinspect.storage.model_store import ModelStore

    store = ModelStore(Path(config.store)) if config.store else None
    return load_engine(config.model, config.backend, store=store)


def read_model_spec(config: ScorerConfig) -> ModelSpec:
    """Return the specification of the configured model; it is loaded and closed again."""
    engine = open_scorer_engine(config)
    try:
        return engine.spec
    finally:
        engine.close()
