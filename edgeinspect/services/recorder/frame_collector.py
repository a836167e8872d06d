"""Copies frames out of the line's shared memory before their slots are reused."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from edgeinspect.domain import Clock, Pixels, Reason, Verdict
from edgeinspect.errors import DeviceLostError
from edgeinspect.storage.shared_memory import FrameRingReader, SideBufferReader

_SIDE_BUFFER_SLOTS = 8
_MAX_SIDE_BUFFER_SLOT_BYTES = 16 << 20
"""Limit of one slot of the side buffer, unless a frame of the line is larger."""
NOT_DELIVERED = "the camera delivered no image"
OVERWRITTEN = "its ring slot was reused before it was read"
NOT_IN_SIDE_BUFFER = "it did not enter the ring unchanged, and was not in the side buffer"
_REASONS_WITHOUT_IMAGE = (Reason.CAPTURE_LOST, Reason.CAPTURE_ERROR)
_REASONS_NOT_IN_RING = (Reason.SHAPE, Reason.CAPTURE_HEALTH)


class FrameCollector:
    """Holds frames until their verdicts arrive. One thread.

    A frame is copied as soon as it is complete, so one is lost only if this process stalls for
    longer than the ring takes to wrap around.
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
        """Attach to new rings, and request frames from the side buffer.

        Returns:
            True if every camera has a ring.

        Raises:
            DeviceLostError: The side buffer cannot be created.
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
                side_buffer = path.with_suffix(".aside")
                self._side_buffers[name] = SideBufferReader(
                    side_buffer, _SIDE_BUFFER_SLOTS, slot_bytes
                )
            self._side_buffers[name].request(self._clock.now_ns())
        return len(self._rings) == len(self._paths)

    def poll(self, from_seq: int) -> None:
        """Copy the frames that arrived since the last call, from `from_seq` on."""
        for name, ring in self._rings.items():
            for seq in ring.seqs_after(max(self._last_seqs[name], from_seq - 1)):
                pixels = ring.read(seq)
                self._last_seqs[name] = seq
                if pixels is not None:
                    self._add(seq, pixels)

    def _add(self, seq: int, pixels: Pixels) -> None:
        self._discard(seq)  # after a sequence reset the same numbers come again
        self._frames[seq] = pixels
        self._frames_bytes += pixels.nbytes
        while self._frames_bytes > self._capacity_bytes:
            self._discard(next(iter(self._frames)))

    def _discard(self, seq: int) -> Pixels | None:
        pixels = self._frames.pop(seq, None)
        if pixels is not None:
            self._frames_bytes -= pixels.nbytes
        return pixels

    def pop(self, verdict: Verdict) -> tuple[Pixels | None, str]:
        """Return (pixels as delivered by the camera, ""), or (None, why they are missing)."""
        pixels = self._discard(verdict.seq)
        for seq in [seq for seq in self._frames if seq < verdict.seq]:
            self._discard(seq)
        side_buffer = self._side_buffers.get(verdict.camera)
        if verdict.letterbox is not None or verdict.reason in _REASONS_NOT_IN_RING:
            kept = side_buffer.read(verdict.seq) if side_buffer is not None else None
            return kept, "" if kept is not None else NOT_IN_SIDE_BUFFER
        if verdict.reason in _REASONS_WITHOUT_IMAGE:
            return None, NOT_DELIVERED
        if pixels is None and verdict.camera in self._rings:
            pixels = self._rings[verdict.camera].read(verdict.seq)
        return pixels, "" if pixels is not None else OVERWRITTEN

    def close(self) -> None:
        """Stop requesting frames."""
        for side_buffer in self._side_buffers.values():
            with contextlib.suppress(OSError):
                side_buffer.close()
