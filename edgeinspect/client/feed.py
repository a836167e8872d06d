"""`VerdictFeed`: delivers every verdict of a line once and in order, across failures."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import zmq

from edgeinspect.client.feed_events import (
    FeedEvent,
    SequenceReset,
    StatusReceived,
    VerdictReceived,
    VerdictsLost,
)
from edgeinspect.client.line_client import LineClient
from edgeinspect.client.line_verifier import LineVerifier, forged_error
from edgeinspect.client.sockets import (
    RECONNECT_AFTER_NS,
    AuthFailureMonitor,
    SocketSetup,
    connect_socket,
    no_encryption,
    parse_message,
)
from edgeinspect.domain import NS_PER_MS, Clock, PartVerdict, SystemClock, Verdict
from edgeinspect.errors import DataError
from edgeinspect.wire import (
    HEARTBEAT_TOPIC,
    STATUS_TOPIC,
    VERDICT_TOPIC,
    Ack,
    Heartbeat,
    LineReply,
    Mask,
    NoLongerHeld,
    ReplayBusy,
    ReplayComplete,
    ReplayRequest,
    Socket,
    Status,
    decode_reply,
    encode_body,
)

_REQUEST_INTERVAL_NS = 200 * NS_PER_MS
_SHUTDOWN_GRACE_NS = 500 * NS_PER_MS
"""How long messages of a stopped daemon may still arrive."""
_ACK_INTERVAL_NS = 20 * NS_PER_MS


class VerdictFeed(LineClient):
    """Every verdict of one line, once and in order. Not thread-safe.

    Verdicts come from the PUB; after a gap, or a heartbeat with a later seq, the missing ones are
    requested from the ROUTER. `receive` never blocks longer than its timeout.
    """

    def __init__(
        self,
        verdicts: str,
        replay: str,
        *,
        name: str,
        line: str = "",
        cursor: int | None = None,
        setup_socket: SocketSetup = no_encryption,
        clock: Clock | None = None,
        high_water_mark: int = 10_000,
        verifier: LineVerifier | None = None,
    ) -> None:
        """Connect.

        Args:
            verdicts: The line's PUB address.
            replay: The line's ROUTER address.
            name: Name of this subscriber, for acknowledgements.
            line: The line to follow, when several share an address.
            cursor: Last seq applied, stored by the caller; None to start after the last
                verdict before the first heartbeat.
            setup_socket: Sets CURVE keys on a socket.
            clock: For tests.
            high_water_mark: Messages queued here before the newest are dropped and replayed.
            verifier: Verifies that messages are from the line; None accepts all. Closed with
                the feed.

        Raises:
            DataError: An address is not one.
        """
        super().__init__(verifier)
        self.cursor = cursor
        """The last delivered seq."""
        self.epoch = 0
        """The newest known epoch."""
        self.replayed = 0
        """Number of replayed verdicts."""
        self._name = name
        self._clock: Clock = clock or SystemClock()
        self._heartbeat_at_ns = self._clock.now_ns()
        self._requested_at_ns = 0
        self._acked_at_ns = 0
        self._unsent_ack: int | None = None
        self._line = line
        self._is_behind = cursor is not None
        self._addresses = (verdicts, replay)
        self._setup_socket = setup_socket
        self._high_water_mark = high_water_mark
        self._verifier = verifier
        self._distrusted_since_ns: int | None = None
        self._next_first = 0
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        verdicts, replay = self._addresses
        setup, mark = self._setup_socket, self._high_water_mark
        sub = connect_socket(self._context, zmq.SUB, verdicts, setup, mark)
        try:
            dealer = connect_socket(self._context, zmq.DEALER, replay, setup, mark)
        except BaseException:
            sub.close(0)
            raise
        self._sub, self._dealer = sub, dealer
        suffix = f".{self._line}" if self._line else ""
        sub.subscribe(f"{VERDICT_TOPIC}{suffix}." if self._line else VERDICT_TOPIC)
        for topic in (HEARTBEAT_TOPIC, STATUS_TOPIC):
            sub.subscribe(topic + suffix)
        self._opened_at_ns = self._clock.now_ns()
        self._auth_failures = [AuthFailureMonitor(self._context, each) for each in (sub, dealer)]
        self._poller = zmq.Poller()
        for socket in (sub, dealer, *(each.socket for each in self._auth_failures)):
            self._poller.register(socket, zmq.POLLIN)

    def _reconnect_if_needed(self, *, is_silent: bool) -> None:
        """Create new sockets if the line rejected these, or is silent."""
        now_ns = self._clock.now_ns()
        for failures in self._auth_failures:
            failures.drain(now_ns)
        timed_out = (
            is_silent
            and now_ns - max(self._heartbeat_at_ns, self._opened_at_ns) > RECONNECT_AFTER_NS
        )
        if timed_out or any(failures.should_reconnect(now_ns) for failures in self._auth_failures):
            old = self._auth_failures
            self._connect()
            self._requested_at_ns = 0
            for failures in old:
                failures.close()

    @property
    def silence_ms(self) -> float:
        """Time since the last heartbeat of the newest epoch."""
        return (self._clock.now_ns() - self._heartbeat_at_ns) / NS_PER_MS

    def receive(self, timeout_ms: int = 100) -> FeedEvent | None:
        """Return the next event; None after `timeout_ms`.

        Raises:
            DataError: A message violates the schema, or a heartbeat is not from the line.
        """
        self._request_missing()
        self._flush_ack()
        until_ns = self._clock.now_ns() + timeout_ms * NS_PER_MS
        while True:
            left_ms = max(0, (until_ns - self._clock.now_ns()) // NS_PER_MS)
            ready = dict(self._poller.poll(min(left_ms, 100)))
            event = self._next_message(ready)
            if event is not None:
                return event
            self._reconnect_if_needed(is_silent=not ready)
            self._request_missing()
            self._flush_ack()
            if left_ms <= 0 and not ready:
                return None

    def _next_message(self, ready: dict[Socket, int]) -> FeedEvent | None:
        """Process one message of a readable socket, the two in turn."""
        self._next_first ^= 1
        sockets = (self._sub, self._dealer) if self._next_first else (self._dealer, self._sub)
        for socket in sockets:
            if socket in ready:
                parts = socket.recv_multipart()
                return self._on_pub(parts) if socket is self._sub else self._on_replay(parts)
        return None

    def ack(self, seq: int) -> None:
        """Acknowledge that everything up to `seq` is applied; sent within 20 ms."""
        self._unsent_ack = seq
        self._flush_ack()

    def _on_pub(self, parts: list[bytes]) -> FeedEvent | None:
        message = parse_message(parts)
        if isinstance(message.message, Verdict):
            return self._accept_in_order(
                message.message, message.body, replayed=False, mask=message.mask
            )
        beat = message.message
        if isinstance(beat, PartVerdict):  # not subscribed to
            return None
        if self._line and beat.line != self._line:  # a line whose name has the same beginning
            return None
        if beat.epoch < self.epoch:  # of a stopped daemon
            return None
        if not self._is_trusted(beat):
            return None
        new_daemon = beat.epoch > self.epoch
        self.epoch = beat.epoch
        self._heartbeat_at_ns = self._clock.now_ns()
        if isinstance(beat, Heartbeat):
            if self.cursor is None:
                self.cursor = beat.last_seq
            # A daemon sends all it holds before its first heartbeat, so a lower seq in that one
            # means that spool and ledger are lost. In a later one it means only that replay
            # was faster than the heartbeat.
            if new_daemon and beat.last_seq < self.cursor:
                self.cursor = 0
                self._is_behind = beat.last_seq > 0
                return SequenceReset(beat.epoch, beat.last_seq)
            self._is_behind = self._is_behind or beat.last_seq > self.cursor
        return StatusReceived(beat)

    def _is_trusted(self, beat: Heartbeat | Status) -> bool:
        """Return False for a late message of a daemon that has just stopped.

        Raises:
            DataError: The message is not from the line.
        """
        problem = self._verifier.problem_with(beat) if self._verifier is not None else ""
        if not problem:
            self._distrusted_since_ns = None
            return True
        if beat.epoch == self.epoch:
            now_ns = self._clock.now_ns()
            if self._distrusted_since_ns is None:
                self._distrusted_since_ns = now_ns
            if now_ns - self._distrusted_since_ns < _SHUTDOWN_GRACE_NS:
                # Only its last message: no other may report that the line is alive.
                return isinstance(beat, Heartbeat) and not beat.inspecting
        raise forged_error(beat.line, problem)

    def _accept_in_order(
        self, verdict: Verdict, body: bytes, *, replayed: bool, mask: Mask | None = None
    ) -> FeedEvent | None:
        """Deliver the next verdict in order; a later one is requested when its turn comes."""
        if self._line and verdict.line != self._line:
            return None
        if self.cursor is None:  # possibly an old resent verdict: wait for a heartbeat
            return None
        if verdict.seq > self.cursor + 1:
            self._is_behind = True
            return None
        if verdict.seq <= self.cursor:
            return None
        if self._verifier is not None and not self._verifier.is_in_spool(verdict.seq, body):
            self._is_behind = True  # forged, or no longer in the spool: request it again
            return None
        self.cursor = verdict.seq
        self.epoch = max(self.epoch, verdict.epoch)
        self.replayed += replayed
        return VerdictReceived(verdict, body, replayed, mask)

    def _on_replay(self, parts: list[bytes]) -> FeedEvent | None:
        if len(parts) == 2:
            message = parse_message(parts)
            if isinstance(message.message, Verdict):
                # The reply is still arriving, so do not request again yet.
                self._requested_at_ns = self._clock.now_ns()
                return self._accept_in_order(message.message, message.body, replayed=True)
            return None
        reply = _parse_reply(parts[-1])
        if isinstance(reply, ReplayComplete):
            self._requested_at_ns = 0
            self._is_behind = self.cursor is not None and self.cursor < reply.last_seq
        elif isinstance(reply, ReplayBusy):
            self._requested_at_ns = self._clock.now_ns()
        elif isinstance(reply, NoLongerHeld) and self.cursor is not None:
            self._requested_at_ns = 0
            first = self.cursor + 1
            if reply.oldest_seq > first and (
                self._verifier is None or self._verifier.is_missing(first)
            ):
                self.cursor = reply.oldest_seq - 1
                return VerdictsLost(first, self.cursor)
        return None

    def _request_missing(self) -> None:
        """Request the missing verdicts, once per reply or every 200 ms."""
        if not self._is_behind or self.cursor is None:
            return
        now_ns = self._clock.now_ns()
        if now_ns - self._requested_at_ns < _REQUEST_INTERVAL_NS:
            return
        if self._send(encode_body(ReplayRequest(from_seq=self.cursor + 1))):
            self._requested_at_ns = now_ns

    def _flush_ack(self) -> None:
        now_ns = self._clock.now_ns()
        if self._unsent_ack is None or now_ns - self._acked_at_ns < _ACK_INTERVAL_NS:
            return
        if self._send(encode_body(Ack(name=self._name, seq=self._unsent_ack))):
            self._unsent_ack = None
            self._acked_at_ns = now_ns

    def _send(self, body: bytes) -> bool:
        try:
            self._dealer.send(body, zmq.NOBLOCK)
        except zmq.ZMQError:  # not connected; requested again later
            return False
        return True

    def __iter__(self) -> Iterator[FeedEvent]:
        while True:
            event = self.receive()
            if event is not None:
                yield event


def _parse_reply(body: bytes) -> LineReply:
    try:
        return decode_reply(body)
    except msgspec.DecodeError as error:
        raise DataError(f"a reply to a replay request cannot be read: {error}") from error
