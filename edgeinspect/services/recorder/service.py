"""Records one line: one thread reads ring and spool, one writes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from edgeinspect import __version__
from edgeinspect.config import LoadedConfig, dump_canonical, load_config
from edgeinspect.domain import (
    ENGINE_ROLES,
    NS_PER_MS,
    NS_PER_S,
    Clock,
    ModelRef,
    Verdict,
    model_ref,
    read_utc_offset_ns,
)
from edgeinspect.errors import ConfigError, ConfigFault, EdgeInspectError
from edgeinspect.services.recorder.file_rotation import FAILED, RotatingWriter
from edgeinspect.services.recorder.frame_collector import FrameCollector
from edgeinspect.services.recorder.verdict_reader import VerdictReader
from edgeinspect.services.recorder.writer_thread import CapturedFrame, WriterThread
from edgeinspect.storage.model_store import ModelStore, default_root
from edgeinspect.storage.paths import find_shared_memory_folder
from edgeinspect.storage.recording import (
    ClockReading,
    MissedVerdicts,
    RecordedConfiguration,
    RecordingInfo,
)
from edgeinspect.system import RateLimitedLogger, describe_machine, log_events
from edgeinspect.wire import decode_verdict

POLL_NS = 3 * NS_PER_MS
_ATTACH_PERIOD_NS = 100 * NS_PER_MS
_CLOCK_READING_PERIOD_NS = NS_PER_S
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RecordingLimits:
    """Limits of a recording."""

    max_bytes: int
    buffer_bytes: int
    """For frames that wait for the disk, and the same again for frames that wait for verdicts."""
    max_frames: int | None = None
    duration_ns: int | None = None


@dataclass(frozen=True, slots=True)
class RecordingSummary:
    """Totals of a finished recording."""

    end_reason: str
    frames: int
    without_image: int
    missed: int


def read_clocks(clock: Clock) -> ClockReading:
    """Read both clocks at one instant, as closely as the scheduler allows."""
    now_ns = clock.now_ns()
    return ClockReading(mono_ns=now_ns, utc_ns=now_ns + read_utc_offset_ns(clock))


class Recorder:
    """Records one line. `run` is one thread, the writer another; `stop` is thread-safe."""

    def __init__(
        self,
        path: Path,
        overrides: tuple[str, ...],
        out: Path,
        limits: RecordingLimits,
        clock: Clock,
    ) -> None:
        """Load the configuration; start no thread and create no file yet.

        Raises:
            ConfigError: The configuration cannot be used.
        """
        self._load_config: Callable[[], LoadedConfig] = lambda: load_config(path, overrides)
        loaded = self._load_config()
        self.line = loaded.config.line
        self.folder = find_shared_memory_folder(loaded.config)
        self._loaded = loaded
        self._limits = limits
        self._clock = clock
        self._verdict_reader = VerdictReader(self.folder / f"{self.line}.spool")
        self._frame_collector = FrameCollector(
            self.folder, self.line, tuple(loaded.cameras), limits.buffer_bytes, clock
        )
        self._writer = RotatingWriter(out, self.line, limits.max_bytes, self._recording_info)
        self._recorded_hashes: set[str] = set()
        self._stopping = threading.Event()
        self._end_reason = "stopped"
        self._frame_count = 0
        self._throttled_log = RateLimitedLogger(_log, clock, NS_PER_S)

    def stop(self, reason: str = "stopped") -> None:
        """Finish the recording. Thread-safe, and safe in a signal handler."""
        if not self._stopping.is_set():
            self._end_reason = reason
            self._stopping.set()

    def run(self) -> RecordingSummary:
        """Record until stopped, or until a limit is reached.

        Raises:
            ConfigError: The line runs with another configuration than the one given.
            UsageError: The file exists.
            StorageError: The disk failed; what was written before can be replayed.
            DeviceLostError: The side buffer cannot be created.
        """
        limits, writer = self._limits, self._writer
        self._writer_thread = WriterThread(writer, self._clock, limits.buffer_bytes, self.stop)
        _log.info(
            log_events.RECORDING_STARTED,
            line=self.line,
            out=str(writer.out),
            max_mib=limits.max_bytes >> 20,
        )
        self._writer_thread.start()
        try:
            self._record_config(self._loaded)
            self._follow_line()
        except BaseException:
            self.stop(FAILED)
            raise
        finally:
            self._writer_thread.finish(self._end_reason)
            self._frame_collector.close()
        if self._writer_thread.failure is not None:
            raise self._writer_thread.failure
        summary = RecordingSummary(
            self._end_reason, writer.frame_count, writer.without_image_count, writer.missed_count
        )
        _log.info(
            log_events.RECORDING_STOPPED,
            line=self.line,
            why=summary.end_reason,
            frames=summary.frames,
            without_picture=summary.without_image,
            missed=summary.missed,
        )
        return summary

    # -- reading --------------------------------------------------------------------

    def _follow_line(self) -> None:
        clock, duration_ns = self._clock, self._limits.duration_ns
        attached_at_ns = read_at_ns = -NS_PER_S
        until_ns = None if duration_ns is None else clock.now_ns() + duration_ns
        is_attached, is_logged = False, False
        while not self._stopping.is_set():
            now_ns = clock.now_ns()
            if until_ns is not None and now_ns >= until_ns:
                self.stop("the duration is reached")
            if now_ns - attached_at_ns >= _ATTACH_PERIOD_NS:
                attached_at_ns = now_ns
                is_attached = self._verdict_reader.attach()
                is_attached = self._frame_collector.attach() and is_attached
                if not is_attached and not is_logged:
                    is_logged = True
                    _log.info(log_events.RECORDING_WAITING, line=self.line, folder=str(self.folder))
            if now_ns - read_at_ns >= _CLOCK_READING_PERIOD_NS:
                read_at_ns = now_ns
                self._writer_thread.put(read_clocks(clock))
            self._frame_collector.poll(self._verdict_reader.next_seq)
            if not self._record_available():
                clock.sleep_until(now_ns + POLL_NS)

    def _record_available(self) -> bool:
        """Queue every available verdict with its frame; return True if there was any."""
        has_recorded = False
        read_next = self._verdict_reader.read_next
        while not self._stopping.is_set() and (item := read_next()) is not None:
            has_recorded = True
            if isinstance(item, MissedVerdicts):
                self._throttled_log.warning(
                    log_events.RECORDING_MISSED, what="verdicts", seq=item.from_seq
                )
                self._writer_thread.put(item)
            else:
                self._record_frame(decode_verdict(item), item)
        return has_recorded

    def _record_frame(self, verdict: Verdict, body: bytes) -> None:
        if verdict.config_hash not in self._recorded_hashes:
            self._on_new_config(verdict.config_hash)
        pixels, missing_reason = self._frame_collector.pop(verdict)
        self._writer_thread.put(CapturedFrame(verdict, body, pixels, missing_reason))
        self._frame_count += 1
        if self._frame_count == self._limits.max_frames:
            self.stop("the frame limit is reached")

    def _on_new_config(self, config_hash: str) -> None:
        """Record the configuration of a verdict when it is new.

        Raises:
            ConfigError: The first verdict has another configuration than the file: the
                recording could not be replayed.
        """
        is_first = len(self._recorded_hashes) == 1 and not self._frame_count
        self._recorded_hashes.add(config_hash)
        try:
            loaded = self._load_config()
            if loaded.hash != config_hash:
                problem = (
                    f"the line runs with configuration {config_hash}, and this file is "
                    f"{loaded.hash}: reload the line, or give the same --set"
                )
                raise ConfigError([ConfigFault("file", problem)], where=loaded.where)
        except ConfigError as error:
            if is_first:
                raise
            self._throttled_log.error(
                log_events.RECORDING_MISSED, what=f"configuration: {error}", seq=0
            )
            return
        self._record_config(loaded)

    def _record_config(self, loaded: LoadedConfig) -> None:
        self._recorded_hashes.add(loaded.hash)
        refs = {role: self._model_ref(loaded, role) for role in ENGINE_ROLES}
        text = dump_canonical(loaded)
        self._writer_thread.put(RecordedConfiguration(hash=loaded.hash, text=text, **refs))

    def _model_ref(self, loaded: LoadedConfig, role: str) -> ModelRef | None:
        plugin = loaded.engines.get(role)
        if plugin is None:
            return None
        root = Path(loaded.config.store) if loaded.config.store else default_root()
        try:
            return model_ref(ModelStore(root).resolve(plugin.options.model))
        except (EdgeInspectError, OSError):  # each verdict names its models
            return None

    def _recording_info(self) -> RecordingInfo:
        return RecordingInfo(
            line=self.line,
            edgeinspect=__version__,
            began_utc_ns=self._clock.utc_ns(),
            machine=describe_machine(),
        )
