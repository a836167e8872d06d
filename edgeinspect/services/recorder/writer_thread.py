"""The recorder's second thread: packs pictures and waits for the disk, behind a bounded queue."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import structlog

from edgeinspect.domain.clock import NS_PER_S, Clock
from edgeinspect.domain.frame import Pixels
from edgeinspect.domain.verdict import Verdict
from edgeinspect.services.recorder.file_rotation import FAILED, Reel, encoded, size_of
from edgeinspect.services.recorder.frame_collector import NEVER_CAME
from edgeinspect.storage.recording.messages import ClockReading, Configuration, FrameRecord, Missed
from edgeinspect.storage.recording.pixel_codec import LEFT_ZSTD, MAX_PICTURE_BYTES, Packer
from edgeinspect.system import log_events
from edgeinspect.system.log import RateLimited

_FLUSH_S = 1.0
_SYNC_NS = 5 * NS_PER_S
_NICE = 5
_MAX_CHANNELS = 4
TOO_SLOW = "the disk is too slow"
TOO_LARGE = "it is too large"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame as it was taken from the line."""

    verdict: Verdict
    body: bytes
    """The verdict as it was published."""
    pixels: Pixels | None
    why_not: str


Item = Taken | Configuration | ClockReading | Missed


class Writing:
    """Writes what it is handed, in its order. `put` and `finish` are for one other thread."""

    def __init__(
        self, reel: Reel, clock: Clock, buffer_bytes: int, on_end: Callable[[str], None]
    ) -> None:
        """Load the packer and make the first file.

        Args:
            reel: Where it goes; this thread's from `start` on.
            clock: Labels and intervals.
            buffer_bytes: Most bytes that wait, verdicts and pictures.
            on_end: Told once, from the thread, that it writes no more: `full` or `failed`.

        Raises:
            UsageError: There is a file of that name.
            StorageError: It cannot be made.
            ModuleNotFoundError: The extra `record` is not installed.
        """
        self.failure: BaseException | None = None
        """What ended the thread, if something did."""
        self._reel = reel
        self._clock = clock
        self._packer = Packer()
        self._buffer_bytes = buffer_bytes
        self._on_end = on_end
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._left_out: tuple[int, int] | None = None
        self._why = ""
        self._limited = RateLimited(_log, clock, NS_PER_S)
        self._thread = threading.Thread(target=self._run, name="record-write", daemon=True)
        reel.begin(clock.utc_ns())

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand something over; what there is no room for is left out, and that is said.

        Pictures go first: a quarter more than the bound is for verdicts alone.
        """
        if isinstance(item, Taken):
            size = len(item.body)
            if item.pixels is not None and not self._has_room(size + item.pixels.nbytes):
                item = Taken(item.verdict, item.body, None, TOO_SLOW)
            elif item.pixels is not None:
                size += item.pixels.nbytes
            if not self._has_room(size - self._buffer_bytes // 4):
                first = self._left_out[0] if self._left_out else item.verdict.seq
                self._left_out = (first, item.verdict.seq)
                return
            if self._left_out is not None:
                first, last = self._left_out
                self._left_out = None
                self._queue.put(Missed(from_seq=first, to_seq=last))
            with self._lock:
                self._waiting_bytes += size
        self._queue.put(item)

    def _has_room(self, size: int) -> bool:
        with self._lock:
            return self._waiting_bytes + size <= self._buffer_bytes

    def finish(self, why: str) -> None:
        """Write what was handed over, end the file in order, and wait for it."""
        self._why = why
        if self._left_out is not None:
            self._queue.put(Missed(from_seq=self._left_out[0], to_seq=self._left_out[1]))
        self._queue.put(None)
        self._thread.join()

    # -- thread ----------------------------------------------------------------------

    def _run(self) -> None:
        os.nice(_NICE)  # this thread alone: the line's engines come first
        try:
            full = not self._write_all()
            if full:
                self._on_end("full")
            self._reel.finish("full" if full else self._why, self._clock.utc_ns())
        except BaseException as error:
            self.failure = error
            self._reel.abandon()
            self._on_end(FAILED)

    def _write_all(self) -> bool:
        """Write until a None comes; False if the bound is reached before."""
        synced_at_ns = self._clock.now_ns()
        held_back = False
        while True:
            try:
                item = self._queue.get(timeout=_FLUSH_S)
            except Empty:
                if held_back:
                    self._reel.flush(to_disk=False)
                    held_back = False
                continue
            if item is None:
                return True
            if not self._keep(item):
                return False
            held_back = True
            if isinstance(item, ClockReading):  # one comes every second
                now_ns = self._clock.now_ns()
                to_disk = now_ns - synced_at_ns >= _SYNC_NS
                self._reel.flush(to_disk=to_disk)
                synced_at_ns = now_ns if to_disk else synced_at_ns

    def _keep(self, item: Item) -> bool:
        """Write one thing; False if the bound is reached."""
        reel, utc_ns = self._reel, self._clock.utc_ns()
        if isinstance(item, Taken):
            return self._keep_frame(item, utc_ns)
        if not reel.takes(encoded(item), utc_ns):
            return False
        if isinstance(item, Configuration):
            reel.configuration(item, utc_ns)
        elif isinstance(item, ClockReading):
            reel.clock(item)
        else:
            reel.lost(item, utc_ns)
        return True

    def _keep_frame(self, taken: Taken, utc_ns: int) -> bool:
        record = self._record(taken)
        if not self._reel.takes(size_of(record), utc_ns):
            return False
        verdict = taken.verdict
        if record.dims is None and record.why_not != NEVER_CAME:
            self._reel.without_picture += 1
            self._limited.warning(
                log_events.RECORDING_MISSED, what=f"a picture: {record.why_not}", seq=verdict.seq
            )
        self._reel.frame(record, verdict.camera, verdict.seq, utc_ns)
        return True

    def _record(self, taken: Taken) -> FrameRecord:
        pixels, why_not = taken.pixels, taken.why_not
        with self._lock:
            self._waiting_bytes -= len(taken.body) + (0 if pixels is None else pixels.nbytes)
        if pixels is None:
            return FrameRecord(verdict=taken.body, why_not=why_not)
        height, width, channels = pixels.shape
        if pixels.nbytes > MAX_PICTURE_BYTES or channels > _MAX_CHANNELS:
            return FrameRecord(verdict=taken.body, why_not=TOO_LARGE)
        return FrameRecord(
            verdict=taken.body,
            dims=(height, width, channels),
            packing=LEFT_ZSTD,
            pixels=self._packer.pack(pixels),
        )
