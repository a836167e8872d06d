"""A camera that delivers images of synthetic steel strip with known ground truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from edgeinspect.cameras._frame_rate import FramePacer
from edgeinspect.domain import Clock, Grab, Part, Pixels
from edgeinspect.imaging import render_strip
from edgeinspect.ports import CameraFinished


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: synthetic`."""

    height_px: Annotated[int, Meta(ge=64, le=4096)] = 256
    width_px: Annotated[int, Meta(ge=64, le=16384)] = 1600
    seed: Annotated[int, Meta(ge=0, lt=1 << 31)] = 2026
    """Seed of the strip; the shipped models were trained on other seeds."""
    pictures: Annotated[int, Meta(ge=1, le=2_000)] = 64
    """Number of different images, rendered before the first frame and repeated."""
    frames: Annotated[int, Meta(ge=1)] | None = None
    """Number of frames; absent: unlimited."""
    pace: Literal["rate", "max", "trigger"] = "rate"
    rate_hz: Annotated[float, Meta(gt=0, le=10_000)] = 10.0


class SyntheticCamera:
    """Delivers rendered images. For threads see `ports.Camera`."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options = options
        self._pace = FramePacer(options.pace, options.rate_hz, clock)
        self._images: list[Pixels] = []
        self._has_defect: list[bool] = []
        self._frame_id = 0

    def render_images(self, progress: Callable[[int], None] = lambda done: None) -> None:
        """Render the images before the line starts. No effect if they are rendered."""
        options = self._options
        for index in range(len(self._images), options.pictures):
            strip = render_strip(options.seed, index, options.height_px, options.width_px)
            self._images.append(np.ascontiguousarray(strip.image)[:, :, None])
            self._has_defect.append(strip.has_defect)
            progress(index + 1)

    @property
    def ground_truth(self) -> Sequence[bool]:
        """Return whether each image has a defect; frame i shows image (i - 1) % len."""
        return self._has_defect

    @property
    def period_ns(self) -> int | None:
        return self._pace.period_ns

    def open(self) -> None:
        self.render_images()
        self._pace.start()

    def grab(self, timeout_ns: int) -> Grab | None:
        options = self._options
        if options.frames is not None and self._frame_id >= options.frames:
            raise CameraFinished
        due = self._pace.wait(timeout_ns)
        if due is None:
            return None
        at_ns, part = due
        index = self._frame_id % len(self._images)
        self._frame_id += 1
        return Grab(
            pixels=self._images[index],
            camera_frame_id=self._frame_id,
            captured_at_ns=at_ns,
            part=part,
            label=f"strip-{options.seed}-{index}",
        )

    def release(self, grab: Grab) -> None:
        """Nothing to release: the images are reused."""

    def trigger(self, part: Part) -> None:
        self._pace.trigger(part)

    def close(self) -> None:
        """Nothing to close."""


def build(options: Options, clock: Clock) -> SyntheticCamera:
    """Return a synthetic camera, not yet opened."""
    return SyntheticCamera(options, clock)
