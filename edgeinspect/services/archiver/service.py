"""The program: an archive's file becomes a running archive, and signals end it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import structlog

from edgeinspect.client import Feed, Listener
from edgeinspect.client.sockets import Prepare, Socket, plain
from edgeinspect.domain.clock import NS_PER_S, Clock, SystemClock
from edgeinspect.services.archiver.config import ArchiveConfig, load
from edgeinspect.services.archiver.frame_source import Rings
from edgeinspect.services.archiver.retention_policy import classify
from edgeinspect.services.archiver.subscriber import Catcher
from edgeinspect.services.archiver.write_queue import Waiting
from edgeinspect.services.archiver.writer import MIB, Keeper
from edgeinspect.storage.archive.status import ArchiveState, write_state
from edgeinspect.storage.shared_memory.folder import find_folder
from edgeinspect.system import log_events
from edgeinspect.system.systemd import notify
from edgeinspect.wire.curve_keys import as_client
from edgeinspect.wire.messages import HEARTBEAT_TOPIC, STATUS_TOPIC, VERDICT_TOPIC

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_TURN_MS = 50
_TAKE_S = 0.2
_RETRY_S = 0.5
"""Between two tries to write to a disk that takes nothing."""
_DRAIN_S = 5.0
"""How long it writes on after it was told to stop."""
_NICE = 10
_SWITCH_S = 0.000_5
"""A slot of the ring is used again soon: an encoder may delay the ear so long, not 5 ms."""
_TELL_NS = NS_PER_S
_SUMMARY_NS = 60 * NS_PER_S
_log = structlog.get_logger()


def run(path: Path) -> None:
    """Run the archive of a configuration file until a signal.

    Raises:
        ConfigError: The configuration cannot be used.
        DataError: The folder is another line's, or a key is not what it should be.
        DeviceLostError: The folder is held by another process, or cannot be written.
    """
    archive = Archive(load(path), SystemClock())

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        archive.stop()

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        archive.run()
    finally:
        sys.setswitchinterval(interval_s)
        for number, handler in before.items():
            signal.signal(number, handler)


class Archive:
    """One line's archive, put together. `stop` may be called from any thread."""

    def __init__(self, config: ArchiveConfig, clock: Clock) -> None:
        """Open the folder and connect; raises as `run`."""
        self.config = config
        self._clock = clock
        self._stopping = threading.Event()
        self._drained = threading.Event()
        self._failure: BaseException | None = None
        self.waiting = Waiting(round(config.memory_mib * MIB), config.shares.of)
        with contextlib.ExitStack() as stack:
            self.keeper = Keeper(config, clock)
            stack.callback(self.keeper.close)
            prepare = make_prepare(config)
            source = config.feed.find(config.ring)
            ring = Path(config.ring) if config.ring else find_folder(config.feed.line)
            live = stack.enter_context(
                Listener(
                    source.verdicts, topics=_topics(config), prepare=prepare, proof=source.proof()
                )
            )
            feed = stack.enter_context(
                Feed(
                    source.verdicts,
                    source.replay,
                    name=config.archive,
                    line=config.feed.line,
                    cursor=self.keeper.stored_cursor,
                    prepare=prepare,
                    high_water_mark=config.feed.high_water_mark,
                    proof=source.proof(),
                )
            )
            known = self.keeper.known
            self.catcher = Catcher(
                line=config.feed.line,
                live=live,
                feed=feed,
                rings=Rings(ring, config.feed.line),
                classify=lambda verdict: classify(verdict, config),
                has=lambda key: key in known,
                waiting=self.waiting,
                account=self.keeper.account,
                clock=clock,
            )
            self._closing = stack.pop_all()

    def run(self) -> None:
        """Work until `stop`, then write what waits, for a few seconds.

        Raises:
            BaseException: What ended one of its threads: a bug.
        """
        threads = [
            threading.Thread(target=self._encode, name=f"encode-{number}", daemon=True)
            for number in range(self.config.encoders)
        ]
        with self._closing:
            self._say_started()
            for thread in threads:
                thread.start()
            try:
                self._listen()
            finally:
                self._stopping.set()
                notify("STOPPING=1")
                self.waiting.close()
                until_ns = self._clock.now_ns() + round(_DRAIN_S * NS_PER_S)
                for thread in threads:
                    thread.join(max(0.0, (until_ns - self._clock.now_ns()) / NS_PER_S))
                self._drained.set()
                for thread in threads:
                    thread.join(1.0)
                self._say_stopped()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End `run`. Thread-safe, and safe in a signal handler."""
        self._stopping.set()

    def _listen(self) -> None:
        tell_at_ns = summary_at_ns = self._clock.now_ns()
        while not self._stopping.is_set():
            self.catcher.step(_TURN_MS)
            now_ns = self._clock.now_ns()
            if now_ns >= tell_at_ns:
                tell_at_ns = now_ns + _TELL_NS
                notify("WATCHDOG=1", f"STATUS={self.status()}")
                write_state(Path(self.config.folder), self.state())
            if now_ns >= summary_at_ns:
                summary_at_ns = now_ns + _SUMMARY_NS
                self._summarise()

    def _encode(self) -> None:
        """An encoder's thread: write until there is nothing more to write."""
        with contextlib.suppress(OSError):  # the line's own threads come first
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        try:
            while not self._drained.is_set():
                if self._stopping.is_set() and not len(self.waiting):
                    break
                if not self.keeper.write(self.waiting, _TAKE_S):
                    self._drained.wait(_RETRY_S)
        except BaseException as error:  # a dead thread must end the process, not hide
            self._failure = error
            self._stopping.set()

    def status(self) -> str:
        """How it is, in a line for people."""
        missed = sum(self.keeper.account.totals.values())
        words = f"{self.keeper.size_bytes // MIB} MiB, {self.keeper.saved} saved, {missed} missed"
        return f"cannot save: {self.keeper.problem}; {words}" if self.keeper.problem else words

    def state(self) -> ArchiveState:
        """How it is, for the page."""
        keeper = self.keeper
        return ArchiveState(
            at_utc_ns=self._clock.utc_ns(),
            problem=keeper.problem,
            saved=keeper.saved,
            missed=sum(keeper.account.totals.values()),
            frames=keeper.frames,
            size_bytes=keeper.size_bytes,
        )

    def _say_started(self) -> None:
        notify("READY=1")
        _log.info(
            log_events.ARCHIVE_STARTED,
            archive=self.config.archive,
            line=self.config.feed.line,
            folder=self.config.folder,
            frames=self.keeper.frames,
            mib=self.keeper.size_bytes // MIB,
            cursor=self.keeper.stored_cursor,
        )

    def _summarise(self) -> None:
        _log.info(
            log_events.ARCHIVE_SUMMARY,
            frames=self.keeper.frames,
            mib=self.keeper.size_bytes // MIB,
            saved=self.keeper.saved,
            removed=self.keeper.removed,
            waiting=len(self.waiting),
            missed=sum(self.keeper.account.totals.values()),
        )

    def _say_stopped(self) -> None:
        _log.info(
            log_events.ARCHIVE_STOPPED,
            archive=self.config.archive,
            saved=self.keeper.saved,
            waiting=len(self.waiting),
            missed=sum(self.keeper.account.totals.values()),
        )


def _topics(config: ArchiveConfig) -> tuple[str, ...]:
    line = config.feed.line
    return (f"{VERDICT_TOPIC}.{line}.", f"{HEARTBEAT_TOPIC}.{line}", f"{STATUS_TOPIC}.{line}")


def make_prepare(config: ArchiveConfig) -> Prepare:
    """Puts the configured keys on a socket; nothing where there are none."""
    curve = config.feed.curve
    if curve is None:
        return plain

    def prepare(socket: Socket) -> None:
        as_client(Path(curve.secret), Path(curve.server), socket)

    return prepare
