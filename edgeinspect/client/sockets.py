"""What both kinds of subscriber share: connecting and reading one message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import zmq

from edgeinspect.errors import DataError
from edgeinspect.wire import Mask, Message, decode, decode_mask

DEFAULT_ADDRESS = "tcp://127.0.0.1:5590"
DEFAULT_REPLAY = "tcp://127.0.0.1:5591"
Socket = zmq.Socket[bytes]
Prepare = Callable[[Socket], None]
"""Puts CURVE keys on a socket before it connects; see `edgeinspect.keys.as_client`."""


def plain(_socket: Socket) -> None:
    """No CURVE."""


@dataclass(frozen=True, slots=True)
class Received:
    """One message off the wire."""

    topic: str
    message: Message
    body: bytes
    """The JSON as it came."""
    mask: Mask | None = None


def connect(
    context: zmq.Context[Socket],
    kind: int,
    address: str,
    prepare: Prepare,
    high_water_mark: int = 100_000,
) -> Socket:
    """A connected socket that notices a peer which vanished; the context goes on an error."""
    socket = context.socket(kind)
    socket.linger = 0
    socket.rcvhwm = high_water_mark
    if kind == zmq.DEALER:
        socket.immediate = True
        socket.sndhwm = 16
    # A peer that vanished without a word is noticed and reconnected to.
    socket.heartbeat_ivl = 300
    socket.heartbeat_timeout = 1000
    # Short and constant: a line that starts is heard before its first frame.
    socket.reconnect_ivl = 50
    try:
        prepare(socket)
        socket.connect(address)
    except zmq.ZMQError as error:
        context.destroy(0)
        raise DataError(
            f"is not an address: {error.strerror}",
            where=address,
            remedy=f"Give one like {DEFAULT_ADDRESS}",
        ) from error
    return socket


def read(parts: list[bytes]) -> Received:
    """One message from its parts.

    Raises:
        DataError: It breaks the wire's schema: another version is talking.
    """
    topic = parts[0][:200].decode("utf-8", "replace")
    try:
        if len(parts) < 2:
            raise msgspec.DecodeError("it has no body")
        message = decode(parts[1])
        mask = decode_mask(parts[2]) if len(parts) > 2 else None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"a message cannot be read: {error}",
            where=topic,
            remedy="Is the daemon of the same version?",
        ) from error
    return Received(topic, message, parts[1], mask)
