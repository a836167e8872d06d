"""`Subscriber`: receives what a line publishes, without replay."""

from __future__ import annotations

from collections.abc import Iterator

import zmq

from edgeinspect.client.line_client import LineClient
from edgeinspect.client.line_verifier import LineVerifier, LineVerifiers
from edgeinspect.client.sockets import (
    RECONNECT_AFTER_NS,
    AuthFailureMonitor,
    ReceivedMessage,
    SocketSetup,
    connect_socket,
    no_encryption,
    parse_message,
)
from edgeinspect.domain import NS_PER_MS, SystemClock, Verdict
from edgeinspect.wire import HEARTBEAT_TOPIC, STATUS_TOPIC, VERDICT_TOPIC, WireMessage

DEFAULT_TOPICS = (VERDICT_TOPIC, HEARTBEAT_TOPIC, STATUS_TOPIC)
_CHECK_INTERVAL_MS = 250
"""Time between two checks whether the line rejected the key."""


class Subscriber(LineClient):
    """A subscription to one or more lines, without replay.

    Not thread-safe. Iterate it, or call `receive`. `missed` counts gaps.
    """

    def __init__(
        self,
        address: str,
        *,
        topics: tuple[str, ...] = DEFAULT_TOPICS,
        setup_socket: SocketSetup = no_encryption,
        verifier: LineVerifier | LineVerifiers | None = None,
    ) -> None:
        """Connect; ZeroMQ reconnects indefinitely.

        Args:
            address: The line's PUB address.
            topics: Prefixes to subscribe to.
            setup_socket: Sets CURVE keys on the socket.
            verifier: Messages that are not from the line are ignored; None accepts all. Closed
                with the subscriber.

        Raises:
            DataError: The address is not one.
        """
        super().__init__(verifier)
        self.missed = 0
        """Verdicts that were published and not received, by their seqs. Meaningful only if all
        verdicts are subscribed to."""
        self.rejection_reason = ""
        """Why the last message was ignored: it is not from the line."""
        self._verifier = verifier
        self._last_seq: dict[tuple[str, int], int] = {}
        self._address = address
        self._setup_socket = setup_socket
        self._topics = topics
        self._clock = SystemClock()
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        self._socket = connect_socket(self._context, zmq.SUB, self._address, self._setup_socket)
        for topic in self._topics:
            self._socket.subscribe(topic)
        self._auth_failures = [AuthFailureMonitor(self._context, self._socket)]
        self._received_at_ns = self._clock.now_ns()

    def receive(self, timeout_ms: int | None = None) -> ReceivedMessage | None:
        """Return the next message; None after `timeout_ms`.

        Raises:
            DataError: A message violates the schema: the sender may be of another version.
        """
        until_ns = None if timeout_ms is None else self._clock.now_ns() + timeout_ms * NS_PER_MS
        while True:
            left_ms = _CHECK_INTERVAL_MS
            if until_ns is not None:
                left_ms = max(
                    0, min(_CHECK_INTERVAL_MS, (until_ns - self._clock.now_ns()) // NS_PER_MS)
                )
            if self._socket.poll(left_ms):
                self._received_at_ns = self._clock.now_ns()
                received = parse_message(self._socket.recv_multipart())
                if self._is_trusted(received) and not self._is_duplicate(received.message):
                    return received
                if until_ns is None or self._clock.now_ns() < until_ns:
                    continue
            now_ns = self._clock.now_ns()
            (failures,) = self._auth_failures
            failures.drain(now_ns)
            if (
                failures.should_reconnect(now_ns)
                or now_ns - self._received_at_ns > RECONNECT_AFTER_NS
            ):
                self._connect()
                failures.close()
            if until_ns is not None and now_ns >= until_ns:
                return None

    def _is_trusted(self, received: ReceivedMessage) -> bool:
        """Return whether a message is from the line."""
        message = received.message
        if self._verifier is None:
            return True
        verifier = self._verifier.for_line(message.line)
        if verifier is None:
            return False
        if isinstance(message, Verdict):
            if not verifier.is_in_spool(message.seq, received.body):
                self.rejection_reason = f"verdict {message.seq} is not in the line's spool"
                return False
        else:
            problem = verifier.problem_with(message)
            if problem:
                self.rejection_reason = problem
                return False
        self.rejection_reason = ""
        return True

    def _is_duplicate(self, verdict: WireMessage) -> bool:
        """Return whether a verdict is repeated: for a new client the last one may be resent."""
        if not isinstance(verdict, Verdict):
            return False
        key = (verdict.line, verdict.epoch)
        last = self._last_seq.get(key, 0)
        if verdict.seq <= last:
            return True
        if last:
            self.missed += verdict.seq - last - 1
        self._last_seq[key] = verdict.seq
        return False

    def __iter__(self) -> Iterator[ReceivedMessage]:
        while True:
            received = self.receive()
            if received is not None:
                yield received
