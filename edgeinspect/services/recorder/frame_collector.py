"""The line's pictures, copied out of its shared memory before their slots are used again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from edgeinspect.domain.clock import Clock
from edgeinspect.domain.frame import Pixels
from edgeinspect.domain.verdict import Reason, Verdict
from edgeinspect.errors import DeviceLostError
from edgeinspect.storage.shared_memory.frame_ring import RingReader
from edgeinspect.storage.shared_memory.side_buffer import AsideReader

_ASIDE_SLOTS = 8
_ASIDE_BYTES = 16 << 20
"""Most bytes of one slot aside, unless a frame of the line is larger."""
NEVER_CAME = "none came"
OVERWRITTEN = "its slot was used again before it was taken"
NOT_KEPT = "it did not enter the ring as it came, and was not kept aside"
_NO_PICTURE = (Reason.CAPTURE_LOST, Reason.CAPTURE_ERROR)
_NOT_IN_RING = (Reason.SHAPE, Reason.CAPTURE_HEALTH)


class Pictures:
    """Holds pictures until their verdicts come. One thread.

    A picture is taken as soon as it is whole, so that only a standstill of this process
    longer than the ring's turn loses one.
    """

    def __init__(
        self, folder: Path, line: str, cameras: Sequence[str], hold_bytes: int, clock: Clock
    ) -> None:
        self._paths = {name: folder / f"{line}.{name}.ring" for name in cameras}
        self._rings: dict[str, RingReader] = {}
        self._asides: dict[str, AsideReader] = {}
        self._newest: dict[str, int] = {}
        self._clock = clock
        self._held: dict[int, Pixels] = {}
        self._held_bytes = 0
        self._hold_bytes = hold_bytes

    def attach(self) -> bool:
        """Attach to the rings, anew after a restart, and say that pictures are wanted.

        Returns:
            True if every camera's ring is there.

        Raises:
            DeviceLostError: There is no memory for pictures kept aside.
        """
        for name, path in self._paths.items():
            ring = self._rings.get(name)
            if ring is None or not ring.is_current:
                try:
                    self._rings[name] = ring = RingReader(path)
                except DeviceLostError:
                    continue
                self._newest[name] = 0
                frame_bytes = ring.shape.size_bytes
                slot_bytes = max(frame_bytes, min(4 * frame_bytes, _ASIDE_BYTES))
                aside = path.with_suffix(".aside")
                self._asides[name] = AsideReader(aside, _ASIDE_SLOTS, slot_bytes)
            self._asides[name].want(self._clock.now_ns())
        return len(self._rings) == len(self._paths)

    def look(self, from_seq: int) -> None:
        """Copy the pictures that have come since the last look, of `from_seq` and later."""
        for name, ring in self._rings.items():
            for seq in ring.newer(max(self._newest[name], from_seq - 1)):
                picture = ring.find(seq)
                self._newest[name] = seq
                if picture is not None:
                    self._hold(seq, picture)

    def _hold(self, seq: int, picture: Pixels) -> None:
        self._forget(seq)  # a line that counts anew comes to the same numbers
        self._held[seq] = picture
        self._held_bytes += picture.nbytes
        while self._held_bytes > self._hold_bytes:
            self._forget(next(iter(self._held)))

    def _forget(self, seq: int) -> Pixels | None:
        picture = self._held.pop(seq, None)
        if picture is not None:
            self._held_bytes -= picture.nbytes
        return picture

    def take(self, verdict: Verdict) -> tuple[Pixels | None, str]:
        """The picture of a frame as its camera delivered it, or None and why there is none."""
        picture = self._forget(verdict.seq)
        for seq in [seq for seq in self._held if seq < verdict.seq]:
            self._forget(seq)
        aside = self._asides.get(verdict.camera)
        if verdict.letterbox is not None or verdict.reason in _NOT_IN_RING:
            kept = aside.find(verdict.seq) if aside is not None else None
            return kept, "" if kept is not None else NOT_KEPT
        if verdict.reason in _NO_PICTURE:
            return None, NEVER_CAME
        if picture is None and verdict.camera in self._rings:
            picture = self._rings[verdict.camera].find(verdict.seq)
        return picture, "" if picture is not None else OVERWRITTEN

    def close(self) -> None:
        """Want no more."""
        for aside in self._asides.values():
            with contextlib.suppress(OSError):
                aside.close()
