"""Listening to a line: the subscriber's end of the wire."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import msgspec
import zmq

from edgeinspect.domain.verdict import Verdict
from edgeinspect.errors import DataError
from edgeinspect.wire import (
    HEARTBEAT_TOPIC,
    STATUS_TOPIC,
    VERDICT_TOPIC,
    Mask,
    Message,
    decode,
    decode_mask,
)

DEFAULT_ADDRESS = "tcp://127.0.0.1:5590"


@dataclass(frozen=True, slots=True)
class Received:
    """One message off the wire."""

    topic: str
    message: Message
    body: bytes
    """The JSON as it came."""
    mask: Mask | None = None


class Listener:
    """A subscription to one or more lines, as things happen; it does not ask for replay.

    Not thread-safe. Iterate it, or call `receive`. Gaps show in `missed`.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        topics: tuple[str, ...] = (VERDICT_TOPIC, HEARTBEAT_TOPIC, STATUS_TOPIC),
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        """Connect (and reconnect for ever, as ZeroMQ does).

        Args:
            address: The line's PUB address.
            topics: Prefixes to subscribe to.
            context: To share; a context of its own otherwise.

        Raises:
            DataError: The address is not one.
        """
        self.missed = 0
        """Verdicts that were published and did not arrive, as far as seq and heartbeat tell.
        Meaningful only when all verdicts are subscribed to."""
        self._last_seq: dict[tuple[str, int], int] = {}
        self._own = context is None
        self._context: zmq.Context[zmq.Socket[bytes]] = context or zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.linger = 0
        self._socket.rcvhwm = 100_000
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise DataError(
                f"is not an address: {error.strerror}",
                where=address,
                remedy=f"Give one like {DEFAULT_ADDRESS}",
            ) from error
        for topic in topics:
            self._socket.subscribe(topic)

    def receive(self, timeout_ms: int | None = None) -> Received | None:
        """The next message; None when none came in time. Skips what it cannot read.

        Raises:
            DataError: A message breaks the wire's schema: another version is talking.
        """
        if not self._socket.poll(timeout_ms):
            return None
        parts = self._socket.recv_multipart()
        if len(parts) < 2:
            raise DataError("a message without a body came", where=parts[0][:64].decode("latin-1"))
        topic = parts[0].decode("utf-8", "replace")
        try:
            message = decode(parts[1])
            mask = decode_mask(parts[2]) if len(parts) > 2 else None
        except msgspec.DecodeError as error:
            raise DataError(
                f"a message cannot be read: {error}",
                where=topic,
                remedy="Is the daemon of the same version?",
            ) from error
        if isinstance(message, Verdict):
            self._follow(message)
        return Received(topic, message, parts[1], mask)

    def _follow(self, verdict: Verdict) -> None:
        key = (verdict.line, verdict.epoch)
        last = self._last_seq.get(key)
        if last is not None:
            self.missed += max(0, verdict.seq - last - 1)
        self._last_seq[key] = max(verdict.seq, last or 0)

    def __iter__(self) -> Iterator[Received]:
        while True:
            received = self.receive()
            if received is not None:
                yield received

    def close(self) -> None:
        """Disconnect; harmless when done already."""
        self._socket.close(0)
        if self._own:
            self._context.term()

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
