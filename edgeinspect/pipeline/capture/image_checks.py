"""Checks whether an image can be inspected: not black, saturated, frozen or of another size.

The checks sample sixteen whole rows over the image, which costs some 25 us at 256 by 1600 and
detects what they are for: a lamp that is off, a shutter that is open too long, a camera that
sends the same buffer again and again. They work on bytes in plain Python: right after an
inference the code of numpy's and OpenCV's reductions is no longer in the cache, and loading it
takes longer (60 us) than the check.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeinspect.domain import FrameShape, Grab, Pixels, Reason

_SAMPLED_ROWS = 16
_SAMPLED_VALUES_MIN = 256
"""Least number of values that the grey level is computed from."""
_STEPS = (61, 7, 1)
"""Distance between sampled values; none is a multiple of 3, so that all channels are sampled."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """See `config.ImageHealthConfig`."""

    dark_level: float
    bright_level: float
    frozen_frames: int


def shape_problem(
    grab: Grab, expected: FrameShape, is_letterboxed: bool
) -> tuple[Reason, str] | None:
    """Return why a grab does not fit into a ring slot; None if it does."""
    pixels = grab.pixels
    if pixels is None:
        reason = Reason.CAPTURE_LOST if grab.lost else Reason.CAPTURE_ERROR
        return reason, grab.problem or "the camera delivered no image"
    if pixels.ndim != 3 or pixels.shape[2] != expected.channels or 0 in pixels.shape:
        shape = "x".join(str(size) for size in pixels.shape)
        return Reason.SHAPE, f"{shape} where {expected} is expected"
    if pixels.shape != expected.dims and not is_letterboxed:
        return Reason.SHAPE, f"{pixels.shape[0]}x{pixels.shape[1]} where {expected} is expected"
    return None


class ImageChecker:
    """Checks the images of one camera, one after the other. Used by its capture thread."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        self._last_sample = b""
        self._same_sample_run = 0
        self._last_frame_id = -1
        self._same_frame_id_run = 0

    def problem(self, pixels: Pixels, grab: Grab) -> str:
        """Return why an image cannot be inspected; empty if it can."""
        limits = self._limits
        row_step = max(1, pixels.shape[0] // _SAMPLED_ROWS)
        sample = pixels[row_step // 2 :: row_step].tobytes()
        step = next(
            step for step in _STEPS if len(sample) >= step * _SAMPLED_VALUES_MIN or step == 1
        )
        values = sample[::step]
        level = sum(values) / len(values)
        frozen = self._frozen_problem(sample) if limits.frozen_frames else ""
        if level < limits.dark_level:
            return f"black: mean grey {level:.1f} is below {limits.dark_level:g}"
        if level > limits.bright_level:
            return f"saturated: mean grey {level:.1f} is above {limits.bright_level:g}"
        return frozen or (self._frame_id_problem(grab) if limits.frozen_frames else "")

    def _frozen_problem(self, sample: bytes) -> str:
        self._same_sample_run = self._same_sample_run + 1 if sample == self._last_sample else 0
        self._last_sample = sample
        if self._same_sample_run < self._limits.frozen_frames:
            return ""
        return f"frozen: {self._same_sample_run + 1} images in a row are the same"

    def _frame_id_problem(self, grab: Grab) -> str:
        is_same = grab.camera_frame_id == self._last_frame_id
        self._same_frame_id_run = self._same_frame_id_run + 1 if is_same else 0
        self._last_frame_id = grab.camera_frame_id
        if self._same_frame_id_run < self._limits.frozen_frames:
            return ""
        return f"frozen: the camera's frame counter is still at {grab.camera_frame_id}"
