"""The publisher: sends verdicts from the spool, in order, and heartbeats.

It reads the spool from its own cursor, so a verdict is in the spool before it is on the
wire. Verdicts leave in the order of seq. A line has one budget, so every earlier frame is
closed (by the guard at the latest) before this one's deadline: order never makes a verdict
wait past its own deadline. Source: docs/explanation/decisions/0004-order-on-the-wire.md
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import zmq

from edgeinspect.domain import NS_PER_MS, NS_PER_US, Clock, LatencyHistogram, PartVerdict
from edgeinspect.pipeline.publishing.part_verdicts import PartAggregator
from edgeinspect.pipeline.publishing.subscription_limits import (
    CURVE_BYTES_MAX,
    TOPIC_BYTES_MAX,
    SubscriptionLimiter,
)
from edgeinspect.pipeline.verdicts import VerdictCloser
from edgeinspect.system import log_events
from edgeinspect.wire import (
    HANDSHAKE_MS,
    AdmissionControl,
    ClientMonitors,
    Heartbeat,
    ServerSocketSetup,
    SlowClientMonitor,
    Socket,
    Status,
    UnfinishedMessageMonitor,
    bind,
    decode_verdict,
    encode_message,
    heartbeat_topic,
    no_encryption,
    part_topic,
    status_topic,
    verdict_topic,
)

_log = structlog.get_logger()
_UNREAD_BYTES_MAX = 1_500
"""Bytes of a subscriber that may wait to be read: a burst of subscriptions. More is a flood."""
_RECEIVE_BUFFER_BYTES = 4_096
"""The kernel's receive buffer per subscriber, which ZeroMQ reads in one call."""
_SUBSCRIPTIONS_PER_LOOP = 4
"""Subscriptions accepted per iteration: a flood of them must not delay a verdict."""


@dataclass(frozen=True, slots=True)
class PublisherSettings:
    """See `config.PublishConfig`."""

    line: str
    address: str
    heartbeat_ns: int
    high_water_mark: int
    """Messages that a subscriber may be behind; more of them are dropped."""
    cameras: tuple[str, ...] = ()
    """Of the line, for the topics that can match; empty if any camera may be."""


class Publisher:
    """Owns the PUB socket. `wake`, `try_send` and `queue_status` are thread-safe.

    The thread that closed a frame may send its verdict at once: a sleeping thread would first
    wait for a processor and for the interpreter lock. A lock protects the socket.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        settings: PublisherSettings,
        closer: VerdictCloser,
        clock: Clock,
        *,
        check_alarms: Callable[[], tuple[bool, str]],
        part_aggregator: PartAggregator | None = None,
        secure_socket: ServerSocketSetup = no_encryption,
    ) -> None:
        """Bind the socket. It never waits for a subscriber.

        Args:
            context: Of the socket.
            settings: Of the line.
            closer: Of the line: its spool, the times of its verdicts, and its clock steps.
            clock: For heartbeats and latencies.
            check_alarms: Returns (inspecting, alarm text) for each heartbeat; called by the
                publisher's thread.
            part_aggregator: Combines the verdicts of several cameras; None for one camera.
            secure_socket: Enables CURVE on the socket.

        Raises:
            AddressError: The address is in use, or not available yet.
            ConfigError: It cannot be bound.
        """
        spool = closer.spool
        self.latency = LatencyHistogram()
        """From capture to publication, of frames inspected by an engine, µs."""
        self.overhead, self.engine = LatencyHistogram(), LatencyHistogram()
        """The same without the time in the engines, and that time, µs."""
        self.past_deadline = LatencyHistogram()
        """From deadline to publication, of verdicts published after the deadline, µs."""
        self.progress_count = 0
        """Advances with each iteration of the thread, at least once per heartbeat."""
        self.unsent_count = 0
        """Verdicts that were overwritten in the spool before they could be sent."""
        self._spool = spool
        self._timings = closer.timings
        self._clock_steps = closer.clock_steps
        self._clock = clock
        self._check_alarms = check_alarms
        self._line = settings.line
        self._part_aggregator = part_aggregator
        self._heartbeat_ns = settings.heartbeat_ns
        self._heartbeat_topic = heartbeat_topic(settings.line)
        self._status_topic = status_topic(settings.line)
        self._queued_status: deque[Status] = deque()
        self._heartbeat_count = 0
        self._spool_path = str(spool.path.absolute())
        self._stop = False
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._last_messages: dict[bytes, list[bytes]] = {}
        self._socket = context.socket(zmq.XPUB)
        self._socket.linger = 500
        self._socket.sndhwm = settings.high_water_mark
        self._socket.setsockopt(zmq.XPUB_MANUAL_LAST_VALUE, 1)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self._subscription_limiter = SubscriptionLimiter(settings.line, settings.cameras, clock)
        self._sent_totals = (0, 0)
        self._admission: AdmissionControl | None = None
        monitors = ClientMonitors(
            SlowClientMonitor(clock, lambda: self._sent_totals, settings.high_water_mark),
            UnfinishedMessageMonitor(clock, self._subscription_limiter.last_subscribed_ns),
            self._subscription_limiter.remove,
        )
        try:
            secure_socket(context, self._socket, monitors)
            is_encrypted = self._socket.mechanism == zmq.CURVE
            self._socket.maxmsgsize = CURVE_BYTES_MAX if is_encrypted else TOPIC_BYTES_MAX
            # One at a time: ZeroMQ adds what waits here to its tree whenever a message is sent.
            # One is not enough for the handshake of CURVE.
            self._socket.rcvhwm = 4 if is_encrypted else 1
            if not is_encrypted:
                self._admission = AdmissionControl(
                    context,
                    self._socket,
                    has_requested=self._subscription_limiter.has_subscribed,
                    clock=clock,
                    client_monitors=monitors,
                    unread_max=_UNREAD_BYTES_MAX,
                )
                self._subscription_limiter.disconnect = self._admission.disconnect_flooding
            self._bound = bind(
                self._socket,
                settings.address,
                "publish.verdicts",
                receive_bytes=0 if is_encrypted else _RECEIVE_BUFFER_BYTES,
            )
        except BaseException:
            if self._admission is not None:
                self._admission.close()
            self._socket.close(0)
            raise
        if self._admission is not None:
            self._admission.start(self._bound)
        if self.address.startswith("tcp:") and not is_encrypted:
            _log.warning(log_events.WIRE_OPEN, line=settings.line, address=self.address)
        spool.announce()
        self._lock = threading.Lock()
        """Protects the socket and the state of what was sent on it."""
        self._poll = select.poll()  # not zmq.Poller, which would use the socket without the lock
        for handle in (self._event, self._socket.fileno()):
            self._poll.register(handle, select.POLLIN)

    @property
    def address(self) -> str:
        """Where the socket is bound, with the port that the system chose for `:*`."""
        return str(self._socket.last_endpoint, "utf-8").rstrip("\0")  # type: ignore[arg-type]

    def wake(self) -> None:
        """Wake the publisher's thread: a frame was closed. Thread-safe."""
        os.eventfd_write(self._event, 1)

    def queue_status(self, status: Status) -> None:
        """Have the publisher's thread send a status. Thread-safe."""
        self._queued_status.append(status)
        self.wake()

    def try_send(self) -> None:
        """Send what is closed, in this thread if no other is sending. Thread-safe."""
        if self._part_aggregator is not None or not self._lock.acquire(blocking=False):
            self.wake()
            return
        try:
            self.publish_ready()
        finally:
            self._lock.release()

    def _has_subscriptions(self) -> bool:
        """Return whether subscriptions wait.

        What the socket received while it sent does not show on its descriptor again
        (zmq_getsockopt, ZMQ_FD), so each iteration of the thread checks.
        """
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def run(self) -> None:
        """The thread, until `stop`; what is closed by then is sent."""
        heartbeat_at_ns = self._clock.now_ns()
        while not self._stop:
            self.progress_count += 1
            with self._lock:
                self.publish_ready()
                while self._queued_status:
                    status = encode_message(self._queued_status.popleft())
                    self._send_multipart([self._status_topic, status])
                now_ns = self._clock.now_ns()
                if now_ns >= heartbeat_at_ns:
                    self.send_heartbeat()
                    heartbeat_at_ns = max(heartbeat_at_ns + self._heartbeat_ns, now_ns)
                self._accept_subscriptions()
                due_ns = self._expire_parts(now_ns, heartbeat_at_ns)
                has_more = self._has_subscriptions()
            if self._poll.poll(0 if has_more else max(0, due_ns - now_ns) // NS_PER_MS + 1):
                with contextlib.suppress(BlockingIOError):  # it was the socket
                    os.eventfd_read(self._event)
        with self._lock:
            self.publish_ready()
            self._expire_parts(1 << 62, 0)  # all of them: no more verdicts will come
            self.send_heartbeat()

    def publish_ready(self) -> int:
        """Send every closed verdict up to the first open frame; return how many."""
        spool = self._spool
        sent = 0
        seq = spool.published_seq + 1
        while seq <= spool.last_seq:
            body = spool.read(seq)
            if body is None:
                if seq >= spool.oldest_seq:
                    break
                self.unsent_count += 1
            else:
                self._send_verdict(seq, body)
                sent += 1
            spool.mark_published(seq)
            seq += 1
        return sent

    def _send_verdict(self, seq: int, body: bytes) -> None:
        timings = self._timings
        row = seq % timings.slots
        topic = timings.topics[row]
        if not topic:  # left open by the previous daemon
            verdict = decode_verdict(body)
            topic = verdict_topic(verdict.line, verdict.camera, verdict.decision)
            self._send_multipart([topic, body])
            self._add_to_part(body, None)
            return
        mask = timings.masks.pop(seq, None)
        self._send_multipart([topic, body] if mask is None else [topic, body, mask])
        timings.sent_ns[row] = now_ns = self._clock.now_ns()
        self._add_to_part(body, timings.captured_ns[row])
        latency_us = (now_ns - timings.captured_ns[row]) // NS_PER_US
        engine_us = timings.engine_ns[row] // NS_PER_US
        if engine_us:
            self.latency.record(latency_us)
            self.engine.record(engine_us)
            self.overhead.record(latency_us - engine_us)
        past_us = (now_ns - timings.deadline_ns[row]) // NS_PER_US
        if past_us > 0:
            self.past_deadline.record(past_us)

    def _add_to_part(self, body: bytes, captured_ns: int | None) -> None:
        """Add a verdict to its part. `captured_ns` is None for a verdict of a crashed daemon."""
        if self._part_aggregator is not None:
            now_ns = self._clock.now_ns()
            at_ns = now_ns if captured_ns is None else captured_ns
            self._send_part_verdicts(
                self._part_aggregator.add(decode_verdict(body), at_ns, now_ns, self._spool.epoch)
            )

    def _expire_parts(self, now_ns: int, until_ns: int) -> int:
        """Decide the parts that are due; return when to call again, at most `until_ns`."""
        if self._part_aggregator is None:
            return until_ns
        self._send_part_verdicts(self._part_aggregator.expire(now_ns, self._spool.epoch))
        due_ns = self._part_aggregator.due_in_ns(now_ns)
        return until_ns if due_ns is None else min(until_ns, now_ns + due_ns)

    def _send_part_verdicts(self, verdicts: list[PartVerdict]) -> None:
        for part in verdicts:
            self._send_multipart([part_topic(self._line, part.decision), encode_message(part)])

    def send_heartbeat(self) -> None:
        """Send one heartbeat."""
        self._heartbeat_count += 1
        self._send_multipart(self._make_heartbeat())

    def _make_heartbeat(self) -> list[bytes]:
        inspecting, alarm = self._check_alarms()
        heartbeat = Heartbeat(
            line=self._line,
            epoch=self._spool.epoch,
            last_seq=self._spool.published_seq,
            beat=self._heartbeat_count,
            utc_ns=self._clock.utc_ns(),
            period_ms=self._heartbeat_ns / NS_PER_MS,
            inspecting=inspecting and not self._stop,
            alarm=alarm,
            clock_stepped=self._clock_steps.stepped,
            spool=self._spool_path,
        )
        return [self._heartbeat_topic, encode_message(heartbeat)]

    def _send_multipart(self, parts: list[bytes]) -> None:
        self._socket.send_multipart(parts)
        sent_bytes, messages = self._sent_totals
        self._sent_totals = sent_bytes + sum(map(len, parts)), messages + 1
        self._last_messages.pop(parts[0], None)  # so that the newest is last
        self._last_messages[parts[0]] = parts

    def _accept_subscriptions(self) -> None:
        """Accept a few subscriptions, and send each new subscriber the last value of its topic.

        The first message after a subscription, or after the end of one, is sent to that peer
        alone (libzmq's XPUB_MANUAL_LAST_VALUE). So one is sent at once, whether it matches or
        not; otherwise the next verdict would reach that peer only.
        """
        for _ in range(_SUBSCRIPTIONS_PER_LOOP):
            try:
                frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            request = frame.bytes
            kind, topic = request[:1], request[1:]
            last_value = None
            can_match = self._subscription_limiter.may_match(topic)
            is_allowed = self._subscription_limiter.allow(frame, can_match=can_match)
            if kind not in (b"\x00", b"\x01"):  # not a subscription
                self._subscription_limiter.disconnect_sender(frame)
                continue
            if not is_allowed or not can_match:
                pass
            elif kind == b"\x00":
                self._socket.setsockopt(zmq.UNSUBSCRIBE, topic)
            else:
                self._socket.setsockopt(zmq.SUBSCRIBE, topic)
                if not self._heartbeat_topic.startswith(topic):  # an old one would be wrong
                    for last_topic, message in self._last_messages.items():
                        if last_topic.startswith(topic):
                            last_value = message
            self._socket.send_multipart(last_value or self._make_heartbeat())

    def stop(self) -> None:
        """End the thread. Thread-safe."""
        self._stop = True
        self.wake()

    def close(self) -> None:
        """Close the socket after the thread has ended; queued messages get half a second."""
        if self._admission is not None:
            self._admission.close()
        self._socket.close()
        self._bound.release()
        os.close(self._event)
