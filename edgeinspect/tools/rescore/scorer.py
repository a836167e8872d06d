"""Judging chunks of frames: exactly one result for each, whatever its picture is like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeinspect.domain.model import ModelKind, ModelSpec
from edgeinspect.errors import DataError, EngineFault
from edgeinspect.imaging.image_file import Reading, read
from edgeinspect.imaging.letterbox import letterbox
from edgeinspect.ports import Engine
from edgeinspect.system.decoding import decode_json
from edgeinspect.system.regular_file import unprintable
from edgeinspect.tools.rescore.plan import Frame


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
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
class Request:
    """What a scorer needs; goes to other processes and machines."""

    source: str
    model: str
    backend: str
    store: str | None = None


class Scorer:
    """Loads the engine once. Not thread-safe; a process has one.

    Ray makes it from a `Request` in each worker and calls it with a row.
    """

    def __init__(self, request: Request, engine: Engine | None = None) -> None:
        """Open the engine; raises as `evaluate.opening.open_engine`."""
        self._source = Path(request.source)
        self.engine = engine or open_request(request)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Judge one chunk: `{chunk, frames}` as it lies in a Ray data set."""
        frames = decode_json(row["frames"], list[Frame])
        return {"chunk": row["chunk"], "part": self.part(frames)}

    def part(self, frames: Sequence[Frame]) -> bytes:
        """The results of some frames in their order, a line of JSON each."""
        return b"".join(msgspec.json.encode(self.judge(frame)) + b"\n" for frame in frames)

    def judge(self, frame: Frame) -> Result:
        """One frame; never raises for the frame's own sake."""
        try:
            outputs: Any = self.engine.infer(self._read(frame))
        except (DataError, EngineFault) as error:
            return Result(frame=frame.name, problem=str(error))
        spec = self.engine.spec
        if spec.kind is ModelKind.GATE:
            prob = float(outputs[0][0])
            if prob != prob:
                return Result(frame=frame.name, problem="the gate gave no number")
            return Result(frame=frame.name, defect_prob=prob)
        areas, scores = outputs[1][0] * spec.output_stride**2, outputs[2][0]
        found = np.flatnonzero(areas).tolist()
        return Result(
            frame=frame.name,
            area_px={spec.classes[index]: float(areas[index]) for index in found},
            score={spec.classes[index]: round(float(scores[index]), 6) for index in found},
        )

    def _read(self, frame: Frame) -> Any:
        path, spec = self._source / unprintable(frame.path), self.engine.spec
        picture = read(path, Reading(spec.color, frame.bits, frame.flat_end))
        height, width = spec.shape.height_px, spec.shape.width_px
        if picture.shape[:2] != (height, width):
            picture = letterbox(picture, height, width)[0]
        return np.ascontiguousarray(picture.reshape(spec.shape.dims))


def open_request(request: Request) -> Engine:
    """The engine that a request names."""
    from edgeinspect.learning.evaluate.open_model import open_engine
    from edgeinspect.storage.model_store import Store

    store = Store(Path(request.store)) if request.store else None
    return open_engine(request.model, request.backend, store=store)


def spec_of(request: Request, opened: Callable[[Request], Engine] = open_request) -> ModelSpec:
    """The model that a request names: verified, loaded once, and let go."""
    engine = opened(request)
    try:
        return engine.spec
    finally:
        engine.close()
