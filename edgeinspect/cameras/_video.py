"""What `v4l2` and `rtsp` have in common: a blocking reader of OpenCV in a thread of its own.

OpenCV's read waits as long as it likes. The capture thread must not, so a reader thread
fills a short queue. When the line is too slow the oldest frame is dropped: the count steps
over it, and it gets its verdict as lost.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, Grab, Part, Pixels
from edgeinspect.errors import CameraLostError, DataError, UsageError
from edgeinspect.ports import CameraFinished

ColorOrder = Literal["mono", "bgr", "rgb"]

_QUEUE_MAX = 4
_UNKNOWN_PERIOD_NS = NS_PER_S
"""Of a source that tells no rate: after three of them without a frame it counts as lost."""
_EXACT_COUNT_SUFFIXES = frozenset((".avi", ".mp4", ".mov", ".m4v"))
"""Files that count their frames; of the others OpenCV reckons them from the duration, and may
be one out."""
_QueuedFrame = tuple[int, int, Pixels]


class VideoCamera:
    """Frames of an OpenCV capture. See `ports.Camera` for threads.

    Args:
        where: The device or address, for errors.
        connect: Opens it; raises `CameraLostError`.
        color: What the line takes.
        rate_hz: Frames a second; None to believe what OpenCV says.
        is_file: It ends behind its last frame, and is read no faster than it plays. One that
            ends before is damaged, or was cut off: that is a loss.
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
        told = 0.1 <= rate_hz <= 1_000
        self._period_ns = round(NS_PER_S / rate_hz) if told else _UNKNOWN_PERIOD_NS
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
        """Nothing to give back: each frame has its own memory."""

    def trigger(self, part: Part) -> None:
        raise UsageError("this camera runs free and takes no trigger", where=self._where)

    def close(self) -> None:
        """Tell the reader to end. A read that hangs is left to its own time-out."""
        self._stop.set()

    def _count_frames(self, capture: cv2.VideoCapture) -> int:
        """How many frames a file says it has.

        Raises:
            DataError: It does not say it, so that its end could not be told from a break.
        """
        count = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if not 1 <= count < 1 << 40:
            raise DataError(
                "does not say how many frames it has, so its end cannot be told from a break",
                where=self._where,
                remedy="Put it into a container that does, as AVI or MP4: "
                "ffmpeg -i IN -c copy OUT.mp4",
            )
        return round(count)

    def _skip_delivered(self, capture: cv2.VideoCapture) -> None:
        """Pass over as many frames as were delivered before a loss."""
        for _ in range(self._delivered_frames):
            if not capture.grab():
                raise self._lost_error()

    def _is_truncated(self) -> bool:
        spare = 0 if Path(self._where).suffix.lower() in _EXACT_COUNT_SUFFIXES else 1
        return self._delivered_frames + spare < self._expected_frames

    def _lost_error(self) -> CameraLostError:
        if self._problem:
            return CameraLostError(self._problem, where=self._where)
        if not self._is_file:
            return CameraLostError("delivers no more", where=self._where)
        return CameraLostError(
            f"ends after {self._delivered_frames} of {self._expected_frames} frames: it is "
            "damaged or cut off",
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
                whole, picture = capture.read()
                if not whole:
                    break
                number += 1
                if self._is_file:
                    due_ns += self._period_ns or 0
                    self._clock.sleep_until(due_ns)
                pixels = _to_pixels(np.asarray(picture, np.uint8), self._color)
                self._enqueue((number, self._clock.now_ns(), pixels), frames, stop)
        except (cv2.error, TypeError, ValueError, MemoryError) as error:
            if not stop.is_set():
                self._problem = f"gives a frame that cannot be used: {error}"
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
        pass  # the line has just taken it


def _to_pixels(image: NDArray[np.uint8], color: ColorOrder) -> Pixels:
    """OpenCV's BGR or grey as (h, w, c) uint8."""
    grey = image.ndim == 2
    if color == "mono":
        out = image if grey else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    elif color == "rgb":
        out = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if grey else cv2.COLOR_BGR2RGB)
    else:
        out = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if grey else image
    pixels: Pixels = np.ascontiguousarray(out, np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
