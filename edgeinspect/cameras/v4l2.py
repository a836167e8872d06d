"""A camera of the Linux kernel (UVC webcams, MIPI sensors) through OpenCV."""

from __future__ import annotations

import math
from typing import Annotated

import cv2
import msgspec
from msgspec import Meta

from edgeinspect.cameras._video import ColorOrder, VideoCamera
from edgeinspect.domain import Clock
from edgeinspect.errors import CameraLostError, DataError
from edgeinspect.ports import Camera

CONTROLS = {
    "auto_exposure": cv2.CAP_PROP_AUTO_EXPOSURE,
    "auto_focus": cv2.CAP_PROP_AUTOFOCUS,
    "auto_white_balance": cv2.CAP_PROP_AUTO_WB,
    "backlight_compensation": cv2.CAP_PROP_BACKLIGHT,
    "brightness": cv2.CAP_PROP_BRIGHTNESS,
    "contrast": cv2.CAP_PROP_CONTRAST,
    "exposure": cv2.CAP_PROP_EXPOSURE,
    "focus": cv2.CAP_PROP_FOCUS,
    "gain": cv2.CAP_PROP_GAIN,
    "gamma": cv2.CAP_PROP_GAMMA,
    "hue": cv2.CAP_PROP_HUE,
    "saturation": cv2.CAP_PROP_SATURATION,
    "sharpness": cv2.CAP_PROP_SHARPNESS,
    "white_balance_temperature": cv2.CAP_PROP_WB_TEMPERATURE,
    "zoom": cv2.CAP_PROP_ZOOM,
}
"""The kernel's controls that OpenCV can set."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: v4l2`."""

    device: str = "/dev/video0"
    """Device file; one of `/dev/v4l/by-id/` stays the same when others are plugged in."""
    width_px: Annotated[int, Meta(ge=1, le=65_535)] | None = None
    """Pixels of a row; as the camera stands when absent."""
    height_px: Annotated[int, Meta(ge=1, le=65_535)] | None = None
    """Rows of a frame."""
    fourcc: Annotated[str, Meta(pattern=r"^[A-Z0-9 ]{4}$")] | None = None
    """Pixel format on the wire, as `YUYV` or `GREY`; `MJPG` is lossy."""
    rate_hz: Annotated[float, Meta(gt=0, le=1_000)] | None = None
    """Frames a second; one of those the camera offers."""
    color: ColorOrder = "mono"
    """Must be the models' own order."""
    controls: dict[str, float] = {}
    """Controls by name, in the kernel's own units; read back and compared. Automatic ones
    (`auto_exposure`) come before what they would change."""


def set_controls(capture: cv2.VideoCapture, options: Options) -> None:
    """Set what is configured, then read it back and compare.

    Raises:
        DataError: A control is unknown, or the camera stands at another value.
    """
    wanted: list[tuple[str, int, float]] = []
    if options.fourcc is not None:
        code = float(cv2.VideoWriter.fourcc(*options.fourcc))
        wanted.append(("fourcc", cv2.CAP_PROP_FOURCC, code))
    sizes = (
        ("width_px", cv2.CAP_PROP_FRAME_WIDTH, options.width_px),
        ("height_px", cv2.CAP_PROP_FRAME_HEIGHT, options.height_px),
        ("rate_hz", cv2.CAP_PROP_FPS, options.rate_hz),
    )
    wanted += [(name, code, float(value)) for name, code, value in sizes if value is not None]
    for name, value in options.controls.items():
        if name not in CONTROLS:
            raise DataError(
                f"there is no control {name}",
                where=options.device,
                remedy=f"There are: {', '.join(CONTROLS)}",
            )
        wanted.append((name, CONTROLS[name], value))
    for _, code, value in wanted:
        capture.set(code, value)
    different = []
    for name, code, value in wanted:
        found = float(capture.get(code))
        if not math.isclose(value, found, rel_tol=0.005, abs_tol=1e-6):
            different.append(f"{name}: {value:g} is configured, the camera has {found:g}")
    if different:
        raise DataError(
            "; ".join(different),
            where=options.device,
            remedy="`v4l2-ctl --list-ctrls --list-formats-ext` shows what it can do",
        )


def build(options: Options, clock: Clock) -> Camera:
    """A camera of the kernel, not yet opened."""

    def connect() -> cv2.VideoCapture:
        capture = cv2.VideoCapture(options.device, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise CameraLostError(
                "cannot be opened",
                where=options.device,
                remedy="Check that it is plugged in and that the daemon may read it",
            )
        try:
            set_controls(capture, options)
        except DataError:
            capture.release()
            raise
        return capture

    return VideoCamera(
        where=options.device,
        connect=connect,
        color=options.color,
        rate_hz=options.rate_hz,
        is_file=False,
        clock=clock,
    )
