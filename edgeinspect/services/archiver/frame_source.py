"""Reads a verdict's pixels from the line's frame rings, of this daemon and the previous one."""

from __future__ import annotations

from pathlib import Path

from edgeinspect.domain import Pixels, Verdict
from edgeinspect.errors import DeviceLostError
from edgeinspect.storage.shared_memory import FrameRingReader

_EPOCHS_KEPT = 2


class FrameSource:
    """The frame rings of one line. Not thread-safe; reads only.

    The rings of a crashed daemon stay attached for two epochs: the next daemon closes the frames
    that were left open, and their pixels are still here.
    """

    def __init__(self, folder: Path, line: str) -> None:
        """Attach to nothing yet; the line need not run."""
        self._folder = folder
        self._line = line
        self._readers: dict[str, list[FrameRingReader]] = {}

    def refresh(self) -> None:
        """Attach to new rings."""
        prefix_length, suffix_length = len(self._line) + 1, len(".ring")
        for path in self._folder.glob(f"{self._line}.*.ring"):
            readers = self._readers.setdefault(path.name[prefix_length:-suffix_length], [])
            if readers and readers[0].is_current:
                continue
            try:
                reader = FrameRingReader(path)
            except DeviceLostError:  # it is being created; the next refresh finds it
                continue
            if not readers or reader.epoch != readers[0].epoch:
                readers.insert(0, reader)
                del readers[_EPOCHS_KEPT:]

    def find_frame(self, verdict: Verdict) -> tuple[Pixels, str] | None:
        """Return (copy of the pixels, colour), or None if no ring still holds the frame.

        Reads only the ring of the verdict's own epoch: another daemon may have used its seq for
        another part.
        """
        reader = self._ring_of(verdict)
        if reader is None:
            self.refresh()
            reader = self._ring_of(verdict)
        pixels = reader.read(verdict.seq) if reader is not None else None
        return None if reader is None or pixels is None else (pixels, reader.color)

    def _ring_of(self, verdict: Verdict) -> FrameRingReader | None:
        readers = self._readers.get(verdict.camera, ())
        return next((reader for reader in readers if reader.epoch == verdict.epoch), None)
