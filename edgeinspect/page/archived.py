"""A line's archive, which its own process keeps: pictures out of it, and how it is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgeinspect.archive_format import SIDECAR, frame_folder, frame_name, read_sidecar
from edgeinspect.archive_state import STALE_NS, ArchiveState, read_state
from edgeinspect.domain.clock import NS_PER_S, Clock
from edgeinspect.domain.verdict import Verdict
from edgeinspect.errors import DataError
from edgeinspect.page.drawing import encode_mask, encode_picture, encode_thumb
from edgeinspect.page.pictures import Picture
from edgeinspect.page.remedies import BROKEN_ARCHIVE, SILENT_ARCHIVE

_MOST_BYTES = 256 << 20
_LOOK_NS = NS_PER_S


class ArchiveWatch:
    """How the archive is, looked up once a second at the most. Thread-safe."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._begun_at_ns = clock.now_ns()
        self._looked_at_ns: int | None = None
        self._state: ArchiveState | None = None

    def state(self) -> ArchiveState | None:
        """What it told last; None if it never did."""
        now_ns = self._clock.now_ns()
        if self._looked_at_ns is None or now_ns - self._looked_at_ns >= _LOOK_NS:
            self._looked_at_ns = now_ns
            self._state = read_state(self._root)
        return self._state

    def alarm(self) -> str:
        """What a person must be told; empty while all is well."""
        state = self.state()
        if state is None:
            told = self._clock.now_ns() - self._begun_at_ns > STALE_NS  # it starts beside us
            return SILENT_ARCHIVE if told else ""
        if self._clock.utc_ns() - state.at_utc_ns > STALE_NS:
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
        data = np.frombuffer(sidecar.with_name(name).read_bytes(), np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
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
        verdict.seq, encode_picture(shown), mask_png, encode_thumb(shown, verdict.regions),
        height, width,
    )  # fmt: skip
