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
from edgeinspect.client import VerdictFeed, client_keys_setup, find_line
from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, ModelSpec, SystemClock
from edgeinspect.errors import (
    ConfigError,
    ConfigFault,
    DeviceLostError,
    EdgeInspectError,
    ModelError,
    is_transient,
)
from edgeinspect.imaging import CLASS_COLORS
from edgeinspect.services.hmi import shift_counters
from edgeinspect.services.hmi.action_routes import ActionContext, ActionRoutes
from edgeinspect.services.hmi.app import make_app
from edgeinspect.services.hmi.archive_frames import ArchiveMonitor
from edgeinspect.services.hmi.config import (
    DEFAULT_SHIFT_STARTS,
    LoadedHmiConfig,
    is_loopback_host,
    load_hmi_config,
)
from edgeinspect.services.hmi.drift import DriftMonitor
from edgeinspect.services.hmi.event_stream import EventStream
from edgeinspect.services.hmi.frame_cache import FrameCache
from edgeinspect.services.hmi.host_sensors import read_host_state
from edgeinspect.services.hmi.http.client_address import parse_networks
from edgeinspect.services.hmi.http.connection_limits import ConnectionLimiter, LimitedListener
from edgeinspect.services.hmi.http.library_log import redirect_library_logs
from edgeinspect.services.hmi.http.reverse_proxy import TrustedProxies
from edgeinspect.services.hmi.http.server import make_server
from edgeinspect.services.hmi.http.tls import RenewableCertificate
from edgeinspect.services.hmi.ledger_history import LedgerHistory
from edgeinspect.services.hmi.line_state import LineState
from edgeinspect.services.hmi.login.sessions import LoginSessions
from edgeinspect.services.hmi.login.throttle import LoginThrottle
from edgeinspect.services.hmi.metrics import Metrics
from edgeinspect.services.hmi.read_routes import (
    ReadContext,
    ReadRoutes,
    live_payload,
    state_payload,
)
from edgeinspect.services.hmi.subscriber import LineSubscriber
from edgeinspect.storage.model_store import ModelStore, default_root
from edgeinspect.storage.paths import client_addresses, find_shared_memory_folder
from edgeinspect.storage.shadow_results import RESULTS_SUFFIX
from edgeinspect.system import RateLimitedLogger, UserFile, log_events
from edgeinspect.wire import process_holding

_log = structlog.get_logger()
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_EXTRA_CONNECTIONS = 100
"""Beside two for each browser that watches: for requests, and for those who knock."""
_MIN_CONNECTIONS_PER_CLIENT = 40
_MIN_STREAMS_PER_CLIENT = 8


def run_hmi(path: Path) -> None:
    """Run the page of a configuration file until a signal.

    Raises:
        ConfigError: The configuration cannot be used.
        DataError: A key is not what it should be.
        DeviceLostError: The address is taken.
    """
    loaded = load_hmi_config(path)
    page = HmiService(loaded, SystemClock())
    lower_priority(loaded.config.nice)
    page.start()
    try:
        _serve(loaded, page)
    finally:
        page.stop()
        _log.info(log_events.PAGE_STOPPED, line=loaded.line.config.line)


def lower_priority(nice: int) -> None:
    """Let the line come first: a low priority, and one thread for each picture.

    Not SCHED_IDLE: on a PC that is never idle the page would starve, and say NOT INSPECTED
    of a line that is.
    """
    cv2.setNumThreads(1)
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))


class HmiService:
    """Everything behind the socket. `start` and `stop` belong to one thread."""

    def __init__(self, loaded: LoadedHmiConfig, clock: Clock) -> None:
        """Build everything; nothing runs yet."""
        config, line = loaded.config, loaded.line.config
        prepare = client_keys_setup(config.curve)

        def bounds(utc_ns: int) -> tuple[int, int]:
            return shift_counters.shift_bounds(utc_ns, config.shifts or DEFAULT_SHIFT_STARTS)

        folder = Path(config.ring_folder) if config.ring_folder else find_shared_memory_folder(line)
        verdicts, replay = client_addresses(line, folder)
        source = find_line(
            line.line,
            verdicts,
            replay,
            spool=str(folder),
            has_keys=config.curve is not None,
            unproven=config.unproven,
        )

        def subscribe(cursor: int | None) -> VerdictFeed:
            return VerdictFeed(
                verdicts,
                replay,
                name="page",
                line=line.line,
                cursor=cursor,
                setup_socket=prepare,
                clock=clock,
                verifier=source.verifier(),
            )

        store = ModelStore(Path(line.store) if line.store else default_root())
        ledger = Path(line.ledger.folder) if line.ledger else None
        state = config.state or os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        history = LedgerHistory(ledger / f"{line.line}.ledger.sqlite" if ledger else None)
        archive = Path(config.archive) if config.archive else None
        watch = self._archive_monitor = ArchiveMonitor(archive, clock) if archive else None
        certificate = self.certificate = RenewableCertificate(config.tls) if config.tls else None

        def beside() -> str:
            told = watch.alarm() if watch is not None else ""
            return told or (certificate.alarm() if certificate is not None else "")

        self.line_state = LineState(
            line.line,
            clock=clock,
            silence_timeout_ns=round(config.silent_ms * NS_PER_MS),
            shift_bounds=bounds,
            service_alarm=beside,
        )
        drift = DriftMonitor(
            line.line,
            config.drift.reference_frames,
            config.drift.window_frames,
            Path(state) if state else None,
        )
        rings = {name: folder / f"{line.line}.{name}.ring" for name in line.cameras}
        self.frame_cache = FrameCache(rings, config.live_hz, drift, clock)
        self.stream = EventStream(
            self.line_state.heartbeat_payload,
            lambda: state_payload(sources),
            lambda: live_payload(sources),
            config.clients,
            max(_MIN_STREAMS_PER_CLIENT, config.clients // 4),
        )
        measures = Metrics(
            self.line_state,
            drift,
            cameras=tuple(line.cameras),
            budget_ms=line.budget_ms,
            read_host_state=read_host_state,
            client_count=lambda: self.stream.subscriber_count,
            archive_monitor=watch,
        )
        self.subscriber = LineSubscriber(
            make_feed=subscribe,
            history=history,
            line_state=self.line_state,
            frame_cache=self.frame_cache,
            drift=drift,
            metrics=measures,
            shift_bounds=bounds,
            reference_frames=config.drift.reference_frames,
            clock=clock,
        )
        models, classes = _model_and_class_names(loaded, store)
        sources = ReadContext(
            self.line_state,
            self.frame_cache,
            history,
            measures,
            store,
            models,
            tuple(line.cameras),
            classes,
            CLASS_COLORS,
            (ledger or folder) / f"{line.line}{RESULTS_SUFFIX}",
            archive,
            round(line.budget_ms * 1000),
            __version__,
        )
        challenge = line.capture.challenge_folder
        means = ActionContext(
            self.line_state,
            UserFile(Path(config.users) if config.users else None),
            replay,
            prepare,
            store,
            models,
            Path(challenge) if challenge else None,
            config.backend,
            tuple(config.reload_command),
        )
        sessions = LoginSessions(round(config.session_min * 60 * NS_PER_S), clock)
        proxies = self.proxies = TrustedProxies(
            parse_networks(config.proxies), config.prefix.rstrip("/")
        )
        self.app: ASGIApp = make_app(
            ReadRoutes(sources, self.stream),
            ActionRoutes(means, sessions, LoginThrottle(clock), clock),
            self.stream,
            _host_names(loaded),
            config.requests_per_s,
            proxies,
            certificate,
        )
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to hear, to encode, and to look at the archive."""
        self._start_thread("follow", self.subscriber.run)
        self._start_thread("encode", self.frame_cache.run)
        if self._archive_monitor is not None:
            self._start_thread("archive", self._archive_monitor.run)

    def stop(self) -> None:
        """End all of it."""
        self.subscriber.stop()
        self.frame_cache.stop()
        if self._archive_monitor is not None:
            self._archive_monitor.stop()
        for thread in self._threads:
            thread.join(5)

    def _start_thread(self, name: str, target: Callable[[], None]) -> None:
        def body() -> None:
            try:
                target()
            except BaseException:  # without ears the page must not go on as if it had any
                _log.exception(log_events.PAGE_FAILED, thread=name)
                os._exit(DeviceLostError.exit_code)

        thread = threading.Thread(target=body, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()


def _model_and_class_names(
    loaded: LoadedHmiConfig, store: ModelStore
) -> tuple[tuple[str, ...], tuple[str, ...]]:
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


def _host_names(loaded: LoadedHmiConfig) -> list[str]:
    """Names by which browsers may ask."""
    hosts = {"localhost", loaded.host.lower(), socket.gethostname().lower()}
    return sorted(hosts | {name.lower() for name in loaded.config.hosts})


def _bind_error(bind: str, error: BaseException | None) -> EdgeInspectError:
    """A person must mend a port that is not ours, or a name that nobody has; all else may pass."""
    words = getattr(error, "strerror", None) or "it cannot be had"
    if error is not None and not is_transient(error):
        return ConfigError([ConfigFault("bind", f"cannot be bound: {words}", bind)])
    return DeviceLostError(
        f"the address cannot be bound: {words}{process_holding(f'tcp://{bind}')}",
        where=bind,
        remedy="Is another page running? Stop it, or choose another `bind`",
    )


def _serve(loaded: LoadedHmiConfig, service: HmiService) -> None:
    """Serve until SIGTERM or SIGINT, which uvicorn takes.

    Raises:
        ConfigError: The address can never be had.
        DeviceLostError: It cannot be had now.
    """
    certificate, clients = service.certificate, loaded.config.clients
    gate = ConnectionLimiter(
        clients * 2 + _EXTRA_CONNECTIONS,
        max(_MIN_CONNECTIONS_PER_CLIENT, (clients * 2 + _EXTRA_CONNECTIONS) // 4),
        service.proxies.is_trusted,
        is_tls=certificate is not None,
    )
    server = make_server(service.app, gate, certificate, loaded.host, loaded.port)
    try:
        bound = server.config.bind_socket()
    except SystemExit as stop:  # how uvicorn says that an address cannot be bound
        raise _bind_error(loaded.config.bind, stop.__context__) from stop.__context__
    _log.info(
        log_events.PAGE_STARTED,
        line=loaded.line.config.line,
        bind=loaded.config.bind,
        tls=certificate is not None,
        beyond_this_machine=not is_loopback_host(loaded.host),
    )
    # uvicorn raises the signal that ended it once more, for whoever had it before: that is us.
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    look = certificate.request_check if certificate is not None else lambda: None
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: look())
    redirect_library_logs(RateLimitedLogger(_log, SystemClock()))
    service.stream.is_server_stopping = lambda: server.should_exit
    try:
        with LimitedListener(bound, gate) as listener:
            server.run([listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
