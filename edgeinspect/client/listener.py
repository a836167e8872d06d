"""`Listener`: what a line says now, without replay."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import zmq

from edgeinspect.client.proof import Proof, Proofs
from edgeinspect.client.sockets import (
    DEAF_NS,
    Prepare,
    Received,
    Refusals,
    Socket,
    connect,
    plain,
    read,
)
from edgeinspect.domain.clock import NS_PER_MS, SystemClock
from edgeinspect.domain.verdict import Verdict
from edgeinspect.wire.messages import HEARTBEAT_TOPIC, STATUS_TOPIC, VERDICT_TOPIC, Message

_LOOK_MS = 250
"""How long it waits before it looks whether the line turned it away."""


class Listener:
    """A subscription to one or more lines, as things happen; it does not ask for replay.

    Not thread-safe. Iterate it, or call `receive`. Gaps show in `missed`.
    """

    def __init__(
        self,
        address: str,
        *,
        topics: tuple[str, ...] = (VERDICT_TOPIC, HEARTBEAT_TOPIC, STATUS_TOPIC),
        prepare: Prepare = plain,
        proof: Proof | Proofs | None = None,
    ) -> None:
        """Connect (and reconnect for ever, as ZeroMQ does).

        Args:
            address: The line's PUB address.
            topics: Prefixes to subscribe to.
            prepare: Puts CURVE keys on the socket.
            proof: Sees whether it is the line that speaks, and has what others say passed
                over; whoever speaks is believed when None. Closed with the listener.

        Raises:
            DataError: The address is not one.
        """
        self.missed = 0
        """Verdicts that were published and did not arrive, as far as seq tells. Meaningful
        only when all verdicts are subscribed to."""
        self.doubt = ""
        """Why the last message was passed over: it is not the line that speaks."""
        self._proof = proof
        self._last_seq: dict[tuple[str, int], int] = {}
        self._context: zmq.Context[Socket] = zmq.Context()
        self._address = address
        self._prepare = prepare
        self._topics = topics
        self._clock = SystemClock()
        try:
            self._open()
        except BaseException:
            self._context.destroy(0)
            raise

    def _open(self) -> None:
        self._socket = connect(self._context, zmq.SUB, self._address, self._prepare)
        for topic in self._topics:
            self._socket.subscribe(topic)
        self._refusals = Refusals(self._context, self._socket)
        self._heard_at_ns = self._clock.now_ns()

    def receive(self, timeout_ms: int | None = None) -> Received | None:
        """The next message; None when none came in time.

        Raises:
            DataError: A message breaks the wire's schema: another version is talking.
        """
        until_ns = None if timeout_ms is None else self._clock.now_ns() + timeout_ms * NS_PER_MS
        while True:
            left_ms = _LOOK_MS
            if until_ns is not None:
                left_ms = max(0, min(_LOOK_MS, (until_ns - self._clock.now_ns()) // NS_PER_MS))
            if self._socket.poll(left_ms):
                self._heard_at_ns = self._clock.now_ns()
                received = read(self._socket.recv_multipart())
                if self._believe(received) and self._is_new(received.message):
                    return received
                if until_ns is None or self._clock.now_ns() < until_ns:
                    continue
            now_ns = self._clock.now_ns()
            self._refusals.hear(now_ns)
            if self._refusals.due(now_ns) or now_ns - self._heard_at_ns > DEAF_NS:
                refusals = self._refusals
                self._open()
                refusals.close()
            if until_ns is not None and now_ns >= until_ns:
                return None

    def _believe(self, received: Received) -> bool:
        """False for what is not the line's."""
        message = received.message
        if self._proof is None:
            return True
        proof = self._proof.of(message.line)
        if proof is None:
            return False
        if isinstance(message, Verdict):
            if not proof.holds(message.seq, received.body):
                self.doubt = f"verdict {message.seq} does not stand in the line's spool"
                return False
        else:
            problem = proof.problem(message)
            if problem:
                self.doubt = problem
                return False
        self.doubt = ""
        return True

    def _is_new(self, verdict: Message) -> bool:
        """False for a repeat: the last value may come to all when a newcomer goes at once."""
        if not isinstance(verdict, Verdict):
            return True
        key = (verdict.line, verdict.epoch)
        last = self._last_seq.get(key, 0)
        if verdict.seq <= last:
            return False
        if last:
            self.missed += verdict.seq - last - 1
        self._last_seq[key] = verdict.seq
        return True

    def __iter__(self) -> Iterator[Received]:
        while True:
            received = self.receive()
            if received is not None:
                yield received

    def close(self) -> None:
        """Disconnect; harmless when done already."""
        if not self._context.closed:
            self._refusals.close()
            self._context.destroy(0)
        if self._proof is not None:
            self._proof.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
