"""Client sockets: connecting, detecting rejected keys, and parsing one message."""

from __future__ import annotations

import socket as socket_library
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
import zmq

from edgeinspect.config import address_problem
from edgeinspect.domain import NS_PER_MS
from edgeinspect.errors import DataError
from edgeinspect.wire import Mask, Socket, WireMessage, decode_mask, decode_message

MESSAGE_BYTES_MAX = 1 << 26
"""Larger than any mask; the socket disconnects a sender of larger messages."""
_ADDRESS_REMEDY = "Give one like ipc:///run/edgeinspect/strip/strip.verdicts or tcp://pc:5590"
SocketSetup = Callable[[Socket], None]
"""Sets CURVE keys on a socket before it connects; see `wire.use_client_keys`."""


def no_encryption(_socket: Socket) -> None:
    """Leave the socket without CURVE."""


_AUTH_FAILED = zmq.EVENT_HANDSHAKE_FAILED_AUTH.value | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL.value
_RETRY_INTERVAL_NS = 500 * NS_PER_MS
RECONNECT_AFTER_NS = 2_000 * NS_PER_MS
"""Silence after which a client reconnects: a line publishes every 100 ms, and its record of the
subscriptions may be wrong (libzmq confuses them if a peer sends invalid data)."""


class AuthFailureMonitor:
    """Detects that the server rejected a socket's CURVE key.

    libzmq never retries after that, although the key may be authorised later. So the owner of
    the socket creates a new one when `should_reconnect`.
    """

    def __init__(self, context: zmq.Context[Socket], socket: Socket) -> None:
        self.socket = context.socket(zmq.PAIR)
        """For polling: readable if `drain` has something to read."""
        self._monitored = socket
        self._reconnect_at_ns: int | None = None
        address = f"inproc://refusals-{id(self)}"
        socket.monitor(address, _AUTH_FAILED)
        self.socket.connect(address)

    def drain(self, now_ns: int) -> None:
        """Read the pending events."""
        while self.socket.poll(0):
            self.socket.recv_multipart()
            self._reconnect_at_ns = now_ns + _RETRY_INTERVAL_NS

    def should_reconnect(self, now_ns: int) -> bool:
        """Return whether to create a new socket now; again later if that one is rejected."""
        if self._reconnect_at_ns is None or now_ns < self._reconnect_at_ns:
            return False
        self._reconnect_at_ns = now_ns + _RETRY_INTERVAL_NS
        return True

    def close(self) -> None:
        """Close both sockets."""
        self._monitored.disable_monitor()  # first: libzmq's thread would wait for a closed listener
        self.socket.close(0)
        self._monitored.close(0)


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """One received message."""

    topic: str
    message: WireMessage
    body: bytes
    """The JSON as received."""
    mask: Mask | None = None


def check_address(address: str) -> None:
    """Check an address and its host name, which ZeroMQ would try to resolve for ever, silently.

    Raises:
        DataError: It is none, or its host name is unknown.
    """
    _check_form(address)
    url = urlsplit(address)
    if url.scheme != "tcp" or url.hostname is None:
        return
    try:
        socket_library.getaddrinfo(url.hostname, None)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise DataError(
            f"the host name {url.hostname} cannot be resolved: {reason}",
            where=address,
            remedy="Check its spelling and this PC's name server, or give the address in numbers",
        ) from error


def _check_form(address: str) -> None:
    if problem := address_problem(address):
        raise DataError(f"is not an address: {problem}", where=address, remedy=_ADDRESS_REMEDY)


def connect_socket(
    context: zmq.Context[Socket],
    kind: int,
    address: str,
    setup_socket: SocketSetup,
    high_water_mark: int = 100_000,
    *,
    immediate: bool = False,
) -> Socket:
    """Return a connected socket that detects a vanished peer.

    Args:
        context: The socket's.
        kind: SUB or DEALER.
        address: The line's.
        setup_socket: Sets CURVE keys on it.
        high_water_mark: Length of the receive queue.
        immediate: A DEALER sends only to a connected line; only for one that receives
            messages of one part, since libzmq aborts the process if the line goes between two
            parts (https://github.com/zeromq/libzmq/issues/3663).

    Raises:
        DataError: `address` is invalid, or `setup_socket` found no key.
    """
    _check_form(address)
    socket = context.socket(kind)
    socket.linger = 0
    socket.ipv6 = "[" in address  # libzmq parses only IPv4 by default
    socket.rcvhwm = high_water_mark
    socket.maxmsgsize = MESSAGE_BYTES_MAX
    if kind == zmq.DEALER:
        socket.immediate = immediate
        socket.sndhwm = 16
    # The kernel detects a peer that vanished, and ZeroMQ reconnects. With its own heartbeat
    # libzmq aborts the process if the peer dies while received messages are unread
    # (https://github.com/zeromq/libzmq/issues/4364).
    socket.tcp_keepalive = 1
    socket.tcp_keepalive_idle = socket.tcp_keepalive_intvl = 1
    socket.tcp_keepalive_cnt = 3
    socket.tcp_maxrt = 3_000
    # Short and constant, to be connected to a starting line before its first frame.
    socket.reconnect_ivl = 50
    socket.connect_timeout = 1_000  # retry soon after a pause in accepting
    try:
        setup_socket(socket)
        socket.connect(address)
    except zmq.ZMQError as error:
        socket.close(0)
        raise DataError(
            f"is not an address: {error.strerror}",
            where=address,
            remedy=_ADDRESS_REMEDY,
        ) from error
    except BaseException:
        socket.close(0)
        raise
    return socket


def parse_message(parts: list[bytes]) -> ReceivedMessage:
    """Parse one message from its parts.

    Raises:
        DataError: It violates the schema: the sender may be of another version.
    """
    topic = parts[0][:200].decode("utf-8", "replace")
    try:
        if len(parts) < 2:
            raise msgspec.DecodeError("it has no body")
        message = decode_message(parts[1])
        mask = decode_mask(parts[2]) if len(parts) > 2 else None
    except msgspec.DecodeError as error:
        raise DataError(
            f"a message cannot be read: {error}",
            where=topic,
            remedy="Is the daemon of the same version?",
        ) from error
    return ReceivedMessage(topic, message, parts[1], mask)
