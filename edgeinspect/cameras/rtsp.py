"""A network camera's video stream, or a video file, through OpenCV's FFmpeg.

These streams are compressed, which may remove hairline defects: use them for overviews and
trials, not for surface inspection.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import cv2
import msgspec
from msgspec import Meta

from edgeinspect.cameras._video import VideoCamera
from edgeinspect.domain import Clock
from edgeinspect.errors import CameraLostError
from edgeinspect.imaging import ColorOrder
from edgeinspect.ports import Camera
from edgeinspect.system import FileReadError, check_regular


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: rtsp`."""

    url: str
    """`rtsp://user:password@address/path`, or the path of a video file."""
    color: ColorOrder = "bgr"
    """Colour order of the models."""
    transport: Literal["tcp", "udp"] = "tcp"
    """Over UDP a lost packet damages the image; over TCP it delays it."""
    rate_hz: Annotated[float, Meta(gt=0, le=1_000)] | None = None
    """Frames per second; absent: the rate that the stream states."""
    timeout_ms: Annotated[int, Meta(ge=100, le=60_000)] = 5_000
    """Longest wait for the connection."""


def build(options: Options, clock: Clock) -> Camera:
    """Return a stream, not yet connected."""
    url = options.url.removeprefix("file://")
    is_file = "://" not in url
    where = Path(url).name if is_file else url.rpartition("@")[2]

    def connect() -> cv2.VideoCapture:
        if is_file:
            try:
                check_regular(url)
            except FileReadError as error:
                raise CameraLostError(error.what, where=where, remedy=error.remedy) from error
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"rtsp_transport;{options.transport}"
        capture = cv2.VideoCapture(
            url,
            cv2.CAP_FFMPEG,
            [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                options.timeout_ms,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                options.timeout_ms,
            ],
        )
        if not capture.isOpened():
            raise CameraLostError(
                "cannot be opened", where=where, remedy="Check the address with a video player"
            )
        return capture

    return VideoCamera(
        where=where,
        connect=connect,
        color=options.color,
        rate_hz=options.rate_hz,
        is_file=is_file,
        clock=clock,
    )
