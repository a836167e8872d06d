"""The writer thread: compresses frames and writes to disk, behind a bounded queue."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import structlog

from edgeinspect.domain import NS_PER_S, Clock, Pixels, Verdict
from edgeinspect.services.recorder.file_rotation import (
    FAILED,
    RotatingWriter,
    encoded_size_bytes,
    record_size_bytes,
)
from edgeinspect.services.recorder.frame_collector import NOT_DELIVERED
from edgeinspect.storage.recording import (
    LEFT_ZSTD,
    MAX_IMAGE_BYTES,
    ClockReading,
    FrameRecord,
    MissedVerdicts,
    PixelPacker,
    RecordedConfiguration,
)
from edgeinspect.system import RateLimitedLogger, log_events

_FLUSH_PERIOD_S = 1.0
_SYNC_PERIOD_NS = 5 * NS_PER_S
_NICE = 5
_MAX_CHANNELS = 4
TOO_SLOW = "the disk is too slow"
TOO_LARGE = "it is too large"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """A frame as read from the line."""

    verdict: Verdict
    verdict_json: bytes
    """The verdict as published."""
    pixels: Pixels | None
    missing_reason: str


RecordingItem = CapturedFrame | RecordedConfiguration | ClockReading | MissedVerdicts


class WriterThread:
    """Writes queued items in order. `put` and `finish` belong to one other thread."""

    def __init__(
        self, writer: RotatingWriter, clock: Clock, buffer_bytes: int, on_end: Callable[[str], None]
    ) -> None:
        """Load the codec and create the first file.

        Args:
            writer: Belongs to this thread from `start` on.
            clock: For timestamps and intervals.
            buffer_bytes: Limit of the queue, verdicts and pixels.
            on_end: Called once, from the thread, when it stops by itself: `full` or `failed`.

        Raises:
            UsageError: The file exists.
            StorageError: The file cannot be created.
            ModuleNotFoundError: The extra `record` is not installed.
        """
        self.failure: BaseException | None = None
        """The error that ended the thread, if any."""
        self._writer = writer
        self._clock = clock
        self._pixel_codec = PixelPacker()
        self._buffer_bytes = buffer_bytes
        self._on_end = on_end
        self._queue: SimpleQueue[RecordingItem | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._queued_bytes = 0
        self._dropped_range: tuple[int, int] | None = None
        self._end_reason = ""
        self._throttled_log = RateLimitedLogger(_log, clock, NS_PER_S)
        self._thread = threading.Thread(target=self._run, name="record-write", daemon=True)
        writer.open_first_file(clock.utc_ns())

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, item: RecordingItem) -> None:
        """Queue an item; what exceeds the limit is dropped and recorded as missing.

        Pixels are dropped first: verdicts alone may exceed the limit by a quarter.
        """
        if isinstance(item, CapturedFrame):
            size = len(item.verdict_json)
            if item.pixels is not None and not self._has_room(size + item.pixels.nbytes):
                item = CapturedFrame(item.verdict, item.verdict_json, None, TOO_SLOW)
            elif item.pixels is not None:
                size += item.pixels.nbytes
            if not self._has_room(size - self._buffer_bytes // 4):
                first = self._dropped_range[0] if self._dropped_range else item.verdict.seq
                self._dropped_range = (first, item.verdict.seq)
                return
            if self._dropped_range is not None:
                first, last = self._dropped_range
                self._dropped_range = None
                self._queue.put(MissedVerdicts(from_seq=first, to_seq=last))
            with self._lock:
                self._queued_bytes += size
        self._queue.put(item)

    def _has_room(self, size: int) -> bool:
        with self._lock:
            return self._queued_bytes + size <= self._buffer_bytes

    def finish(self, reason: str) -> None:
        """Write the queued items, finish the file, and join the thread."""
        self._end_reason = reason
        if self._dropped_range is not None:
            self._queue.put(
                MissedVerdicts(from_seq=self._dropped_range[0], to_seq=self._dropped_range[1])
            )
        self._queue.put(None)
        self._thread.join()

    # -- thread ----------------------------------------------------------------------

    def _run(self) -> None:
        os.nice(_NICE)  # this thread alone; the line's engines have priority
        try:
            full = not self._write_all()
            if full:
                self._on_end("full")
            self._writer.finish("full" if full else self._end_reason, self._clock.utc_ns())
        except BaseException as error:
            self.failure = error
            self._writer.abandon()
            self._on_end(FAILED)

    def _write_all(self) -> bool:
        """Write until a None is queued; False if the size limit is reached first."""
        synced_at_ns = self._clock.now_ns()
        has_unflushed = False
        while True:
            try:
                item = self._queue.get(timeout=_FLUSH_PERIOD_S)
            except Empty:
                if has_unflushed:
                    self._writer.flush(to_disk=False)
                    has_unflushed = False
                continue
            if item is None:
                return True
            if not self._write(item):
                return False
            has_unflushed = True
            if isinstance(item, ClockReading):  # queued every second
                now_ns = self._clock.now_ns()
                to_disk = now_ns - synced_at_ns >= _SYNC_PERIOD_NS
                self._writer.flush(to_disk=to_disk)
                synced_at_ns = now_ns if to_disk else synced_at_ns

    def _write(self, item: RecordingItem) -> bool:
        """Write one item; False if the size limit is reached."""
        reel, utc_ns = self._writer, self._clock.utc_ns()
        if isinstance(item, CapturedFrame):
            return self._write_frame(item, utc_ns)
        if not reel.has_room_for(encoded_size_bytes(item), utc_ns):
            return False
        if isinstance(item, RecordedConfiguration):
            reel.write_configuration(item, utc_ns)
        elif isinstance(item, ClockReading):
            reel.write_clock_reading(item)
        else:
            reel.write_missed(item, utc_ns)
        return True

    def _write_frame(self, captured: CapturedFrame, utc_ns: int) -> bool:
        record = self._make_record(captured)
        if not self._writer.has_room_for(record_size_bytes(record), utc_ns):
            return False
        verdict = captured.verdict
        if record.dims is None and record.why_not != NOT_DELIVERED:
            self._writer.without_image_count += 1
            self._throttled_log.warning(
                log_events.RECORDING_MISSED, what=f"a frame: {record.why_not}", seq=verdict.seq
            )
        self._writer.write_frame(record, verdict.camera, verdict.seq, utc_ns)
        return True

    def _make_record(self, captured: CapturedFrame) -> FrameRecord:
        pixels = captured.pixels
        with self._lock:
            self._queued_bytes -= len(captured.verdict_json) + (
                0 if pixels is None else pixels.nbytes
            )
        if pixels is None:
            return FrameRecord(verdict=captured.verdict_json, why_not=captured.missing_reason)
        height, width, channels = pixels.shape
        if pixels.nbytes > MAX_IMAGE_BYTES or channels > _MAX_CHANNELS:
            return FrameRecord(verdict=captured.verdict_json, why_not=TOO_LARGE)
        return FrameRecord(
            verdict=captured.verdict_json,
            dims=(height, width, channels),
            packing=LEFT_ZSTD,
            pixels=self._pixel_codec.pack(pixels),
        )
