"""The doorkeeper: only clients whose public keys are in the line's folder get in.

A client that is added is let in within one `refresh`. One that is removed is kept out from
then on: ZeroMQ has no call that ends one peer's connection, so all connections of the line
are ended; whoever is still known is back within some 50 ms and is given again what it missed.
"""

from __future__ import annotations

import os
import socket as sockets
import threading
from pathlib import Path
from typing import Any

import structlog
import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import parse_monitor_message

from edgeinspect import events
from edgeinspect.domain.clock import NS_PER_MS, Clock
from edgeinspect.errors import DataError
from edgeinspect.keys import Socket, read_pair, read_server
from edgeinspect.listening import HANDSHAKE_MS
from edgeinspect.log import RateLimited

_log = structlog.get_logger()
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL.value | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL.value
_WATCHED = _FAILED | zmq.EVENT_ACCEPTED.value | zmq.EVENT_DISCONNECTED.value
_DOMAIN = "edgeinspect"
STRANGERS_MAX = 256
"""Connections of one socket that may be shaking hands; the oldest has to go for one more.
Each costs a file descriptor, and nobody needs a key to connect."""
_HANDSHAKE_NS = HANDSHAKE_MS * NS_PER_MS
_LOOK_S = 0.02
_UNKNOWN = "unknown key"
_NONE = "no key, or no CURVE"
_UNREAD = "the folder of keys cannot be read"


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
        self._quiet = {why: RateLimited(_log, clock) for why in (_UNKNOWN, _NONE, _UNREAD)}
        self._authenticators: list[ThreadAuthenticator] = []
        self._doors: list[_Door] = []
        self._read_clients()

    def prepare(self, context: zmq.Context[Socket], socket: Socket) -> None:
        """Make a socket a CURVE server that only known clients get into; one per context."""
        authenticator = ThreadAuthenticator(context)
        authenticator.start()
        self._authenticators.append(authenticator)
        authenticator.configure_curve_callback(domain=_DOMAIN, credentials_provider=self)
        socket.curve_server = True
        socket.curve_secretkey = self._secret
        socket.curve_publickey = self._public
        socket.zap_domain = _DOMAIN.encode()
        # Without this, libzmq lets everybody in when the authenticator does not answer.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        self._doors.append(_Door(context, socket, self._clock))
        if not self._thread.ident:
            self._thread.start()

    def callback(self, _domain: str, key: bytes) -> bool:
        """The authenticators' question, from their threads: is this public key let in?"""
        known = key in self._known
        if not known:
            self._turn_away(_UNKNOWN, key.decode("ascii", "replace"))
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
        """Stop the authenticators."""
        self._closing.set()
        if self._thread.ident:
            self._thread.join(5)
        for door in self._doors:
            door.close()
        for authenticator in self._authenticators:
            authenticator.stop()

    def _watch(self) -> None:
        while not self._closing.wait(_LOOK_S):
            for door in tuple(self._doors):
                door.hear()

    def _turn_away(self, why: str, key: str = "") -> None:
        with self._lock:
            self.refused += 1
            refused = self.refused
        self._quiet[why].warning(events.CLIENT_REFUSED, problem=why, key=key, refused=refused)

    def _read_clients(self) -> None:
        """Read the folder again if it changed; a file that holds no key lets nobody in."""
        seen = []
        try:
            paths = sorted(self._clients.glob("*.key"))
        except OSError as error:  # no handle free, or a folder that is away: as before
            self._quiet[_UNREAD].error(
                events.CLIENT_REFUSED, problem=f"{self._clients}: {error.strerror}", key="",
                refused=self.refused,
            )  # fmt: skip
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
                _log.error(events.CLIENT_REFUSED, problem=str(error), key="", refused=self.refused)
        self._known = frozenset(known)
        self._seen = seen


class _Door:
    """What happens at one bound socket, as libzmq's monitor tells it."""

    def __init__(self, context: zmq.Context[Socket], socket: Socket, clock: Clock) -> None:
        self._socket = socket
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

    def hear(self) -> None:
        """Follow who came and went. Thread-safe."""
        with self._lock:
            while not self._monitor.closed and self._monitor.poll(0):
                self._take(parse_monitor_message(self._monitor.recv_multipart()))

    def take_failed(self) -> int:
        """How many could not shake hands since the last call."""
        with self._lock:
            failed, self._failed = self._failed, 0
        return failed

    def _take(self, message: Any) -> None:
        kind, descriptor = message["event"], message["value"]
        if kind == zmq.EVENT_ACCEPTED:
            self._connections[descriptor] = message["endpoint"].decode()
            now_ns = self._clock.now_ns()
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
            self._strangers.pop(descriptor, None)
        else:
            self._failed += 1

    def hang_up(self) -> None:
        """End every connection; libzmq notices as if the peers had."""
        for descriptor, endpoint in dict(self._connections).items():
            _end(descriptor, endpoint)

    def close(self) -> None:
        if not self._socket.closed:
            self._socket.disable_monitor()  # first: libzmq's thread waits for a lost listener
        self._monitor.close(0)


def _end(descriptor: int, endpoint: str) -> None:
    try:
        with sockets.socket(fileno=os.dup(descriptor)) as connection:
            if _stands_at(connection, endpoint):
                connection.shutdown(sockets.SHUT_RDWR)
    except OSError:  # closed since, and not a socket any more
        pass


def _stands_at(connection: sockets.socket, endpoint: str) -> bool:
    """Whether a descriptor is a connection of this endpoint; numbers are used again."""
    name = connection.getsockname()
    if isinstance(name, tuple):
        return endpoint.rpartition(":")[2] == str(name[1])
    return endpoint == f"ipc://{name}"
