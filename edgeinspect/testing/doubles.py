"""Cameras and engines that follow a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.cameras import FramePacer
from edgeinspect.domain import (
    EXTENDED_CONTRACT,
    GOOD_PARTS_CONTRACT,
    HEAT_MAP_CELL_PX,
    FrameShape,
    Grab,
    LearnedFrom,
    ModelId,
    ModelKind,
    ModelSpec,
    Part,
    Pixels,
    Precision,
    SystemClock,
)
from edgeinspect.errors import CameraLostError
from edgeinspect.ports import CameraFinished


class ScriptedCamera:
    """Delivers the grabs of a script; an exception in the script is raised in its turn."""

    def __init__(
        self, script: Sequence[Grab | Exception | None], period_ns: int | None = None
    ) -> None:
        self._script = list(script)
        self.period_ns = period_ns
        self.open_count = 0
        self.leased_count = 0

    def open(self) -> None:
        self.open_count += 1

    def grab(self, timeout_ns: int) -> Grab | None:
        if not self._script:
            raise CameraFinished
        item = self._script.pop(0)
        if isinstance(item, Exception):
            raise item
        if item is not None:
            self.leased_count += 1
        return item

    def release(self, grab: Grab) -> None:
        self.leased_count -= 1

    def trigger(self, part: Part) -> None:
        raise CameraLostError("accepts no trigger")

    def close(self) -> None:
        """Nothing to close."""


class NoiseCamera:
    """Noise at a rate; with parts, every seventh frame is bright enough to be rejected.

    Args:
        shape: Of a frame.
        rate_hz: Frames a second.
        frames: Number of frames until it is finished.
        parts: Prefix of each frame's part id; None for frames without part ids.
    """

    def __init__(
        self, shape: FrameShape, rate_hz: float, frames: int = 1 << 62, parts: str | None = None
    ) -> None:
        self.sent_count = 0
        self._shape = shape
        self._pace = FramePacer("rate", rate_hz, SystemClock())
        self._frames = frames
        self._parts = parts
        self._rng = np.random.default_rng(1)

    @property
    def period_ns(self) -> int | None:
        return self._pace.period_ns

    def open(self) -> None:
        self._pace.start()

    def grab(self, timeout_ns: int) -> Grab | None:
        if self.sent_count >= self._frames:
            raise CameraFinished
        due = self._pace.wait(timeout_ns)
        if due is None:
            return None
        self.sent_count += 1
        pixels = self._rng.integers(20, 60, self._shape.dims, np.uint8)
        if self._parts is None:
            return Grab(pixels, self.sent_count, due[0])
        pixels[0, 0] = 255 if self.sent_count % 7 == 0 else 20
        part = Part(f"{self._parts}{self.sent_count}", encoder_count=10 * self.sent_count)
        return Grab(pixels, self.sent_count, due[0], part=part)

    def release(self, grab: Grab) -> None:
        """Each frame has its own memory."""

    def trigger(self, part: Part) -> None:
        raise CameraLostError("accepts no trigger")

    def close(self) -> None:
        """Nothing to close."""


class ScriptedEngine:
    """An engine whose outputs are a given function of the image; `take_time` runs first."""

    def __init__(
        self,
        spec: ModelSpec,
        outputs: Callable[[Pixels], tuple[NDArray[np.generic], ...]],
        take_time: Callable[[], None] = lambda: None,
    ) -> None:
        self._spec = spec
        self._outputs = outputs
        self._take_time = take_time
        self.call_count = 0
        self.is_closed = False

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def infer(self, image: Pixels) -> tuple[NDArray[np.generic], ...]:
        self.call_count += 1
        self._take_time()
        return self._outputs(image)

    def close(self) -> None:
        self.is_closed = True


def model_spec(
    kind: ModelKind,
    shape: FrameShape,
    classes: tuple[str, ...] = ("defect",),
    stride: int = 1,
    **changes: Any,
) -> ModelSpec:
    """Return a spec for a scripted engine, without a file."""
    return ModelSpec(
        id=ModelId(f"scripted-{kind.value}", 1, "0" * 64),
        kind=kind,
        path=Path("none.onnx"),
        shape=shape,
        color="mono",
        classes=classes,
        output_stride=stride,
        precision=Precision.FP32,
        thresholds={},
        **changes,
    )


def brightness_gate(
    shape: FrameShape, take_time: Callable[[], None] = lambda: None
) -> ScriptedEngine:
    """Return a gate whose defect probability is the first pixel divided by 255."""

    def outputs(image: Pixels) -> tuple[NDArray[np.generic], ...]:
        return (np.array([image.flat[0] / 255], np.float32),)

    return ScriptedEngine(model_spec(ModelKind.GATE, shape), outputs, take_time)


def kinds_gate(
    shape: FrameShape,
    kinds: tuple[str, ...] = ("pit", "scratch"),
    take_time: Callable[[], None] = lambda: None,
) -> ScriptedEngine:
    """Return a gate of contract 2: the probability of kind i is pixel i divided by 255."""

    def outputs(image: Pixels) -> tuple[NDArray[np.generic], ...]:
        probs = image.reshape(-1)[: len(kinds)].astype(np.float32)[None] / np.float32(255)
        return np.minimum(probs.sum(axis=1), 1), probs

    spec = model_spec(ModelKind.GATE, shape, kinds, contract=EXTENDED_CONTRACT)
    return ScriptedEngine(spec, outputs, take_time)


def last_pixel_unknown(
    shape: FrameShape, take_time: Callable[[], None] = lambda: None
) -> ScriptedEngine:
    """Return a good-parts model: its score is the last pixel / 255, pixels of 77 are unknown.

    Its heat map is the brightest pixel of each cell.
    """

    def outputs(image: Pixels) -> tuple[NDArray[np.generic], ...]:
        class_map = (image[:, :, 0] == 77).astype(np.uint8)
        area = np.array([[class_map.sum()]], np.float32)
        prob = np.array([image.flat[-1] / 255], np.float32)
        heat_map = np.zeros((1, *spec.heat_map_size), np.uint8)
        rows, columns = np.indices(class_map.shape) // HEAT_MAP_CELL_PX
        np.maximum.at(heat_map[0], (rows, columns), image[:, :, 0])
        return class_map[None], area, prob[None] * (area > 0), prob, heat_map

    spec = model_spec(
        ModelKind.SEGMENTER,
        shape,
        ("unknown",),
        contract=GOOD_PARTS_CONTRACT,
        learned_from=LearnedFrom.GOOD,
    )
    return ScriptedEngine(
        replace(spec, id=replace(spec.id, name="scripted-unknown")), outputs, take_time
    )


def pixel_segmenter(
    shape: FrameShape,
    classes: tuple[str, ...] = ("dark", "bright"),
    take_time: Callable[[], None] = lambda: None,
) -> ScriptedEngine:
    """Return a segmenter of stride 1 whose class map is the image: values 1 to K are classes."""

    def outputs(image: Pixels) -> tuple[NDArray[np.generic], ...]:
        class_map = np.where(image[:, :, 0] <= len(classes), image[:, :, 0], 0)
        areas = np.array(
            [[np.count_nonzero(class_map == i + 1) for i in range(len(classes))]], np.float32
        )
        scores = np.where(areas > 0, 0.9, 0.0).astype(np.float32)
        return class_map.astype(np.uint8)[None], areas, scores

    return ScriptedEngine(model_spec(ModelKind.SEGMENTER, shape, classes), outputs, take_time)
