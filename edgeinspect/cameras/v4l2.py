"""A V4L2 camera of the Linux kernel (UVC webcams, MIPI sensors) through OpenCV."""

from __future__ import annotations

import math
from typing import Annotated

import cv2
import msgspec
from msgspec import Meta

from edgeinspect.cameras._video import VideoCamera
from edgeinspect.domain import Clock
from edgeinspect.errors import CameraLostError, DataError
from edgeinspect.imaging import ColorOrder
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
"""The V4L2 controls that OpenCV can set."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: v4l2`."""

    device: str = "/dev/video0"
    """Device file; names in `/dev/v4l/by-id/` do not depend on other cameras."""
    width_px: Annotated[int, Meta(ge=1, le=65_535)] | None = None
    """Pixels of a row; absent: the camera's current value."""
    height_px: Annotated[int, Meta(ge=1, le=65_535)] | None = None
    """Rows of a frame."""
    fourcc: Annotated[str, Meta(pattern=r"^[A-Z0-9 ]{4}$")] | None = None
    """Pixel format, such as `YUYV` or `GREY`; `MJPG` is lossy."""
    rate_hz: Annotated[float, Meta(gt=0, le=1_000)] | None = None
    """Frames per second; one of the camera's rates."""
    color: ColorOrder = "mono"
    """Colour order of the models."""
    controls: dict[str, float] = {}
    """Controls by name, in V4L2 units; read back and compared. Write automatic ones
    (`auto_exposure`) before those that they change."""


def set_controls(capture: cv2.VideoCapture, options: Options) -> None:
    """Set the configured values, then read them back and compare.

    Raises:
        DataError: A control is unknown, or the camera has another value.
    """
    settings: list[tuple[str, int, float]] = []
    if options.fourcc is not None:
        code = float(cv2.VideoWriter.fourcc(*options.fourcc))
        settings.append(("fourcc", cv2.CAP_PROP_FOURCC, code))
    sizes = (
        ("width_px", cv2.CAP_PROP_FRAME_WIDTH, options.width_px),
        ("height_px", cv2.CAP_PROP_FRAME_HEIGHT, options.height_px),
        ("rate_hz", cv2.CAP_PROP_FPS, options.rate_hz),
    )
    settings += [(name, code, float(value)) for name, code, value in sizes if value is not None]
    for name, value in options.controls.items():
        if name not in CONTROLS:
            raise DataError(
                f"unknown control {name}",
                where=options.device,
                remedy=f"Known controls: {', '.join(CONTROLS)}",
            )
        settings.append((name, CONTROLS[name], value))
    for _, code, value in settings:
        capture.set(code, value)
    different = []
    for name, code, value in settings:
        actual = float(capture.get(code))
        if not math.isclose(value, actual, rel_tol=0.005, abs_tol=1e-6):
            different.append(f"{name}: {value:g} is configured, the camera has {actual:g}")
    if different:
        raise DataError(
            "; ".join(different),
            where=options.device,
            remedy="`v4l2-ctl --list-ctrls --list-formats-ext` lists the supported values",
        )


def build(options: Options, clock: Clock) -> Camera:
    """Return a V4L2 camera, not yet opened."""

    def connect() -> cv2.VideoCapture:
        capture = cv2.VideoCapture(options.device, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise CameraLostError(
                "cannot be opened",
                where=options.device,
                remedy="Check that it is connected and readable by the daemon",
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
