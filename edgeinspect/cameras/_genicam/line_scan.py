"""Line-scan: blocks of rows put together into frames of a set height, with overlap.

A defect on the seam between two frames would be cut in two and each half be too small; the
overlap shows it whole in one of them.
"""

from __future__ import annotations

from collections import deque
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from edgeinspect.domain.camera import CameraCounts
from edgeinspect.domain.frame import NO_PART, ClockSource, Grab, Part, Pixels
from edgeinspect.errors import UsageError
from edgeinspect.ports import Camera

_GAP_MAX = 1000
"""Blocks; a larger step of the camera's count is a restart, not a loss."""


class Rows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How blocks of rows become frames."""

    height_px: Annotated[int, Meta(ge=2, le=65_536)]
    """Rows of a frame; the models' height."""
    overlap_px: Annotated[int, Meta(ge=0, le=65_535)] = 0
    """Rows that a frame repeats from the one before; less than `height_px`."""

    def __post_init__(self) -> None:
        if self.overlap_px >= self.height_px:
            raise ValueError("`overlap_px` must be less than `height_px`")


class RowCamera:
    """Frames from a camera that delivers rows. See `ports.Camera` for threads.

    A frame's instant is that of the block that completes it: its newest rows have just been
    exposed. A frame with rows of a block that was lost is lost; the rows are counted, so
    the frames after it stand where they would have stood.
    """

    tells_losses = True
    """Each frame that was lost is a grab of its own, marked `lost`."""

    def __init__(self, camera: Camera, rows: Rows) -> None:
        self._camera = camera
        self._rows = rows
        self._height_px = rows.height_px
        self._step_px = rows.height_px - rows.overlap_px
        self._ready: deque[Grab] = deque()
        self._spare: list[Pixels] = []
        self._frame: Pixels | None = None
        self._filled = 0
        self._bad_until = 0
        self._problem = ""
        self._count = 0
        self._last_id = 0
        self._block_px = 0

    @property
    def period_ns(self) -> int | None:
        period_ns = self._camera.period_ns
        if period_ns is None or not self._block_px:
            return None
        return max(1, period_ns * self._step_px // self._block_px)

    def open(self) -> None:
        self._camera.open()
        self._ready.clear()
        self._filled = self._bad_until = self._last_id = 0

    def grab(self, timeout_ns: int) -> Grab | None:
        if not self._ready:
            block = self._camera.grab(timeout_ns)
            if block is None:
                return None
            try:
                self._take(block)
            finally:
                self._camera.release(block)
        return self._ready.popleft() if self._ready else None

    def release(self, grab: Grab) -> None:
        if grab.pixels is not None and len(self._spare) < 8:
            self._spare.append(grab.pixels)

    def trigger(self, part: Part) -> None:
        raise UsageError("a line-scan camera's frames have no trigger each")

    def close(self) -> None:
        self._camera.close()

    @property
    def counts(self) -> CameraCounts:
        """What the camera below counted, in blocks."""
        counts = getattr(self._camera, "counts", CameraCounts())
        assert isinstance(counts, CameraCounts)
        return counts

    def read_temperature(self) -> float | None:
        """Of the camera below; None if it offers none."""
        read = getattr(self._camera, "read_temperature", None)
        value = None if read is None else read()
        assert value is None or isinstance(value, float)
        return value

    def _take(self, block: Grab) -> None:
        last, self._last_id = self._last_id, block.camera_frame_id
        missing = block.camera_frame_id - last - 1 if last else 0
        if 0 < missing <= _GAP_MAX:
            for _ in range(missing):
                self._skip(self._block_px, "blocks of rows never came", block)
        if block.pixels is None:
            self._skip(self._block_px, block.problem, block)
            return
        self._block_px = block.pixels.shape[0]
        self._copy(block.pixels, block)

    def _skip(self, count: int, problem: str, block: Grab) -> None:
        """Advance over rows that nobody has."""
        while count:
            take = min(count, self._height_px - self._filled)
            self._filled += take
            self._bad_until = self._filled
            self._problem = problem
            count -= take
            self._emit_if_full(block)

    def _copy(self, pixels: Pixels, block: Grab) -> None:
        at = 0
        while at < pixels.shape[0]:
            frame = self._frame
            if frame is None or frame.shape[1:] != pixels.shape[1:]:
                frame = self._frame = self._new_frame(pixels)
                self._filled = min(self._filled, self._bad_until)  # other rows do not fit here
            take = min(pixels.shape[0] - at, self._height_px - self._filled)
            frame[self._filled : self._filled + take] = pixels[at : at + take]
            self._filled += take
            at += take
            self._emit_if_full(block)

    def _emit_if_full(self, block: Grab) -> None:
        if self._filled < self._height_px:
            return
        self._count += 1
        at_ns, source = block.captured_at_ns, block.clock_source
        frame, overlap = self._frame, self._rows.overlap_px
        if self._bad_until or frame is None:
            self._ready.append(self._lost(at_ns, source))
        else:
            self._ready.append(Grab(frame, self._count, at_ns, NO_PART, source))
            self._frame = self._new_frame(frame)
        if overlap and frame is not None and self._frame is not None:
            self._frame[:overlap] = frame[self._step_px :]
        self._bad_until = max(0, self._bad_until - self._step_px)
        self._filled = overlap

    def _lost(self, at_ns: int, source: ClockSource) -> Grab:
        return Grab(None, self._count, at_ns, NO_PART, source, problem=self._problem, lost=True)

    def _new_frame(self, like: Pixels) -> Pixels:
        dims = (self._height_px, *like.shape[1:])
        while self._spare:
            spare = self._spare.pop()
            if spare.shape == dims:
                return spare
        return np.empty(dims, np.uint8)


def assemble(camera: Camera, rows: Rows | None) -> Camera:
    """The camera itself, or its rows put together."""
    return camera if rows is None else RowCamera(camera, rows)
