"""A line's archive, which its own process keeps: pictures out of it, and how it is."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np

from edgeinspect.domain.clock import Clock
from edgeinspect.domain.verdict import Verdict
from edgeinspect.errors import DataError
from edgeinspect.imaging.formats.header import LINE_PIXELS_MAX, check_size
from edgeinspect.services.hmi.alarm_remedies import BROKEN_ARCHIVE, SILENT_ARCHIVE
from edgeinspect.services.hmi.encoding import encode_mask, encode_picture, encode_thumb
from edgeinspect.services.hmi.frame_cache import Picture
from edgeinspect.storage.archive.format import SIDECAR, frame_folder, frame_name, read_sidecar
from edgeinspect.storage.archive.status import STALE_NS, ArchiveState, read_state
from edgeinspect.system.regular_file import read_regular

_MOST_BYTES = 256 << 20
_LOOK_S = 1.0


class ArchiveWatch:
    """How the archive is. `run` looks in a thread of its own, for its disk may hang; what it
    saw last then grows old, and that is the alarm. The rest never waits. Thread-safe.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self.state: ArchiveState | None = None
        """What the archive told last; None if it never did."""
        self._root = root
        self._clock = clock
        self._begun_at_ns = self._told_at_ns = clock.now_ns()
        self._stopping = threading.Event()

    def run(self) -> None:
        """The thread, until `stop`."""
        self.look()
        while not self._stopping.wait(_LOOK_S):
            self.look()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()

    def look(self) -> None:
        """Read what it tells."""
        state = read_state(self._root)
        if state != self.state:  # told anew each second; by whose clock does not matter
            self._told_at_ns = self._clock.now_ns()
        self.state = state

    def alarm(self) -> str:
        """What a person must be told; empty while all is well."""
        state = self.state
        if state is None:
            told = self._clock.now_ns() - self._begun_at_ns > STALE_NS  # it starts beside us
            return SILENT_ARCHIVE if told else ""
        if self._clock.now_ns() - self._told_at_ns > STALE_NS:
            return SILENT_ARCHIVE
        return f"{BROKEN_ARCHIVE}: {state.problem}" if state.problem else ""


def find(root: Path, verdict: Verdict) -> Picture | None:
    """The picture of a verdict, if the archive has it and it can be read.

    The path is made of the verdict's own line, camera, epoch and seq: nothing a browser sent.
    """
    sidecar = root / frame_folder(verdict) / f"{frame_name(verdict)}{SIDECAR}"
    try:
        told = read_sidecar(sidecar)
        name = told.picture.file
        if Path(name).name != name or told.picture.size_bytes > _MOST_BYTES:
            return None
        data = read_regular(sidecar.with_name(name), _MOST_BYTES)
        check_size(data, LINE_PIXELS_MAX)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (DataError, OSError, cv2.error):
        return None
    if pixels is None or pixels.dtype != np.uint8:
        return None
    shown = np.asarray(pixels[..., :3] if pixels.ndim == 3 else pixels, np.uint8)
    try:
        mask_png = encode_mask(told.mask) if told.mask is not None else None
    except DataError:
        mask_png = None
    height, width = shown.shape[:2]
    return Picture(
        verdict.seq,
        encode_picture(shown),
        mask_png,
        encode_thumb(shown, verdict.regions),
        height,
        width,
    )
