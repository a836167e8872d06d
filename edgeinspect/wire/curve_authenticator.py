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

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.errors import DataError
from edgeinspect.system import log_events
from edgeinspect.system.log import RateLimited
from edgeinspect.wire.curve_keys import Socket, read_pair, read_server
from edgeinspect.wire.listening_sockets import HANDSHAKE_MS
from edgeinspect.wire.slow_clients import Watched
from edgeinspect.wire.tcp_connections import hang_up
from edgeinspect.wire.zap import LATER, LET_IN, NEVER, Newcomer, Zap

_log = structlog.get_logger()
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL.value | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL.value
_WATCHED = _FAILED | zmq.EVENT_ACCEPTED.value | zmq.EVENT_DISCONNECTED.value
STRANGERS_MAX = 256
"""Connections of one socket that may be shaking hands; the oldest has to go for one more.
Each costs a file descriptor, and nobody needs a key to connect."""
KEY_AT_ONCE = 40
"""Connections that clients with one key may make in a burst, to each socket."""
KEY_PER_S = 4
"""The same in a second after that. Who comes more often is told to come later, and does."""
_HANDSHAKE_NS = HANDSHAKE_MS * NS_PER_MS
_LOOK_MS = 20
_UNKNOWN = "unknown key"
_NONE = "no key, or no CURVE"
_UNREAD = "the folder of keys cannot be read"
_TOO_OFTEN = "one key connects too often"
_REASONS = (_UNKNOWN, _NONE, _UNREAD, _TOO_OFTEN)
Prepare = Callable[[zmq.Context[Socket], Socket, Watched], None]
"""Puts CURVE on a socket before it is bound, if the line has keys; may see whom it watches."""


def open_to_all(_context: zmq.Context[Socket], _socket: Socket, _watched: Watched) -> None:
    """No CURVE."""


class Doorkeeper:
    """Lets known clients into a line's sockets, and counts and logs the others.

    `prepare` before a socket is bound; `refresh` now and then from any one thread; `close`
    when the sockets' threads have ended, before the sockets are closed.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Read the server's keys, and who is let in.

        Raises:
            DataError: The server's keys are missing, or their secret can be read by others.
        """
        self.refused = 0
        """Clients that were turned away."""
        self._public, self._secret = read_server(folder)
        self._clients = folder / "clients"
        self._known: frozenset[bytes] = frozenset()
        self._seen: object = None
        self._clock = clock
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="doors", daemon=True)
        self._quiet = {why: RateLimited(_log, clock) for why in _REASONS}
        self._doors: list[_Door] = []
        self._read_clients()

    def prepare(self, context: zmq.Context[Socket], socket: Socket, watched: Watched) -> None:
        """Make a socket a CURVE server that only known clients get into; one per context."""
        socket.curve_server = True
        socket.curve_secretkey = self._secret
        socket.curve_publickey = self._public
        self._doors.append(_Door(context, socket, watched, self._clock))
        if not self._thread.ident:
            self._thread.start()

    def admits(self, key: str) -> bool:
        """Is this public key let in? Thread-safe; who is not is counted and logged."""
        known = key.encode() in self._known
        if not known:
            self._turn_away(_UNKNOWN, key)
        return known

    def refresh(self) -> None:
        """Take in changes of the folder, and count who came without a key."""
        before = self._known
        self._read_clients()
        for door in self._doors:
            door.hear()
            for _ in range(door.take_failed()):
                self._turn_away(_NONE)
            if before - self._known:
                door.hang_up()

    def close(self) -> None:
        """Let nobody in any more."""
        self._closing.set()
        if self._thread.ident:
            self._thread.join(5)
        for door in self._doors:
            door.close()

    def _watch(self) -> None:
        while not self._closing.is_set():
            doors = tuple(self._doors)
            poller = zmq.Poller()
            for door in doors:
                poller.register(door.zap.socket, zmq.POLLIN)
            poller.poll(_LOOK_MS)
            for door in doors:
                waiting = []
                while (newcomer := door.zap.take(self._clock.now_ns())) is not None:
                    waiting.append(newcomer)
                door.hear()  # first: who had its descriptor before is forgotten
                for newcomer in waiting:
                    door.zap.answer(newcomer, self._judge(door, newcomer))
                door.look()

    def _judge(self, door: _Door, newcomer: Newcomer) -> bytes:
        if not self.admits(newcomer.key):
            return NEVER
        if door.is_too_often(newcomer.key):
            self._turn_away(_TOO_OFTEN, newcomer.key)
            return LATER
        return LET_IN

    def _turn_away(self, why: str, key: str = "") -> None:
        with self._lock:
            self.refused += 1
            refused = self.refused
        self._quiet[why].warning(log_events.CLIENT_REFUSED, problem=why, key=key, refused=refused)

    def _read_clients(self) -> None:
        """Read the folder again if it changed; a file that holds no key lets nobody in."""
        seen = []
        try:
            paths = sorted(self._clients.glob("*.key"))
        except OSError as error:  # no handle free, or a folder that is away: as before
            self._quiet[_UNREAD].error(
                log_events.CLIENT_REFUSED,
                problem=f"{self._clients}: {error.strerror}",
                key="",
                refused=self.refused,
            )
            return
        for path in paths:
            try:
                seen.append((path, path.stat().st_ctime_ns))
            except OSError:  # gone between the two looks
                continue
        if seen == self._seen:
            return
        known = set()
        for path, _changed in seen:
            try:
                known.add(read_pair(path)[0])
            except DataError as error:
                _log.error(
                    log_events.CLIENT_REFUSED, problem=str(error), key="", refused=self.refused
                )
        self._known = frozenset(known)
        self._seen = seen


class _Door:
    """What happens at one bound socket, as libzmq's monitor tells it."""

    def __init__(
        self, context: zmq.Context[Socket], socket: Socket, watched: Watched, clock: Clock
    ) -> None:
        self.zap = Zap(context, socket)
        """For the doorkeeper's own thread."""
        self._socket = socket
        self._watched = watched
        self._left: dict[str, tuple[float, int]] = {}
        """Of a key: connections that it may make at once, as of when."""
        self._cut = 0
        self._quiet = RateLimited(_log, clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = 0
        self._strangers: dict[int, int] = {}
        """Connections that may be shaking hands, and when they came."""
        address = f"inproc://door-{id(self)}"
        self._monitor = context.socket(zmq.PAIR)
        # Without a limit: a full one would block libzmq's own thread, and with it verdicts.
        self._monitor.rcvhwm = 0
        socket.monitor(address, _WATCHED)
        self._monitor.connect(address)
        self._connections: dict[int, str] = {}
        self._came_at_ns: dict[int, int] = {}

    def hear(self) -> None:
        """Follow who came and went. Thread-safe."""
        with self._lock:
            while not self._monitor.closed and self._monitor.poll(0):
                self._take(parse_monitor_message(self._monitor.recv_multipart()))

    def is_too_often(self, key: str) -> bool:
        """Count a connection of a key that is let in; True if it may not be yet."""
        now_ns = self._clock.now_ns()
        left, at_ns = self._left.get(key, (float(KEY_AT_ONCE), now_ns))
        left = min(float(KEY_AT_ONCE), left + (now_ns - at_ns) / NS_PER_S * KEY_PER_S)
        too_often = left < 1
        self._left[key] = (left if too_often else left - 1, now_ns)
        return too_often

    def look(self) -> None:
        """End who does not read, or sends without an end."""
        with self._lock:
            for descriptor, why in self._watched.look(self._came_at_ns):
                address = self._connections[descriptor]
                _end(descriptor, address)
                self._cut += 1
                self._quiet.warning(
                    log_events.CLIENT_CUT, address=address, problem=why, cut=self._cut
                )

    def take_failed(self) -> int:
        """How many could not shake hands since the last call."""
        with self._lock:
            failed, self._failed = self._failed, 0
        return failed

    def _take(self, message: Any) -> None:
        kind, descriptor = message["event"], message["value"]
        if kind == zmq.EVENT_ACCEPTED:
            self._connections[descriptor] = message["endpoint"].decode()
            self._watched.forget(descriptor)
            now_ns = self._came_at_ns[descriptor] = self._clock.now_ns()
            self._strangers.pop(descriptor, None)
            self._strangers[descriptor] = now_ns
            # ZeroMQ ends who takes longer than that; whoever is older is known.
            while now_ns - next(iter(self._strangers.values())) > _HANDSHAKE_NS:
                self._strangers.pop(next(iter(self._strangers)))
            if len(self._strangers) > STRANGERS_MAX:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                _end(oldest, self._connections.get(oldest, ""))
        elif kind == zmq.EVENT_DISCONNECTED:
            self._connections.pop(descriptor, None)
            self._came_at_ns.pop(descriptor, None)
            self._watched.forget(descriptor)
            self._strangers.pop(descriptor, None)
        else:
            self._failed += 1

    def hang_up(self) -> None:
        """End every connection, see `connections.hang_up`."""
        for descriptor, endpoint in dict(self._connections).items():
            _end(descriptor, endpoint)

    def close(self) -> None:
        if not self._socket.closed:
            self._socket.disable_monitor()  # first: libzmq's thread waits for a lost listener
        self._monitor.close(0)
        self.zap.close()


def _end(descriptor: int, endpoint: str) -> None:
    try:
        with sockets.socket(fileno=os.dup(descriptor)) as connection:
            if not _stands_at(connection, endpoint):
                return
    except OSError:  # closed since, and not a socket any more
        return
    hang_up(descriptor)


def _stands_at(connection: sockets.socket, endpoint: str) -> bool:
    """Whether a descriptor is a connection of this endpoint; numbers are used again."""
    name = connection.getsockname()
    if isinstance(name, tuple):
        return endpoint.rpartition(":")[2] == str(name[1])
    return endpoint == f"ipc://{name}"
