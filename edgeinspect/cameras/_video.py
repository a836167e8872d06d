"""Reads an OpenCV video capture in a separate thread, for `v4l2` and `rtsp`.

OpenCV's read has no timeout, so a reader thread fills a short queue for the capture thread. If
the line is too slow, the oldest frame of a stream is dropped; the gap in the frame counter makes
its verdict a loss.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, Grab, Part, Pixels
from edgeinspect.errors import CameraLostError, DataError, UsageError
from edgeinspect.imaging import ColorOrder, to_color_order
from edgeinspect.ports import CameraFinished

_QUEUE_MAX = 4
_UNKNOWN_PERIOD_NS = NS_PER_S
"""Period of a source without a known rate; after three periods without a frame it is lost."""
_EXACT_COUNT_SUFFIXES = frozenset((".avi", ".mp4", ".mov", ".m4v"))
"""Files with an exact frame count; for others OpenCV computes it from the duration, and may be
off by one."""
_QueuedFrame = tuple[int, int, Pixels]


class VideoCamera:
    """Frames of an OpenCV video capture. For threads see `ports.Camera`.

    Args:
        where: The device or address, for errors.
        connect: Opens the capture; raises `CameraLostError`.
        color: Colour order of the models.
        rate_hz: Frames per second; None for the rate that OpenCV reports.
        is_file: True for a file: it is read at its frame rate, and ends after its last frame. An
            earlier end is a loss, as the file is damaged or cut off.
    """

    def __init__(
        self,
        *,
        where: str,
        connect: Callable[[], cv2.VideoCapture],
        color: ColorOrder,
        rate_hz: float | None,
        is_file: bool,
        clock: Clock,
    ) -> None:
        self._where = where
        self._connect = connect
        self._color = color
        self._rate_hz = rate_hz
        self._is_file = is_file
        self._clock = clock
        self._frames: queue.Queue[_QueuedFrame] = queue.Queue(_QUEUE_MAX)
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._period_ns: int | None = None
        self._expected_frames = 0
        self._delivered_frames = 0
        self._problem = ""

    @property
    def period_ns(self) -> int | None:
        return self._period_ns

    def open(self) -> None:
        capture = self._connect()
        rate_hz = self._rate_hz or float(capture.get(cv2.CAP_PROP_FPS))
        is_known = 0.1 <= rate_hz <= 1_000
        self._period_ns = round(NS_PER_S / rate_hz) if is_known else _UNKNOWN_PERIOD_NS
        if self._is_file:
            try:
                self._expected_frames = self._count_frames(capture)
                self._skip_delivered(capture)
            except BaseException:
                capture.release()
                raise
        self._problem = ""
        self._frames = queue.Queue(_QUEUE_MAX)
        self._stop, self._ended = threading.Event(), threading.Event()
        threading.Thread(
            target=self._read_frames,
            args=(
                capture,
                self._frames,
                self._stop,
                self._ended,
                self._delivered_frames if self._is_file else 0,
            ),
            name="video",
            daemon=True,
        ).start()

    def grab(self, timeout_ns: int) -> Grab | None:
        try:
            number, at_ns, pixels = self._frames.get(timeout=timeout_ns / NS_PER_S)
        except queue.Empty:
            if not self._ended.is_set() or not self._frames.empty():
                return None
            if self._is_file and not self._problem and not self._is_truncated():
                raise CameraFinished from None
            raise self._lost_error() from None
        self._delivered_frames = number
        return Grab(pixels, number, at_ns)

    def release(self, grab: Grab) -> None:
        """Nothing to release: each frame has its own memory."""

    def trigger(self, part: Part) -> None:
        raise UsageError("this camera is free-running and accepts no trigger", where=self._where)

    def close(self) -> None:
        """Stop the reader thread. A read that hangs ends by its own timeout."""
        self._stop.set()

    def _count_frames(self, capture: cv2.VideoCapture) -> int:
        """Return the frame count of a file.

        Raises:
            DataError: The file does not state it; its end would look like a truncation.
        """
        count = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if not 1 <= count < 1 << 40:
            raise DataError(
                "does not state its frame count, so a truncated file cannot be detected",
                where=self._where,
                remedy="Convert it to a container that does, such as AVI or MP4: "
                "ffmpeg -i IN -c copy OUT.mp4",
            )
        return round(count)

    def _skip_delivered(self, capture: cv2.VideoCapture) -> None:
        """Skip the frames that were delivered before a loss."""
        for _ in range(self._delivered_frames):
            if not capture.grab():
                raise self._lost_error()

    def _is_truncated(self) -> bool:
        tolerance = 0 if Path(self._where).suffix.lower() in _EXACT_COUNT_SUFFIXES else 1
        return self._delivered_frames + tolerance < self._expected_frames

    def _lost_error(self) -> CameraLostError:
        if self._problem:
            return CameraLostError(self._problem, where=self._where)
        if not self._is_file:
            return CameraLostError("the stream has ended", where=self._where)
        return CameraLostError(
            f"ends after {self._delivered_frames} of {self._expected_frames} frames: damaged or "
            "cut off",
            where=self._where,
            remedy="Copy it again",
        )

    def _read_frames(
        self,
        capture: cv2.VideoCapture,
        frames: queue.Queue[_QueuedFrame],
        stop: threading.Event,
        ended: threading.Event,
        number: int,
    ) -> None:
        due_ns = self._clock.now_ns()
        try:
            while not stop.is_set():
                is_read, image = capture.read()
                if not is_read:
                    break
                number += 1
                if self._is_file:
                    due_ns += self._period_ns or 0
                    self._clock.sleep_until(due_ns)
                pixels = to_color_order(_with_channels(np.asarray(image, np.uint8)), self._color)
                self._enqueue((number, self._clock.now_ns(), pixels), frames, stop)
        except (cv2.error, TypeError, ValueError, MemoryError) as error:
            if not stop.is_set():
                self._problem = f"returned an unusable frame: {error}"
        finally:
            capture.release()
            ended.set()

    def _enqueue(
        self, frame: _QueuedFrame, frames: queue.Queue[_QueuedFrame], stop: threading.Event
    ) -> None:
        while not stop.is_set():
            try:
                frames.put(frame, timeout=0.05 if self._is_file else NS_PER_MS / NS_PER_S)
                return
            except queue.Full:
                if not self._is_file:
                    _drop_oldest(frames)


def _drop_oldest(frames: queue.Queue[_QueuedFrame]) -> None:
    try:
        frames.get_nowait()
    except queue.Empty:
        pass  # fetched in the meantime


def _with_channels(image: NDArray[np.uint8]) -> Pixels:
    """Return OpenCV's (h, w) or (h, w, c) as (h, w, c)."""
    return image[:, :, None] if image.ndim == 2 else image
