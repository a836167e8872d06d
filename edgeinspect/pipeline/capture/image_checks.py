"""Can this picture be judged at all? Black, saturated, or frozen pictures cannot.

The checks read sixteen whole rows, spread over the picture, which costs some 25 us on 256 by
1600 and sees what they are after: a lamp that is off, a shutter that is open too long, a
camera that sends one buffer for ever. They are plain bytes and plain Python: right after an
inference the code of numpy's and OpenCV's reductions is no longer in the cache, and fetching
it takes longer (60 us) than what it is called for.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeinspect.domain import FrameShape, Grab, Pixels, Reason

_SAMPLED_ROWS = 16
_SAMPLED_VALUES_MIN = 256
"""Least number of values that the grey level is taken from."""
_STEPS = (61, 7, 1)
"""From value to value; none is a multiple of 3, so that every channel is seen."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """See `config.schema.ImageHealthConfig`."""

    dark_level: float
    bright_level: float
    frozen_frames: int


def shape_problem(
    grab: Grab, expected: FrameShape, is_letterboxed: bool
) -> tuple[Reason, str] | None:
    """Why a grab cannot go into a slot at all: no picture, or another size; None if it can."""
    pixels = grab.pixels
    if pixels is None:
        reason = Reason.CAPTURE_LOST if grab.lost else Reason.CAPTURE_ERROR
        return reason, grab.problem or "the camera gave no picture"
    if pixels.ndim != 3 or pixels.shape[2] != expected.channels or 0 in pixels.shape:
        found = "x".join(str(size) for size in pixels.shape)
        return Reason.SHAPE, f"{found} where {expected} is expected"
    if pixels.shape != expected.dims and not is_letterboxed:
        return Reason.SHAPE, f"{pixels.shape[0]}x{pixels.shape[1]} where {expected} is expected"
    return None


class ImageChecker:
    """Watches the pictures of one camera. For its capture thread."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        self._last_sample = b""
        self._same_sample_run = 0
        self._last_frame_id = -1
        self._same_frame_id_run = 0

    def problem(self, pixels: Pixels, grab: Grab) -> str:
        """What is wrong with a picture, in words; empty if it can be judged."""
        limits = self._limits
        step = max(1, pixels.shape[0] // _SAMPLED_ROWS)
        sample = pixels[step // 2 :: step]
        seen = sample.tobytes()
        thin = seen[
            :: next(each for each in _STEPS if len(seen) >= each * _SAMPLED_VALUES_MIN or each == 1)
        ]
        level = sum(thin) / len(thin)
        frozen = self._frozen_problem(seen) if limits.frozen_frames else ""
        if level < limits.dark_level:
            return f"black: mean grey {level:.1f} is below {limits.dark_level:g}"
        if level > limits.bright_level:
            return f"saturated: mean grey {level:.1f} is above {limits.bright_level:g}"
        return frozen or (self._frame_id_problem(grab) if limits.frozen_frames else "")

    def _frozen_problem(self, sampled: bytes) -> str:
        self._same_sample_run = self._same_sample_run + 1 if sampled == self._last_sample else 0
        self._last_sample = sampled
        if self._same_sample_run < self._limits.frozen_frames:
            return ""
        return f"frozen: {self._same_sample_run + 1} pictures in a row are the same"

    def _frame_id_problem(self, grab: Grab) -> str:
        self._same_frame_id_run = (
            self._same_frame_id_run + 1 if grab.camera_frame_id == self._last_frame_id else 0
        )
        self._last_frame_id = grab.camera_frame_id
        if self._same_frame_id_run < self._limits.frozen_frames:
            return ""
        return f"frozen: the camera's count stands still at {grab.camera_frame_id}"
