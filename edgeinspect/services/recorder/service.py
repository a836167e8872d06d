"""The recorder's program: one thread takes, one writes, and neither is waited for by the line."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from edgeinspect import __version__
from edgeinspect.config.loader import Loaded, load, written_out
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, Clock, read_offset_ns
from edgeinspect.domain.model import model_ref
from edgeinspect.domain.verdict import ModelRef, Verdict
from edgeinspect.errors import ConfigError, EdgeInspectError, Fault
from edgeinspect.services.recorder.file_rotation import FAILED, Reel
from edgeinspect.services.recorder.frame_collector import Pictures
from edgeinspect.services.recorder.verdict_reader import Verdicts
from edgeinspect.services.recorder.writer_thread import Taken, Writing
from edgeinspect.storage.model_store import Store, default_root
from edgeinspect.storage.paths import seen_folder
from edgeinspect.storage.recording.messages import (
    About,
    ClockReading,
    Configuration,
    Missed,
)
from edgeinspect.system import log_events
from edgeinspect.system.log import RateLimited
from edgeinspect.system.machine_info import describe_machine
from edgeinspect.wire.messages import decode_verdict

POLL_NS = 3 * NS_PER_MS
_LOOK_NS = 100 * NS_PER_MS
_CLOCK_NS = NS_PER_S
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is recorded and held."""

    max_bytes: int
    buffer_bytes: int
    """Pictures that wait for the disk, and as much again that wait for their verdicts."""
    frames: int | None = None
    duration_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """What a recording came to."""

    why: str
    frames: int
    without_picture: int
    missed: int


def read_clocks(clock: Clock) -> ClockReading:
    """Both clocks at one moment, as near as this thread is let."""
    now_ns = clock.now_ns()
    return ClockReading(mono_ns=now_ns, utc_ns=now_ns + read_offset_ns(clock))


class Recorder:
    """Follows one line. `run` is one thread, the writer another; `stop` is thread-safe."""

    def __init__(
        self,
        path: Path,
        overrides: tuple[str, ...],
        out: Path,
        bounds: Bounds,
        clock: Clock,
    ) -> None:
        """Read the configuration; nothing runs and no file is made yet.

        Raises:
            ConfigError: The configuration cannot be used.
        """
        self._source: Callable[[], Loaded] = lambda: load(path, overrides)
        loaded = self._source()
        self.line = loaded.config.line
        self.folder = seen_folder(loaded.config)
        self._loaded = loaded
        self._bounds = bounds
        self._clock = clock
        self._verdicts = Verdicts(self.folder / f"{self.line}.spool")
        self._pictures = Pictures(
            self.folder, self.line, tuple(loaded.cameras), bounds.buffer_bytes, clock
        )
        self._reel = Reel(out, self.line, bounds.max_bytes, self._about)
        self._known: set[str] = set()
        self._ended = threading.Event()
        self._why = "stopped"
        self._frames = 0
        self._limited = RateLimited(_log, clock, NS_PER_S)

    def stop(self, why: str = "stopped") -> None:
        """End the recording in order. Thread-safe, and safe in a signal handler."""
        if not self._ended.is_set():
            self._why = why
            self._ended.set()

    def run(self) -> Account:
        """Record until stopped, or until a bound is reached.

        Raises:
            ConfigError: The line runs with another configuration than the one given.
            UsageError: There is a file of that name.
            StorageError: The disk failed; what was recorded by then can be replayed.
            DeviceLostError: There is no shared memory for pictures kept aside.
        """
        bounds, reel = self._bounds, self._reel
        self._writing = Writing(reel, self._clock, bounds.buffer_bytes, self.stop)
        _log.info(
            log_events.RECORDING_STARTED,
            line=self.line,
            out=str(reel.out),
            max_mib=bounds.max_bytes >> 20,
        )
        self._writing.start()
        try:
            self._say_configuration(self._loaded)
            self._follow()
        except BaseException:
            self.stop(FAILED)
            raise
        finally:
            self._writing.finish(self._why)
            self._pictures.close()
        if self._writing.failure is not None:
            raise self._writing.failure
        account = Account(self._why, reel.frames, reel.without_picture, reel.missed)
        _log.info(
            log_events.RECORDING_STOPPED,
            line=self.line,
            why=account.why,
            frames=account.frames,
            without_picture=account.without_picture,
            missed=account.missed,
        )
        return account

    # -- taking ---------------------------------------------------------------------

    def _follow(self) -> None:
        clock, duration_ns = self._clock, self._bounds.duration_ns
        looked_at_ns = read_at_ns = -NS_PER_S
        until_ns = None if duration_ns is None else clock.now_ns() + duration_ns
        there, told = False, False
        while not self._ended.is_set():
            now_ns = clock.now_ns()
            if until_ns is not None and now_ns >= until_ns:
                self.stop("its time is over")
            if now_ns - looked_at_ns >= _LOOK_NS:
                looked_at_ns = now_ns
                there = self._verdicts.attach()
                there = self._pictures.attach() and there
                if not there and not told:
                    told = True
                    _log.info(log_events.RECORDING_WAITING, line=self.line, folder=str(self.folder))
            if now_ns - read_at_ns >= _CLOCK_NS:
                read_at_ns = now_ns
                self._writing.put(read_clocks(clock))
            self._pictures.look(self._verdicts.next_seq)
            if not self._take_all():
                clock.sleep_until(now_ns + POLL_NS)

    def _take_all(self) -> bool:
        """Hand on every verdict that is there; True if there was any."""
        any_there = False
        while not self._ended.is_set() and (found := self._verdicts.next()) is not None:
            any_there = True
            if isinstance(found, Missed):
                self._limited.warning(
                    log_events.RECORDING_MISSED, what="verdicts", seq=found.from_seq
                )
                self._writing.put(found)
            else:
                self._take(decode_verdict(found), found)
        return any_there

    def _take(self, verdict: Verdict, body: bytes) -> None:
        if verdict.config_hash not in self._known:
            self._meet(verdict.config_hash)
        pixels, why_not = self._pictures.take(verdict)
        self._writing.put(Taken(verdict, body, pixels, why_not))
        self._frames += 1
        if self._frames == self._bounds.frames:
            self.stop("so many frames were asked for")

    def _meet(self, config_hash: str) -> None:
        """A verdict names a configuration that is not in the recording yet.

        Raises:
            ConfigError: It is the first one, and not the file's: nothing could be replayed.
        """
        first = len(self._known) == 1 and not self._frames
        self._known.add(config_hash)
        try:
            loaded = self._source()
            if loaded.hash != config_hash:
                what = (
                    f"the line runs with configuration {config_hash}, and this file is "
                    f"{loaded.hash}: reload the line, or give the same --set"
                )
                raise ConfigError([Fault("file", what)], where=loaded.where)
        except ConfigError as error:
            if first:
                raise
            self._limited.error(log_events.RECORDING_MISSED, what=f"configuration: {error}", seq=0)
            return
        self._say_configuration(loaded)

    def _say_configuration(self, loaded: Loaded) -> None:
        self._known.add(loaded.hash)
        refs = {role: self._model(loaded, role) for role in ("gate", "segmenter")}
        text = written_out(loaded)
        self._writing.put(Configuration(hash=loaded.hash, text=text, **refs))

    def _model(self, loaded: Loaded, role: str) -> ModelRef | None:
        choice = loaded.engines.get(role)
        if choice is None:
            return None
        root = Path(loaded.config.store) if loaded.config.store else default_root()
        try:
            return model_ref(Store(root).resolve(choice.options.model))
        except (EdgeInspectError, OSError):  # each verdict names the model that judged
            return None

    def _about(self) -> About:
        return About(
            line=self.line,
            edgeinspect=__version__,
            began_utc_ns=self._clock.utc_ns(),
            machine=describe_machine(),
        )
