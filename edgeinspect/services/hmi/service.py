"""Runs the HMI of one line until a signal."""

from __future__ import annotations

import logging
import os
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
from edgeinspect.services.hmi.http.reverse_proxy import TrustedProxies
from edgeinspect.services.hmi.http.server import make_server, redirect_library_logs
from edgeinspect.services.hmi.http.tls import RenewableCertificate
from edgeinspect.services.hmi.ledger_history import LedgerHistory
from edgeinspect.services.hmi.line_state import LineState
from edgeinspect.services.hmi.login.sessions import LoginSessions
from edgeinspect.services.hmi.login.throttle import LoginThrottle
from edgeinspect.services.hmi.metrics import Metrics, MetricSources
from edgeinspect.services.hmi.read_routes import (
    ReadContext,
    ReadRoutes,
    live_payload,
    state_payload,
)
from edgeinspect.services.hmi.shift_counters import shift_bounds
from edgeinspect.services.hmi.subscriber import LineSubscriber
from edgeinspect.storage.model_store import ModelStore, default_root
from edgeinspect.storage.paths import client_addresses, find_shared_memory_folder
from edgeinspect.storage.shadow_results import RESULTS_SUFFIX
from edgeinspect.system import RateLimitedLogger, UserFile, log_events, signal_handlers
from edgeinspect.wire import process_holding

_log = structlog.get_logger()
_EXTRA_CONNECTIONS = 100
"""Connections besides two per browser: for requests and new clients."""
_MIN_CONNECTIONS_PER_CLIENT = 40
_MIN_STREAMS_PER_CLIENT = 8


def run_hmi(
    path: Path, *, on_started: Callable[[LoadedHmiConfig], None] = lambda loaded: None
) -> None:
    """Run the HMI of a configuration file until a signal.

    Args:
        path: The file.
        on_started: Called when its address is bound.

    Raises:
        ConfigError: The configuration is invalid.
        DataError: A key file is invalid.
        DeviceLostError: The address is in use.
    """
    loaded = load_hmi_config(path)
    service = HmiService(loaded, SystemClock())
    lower_priority(loaded.config.nice)
    service.start()
    try:
        _serve(loaded, service, on_started)
    finally:
        service.stop()
        _log.info(log_events.HMI_STOPPED, line=loaded.line.config.line)


def lower_priority(nice: int) -> None:
    """Lower this process's priority, and use one thread per image, in favour of the line.

    Not SCHED_IDLE: on a PC that is never idle the HMI would starve, and show NOT INSPECTED for
    an inspected line.
    """
    cv2.setNumThreads(1)
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))


class HmiService:
    """All components behind the listening socket. `start` and `stop` belong to one thread."""

    def __init__(self, loaded: LoadedHmiConfig, clock: Clock) -> None:
        """Build all components; start none."""
        config, line = loaded.config, loaded.line.config
        folder = Path(config.ring_folder) if config.ring_folder else find_shared_memory_folder(line)
        ledger = Path(line.ledger.folder) if line.ledger else None
        archive = Path(config.archive) if config.archive else None
        store = ModelStore(Path(line.store) if line.store else default_root())
        self.certificate = RenewableCertificate(config.tls) if config.tls else None
        self._archive_monitor = ArchiveMonitor(archive, clock) if archive else None
        self.line_state = LineState(
            line.line,
            clock=clock,
            silence_timeout_ns=round(config.silent_ms * NS_PER_MS),
            shift_bounds=lambda utc_ns: shift_bounds(utc_ns, config.shifts or DEFAULT_SHIFT_STARTS),
            service_alarm=self._service_alarm,
        )
        drift = _make_drift_monitor(loaded)
        rings = {name: folder / f"{line.line}.{name}.ring" for name in line.cameras}
        self.frame_cache = FrameCache(rings, config.live_hz, drift, clock)
        self.stream = EventStream(
            self.line_state.heartbeat_payload,
            lambda: state_payload(read_context),
            lambda: live_payload(read_context),
            config.clients,
            max(_MIN_STREAMS_PER_CLIENT, config.clients // 4),
        )
        metric_sources = MetricSources(
            self.line_state,
            drift,
            cameras=tuple(line.cameras),
            budget_ms=line.budget_ms,
            read_host_state=read_host_state,
            client_count=lambda: self.stream.subscriber_count,
            archive_monitor=self._archive_monitor,
        )
        metrics = Metrics(metric_sources)
        history = LedgerHistory(ledger / f"{line.line}.ledger.sqlite" if ledger else None)
        self.subscriber = LineSubscriber(
            make_feed=_feed_factory(loaded, folder, clock),
            history=history,
            line_state=self.line_state,
            frame_cache=self.frame_cache,
            drift=drift,
            metrics=metrics,
            clock=clock,
        )
        model_names, class_names = _model_and_class_names(loaded, store)
        read_context = ReadContext(
            line_state=self.line_state,
            frame_cache=self.frame_cache,
            history=history,
            metrics=metrics,
            store=store,
            model_names=model_names,
            camera_names=tuple(line.cameras),
            class_names=class_names,
            class_colors=CLASS_COLORS,
            shadow_file=(ledger or folder) / f"{line.line}{RESULTS_SUFFIX}",
            archive_folder=archive,
            budget_us=round(line.budget_ms * 1000),
            version=__version__,
        )
        challenge_folder = line.capture.challenge_folder
        action_context = ActionContext(
            line_state=self.line_state,
            users=UserFile(Path(config.users) if config.users else None),
            replay_address=client_addresses(line, folder)[1],
            socket_setup=client_keys_setup(config.curve),
            store=store,
            model_names=model_names,
            challenge_folder=Path(challenge_folder) if challenge_folder else None,
            backend=config.backend,
            reload_command=tuple(config.reload_command),
        )
        sessions = LoginSessions(round(config.session_min * 60 * NS_PER_S), clock)
        prefix = config.prefix.rstrip("/")
        self.proxies = TrustedProxies(parse_networks(config.proxies), prefix)
        self.app: ASGIApp = make_app(
            ReadRoutes(read_context, self.stream),
            ActionRoutes(action_context, sessions, LoginThrottle(clock), clock),
            self.stream,
            _host_names(loaded),
            config.requests_per_s,
            self.proxies,
            self.certificate,
        )
        self._threads: list[threading.Thread] = []

    def _service_alarm(self) -> str:
        """Return the alarm of the archive, else of the certificate; empty for none."""
        alarm = self._archive_monitor.alarm() if self._archive_monitor is not None else ""
        return alarm or (self.certificate.alarm() if self.certificate is not None else "")

    def start(self) -> None:
        """Start the subscriber, encoder and archive threads."""
        self._start_thread("follow", self.subscriber.run)
        self._start_thread("encode", self.frame_cache.run)
        if self._archive_monitor is not None:
            self._start_thread("archive", self._archive_monitor.run)

    def stop(self) -> None:
        """Stop all threads."""
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
            except BaseException:  # a dead thread leaves stale state: exit
                _log.exception(log_events.HMI_FAILED, thread=name)
                os._exit(DeviceLostError.exit_code)

        thread = threading.Thread(target=body, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()


def _feed_factory(
    loaded: LoadedHmiConfig, folder: Path, clock: Clock
) -> Callable[[int | None], VerdictFeed]:
    """Return what connects a feed of the line, from a cursor."""
    config, line = loaded.config, loaded.line.config
    verdicts, replay = client_addresses(line, folder)
    endpoint = find_line(
        line.line,
        verdicts,
        replay,
        spool=str(folder),
        keys=config.curve,
        unproven=config.unproven,
    )

    def make_feed(cursor: int | None) -> VerdictFeed:
        return endpoint.feed("hmi", cursor=cursor, clock=clock)

    return make_feed


def _make_drift_monitor(loaded: LoadedHmiConfig) -> DriftMonitor:
    """Build the drift monitor, with a state folder if there is one."""
    config = loaded.config
    folder = config.state or os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return DriftMonitor(
        loaded.line.config.line,
        config.drift.reference_frames,
        config.drift.window_frames,
        Path(folder) if folder else None,
    )


def _model_and_class_names(
    loaded: LoadedHmiConfig, store: ModelStore
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the line's models, and of their classes and kinds.

    Those of models that cannot be loaded are the names of their rules.
    """
    names: list[str] = []
    decide = loaded.line.config.decide
    classes: tuple[str, ...] = tuple(decide.classes)
    kinds: tuple[str, ...] = tuple(decide.gate.classes) if decide.gate is not None else ()
    unknown: tuple[str, ...] = ()
    for role, plugin in loaded.line.engines.items():
        ref = str(plugin.options.model)
        try:
            spec: ModelSpec | None = store.resolve(ref)
        except ModelError:  # the daemon reports it
            spec = None
        names.append(spec.id.name if spec is not None else ref.partition("/")[0])
        if role == "segmenter" and spec is not None:
            classes = spec.classes
        if role == "gate" and spec is not None:
            kinds = spec.kinds
        if role == "unknown":
            unknown = spec.classes if spec is not None else (role,)
    # The class map of the good-parts model has the id after the segmenter's.
    return tuple(dict.fromkeys(names)), tuple(dict.fromkeys((*classes, *unknown, *kinds)))


def _host_names(loaded: LoadedHmiConfig) -> list[str]:
    """Return the host names that requests may use."""
    hosts = {"localhost", loaded.host.lower(), socket.gethostname().lower()}
    return sorted(hosts | {name.lower() for name in loaded.config.hosts})


def _bind_error(bind: str, error: BaseException | None) -> EdgeInspectError:
    """Return the error for an address that cannot be bound: permanent, or worth a retry."""
    cause = getattr(error, "strerror", None) or "it is not available"
    if error is not None and not is_transient(error):
        return ConfigError([ConfigFault("bind", f"cannot be bound: {cause}", bind)])
    return DeviceLostError(
        f"the address cannot be bound: {cause}{process_holding(f'tcp://{bind}')}",
        where=bind,
        remedy="Stop the other program, or choose another `bind`",
    )


def _serve(
    loaded: LoadedHmiConfig,
    service: HmiService,
    on_started: Callable[[LoadedHmiConfig], None],
) -> None:
    """Serve until SIGTERM or SIGINT, which uvicorn handles.

    Raises:
        ConfigError: The address can never be bound.
        DeviceLostError: The address cannot be bound now.
    """
    certificate, clients = service.certificate, loaded.config.clients
    limiter = ConnectionLimiter(
        clients * 2 + _EXTRA_CONNECTIONS,
        max(_MIN_CONNECTIONS_PER_CLIENT, (clients * 2 + _EXTRA_CONNECTIONS) // 4),
        service.proxies.is_trusted,
        is_tls=certificate is not None,
    )
    server = make_server(service.app, limiter, certificate, loaded.host, loaded.port)
    uvicorn_log = logging.getLogger("uvicorn.error")
    uvicorn_log.disabled = True  # it would report the same fault a second time
    try:
        bound = server.config.bind_socket()
    except SystemExit as stop:  # raised by uvicorn when it cannot bind
        raise _bind_error(loaded.config.bind, stop.__context__) from stop.__context__
    finally:
        uvicorn_log.disabled = False
    _log.info(
        log_events.HMI_STARTED,
        line=loaded.line.config.line,
        bind=loaded.config.bind,
        tls=certificate is not None,
        beyond_this_machine=not is_loopback_host(loaded.host),
    )
    on_started(loaded)
    # uvicorn raises the signal that stopped it again, for the previous handler: it is ignored.
    request_check = certificate.request_check if certificate is not None else str
    redirect_library_logs(RateLimitedLogger(_log, SystemClock()))
    service.stream.is_server_stopping = lambda: server.should_exit
    with signal_handlers(str, request_check), LimitedListener(bound, limiter) as listener:
        server.run([listener])
