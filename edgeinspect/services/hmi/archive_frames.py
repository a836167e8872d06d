"""A line's archive, which its own process keeps: pictures out of it, and how it is."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np

from edgeinspect.domain import Clock, Verdict
from edgeinspect.errors import DataError
from edgeinspect.imaging import LINE_PIXELS_MAX, check_size
from edgeinspect.services.hmi.alarm_remedies import ARCHIVE_FAILED, ARCHIVE_SILENT
from edgeinspect.services.hmi.encoding import encode_jpeg, encode_mask_png, encode_thumbnail
from edgeinspect.services.hmi.frame_cache import EncodedFrame
from edgeinspect.storage.archive import (
    SIDECAR_SUFFIX,
    STATUS_STALE_NS,
    ArchiveStatus,
    frame_folder,
    frame_name,
    read_sidecar,
    read_status,
)
from edgeinspect.system import read_regular

_MAX_FILE_BYTES = 256 << 20
_POLL_S = 1.0


class ArchiveMonitor:
    """How the archive is. `run` looks in a thread of its own, for its disk may hang; what it
    saw last then grows old, and that is the alarm. The rest never waits. Thread-safe.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self.status: ArchiveStatus | None = None
        """What the archive told last; None if it never did."""
        self._root = root
        self._clock = clock
        self._started_at_ns = self._changed_at_ns = clock.now_ns()
        self._stopping = threading.Event()

    def run(self) -> None:
        """The thread, until `stop`."""
        self.poll()
        while not self._stopping.wait(_POLL_S):
            self.poll()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()

    def poll(self) -> None:
        """Read what it tells."""
        state = read_status(self._root)
        if state != self.status:  # told anew each second; by whose clock does not matter
            self._changed_at_ns = self._clock.now_ns()
        self.status = state

    def alarm(self) -> str:
        """What a person must be told; empty while all is well."""
        state = self.status
        if state is None:
            told = (
                self._clock.now_ns() - self._started_at_ns > STATUS_STALE_NS
            )  # it starts beside us
            return ARCHIVE_SILENT if told else ""
        if self._clock.now_ns() - self._changed_at_ns > STATUS_STALE_NS:
            return ARCHIVE_SILENT
        return f"{ARCHIVE_FAILED}: {state.problem}" if state.problem else ""


def find_archived_frame(root: Path, verdict: Verdict) -> EncodedFrame | None:
    """The picture of a verdict, if the archive has it and it can be read.

    The path is made of the verdict's own line, camera, epoch and seq: nothing a browser sent.
    """
    sidecar = root / frame_folder(verdict) / f"{frame_name(verdict)}{SIDECAR_SUFFIX}"
    try:
        told = read_sidecar(sidecar)
        name = told.picture.file
        if Path(name).name != name or told.picture.size_bytes > _MAX_FILE_BYTES:
            return None
        data = read_regular(sidecar.with_name(name), _MAX_FILE_BYTES)
        check_size(data, LINE_PIXELS_MAX)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (DataError, OSError, cv2.error):
        return None
    if pixels is None or pixels.dtype != np.uint8:
        return None
    shown = np.asarray(pixels[..., :3] if pixels.ndim == 3 else pixels, np.uint8)
    try:
        mask_png = encode_mask_png(told.mask) if told.mask is not None else None
    except DataError:
        mask_png = None
    height, width = shown.shape[:2]
    return EncodedFrame(
        verdict.seq,
        encode_jpeg(shown),
        mask_png,
        encode_thumbnail(shown, verdict.regions),
        height,
        width,
    )
