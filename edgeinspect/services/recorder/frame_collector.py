"""The line's pictures, copied out of its shared memory before their slots are used again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from edgeinspect.domain import Clock, Pixels, Reason, Verdict
from edgeinspect.errors import DeviceLostError
from edgeinspect.storage.shared_memory import FrameRingReader, SideBufferReader

_SIDE_BUFFER_SLOTS = 8
_MAX_SIDE_BUFFER_SLOT_BYTES = 16 << 20
"""Most bytes of one slot aside, unless a frame of the line is larger."""
NOT_DELIVERED = "none came"
OVERWRITTEN = "its slot was used again before it was taken"
NOT_IN_SIDE_BUFFER = "it did not enter the ring as it came, and was not kept aside"
_REASONS_WITHOUT_IMAGE = (Reason.CAPTURE_LOST, Reason.CAPTURE_ERROR)
_REASONS_NOT_IN_RING = (Reason.SHAPE, Reason.CAPTURE_HEALTH)


class FrameCollector:
    """Holds pictures until their verdicts come. One thread.

    A picture is taken as soon as it is whole, so that only a standstill of this process
    longer than the ring's turn loses one.
    """

    def __init__(
        self, folder: Path, line: str, cameras: Sequence[str], capacity_bytes: int, clock: Clock
    ) -> None:
        self._paths = {name: folder / f"{line}.{name}.ring" for name in cameras}
        self._rings: dict[str, FrameRingReader] = {}
        self._side_buffers: dict[str, SideBufferReader] = {}
        self._last_seqs: dict[str, int] = {}
        self._clock = clock
        self._frames: dict[int, Pixels] = {}
        self._frames_bytes = 0
        self._capacity_bytes = capacity_bytes

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
                    self._rings[name] = ring = FrameRingReader(path)
                except DeviceLostError:
                    continue
                self._last_seqs[name] = 0
                frame_bytes = ring.shape.size_bytes
                slot_bytes = max(frame_bytes, min(4 * frame_bytes, _MAX_SIDE_BUFFER_SLOT_BYTES))
                aside = path.with_suffix(".aside")
                self._side_buffers[name] = SideBufferReader(aside, _SIDE_BUFFER_SLOTS, slot_bytes)
            self._side_buffers[name].request(self._clock.now_ns())
        return len(self._rings) == len(self._paths)

    def poll(self, from_seq: int) -> None:
        """Copy the pictures that have come since the last look, of `from_seq` and later."""
        for name, ring in self._rings.items():
            for seq in ring.seqs_after(max(self._last_seqs[name], from_seq - 1)):
                picture = ring.read(seq)
                self._last_seqs[name] = seq
                if picture is not None:
                    self._add(seq, picture)

    def _add(self, seq: int, pixels: Pixels) -> None:
        self._discard(seq)  # a line that counts anew comes to the same numbers
        self._frames[seq] = pixels
        self._frames_bytes += pixels.nbytes
        while self._frames_bytes > self._capacity_bytes:
            self._discard(next(iter(self._frames)))

    def _discard(self, seq: int) -> Pixels | None:
        picture = self._frames.pop(seq, None)
        if picture is not None:
            self._frames_bytes -= picture.nbytes
        return picture

    def pop(self, verdict: Verdict) -> tuple[Pixels | None, str]:
        """The picture of a frame as its camera delivered it, or None and why there is none."""
        picture = self._discard(verdict.seq)
        for seq in [seq for seq in self._frames if seq < verdict.seq]:
            self._discard(seq)
        aside = self._side_buffers.get(verdict.camera)
        if verdict.letterbox is not None or verdict.reason in _REASONS_NOT_IN_RING:
            kept = aside.read(verdict.seq) if aside is not None else None
            return kept, "" if kept is not None else NOT_IN_SIDE_BUFFER
        if verdict.reason in _REASONS_WITHOUT_IMAGE:
            return None, NOT_DELIVERED
        if picture is None and verdict.camera in self._rings:
            picture = self._rings[verdict.camera].read(verdict.seq)
        return picture, "" if picture is not None else OVERWRITTEN

    def close(self) -> None:
        """Want no more."""
        for aside in self._side_buffers.values():
            with contextlib.suppress(OSError):
                aside.close()
