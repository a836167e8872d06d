"""Copies frames out of the line's ring, encodes them for browsers, and caches a few.

The ring is read only. A frame that is overwritten during the copy is dropped: the slot's seq is
compared before and after.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeinspect.domain import NS_PER_S, Clock, Decision, Pixels, Verdict
from edgeinspect.errors import DataError, DeviceLostError
from edgeinspect.services.hmi.drift import DriftMonitor, laplacian_sharpness, mean_brightness
from edgeinspect.services.hmi.encoding import encode_jpeg, encode_mask_png, encode_thumbnail
from edgeinspect.storage.shared_memory import FrameRingReader
from edgeinspect.wire import Mask

_LIVE_FRAMES_PER_CAMERA = 6
_MAX_REJECTS = 24
_MAX_PENDING = 8
_MAX_REJECTS_PER_S = 4
_ATTACH_PERIOD_NS = NS_PER_S


@dataclass(frozen=True, slots=True)
class BrowserFrame:
    """One frame, encoded."""

    seq: int
    jpeg: bytes
    mask_png: bytes | None
    """Class map in colours on transparent ground; None if the line sent none."""
    thumbnail_jpeg: bytes | None
    height_px: int
    width_px: int
    """Width of the frame, not of the JPEG."""


@dataclass(frozen=True, slots=True)
class _CopiedFrame:
    verdict: Verdict
    mask: Mask | None
    pixels: Pixels
    color: str
    is_live: bool


class FrameCache:
    """Caches the newest live frames and rejects.

    `on_verdict` and `clear` belong to the subscriber thread, `run` is the encoder thread; any
    thread may read.

    Args:
        rings: Camera name to the file of its ring.
        live_hz: Live frames per second and camera.
        drift: Receives brightness and sharpness of each live frame.
        clock: Limits the rates.
    """

    def __init__(
        self, rings: Mapping[str, Path], live_hz: float, drift: DriftMonitor, clock: Clock
    ) -> None:
        self._rings = dict(rings)
        self._period_ns = round(NS_PER_S / live_hz)
        self._drift = drift
        self._clock = clock
        self._readers: dict[str, FrameRingReader] = {}
        self._attach_at_ns: dict[str, int] = {}
        self._live_at_ns: dict[str, int] = {}
        self._reject_times: deque[int] = deque(maxlen=_MAX_REJECTS_PER_S)
        self._pending: deque[_CopiedFrame] = deque(maxlen=_MAX_PENDING)
        self._wake = threading.Event()
        self._stop = False
        self._lock = threading.Lock()
        self._live_frames: OrderedDict[int, BrowserFrame] = OrderedDict()
        self._reject_frames: OrderedDict[int, BrowserFrame] = OrderedDict()
        self._newest_seqs: dict[str, int] = {}

    # -- subscriber thread --------------------------------------------------------------------

    def on_verdict(self, verdict: Verdict, mask: Mask | None) -> None:
        """Copy the frame of a new verdict, if it is due and the ring still holds it."""
        now_ns, camera = self._clock.now_ns(), verdict.camera
        is_live = now_ns >= self._live_at_ns.get(camera, 0)
        is_reject = verdict.decision is Decision.REJECT and self._within_rate(now_ns)
        if not (is_live or is_reject):
            return
        reader = self._ring_reader(camera, now_ns)
        pixels = reader.read(verdict.seq) if reader is not None else None
        if reader is None or pixels is None:
            return
        if is_live:
            self._live_at_ns[camera] = now_ns + self._period_ns
        if is_reject:
            self._reject_times.append(now_ns)
        self._pending.append(_CopiedFrame(verdict, mask, pixels, reader.color, is_live))
        self._wake.set()

    def clear(self) -> None:
        """Forget all frames: the sequence was reset."""
        with self._lock:
            self._live_frames.clear()
            self._reject_frames.clear()
            self._newest_seqs.clear()

    def _within_rate(self, now_ns: int) -> bool:
        times = self._reject_times
        return len(times) < _MAX_REJECTS_PER_S or now_ns - times[0] >= NS_PER_S

    def _ring_reader(self, camera: str, now_ns: int) -> FrameRingReader | None:
        """Return the reader of the camera's ring; attach again after it was replaced."""
        reader = self._readers.get(camera)
        if now_ns < self._attach_at_ns.get(camera, 0):
            return reader
        self._attach_at_ns[camera] = now_ns + _ATTACH_PERIOD_NS
        if reader is None or not reader.is_current:
            self._readers.pop(camera, None)
            try:
                reader = self._readers[camera] = FrameRingReader(self._rings[camera])
            except (DeviceLostError, KeyError):
                return None
        return reader

    # -- encoder thread -----------------------------------------------------------------------

    def run(self) -> None:
        """Encode pending frames until `stop`."""
        while not self._stop:
            self._wake.wait(0.5)
            self._wake.clear()
            while self._pending:
                self.encode_next()

    def encode_next(self) -> None:
        """Encode the oldest pending frame."""
        copied = self._pending.popleft()
        verdict, pixels = copied.verdict, copied.pixels
        is_reject = verdict.decision is Decision.REJECT
        if copied.is_live:
            self._drift.image_stats[verdict.camera] = (
                mean_brightness(pixels),
                laplacian_sharpness(pixels),
            )
        image = _to_bgr(pixels, copied.color)
        try:
            mask_png = encode_mask_png(copied.mask) if copied.mask is not None else None
        except DataError:  # the mask contradicts its size
            mask_png = None
        frame = BrowserFrame(
            verdict.seq,
            encode_jpeg(image),
            mask_png,
            encode_thumbnail(image, verdict.regions) if is_reject else None,
            *pixels.shape[:2],
        )
        with self._lock:
            if copied.is_live:
                self._store(self._live_frames, frame, _LIVE_FRAMES_PER_CAMERA * len(self._rings))
                self._newest_seqs[verdict.camera] = verdict.seq
            if is_reject:
                self._store(self._reject_frames, frame, _MAX_REJECTS)

    def stop(self) -> None:
        """End the thread."""
        self._stop = True
        self._wake.set()

    @staticmethod
    def _store(
        frames: OrderedDict[int, BrowserFrame], frame: BrowserFrame, max_frames: int
    ) -> None:
        frames[frame.seq] = frame
        while len(frames) > max_frames:
            frames.popitem(last=False)

    # -- any thread ---------------------------------------------------------------------------

    def find(self, seq: int) -> BrowserFrame | None:
        """Return a cached frame, if it is there."""
        with self._lock:
            return self._reject_frames.get(seq) or self._live_frames.get(seq)

    def newest_live(self) -> dict[str, BrowserFrame]:
        """Return the newest live frame of each camera."""
        with self._lock:
            newest = {name: self._live_frames.get(seq) for name, seq in self._newest_seqs.items()}
        return {name: frame for name, frame in newest.items() if frame is not None}


def _to_bgr(pixels: Pixels, color: str) -> Pixels:
    """Return uint8 (H, W) or (H, W, 3) in OpenCV's channel order."""
    if pixels.shape[2] == 1:
        return pixels[:, :, 0]
    return np.ascontiguousarray(pixels[:, :, ::-1]) if color == "rgb" else pixels
