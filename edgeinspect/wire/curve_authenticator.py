"""Admits only clients whose public keys are in the line's folder (CURVE).

An added client is admitted after the next `refresh`, a removed one is excluded after it. ZeroMQ
has no call that ends one peer's connection, so all connections of the line are ended; clients
that are still authorised reconnect within some 50 ms and are sent again what they missed.
"""

from __future__ import annotations

import os
import socket as sockets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import zmq
from zmq.utils.monitor import parse_monitor_message

from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.errors import DataError
from edgeinspect.system import RateLimitedLogger, list_matching, log_events
from edgeinspect.wire.curve_keys import read_key_file, read_server_keys
from edgeinspect.wire.listening_sockets import HANDSHAKE_MS
from edgeinspect.wire.slow_clients import ClientMonitors
from edgeinspect.wire.tcp_connections import disconnect
from edgeinspect.wire.zap import (
    ZAP_ACCEPT,
    ZAP_REJECT,
    ZAP_RETRY_LATER,
    HandshakeRequest,
    Socket,
    ZapHandler,
)

_log = structlog.get_logger()
_HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL.value | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL.value
)
_MONITORED_EVENTS = _HANDSHAKE_FAILED | zmq.EVENT_ACCEPTED.value | zmq.EVENT_DISCONNECTED.value
HANDSHAKES_MAX = 256
"""Connections of one socket that may be in their handshake; for one more the oldest is ended.
Each costs a file descriptor, and connecting needs no key."""
KEY_CONNECTION_BURST = 40
"""Connections that clients with one key may make in a burst, to each socket."""
KEY_CONNECTIONS_PER_S = 4
"""The same per second after that. Other connections get a request to retry later, and do."""
_HANDSHAKE_NS = HANDSHAKE_MS * NS_PER_MS
_POLL_MS = 20
_UNKNOWN_KEY = "unknown key"
_NO_KEY = "no key, or no CURVE"
_FOLDER_UNREADABLE = "the folder of keys cannot be read"
_RATE_EXCEEDED = "one key connects too often"
_REASONS = (_UNKNOWN_KEY, _NO_KEY, _FOLDER_UNREADABLE, _RATE_EXCEEDED)
ServerSocketSetup = Callable[[zmq.Context[Socket], Socket, ClientMonitors], None]
"""Sets up CURVE on a socket before it is bound, if the line has keys, and monitors its clients."""


def no_encryption(_context: zmq.Context[Socket], _socket: Socket, _watched: ClientMonitors) -> None:
    """Leave the socket without CURVE."""


class CurveAuthenticator:
    """Admits authorised clients to a line's sockets, and counts and logs the others.

    `secure_socket` before a socket is bound; `refresh` periodically from any one thread; `close`
    after the sockets' threads have ended, before the sockets are closed.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Read the server's keys and the clients' public keys.

        Raises:
            DataError: The server's keys are missing, or others can read the secret key.
        """
        self.rejected_count = 0
        """Number of rejected clients."""
        self._public, self._secret = read_server_keys(folder)
        self._clients = folder / "clients"
        self._authorized_keys: frozenset[bytes] = frozenset()
        self._key_files: object = None
        self._clock = clock
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="curve", daemon=True)
        self._throttled_logs = {reason: RateLimitedLogger(_log, clock) for reason in _REASONS}
        self._monitors: list[_ConnectionMonitor] = []
        self._read_clients()

    def secure_socket(
        self, context: zmq.Context[Socket], socket: Socket, client_monitors: ClientMonitors
    ) -> None:
        """Make a socket a CURVE server for authorised clients only; one per context."""
        socket.curve_server = True
        socket.curve_secretkey = self._secret
        socket.curve_publickey = self._public
        self._monitors.append(_ConnectionMonitor(context, socket, client_monitors, self._clock))
        if not self._thread.ident:
            self._thread.start()

    def is_authorized(self, key: str) -> bool:
        """Return whether a public key is authorised; if not, count and log it. Thread-safe."""
        authorized = key.encode() in self._authorized_keys
        if not authorized:
            self._reject(_UNKNOWN_KEY, key)
        return authorized

    def refresh(self) -> None:
        """Read changes of the folder, and count clients without a key."""
        before = self._authorized_keys
        self._read_clients()
        for monitor in self._monitors:
            monitor.drain_events()
            for _ in range(monitor.pop_failed_handshakes()):
                self._reject(_NO_KEY)
            if before - self._authorized_keys:
                monitor.disconnect_all()

    def close(self) -> None:
        """Stop admitting clients."""
        self._closing.set()
        if self._thread.ident:
            self._thread.join(5)
        for monitor in self._monitors:
            monitor.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            monitors = tuple(self._monitors)
            poller = zmq.Poller()
            for monitor in monitors:
                poller.register(monitor.zap.socket, zmq.POLLIN)
            poller.poll(_POLL_MS)
            for monitor in monitors:
                waiting = []
                while (handshake := monitor.zap.next_request(self._clock.now_ns())) is not None:
                    waiting.append(handshake)
                monitor.drain_events()  # first: forget the previous client of the descriptor
                for handshake in waiting:
                    monitor.zap.reply(handshake, self._decide(monitor, handshake))
                monitor.check_clients()

    def _decide(self, monitor: _ConnectionMonitor, handshake: HandshakeRequest) -> bytes:
        if not self.is_authorized(handshake.key):
            return ZAP_REJECT
        if monitor.exceeds_rate(handshake.key):
            self._reject(_RATE_EXCEEDED, handshake.key)
            return ZAP_RETRY_LATER
        return ZAP_ACCEPT

    def _reject(self, reason: str, key: str = "") -> None:
        with self._lock:
            self.rejected_count += 1
            refused = self.rejected_count
        self._throttled_logs[reason].warning(
            log_events.CLIENT_REFUSED, problem=reason, key=key, refused=refused
        )

    def _read_clients(self) -> None:
        """Read the folder again if it changed; a file without a valid key is logged."""
        files = []
        try:
            paths = list_matching(self._clients, "*.key")
        except OSError as error:  # no free descriptor, or no folder: keep the keys
            self._throttled_logs[_FOLDER_UNREADABLE].error(
                log_events.CLIENT_REFUSED,
                problem=f"{self._clients}: {error.strerror}",
                key="",
                refused=self.rejected_count,
            )
            return
        for path in paths:
            try:
                files.append((path, path.stat().st_ctime_ns))
            except OSError:  # removed meanwhile
                continue
        if files == self._key_files:
            return
        authorized = set()
        for path, _changed in files:
            try:
                authorized.add(read_key_file(path)[0])
            except DataError as error:
                _log.error(
                    log_events.CLIENT_REFUSED,
                    problem=str(error),
                    key="",
                    refused=self.rejected_count,
                )
        self._authorized_keys = frozenset(authorized)
        self._key_files = files


class _ConnectionMonitor:
    """Tracks the connections of one bound socket by libzmq's monitor events."""

    def __init__(
        self, context: zmq.Context[Socket], socket: Socket, watched: ClientMonitors, clock: Clock
    ) -> None:
        self.zap = ZapHandler(context, socket)
        """Only for the authenticator's thread."""
        self._socket = socket
        self._client_monitors = watched
        self._tokens: dict[str, tuple[float, int]] = {}
        """By key: connections that it may make now, and when that was computed."""
        self._disconnected_count = 0
        self._throttled_log = RateLimitedLogger(_log, clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._failed_handshakes = 0
        self._handshakes: dict[int, int] = {}
        """Connections that may be in their handshake, and when they connected."""
        address = f"inproc://monitor-{id(self)}"
        self._monitor = context.socket(zmq.PAIR)
        # Unlimited: a full queue would block libzmq's own thread, and with it verdicts.
        self._monitor.rcvhwm = 0
        socket.monitor(address, _MONITORED_EVENTS)
        self._monitor.connect(address)
        self._connections: dict[int, str] = {}
        self._connected_at_ns: dict[int, int] = {}

    def drain_events(self) -> None:
        """Process connections and disconnections. Thread-safe."""
        with self._lock:
            while not self._monitor.closed and self._monitor.poll(0):
                self._on_event(parse_monitor_message(self._monitor.recv_multipart()))

    def exceeds_rate(self, key: str) -> bool:
        """Count a connection of a key; return whether the key connects too often."""
        now_ns = self._clock.now_ns()
        tokens, at_ns = self._tokens.get(key, (float(KEY_CONNECTION_BURST), now_ns))
        tokens = min(
            float(KEY_CONNECTION_BURST),
            tokens + (now_ns - at_ns) / NS_PER_S * KEY_CONNECTIONS_PER_S,
        )
        is_too_often = tokens < 1
        self._tokens[key] = (tokens if is_too_often else tokens - 1, now_ns)
        return is_too_often

    def check_clients(self) -> None:
        """Disconnect clients that do not read, or send endless messages."""
        with self._lock:
            for descriptor, reason in self._client_monitors.check(self._connected_at_ns):
                address = self._connections[descriptor]
                _disconnect_if_current(descriptor, address)
                self._disconnected_count += 1
                self._throttled_log.warning(
                    log_events.CLIENT_CUT,
                    address=address,
                    problem=reason,
                    cut=self._disconnected_count,
                )

    def pop_failed_handshakes(self) -> int:
        """Return the number of failed handshakes since the last call."""
        with self._lock:
            failed, self._failed_handshakes = self._failed_handshakes, 0
        return failed

    def _on_event(self, message: Any) -> None:
        kind, descriptor = message["event"], message["value"]
        if kind == zmq.EVENT_ACCEPTED:
            self._connections[descriptor] = message["endpoint"].decode()
            self._client_monitors.forget(descriptor)
            now_ns = self._connected_at_ns[descriptor] = self._clock.now_ns()
            self._handshakes.pop(descriptor, None)
            self._handshakes[descriptor] = now_ns
            # ZeroMQ ends longer handshakes, so older connections are authenticated.
            while now_ns - next(iter(self._handshakes.values())) > _HANDSHAKE_NS:
                self._handshakes.pop(next(iter(self._handshakes)))
            if len(self._handshakes) > HANDSHAKES_MAX:
                oldest = next(iter(self._handshakes))
                del self._handshakes[oldest]
                _disconnect_if_current(oldest, self._connections.get(oldest, ""))
        elif kind == zmq.EVENT_DISCONNECTED:
            self._connections.pop(descriptor, None)
            self._connected_at_ns.pop(descriptor, None)
            self._client_monitors.forget(descriptor)
            self._handshakes.pop(descriptor, None)
        else:
            self._failed_handshakes += 1

    def disconnect_all(self) -> None:
        """End every connection; see `tcp_connections.disconnect`."""
        for descriptor, endpoint in dict(self._connections).items():
            _disconnect_if_current(descriptor, endpoint)

    def close(self) -> None:
        if not self._socket.closed:
            self._socket.disable_monitor()  # first: libzmq's thread waits for a lost listener
        self._monitor.close(0)
        self.zap.close()


def _disconnect_if_current(descriptor: int, endpoint: str) -> None:
    try:
        with sockets.socket(fileno=os.dup(descriptor)) as connection:
            if not _belongs_to(connection, endpoint):
                return
    except OSError:  # closed meanwhile
        return
    disconnect(descriptor)


def _belongs_to(connection: sockets.socket, endpoint: str) -> bool:
    """Return whether a descriptor is a connection of this endpoint: numbers are reused."""
    name = connection.getsockname()
    if isinstance(name, tuple):
        return endpoint.rpartition(":")[2] == str(name[1])
    return endpoint == f"ipc://{name}"
