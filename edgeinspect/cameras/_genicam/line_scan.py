"""Line-scan: assembles blocks of rows into frames of a fixed height, with overlap.

A defect on the border of two frames would be split into halves that are too small to be found;
with the overlap it is complete in one of them.
"""

from __future__ import annotations

from collections import deque
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from edgeinspect.domain import (
    NO_PART,
    CameraCounts,
    ClockSource,
    FrameGapDetector,
    Grab,
    Part,
    Pixels,
)
from edgeinspect.errors import UsageError
from edgeinspect.ports import Camera, CameraStatistics, LossReportingCamera

_POOL_MAX = 8
"""Most frames that are kept for reuse."""


class LineScanOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options for assembling blocks of rows into frames."""

    height_px: Annotated[int, Meta(ge=2, le=65_536)]
    """Rows of a frame: the height of the models."""
    overlap_px: Annotated[int, Meta(ge=0, le=65_535)] = 0
    """Rows that a frame repeats from the previous one; less than `height_px`."""

    def __post_init__(self) -> None:
        if self.overlap_px >= self.height_px:
            raise ValueError("`overlap_px` must be less than `height_px`")


class LineScanCamera(LossReportingCamera, CameraStatistics):
    """Frames from a camera that delivers rows. For threads see `ports.Camera`.

    The instant of a frame is that of the block that completes it, as its newest rows have just
    been exposed. A frame with rows of a lost block is lost. Lost rows are counted, so that the
    position of later frames does not change.
    """

    reports_lost_frames = True
    """Each lost frame is delivered as a grab marked `lost`."""

    def __init__(self, camera: Camera, options: LineScanOptions) -> None:
        self._camera = camera
        self._options = options
        self._height_px = options.height_px
        self._step_px = options.height_px - options.overlap_px
        self._ready_grabs: deque[Grab] = deque()
        self._pool: list[Pixels] = []
        self._frame: Pixels | None = None
        self._filled_rows = 0
        self._invalid_until_row = 0
        self._problem = ""
        self._frame_id = 0
        self._gaps = FrameGapDetector()
        self._block_rows = 0

    @property
    def period_ns(self) -> int | None:
        period_ns = self._camera.period_ns
        if period_ns is None or not self._block_rows:
            return None
        return max(1, period_ns * self._step_px // self._block_rows)

    def open(self) -> None:
        self._camera.open()
        self._ready_grabs.clear()
        self._gaps.reset()
        self._filled_rows = self._invalid_until_row = 0

    def grab(self, timeout_ns: int) -> Grab | None:
        if not self._ready_grabs:
            block = self._camera.grab(timeout_ns)
            if block is None:
                return None
            try:
                self._add_block(block)
            finally:
                self._camera.release(block)
        return self._ready_grabs.popleft() if self._ready_grabs else None

    def release(self, grab: Grab) -> None:
        if grab.pixels is not None and len(self._pool) < _POOL_MAX:
            self._pool.append(grab.pixels)

    def trigger(self, part: Part) -> None:
        raise UsageError("frames of a line-scan camera cannot be triggered")

    def close(self) -> None:
        self._camera.close()

    @property
    def counts(self) -> CameraCounts:
        """Return the counts of the wrapped camera, in blocks."""
        camera = self._camera
        return camera.counts if isinstance(camera, CameraStatistics) else CameraCounts()

    def read_temperature(self) -> float | None:
        """Return the temperature of the wrapped camera; None if unknown."""
        camera = self._camera
        return camera.read_temperature() if isinstance(camera, CameraStatistics) else None

    def _add_block(self, block: Grab) -> None:
        for _ in self._gaps.missing_ids(block.camera_frame_id):
            self._skip_rows(self._block_rows, "blocks of rows were not received", block)
        if block.pixels is None:
            self._skip_rows(self._block_rows, block.problem, block)
            return
        self._block_rows = block.pixels.shape[0]
        self._copy_rows(block.pixels, block)

    def _skip_rows(self, count: int, problem: str, block: Grab) -> None:
        """Advance over missing rows."""
        while count:
            rows = min(count, self._height_px - self._filled_rows)
            self._filled_rows += rows
            self._invalid_until_row = self._filled_rows
            self._problem = problem
            count -= rows
            self._emit_if_full(block)

    def _copy_rows(self, pixels: Pixels, block: Grab) -> None:
        at = 0
        while at < pixels.shape[0]:
            frame = self._frame
            if frame is None or frame.shape[1:] != pixels.shape[1:]:
                frame = self._frame = self._allocate_frame(pixels)
                self._filled_rows = min(
                    self._filled_rows, self._invalid_until_row
                )  # drop rows of another shape
            rows = min(pixels.shape[0] - at, self._height_px - self._filled_rows)
            frame[self._filled_rows : self._filled_rows + rows] = pixels[at : at + rows]
            self._filled_rows += rows
            at += rows
            self._emit_if_full(block)

    def _emit_if_full(self, block: Grab) -> None:
        if self._filled_rows < self._height_px:
            return
        self._frame_id += 1
        at_ns, source = block.captured_at_ns, block.clock_source
        frame, overlap = self._frame, self._options.overlap_px
        if self._invalid_until_row or frame is None:
            self._ready_grabs.append(self._lost_grab(at_ns, source))
        else:
            self._ready_grabs.append(Grab(frame, self._frame_id, at_ns, NO_PART, source))
            self._frame = self._allocate_frame(frame)
        if overlap and frame is not None and self._frame is not None:
            self._frame[:overlap] = frame[self._step_px :]
        self._invalid_until_row = max(0, self._invalid_until_row - self._step_px)
        self._filled_rows = overlap

    def _lost_grab(self, at_ns: int, source: ClockSource) -> Grab:
        return Grab(None, self._frame_id, at_ns, NO_PART, source, problem=self._problem, lost=True)

    def _allocate_frame(self, like: Pixels) -> Pixels:
        shape = (self._height_px, *like.shape[1:])
        while self._pool:
            spare = self._pool.pop()
            if spare.shape == shape:
                return spare
        return np.empty(shape, np.uint8)


def wrap_line_scan(camera: Camera, options: LineScanOptions | None) -> Camera:
    """Return the camera, wrapped in a `LineScanCamera` if options are given."""
    return camera if options is None else LineScanCamera(camera, options)
