"""Where a verdict's pixels are: the line's rings, of this daemon and of the one before."""

from __future__ import annotations

from pathlib import Path

from edgeinspect.domain import Pixels, Verdict
from edgeinspect.errors import DeviceLostError
from edgeinspect.storage.shared_memory import FrameRingReader

_EPOCHS_KEPT = 2


class FrameSource:
    """The rings of one line, attached as they appear. Not thread-safe; reads only.

    A dead daemon's memory lives as long as it is attached here, so the pictures of frames it
    left open can be found when the next one closes them.
    """

    def __init__(self, folder: Path, line: str) -> None:
        """Nothing is attached yet; the line need not run."""
        self._folder = folder
        self._line = line
        self._readers: dict[str, list[FrameRingReader]] = {}

    def refresh(self) -> None:
        """Attach to rings that are new."""
        before, after = len(self._line) + 1, len(".ring")
        for path in self._folder.glob(f"{self._line}.*.ring"):
            readers = self._readers.setdefault(path.name[before:-after], [])
            if readers and readers[0].is_current:
                continue
            try:
                reader = FrameRingReader(path)
            except DeviceLostError:  # being made this moment; looked for again
                continue
            if not readers or reader.epoch != readers[0].epoch:
                readers.insert(0, reader)
                del readers[_EPOCHS_KEPT:]

    def find_frame(self, verdict: Verdict) -> tuple[Pixels, str] | None:
        """(a copy of the picture of a frame, its color), if a ring still has it whole.

        Of the frame's own epoch only: another daemon may have given its seq to another part.
        """
        reader = self._ring_of(verdict)
        if reader is None:
            self.refresh()
            reader = self._ring_of(verdict)
        pixels = reader.read(verdict.seq) if reader is not None else None
        return None if reader is None or pixels is None else (pixels, reader.color)

    def _ring_of(self, verdict: Verdict) -> FrameRingReader | None:
        readers = self._readers.get(verdict.camera, ())
        return next((each for each in readers if each.epoch == verdict.epoch), None)
