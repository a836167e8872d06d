"""What a camera delivers, and the frame size that the line expects."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""An image: uint8, (height, width, channels), channels last, 1 (grey) or 3 (BGR or RGB)."""


class ClockSource(str, Enum):
    """Which clock stamped the frame."""

    HOST = "host"
    CAMERA = "camera"
    PTP = "ptp"


@dataclass(frozen=True, slots=True)
class FrameShape:
    """The fixed size of a line's frames, which is that of the models' input."""

    height_px: int
    width_px: int
    channels: int

    @property
    def dims(self) -> tuple[int, int, int]:
        """(height, width, channels), as numpy and OpenCV order them."""
        return (self.height_px, self.width_px, self.channels)

    @property
    def size_bytes(self) -> int:
        """Bytes of one frame."""
        return self.height_px * self.width_px * self.channels

    def __str__(self) -> str:
        return f"{self.height_px}x{self.width_px}x{self.channels}"


TRIGGER_EXPIRED = "the trigger has expired: another part may be at the camera"


@dataclass(frozen=True, slots=True)
class Part:
    """The part in front of the camera, as the trigger describes it."""

    part_id: str | None = None
    """Identifier that the PLC or a code reader gave to the part."""
    encoder_count: int | None = None
    """Encoder count at the trigger, in counts of the line's own encoder."""
    simulated: bool = False
    """True for a challenge part that an engineer injected."""
    expires_at_ns: int | None = field(default=None, compare=False)
    """Monotonic; a frame that is exposed later shows another part. None: it does not expire."""
    trigger_id: int | None = field(default=None, compare=False)
    """Identifies the software trigger within its camera; None for any other frame."""

    def is_expired(self, now_ns: int) -> bool:
        """Return whether a frame taken now would be too late for this part."""
        return self.expires_at_ns is not None and now_ns >= self.expires_at_ns


NO_PART = Part()


def challenge_part(image_name: str) -> Part:
    """Return the part of a challenge image; two names give two part ids."""
    part_id = f"challenge:{image_name}"
    if len(part_id) > 64:
        digest = hashlib.blake2b(image_name.encode("utf-8", "surrogatepass"), digest_size=8)
        part_id = f"{part_id[:47]}~{digest.hexdigest()}"
    return Part(part_id, simulated=True)


@dataclass(frozen=True, slots=True)
class Grab:
    """One frame in the camera's own buffer.

    The pixels belong to the camera and are valid until `Camera.release(grab)`; the capture
    thread copies them once, into a ring slot, and then releases the grab.
    """

    pixels: Pixels | None
    """(h, w, c) uint8, any size; None if the camera delivered a frame that cannot be read."""
    camera_frame_id: int
    """The camera's own frame counter; a step of more than one is a loss."""
    captured_at_ns: int
    """Monotonic instant of the exposure, or of arrival where the camera gives none."""
    part: Part = NO_PART
    clock_source: ClockSource = ClockSource.HOST
    label: str | None = None
    """The camera's name for the image, such as a file name; None for a live camera."""
    problem: str = ""
    """Why `pixels` is None."""
    lost: bool = False
    """True if `pixels` is None because the image never arrived complete: a frame that the
    camera took, or was triggered to take, and that was lost on the way."""


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How an image of another size was fitted into the line's frame.

    frame_px = camera_px * scale_ratio + (left_px, top_px)
    """

    scale_ratio: float
    left_px: int
    top_px: int
