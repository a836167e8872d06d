"""The program: a page's file becomes a running page, and signals end it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import structlog
from starlette.types import ASGIApp

from edgeinspect import __version__
from edgeinspect.client import Feed
from edgeinspect.client.connection import find_line
from edgeinspect.client.sockets import Prepare, Socket, plain
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, Clock, SystemClock
from edgeinspect.domain.model import ModelSpec
from edgeinspect.errors import (
    ConfigError,
    DeviceLostError,
    EdgeInspectError,
    Fault,
    ModelError,
    is_transient,
)
from edgeinspect.services.hmi import shift_counters
from edgeinspect.services.hmi.action_routes import Actions, Means
from edgeinspect.services.hmi.app import make_app
from edgeinspect.services.hmi.archive_frames import ArchiveWatch
from edgeinspect.services.hmi.config import SHIFTS, LoadedPage, is_loopback, load
from edgeinspect.services.hmi.drift import Drift
from edgeinspect.services.hmi.encoding import COLORS
from edgeinspect.services.hmi.event_stream import Stream
from edgeinspect.services.hmi.frame_cache import Pictures
from edgeinspect.services.hmi.host_sensors import read_host
from edgeinspect.services.hmi.http.client_address import parse_networks
from edgeinspect.services.hmi.http.connection_limits import Gate, Listener
from edgeinspect.services.hmi.http.library_log import take_over
from edgeinspect.services.hmi.http.reverse_proxy import Proxies
from edgeinspect.services.hmi.http.server import make_server
from edgeinspect.services.hmi.http.tls import Certificate
from edgeinspect.services.hmi.ledger_history import History
from edgeinspect.services.hmi.line_state import Board
from edgeinspect.services.hmi.login.sessions import Sessions
from edgeinspect.services.hmi.login.throttle import Brake
from edgeinspect.services.hmi.metrics import Measures
from edgeinspect.services.hmi.read_routes import Routes, Sources, board_dict, live_dict
from edgeinspect.services.hmi.subscriber import Follower
from edgeinspect.storage.model_store import Store, default_root
from edgeinspect.storage.paths import client_addresses, seen_folder
from edgeinspect.storage.shadow_results import SUFFIX
from edgeinspect.system import log_events
from edgeinspect.system.log import RateLimited
from edgeinspect.system.user_file import Users
from edgeinspect.wire.curve_keys import as_client
from edgeinspect.wire.listening_sockets import holder

_log = structlog.get_logger()
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_MORE_CONNECTIONS = 100
"""Beside two for each browser that watches: for requests, and for those who knock."""
_LEAST_EACH = 40
_LEAST_STREAMS_EACH = 8


def run(path: Path) -> None:
    """Run the page of a configuration file until a signal.

    Raises:
        ConfigError: The configuration cannot be used.
        DataError: A key is not what it should be.
        DeviceLostError: The address is taken.
    """
    loaded = load(path)
    page = Page(loaded, SystemClock())
    step_back(loaded.config.nice)
    page.start()
    try:
        _serve(loaded, page)
    finally:
        page.stop()
        _log.info(log_events.PAGE_STOPPED, line=loaded.line.config.line)


def step_back(nice: int) -> None:
    """Let the line come first: a low priority, and one thread for each picture.

    Not SCHED_IDLE: on a PC that is never idle the page would starve, and say NOT INSPECTED
    of a line that is.
    """
    cv2.setNumThreads(1)
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))


class Page:
    """Everything behind the socket. `start` and `stop` belong to one thread."""

    def __init__(self, loaded: LoadedPage, clock: Clock) -> None:
        """Build everything; nothing runs yet."""
        config, line = loaded.config, loaded.line.config
        prepare = make_prepare(loaded)

        def bounds(utc_ns: int) -> tuple[int, int]:
            return shift_counters.bounds(utc_ns, config.shifts or SHIFTS)

        folder = Path(config.ring_folder) if config.ring_folder else seen_folder(line)
        verdicts, replay = client_addresses(line, folder)
        source = find_line(
            line.line,
            verdicts,
            replay,
            spool=str(folder),
            has_keys=config.curve is not None,
            unproven=config.unproven,
        )

        def subscribe(cursor: int | None) -> Feed:
            return Feed(
                verdicts,
                replay,
                name="page",
                line=line.line,
                cursor=cursor,
                prepare=prepare,
                clock=clock,
                proof=source.proof(),
            )

        store = Store(Path(line.store) if line.store else default_root())
        ledger = Path(line.ledger.folder) if line.ledger else None
        state = config.state or os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        history = History(ledger / f"{line.line}.ledger.sqlite" if ledger else None)
        archive = Path(config.archive) if config.archive else None
        watch = self._archive = ArchiveWatch(archive, clock) if archive else None
        certificate = self.certificate = Certificate(config.tls) if config.tls else None

        def beside() -> str:
            told = watch.alarm() if watch is not None else ""
            return told or (certificate.alarm() if certificate is not None else "")

        self.board = Board(
            line.line,
            clock=clock,
            silent_ns=round(config.silent_ms * NS_PER_MS),
            bounds=bounds,
            beside=beside,
        )
        drift = Drift(
            line.line,
            config.drift.reference_frames,
            config.drift.window_frames,
            Path(state) if state else None,
        )
        rings = {name: folder / f"{line.line}.{name}.ring" for name in line.cameras}
        self.pictures = Pictures(rings, config.live_hz, drift, clock)
        self.stream = Stream(
            self.board.beat_dict,
            lambda: board_dict(sources),
            lambda: live_dict(sources),
            config.clients,
            max(_LEAST_STREAMS_EACH, config.clients // 4),
        )
        measures = Measures(
            self.board,
            drift,
            cameras=tuple(line.cameras),
            budget_ms=line.budget_ms,
            read_host=read_host,
            clients=lambda: self.stream.listeners,
            archive=watch,
        )
        self.follower = Follower(
            subscribe=subscribe,
            history=history,
            board=self.board,
            pictures=self.pictures,
            drift=drift,
            measures=measures,
            bounds=bounds,
            reference_frames=config.drift.reference_frames,
            clock=clock,
        )
        models, classes = _models(loaded, store)
        sources = Sources(
            self.board,
            self.pictures,
            history,
            measures,
            store,
            models,
            tuple(line.cameras),
            classes,
            COLORS,
            (ledger or folder) / f"{line.line}{SUFFIX}",
            archive,
            round(line.budget_ms * 1000),
            __version__,
        )
        challenge = line.capture.challenge_folder
        means = Means(
            self.board,
            Users(Path(config.users) if config.users else None),
            replay,
            prepare,
            store,
            models,
            Path(challenge) if challenge else None,
            config.backend,
            tuple(config.reload_command),
        )
        sessions = Sessions(round(config.session_min * 60 * NS_PER_S), clock)
        proxies = self.proxies = Proxies(parse_networks(config.proxies), config.prefix.rstrip("/"))
        self.app: ASGIApp = make_app(
            Routes(sources, self.stream),
            Actions(means, sessions, Brake(clock), clock),
            self.stream,
            _hosts(loaded),
            config.requests_per_s,
            proxies,
            certificate,
        )
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to hear, to encode, and to look at the archive."""
        self._run("follow", self.follower.run)
        self._run("encode", self.pictures.run)
        if self._archive is not None:
            self._run("archive", self._archive.run)

    def stop(self) -> None:
        """End all of it."""
        self.follower.stop()
        self.pictures.stop()
        if self._archive is not None:
            self._archive.stop()
        for thread in self._threads:
            thread.join(5)

    def _run(self, name: str, target: Callable[[], None]) -> None:
        def body() -> None:
            try:
                target()
            except BaseException:  # without ears the page must not go on as if it had any
                _log.exception(log_events.PAGE_FAILED, thread=name)
                os._exit(DeviceLostError.exit_code)

        thread = threading.Thread(target=body, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()


def make_prepare(loaded: LoadedPage) -> Prepare:
    """Puts the configured keys on a socket; nothing where there are none."""
    curve = loaded.config.curve
    if curve is None:
        return plain

    def prepare(wire: Socket) -> None:
        as_client(Path(curve.secret), Path(curve.server), wire)

    return prepare


def _models(loaded: LoadedPage, store: Store) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the line's models, and the segmenter's classes as far as they can be told."""
    names: list[str] = []
    classes: tuple[str, ...] = tuple(loaded.line.config.decide.classes)
    for role, choice in loaded.line.engines.items():
        ref = str(choice.options.model)
        try:
            spec: ModelSpec | None = store.resolve(ref)
        except ModelError:  # the daemon will say so; the page shows what it can
            spec = None
        names.append(spec.id.name if spec is not None else ref.partition("/")[0])
        if role == "segmenter" and spec is not None:
            classes = spec.classes
    return tuple(dict.fromkeys(names)), classes


def _hosts(loaded: LoadedPage) -> list[str]:
    """Names by which browsers may ask."""
    hosts = {"localhost", loaded.host.lower(), socket.gethostname().lower()}
    return sorted(hosts | {name.lower() for name in loaded.config.hosts})


def _cannot_bind(bind: str, error: BaseException | None) -> EdgeInspectError:
    """A person must mend a port that is not ours, or a name that nobody has; all else may pass."""
    words = getattr(error, "strerror", None) or "it cannot be had"
    if error is not None and not is_transient(error):
        return ConfigError([Fault("bind", f"cannot be bound: {words}", bind)])
    return DeviceLostError(
        f"the address cannot be bound: {words}{holder(f'tcp://{bind}')}",
        where=bind,
        remedy="Is another page running? Stop it, or choose another `bind`",
    )


def _serve(loaded: LoadedPage, page: Page) -> None:
    """Serve until SIGTERM or SIGINT, which uvicorn takes.

    Raises:
        ConfigError: The address can never be had.
        DeviceLostError: It cannot be had now.
    """
    certificate, clients = page.certificate, loaded.config.clients
    gate = Gate(
        clients * 2 + _MORE_CONNECTIONS,
        max(_LEAST_EACH, (clients * 2 + _MORE_CONNECTIONS) // 4),
        page.proxies.trusts,
        secure=certificate is not None,
    )
    server = make_server(page.app, gate, certificate, loaded.host, loaded.port)
    try:
        bound = server.config.bind_socket()
    except SystemExit as stop:  # how uvicorn says that an address cannot be bound
        raise _cannot_bind(loaded.config.bind, stop.__context__) from stop.__context__
    _log.info(
        log_events.PAGE_STARTED,
        line=loaded.line.config.line,
        bind=loaded.config.bind,
        tls=certificate is not None,
        beyond_this_machine=not is_loopback(loaded.host),
    )
    # uvicorn raises the signal that ended it once more, for whoever had it before: that is us.
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    look = certificate.look if certificate is not None else lambda: None
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: look())
    take_over(RateLimited(_log, SystemClock()))
    page.stream.ended = lambda: server.should_exit
    try:
        with Listener(bound, gate) as listener:
            server.run([listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
