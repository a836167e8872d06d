"""Can this picture be judged at all? Black, saturated, or frozen pictures cannot.

The checks read sixteen whole rows, spread over the picture, which costs some 10 us on 256 by
1600 and sees what they are after: a lamp that is off, a shutter that is open too long, a
camera that sends one buffer for ever. Whole rows, because a sample of single pixels has the
processor fetch as many lines of memory for a sixteenth of the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain.frame import Grab, Pixels

_ROWS = 16


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """See `config.schema.PictureHealth`."""

    dark_level: float
    bright_level: float
    frozen_frames: int


class PictureWatch:
    """Watches the pictures of one camera. For its capture thread."""

    def __init__(self, limits: PictureLimits) -> None:
        self._limits = limits
        self._last: NDArray[np.uint8] | None = None
        self._same = 0
        self._last_id = -1
        self._same_id = 0

    def problem(self, pixels: Pixels, grab: Grab) -> str:
        """What is wrong with a picture, in words; empty if it can be judged."""
        limits = self._limits
        step = max(1, pixels.shape[0] // _ROWS)
        sample = pixels[step // 2 :: step]
        channels = cv2.mean(sample)[: sample.shape[2]]
        level = sum(channels) / len(channels)
        frozen = self._frozen(sample) if limits.frozen_frames else ""
        if level < limits.dark_level:
            return f"black: mean grey {level:.1f} is below {limits.dark_level:g}"
        if level > limits.bright_level:
            return f"saturated: mean grey {level:.1f} is above {limits.bright_level:g}"
        return frozen or (self._stands_still(grab) if limits.frozen_frames else "")

    def _frozen(self, sample: NDArray[np.uint8]) -> str:
        last = self._last
        if (
            last is not None
            and last.shape == sample.shape
            and not cv2.norm(last, sample, cv2.NORM_INF)
        ):
            self._same += 1
        else:
            self._same = 0
            if last is not None and last.shape == sample.shape:
                np.copyto(last, sample)
            else:
                self._last = sample.copy()
        if self._same < self._limits.frozen_frames:
            return ""
        return f"frozen: {self._same + 1} pictures in a row are the same"

    def _stands_still(self, grab: Grab) -> str:
        self._same_id = self._same_id + 1 if grab.camera_frame_id == self._last_id else 0
        self._last_id = grab.camera_frame_id
        if self._same_id < self._limits.frozen_frames:
            return ""
        return f"frozen: the camera's count stands still at {grab.camera_frame_id}"
