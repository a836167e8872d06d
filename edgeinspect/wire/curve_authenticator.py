"""The doorkeeper: only clients whose public keys are in the line's folder get in.

A client that is added is let in within one `refresh`. One that is removed is kept out from
then on: ZeroMQ has no call that ends one peer's connection, so all connections of the line
are ended; whoever is still known is back within some 50 ms and is given again what it missed.
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
from edgeinspect.system import RateLimitedLogger, log_events
from edgeinspect.wire.curve_keys import Socket, read_key_file, read_server_keys
from edgeinspect.wire.listening_sockets import HANDSHAKE_MS
from edgeinspect.wire.slow_clients import ClientMonitors
from edgeinspect.wire.tcp_connections import disconnect
from edgeinspect.wire.zap import (
    ZAP_ACCEPT,
    ZAP_REJECT,
    ZAP_RETRY_LATER,
    HandshakeRequest,
    ZapHandler,
)

_log = structlog.get_logger()
_HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL.value | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL.value
)
_MONITORED_EVENTS = _HANDSHAKE_FAILED | zmq.EVENT_ACCEPTED.value | zmq.EVENT_DISCONNECTED.value
HANDSHAKES_MAX = 256
"""Connections of one socket that may be shaking hands; the oldest has to go for one more.
Each costs a file descriptor, and nobody needs a key to connect."""
KEY_CONNECTION_BURST = 40
"""Connections that clients with one key may make in a burst, to each socket."""
KEY_CONNECTIONS_PER_S = 4
"""The same in a second after that. Who comes more often is told to come later, and does."""
_HANDSHAKE_NS = HANDSHAKE_MS * NS_PER_MS
_POLL_MS = 20
_UNKNOWN_KEY = "unknown key"
_NO_KEY = "no key, or no CURVE"
_FOLDER_UNREADABLE = "the folder of keys cannot be read"
_RATE_EXCEEDED = "one key connects too often"
_REASONS = (_UNKNOWN_KEY, _NO_KEY, _FOLDER_UNREADABLE, _RATE_EXCEEDED)
ServerSocketSetup = Callable[[zmq.Context[Socket], Socket, ClientMonitors], None]
"""Puts CURVE on a socket before it is bound, if the line has keys; may see whom it watches."""


def no_encryption(_context: zmq.Context[Socket], _socket: Socket, _watched: ClientMonitors) -> None:
    """No CURVE."""


class CurveAuthenticator:
    """Lets known clients into a line's sockets, and counts and logs the others.

    `prepare` before a socket is bound; `refresh` now and then from any one thread; `close`
    when the sockets' threads have ended, before the sockets are closed.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Read the server's keys, and who is let in.

        Raises:
            DataError: The server's keys are missing, or their secret can be read by others.
        """
        self.rejected_count = 0
        """Clients that were turned away."""
        self._public, self._secret = read_server_keys(folder)
        self._clients = folder / "clients"
        self._authorized_keys: frozenset[bytes] = frozenset()
        self._key_files: object = None
        self._clock = clock
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="doors", daemon=True)
        self._throttled_logs = {why: RateLimitedLogger(_log, clock) for why in _REASONS}
        self._monitors: list[_ConnectionMonitor] = []
        self._read_clients()

    def secure_socket(
        self, context: zmq.Context[Socket], socket: Socket, client_monitors: ClientMonitors
    ) -> None:
        """Make a socket a CURVE server that only known clients get into; one per context."""
        socket.curve_server = True
        socket.curve_secretkey = self._secret
        socket.curve_publickey = self._public
        self._monitors.append(_ConnectionMonitor(context, socket, client_monitors, self._clock))
        if not self._thread.ident:
            self._thread.start()

    def is_authorized(self, key: str) -> bool:
        """Is this public key let in? Thread-safe; who is not is counted and logged."""
        known = key.encode() in self._authorized_keys
        if not known:
            self._reject(_UNKNOWN_KEY, key)
        return known

    def refresh(self) -> None:
        """Take in changes of the folder, and count who came without a key."""
        before = self._authorized_keys
        self._read_clients()
        for door in self._monitors:
            door.drain_events()
            for _ in range(door.pop_failed_handshakes()):
                self._reject(_NO_KEY)
            if before - self._authorized_keys:
                door.disconnect_all()

    def close(self) -> None:
        """Let nobody in any more."""
        self._closing.set()
        if self._thread.ident:
            self._thread.join(5)
        for door in self._monitors:
            door.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            doors = tuple(self._monitors)
            poller = zmq.Poller()
            for door in doors:
                poller.register(door.zap.socket, zmq.POLLIN)
            poller.poll(_POLL_MS)
            for door in doors:
                waiting = []
                while (newcomer := door.zap.next_request(self._clock.now_ns())) is not None:
                    waiting.append(newcomer)
                door.drain_events()  # first: who had its descriptor before is forgotten
                for newcomer in waiting:
                    door.zap.reply(newcomer, self._decide(door, newcomer))
                door.check_clients()

    def _decide(self, door: _ConnectionMonitor, newcomer: HandshakeRequest) -> bytes:
        if not self.is_authorized(newcomer.key):
            return ZAP_REJECT
        if door.exceeds_rate(newcomer.key):
            self._reject(_RATE_EXCEEDED, newcomer.key)
            return ZAP_RETRY_LATER
        return ZAP_ACCEPT

    def _reject(self, why: str, key: str = "") -> None:
        with self._lock:
            self.rejected_count += 1
            refused = self.rejected_count
        self._throttled_logs[why].warning(
            log_events.CLIENT_REFUSED, problem=why, key=key, refused=refused
        )

    def _read_clients(self) -> None:
        """Read the folder again if it changed; a file that holds no key lets nobody in."""
        seen = []
        try:
            paths = sorted(self._clients.glob("*.key"))
        except OSError as error:  # no handle free, or a folder that is away: as before
            self._throttled_logs[_FOLDER_UNREADABLE].error(
                log_events.CLIENT_REFUSED,
                problem=f"{self._clients}: {error.strerror}",
                key="",
                refused=self.rejected_count,
            )
            return
        for path in paths:
            try:
                seen.append((path, path.stat().st_ctime_ns))
            except OSError:  # gone between the two looks
                continue
        if seen == self._key_files:
            return
        known = set()
        for path, _changed in seen:
            try:
                known.add(read_key_file(path)[0])
            except DataError as error:
                _log.error(
                    log_events.CLIENT_REFUSED,
                    problem=str(error),
                    key="",
                    refused=self.rejected_count,
                )
        self._authorized_keys = frozenset(known)
        self._key_files = seen


class _ConnectionMonitor:
    """What happens at one bound socket, as libzmq's monitor tells it."""

    def __init__(
        self, context: zmq.Context[Socket], socket: Socket, watched: ClientMonitors, clock: Clock
    ) -> None:
        self.zap = ZapHandler(context, socket)
        """For the doorkeeper's own thread."""
        self._socket = socket
        self._client_monitors = watched
        self._tokens: dict[str, tuple[float, int]] = {}
        """Of a key: connections that it may make at once, as of when."""
        self._disconnected_count = 0
        self._throttled_log = RateLimitedLogger(_log, clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._failed_handshakes = 0
        self._handshakes: dict[int, int] = {}
        """Connections that may be shaking hands, and when they came."""
        address = f"inproc://door-{id(self)}"
        self._monitor = context.socket(zmq.PAIR)
        # Without a limit: a full one would block libzmq's own thread, and with it verdicts.
        self._monitor.rcvhwm = 0
        socket.monitor(address, _MONITORED_EVENTS)
        self._monitor.connect(address)
        self._connections: dict[int, str] = {}
        self._connected_at_ns: dict[int, int] = {}

    def drain_events(self) -> None:
        """Follow who came and went. Thread-safe."""
        with self._lock:
            while not self._monitor.closed and self._monitor.poll(0):
                self._on_event(parse_monitor_message(self._monitor.recv_multipart()))

    def exceeds_rate(self, key: str) -> bool:
        """Count a connection of a key that is let in; True if it may not be yet."""
        now_ns = self._clock.now_ns()
        left, at_ns = self._tokens.get(key, (float(KEY_CONNECTION_BURST), now_ns))
        left = min(
            float(KEY_CONNECTION_BURST), left + (now_ns - at_ns) / NS_PER_S * KEY_CONNECTIONS_PER_S
        )
        too_often = left < 1
        self._tokens[key] = (left if too_often else left - 1, now_ns)
        return too_often

    def check_clients(self) -> None:
        """End who does not read, or sends without an end."""
        with self._lock:
            for descriptor, why in self._client_monitors.check(self._connected_at_ns):
                address = self._connections[descriptor]
                _disconnect_if_current(descriptor, address)
                self._disconnected_count += 1
                self._throttled_log.warning(
                    log_events.CLIENT_CUT,
                    address=address,
                    problem=why,
                    cut=self._disconnected_count,
                )

    def pop_failed_handshakes(self) -> int:
        """How many could not shake hands since the last call."""
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
            # ZeroMQ ends who takes longer than that; whoever is older is known.
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
        """End every connection, see `connections.hang_up`."""
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
    except OSError:  # closed since, and not a socket any more
        return
    disconnect(descriptor)


def _belongs_to(connection: sockets.socket, endpoint: str) -> bool:
    """Whether a descriptor is a connection of this endpoint; numbers are used again."""
    name = connection.getsockname()
    if isinstance(name, tuple):
        return endpoint.rpartition(":")[2] == str(name[1])
    return endpoint == f"ipc://{name}"
