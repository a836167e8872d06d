"""What both kinds of subscriber share: connecting and reading one message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import zmq

from edgeinspect.domain import NS_PER_MS
from edgeinspect.errors import DataError
from edgeinspect.wire import Mask, WireMessage, decode_mask, decode_message

Socket = zmq.Socket[bytes]
MESSAGE_BYTES_MAX = 1 << 26
"""Larger than any mask; who sends more is no line, and is disconnected by the socket itself."""
SocketSetup = Callable[[Socket], None]
"""Puts CURVE keys on a socket before it connects; see `wire.curve_keys.use_client_keys`."""


def no_encryption(_socket: Socket) -> None:
    """No CURVE."""


_AUTH_FAILED = zmq.EVENT_HANDSHAKE_FAILED_AUTH.value | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL.value
_RETRY_INTERVAL_NS = 500 * NS_PER_MS
RECONNECT_AFTER_NS = 2_000 * NS_PER_MS
"""Silence after which a client makes new sockets: a line speaks every 100 ms, and what it
knows of our subscriptions may be wrong (libzmq mixes them up when a peer sends it junk)."""


class AuthFailureMonitor:
    """Hears that a socket was turned away: by CURVE, for good, as libzmq sees it.

    It never tries again by itself, yet a key may be let in while the client runs. So whoever
    owns the socket makes a new one when `due`.
    """

    def __init__(self, context: zmq.Context[Socket], socket: Socket) -> None:
        self.socket = context.socket(zmq.PAIR)
        """To poll; ready when there is something to `hear`."""
        self._monitored = socket
        self._reconnect_at_ns: int | None = None
        address = f"inproc://refusals-{id(self)}"
        socket.monitor(address, _AUTH_FAILED)
        self.socket.connect(address)

    def drain(self, now_ns: int) -> None:
        """Take what there is."""
        while self.socket.poll(0):
            self.socket.recv_multipart()
            self._reconnect_at_ns = now_ns + _RETRY_INTERVAL_NS

    def should_reconnect(self, now_ns: int) -> bool:
        """True if it was turned away, and it is time for a new socket; again if that fails."""
        if self._reconnect_at_ns is None or now_ns < self._reconnect_at_ns:
            return False
        self._reconnect_at_ns = now_ns + _RETRY_INTERVAL_NS
        return True

    def close(self) -> None:
        """Close both sockets."""
        self._monitored.disable_monitor()  # first: libzmq's thread waits for a lost listener
        self.socket.close(0)
        self._monitored.close(0)


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """One message off the wire."""

    topic: str
    message: WireMessage
    body: bytes
    """The JSON as it came."""
    mask: Mask | None = None


def connect_socket(
    context: zmq.Context[Socket],
    kind: int,
    address: str,
    setup_socket: SocketSetup,
    high_water_mark: int = 100_000,
    *,
    immediate: bool = False,
) -> Socket:
    """A connected socket that notices a peer which vanished.

    Args:
        context: The socket's.
        kind: SUB or DEALER.
        address: The line's.
        prepare: Puts CURVE keys on it.
        high_water_mark: Messages that wait here.
        immediate: A DEALER sends to a line that is there now, or not at all; only for one that
            hears messages of one part, for libzmq aborts the process if the line goes between
            two parts (https://github.com/zeromq/libzmq/issues/3663).

    Raises:
        DataError: `address` is none, or `prepare` found no key.
    """
    socket = context.socket(kind)
    socket.linger = 0
    socket.ipv6 = "[" in address  # libzmq knows IPv4 alone unless it is told
    socket.rcvhwm = high_water_mark
    socket.maxmsgsize = MESSAGE_BYTES_MAX
    if kind == zmq.DEALER:
        socket.immediate = immediate
        socket.sndhwm = 16
    # A peer that vanished without a word is noticed and reconnected to: by the kernel. With its
    # own heartbeat libzmq aborts the process if the peer dies while it holds back what came
    # (https://github.com/zeromq/libzmq/issues/4364).
    socket.tcp_keepalive = 1
    socket.tcp_keepalive_idle = socket.tcp_keepalive_intvl = 1
    socket.tcp_keepalive_cnt = 3
    socket.tcp_maxrt = 3_000
    # Short and constant: a line that starts is heard before its first frame.
    socket.reconnect_ivl = 50
    socket.connect_timeout = 1_000  # a door that was shut for a moment is tried again soon
    try:
        setup_socket(socket)
        socket.connect(address)
    except zmq.ZMQError as error:
        socket.close(0)
        raise DataError(
            f"is not an address: {error.strerror}",
            where=address,
            remedy="Give one like ipc:///run/edgeinspect/strip/strip.verdicts or tcp://pc:5590",
        ) from error
    except BaseException:
        socket.close(0)
        raise
    return socket


def parse_message(parts: list[bytes]) -> ReceivedMessage:
    """One message from its parts.

    Raises:
        DataError: It breaks the wire's schema: another version is talking.
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
