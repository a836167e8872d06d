"""Reads a line's archive: its frames, and the status of the archiver."""

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
from edgeinspect.services.hmi.frame_cache import BrowserFrame
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
    """Polls the archiver's status file in a thread of its own, since the disk may hang.

    A status that does not change becomes an alarm. Thread-safe; `alarm` never waits.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self.status: ArchiveStatus | None = None
        """The newest status; None before the first."""
        self._root = root
        self._clock = clock
        self._started_at_ns = self._changed_at_ns = clock.now_ns()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Poll until `stop`."""
        self.poll()
        while not self._stopping.wait(_POLL_S):
            self.poll()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()

    def poll(self) -> None:
        """Read the status file."""
        status = read_status(self._root)
        if status != self.status:  # it changes each second; the clocks need not agree
            self._changed_at_ns = self._clock.now_ns()
        self.status = status

    def alarm(self) -> str:
        """Return the text of the active alarm; empty for none."""
        status = self.status
        if status is None:  # the archiver may be starting too
            is_late = self._clock.now_ns() - self._started_at_ns > STATUS_STALE_NS
            return ARCHIVE_SILENT if is_late else ""
        if self._clock.now_ns() - self._changed_at_ns > STATUS_STALE_NS:
            return ARCHIVE_SILENT
        return f"{ARCHIVE_FAILED}: {status.problem}" if status.problem else ""


def find_archived_frame(root: Path, verdict: Verdict) -> BrowserFrame | None:
    """Return the frame of a verdict, or None if the archive does not have it readable.

    The path is built from the verdict's line, camera, epoch and seq, never from a request.
    """
    sidecar_path = root / frame_folder(verdict) / f"{frame_name(verdict)}{SIDECAR_SUFFIX}"
    try:
        sidecar = read_sidecar(sidecar_path)
        name = sidecar.picture.file
        if Path(name).name != name or sidecar.picture.size_bytes > _MAX_FILE_BYTES:
            return None
        data = read_regular(sidecar_path.with_name(name), _MAX_FILE_BYTES)
        check_size(data, LINE_PIXELS_MAX)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (DataError, OSError, cv2.error):
        return None
    if pixels is None or pixels.dtype != np.uint8:
        return None
    image = np.asarray(pixels[..., :3] if pixels.ndim == 3 else pixels, np.uint8)
    try:
        mask_png = encode_mask_png(sidecar.mask) if sidecar.mask is not None else None
    except DataError:
        mask_png = None
    height, width = image.shape[:2]
    return BrowserFrame(
        verdict.seq,
        encode_jpeg(image),
        mask_png,
        encode_thumbnail(image, verdict.regions),
        height,
        width,
    )
