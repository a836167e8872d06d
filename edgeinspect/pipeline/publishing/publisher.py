"""The publisher: verdicts out of the spool, in order, and the heartbeat.

It reads the spool from its own cursor, so a verdict is on the spool before it is on the
wire. Verdicts leave in the order of seq. A line has one budget, so every earlier frame is
closed (by the guard at the latest) before this one's deadline: order never makes a verdict
wait past its own deadline. Source: docs/decisions/0004-order-on-the-wire.md
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Sequence

import structlog
import zmq

from edgeinspect.domain import NS_PER_MS, NS_PER_US, Clock, LatencyHistogram, PartVerdict
from edgeinspect.pipeline.publishing.part_verdicts import PartAggregator
from edgeinspect.pipeline.publishing.subscription_limits import (
    CURVE_BYTES_MAX,
    TOPIC_BYTES_MAX,
    SubscriptionLimiter,
)
from edgeinspect.pipeline.verdicts import SlotTimings
from edgeinspect.storage.spool import Spool
from edgeinspect.system import log_events
from edgeinspect.wire import (
    HANDSHAKE_MS,
    AdmissionControl,
    ClientMonitors,
    Heartbeat,
    ServerSocketSetup,
    SlowClientMonitor,
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

Socket = zmq.Socket[bytes]
_log = structlog.get_logger()
_UNREAD_BYTES_MAX = 1_500
"""Bytes that a subscriber may be ahead of us: all it says in a burst. More is a flood."""
_RECEIVE_BUFFER_BYTES = 4_096
"""What the kernel holds of a subscriber: ZeroMQ takes it in one bite."""
_SUBSCRIPTIONS_PER_LOOP = 4
"""Subscriptions taken per turn: a flood of them must not hold up a verdict."""


class Publisher:
    """Owns the PUB socket. `wake`, `try_send` and `post` are thread-safe.

    Whoever closed a frame may send its verdict at once: what is handed to a sleeping thread
    waits for a processor and for the interpreter. A lock says whose the socket is.
    """

    def __init__(
        self,
        *,
        context: zmq.Context[Socket],
        address: str,
        high_water_mark: int,
        heartbeat_ns: int,
        line: str,
        spool: Spool,
        timings: SlotTimings,
        clock: Clock,
        health: Callable[[], tuple[bool, str]],
        part_aggregator: PartAggregator | None = None,
        cameras: Sequence[str] = (),
        is_clock_stepped: Callable[[], bool] = lambda: False,
        prepare: ServerSocketSetup = no_encryption,
    ) -> None:
        """Bind.

        `health` gives (inspecting, alarm) for each heartbeat and is called from the
        publisher's thread. The socket never waits for a subscriber: it drops what is
        more than `high_water_mark` messages ahead of one. `prepare` puts CURVE on it.
        `parts` makes one verdict of those of several cameras; `stepped` says that the
        wall clock was set lately.

        `cameras` are those of the line, or none if any may be.

        Raises:
            AddressError: The address is in use, or not there yet.
            ConfigError: It cannot be bound.
        """
        self.latency = LatencyHistogram()
        """Captured to published, of frames judged by an engine, µs."""
        self.overhead, self.engine = LatencyHistogram(), LatencyHistogram()
        """The same less the time inside the engines, and that time, µs."""
        self.past_deadline = LatencyHistogram()
        """Published minus deadline, of verdicts published after it, µs."""
        self.progress_count = 0
        """Moves on at every turn of the thread, at each heartbeat at the least."""
        self.unsent_count = 0
        """Verdicts that were overwritten in the spool before they could be sent."""
        self._spool = spool
        self._timings = timings
        self._clock = clock
        self._health = health
        self._line = line
        self._part_aggregator = part_aggregator
        self._is_clock_stepped = is_clock_stepped
        self._heartbeat_ns = heartbeat_ns
        self._heartbeat_topic = heartbeat_topic(line)
        self._status_topic = status_topic(line)
        self._queued_status: deque[Status] = deque()
        self._heartbeat_count = 0
        self._spool_path = str(spool.path.absolute())
        self._stop = False
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._last_messages: dict[bytes, list[bytes]] = {}
        self._socket = context.socket(zmq.XPUB)
        self._socket.linger = 500
        self._socket.sndhwm = high_water_mark
        self._socket.setsockopt(zmq.XPUB_MANUAL_LAST_VALUE, 1)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self._subscription_limiter = SubscriptionLimiter(line, cameras, clock)
        self._sent_totals = (0, 0)
        self._admission: AdmissionControl | None = None
        watched = ClientMonitors(
            SlowClientMonitor(clock, lambda: self._sent_totals, high_water_mark),
            UnfinishedMessageMonitor(clock, self._subscription_limiter.last_subscribed_ns),
            self._subscription_limiter.remove,
        )
        try:
            prepare(context, self._socket, watched)
            curve = self._socket.mechanism == zmq.CURVE
            self._socket.maxmsgsize = CURVE_BYTES_MAX if curve else TOPIC_BYTES_MAX
            # One at a time: what waits here is built into ZeroMQ's tree whenever we send. Under
            # CURVE one is not enough for its handshake.
            self._socket.rcvhwm = 4 if curve else 1
            if not curve:
                self._admission = AdmissionControl(
                    context,
                    self._socket,
                    has_requested=self._subscription_limiter.has_subscribed,
                    clock=clock,
                    client_monitors=watched,
                    unread_max=_UNREAD_BYTES_MAX,
                )
                self._subscription_limiter.disconnect = self._admission.disconnect_flooding
            held = 0 if curve else _RECEIVE_BUFFER_BYTES
            self._bound = bind(self._socket, address, "publish.verdicts", receive_bytes=held)
        except BaseException:
            if self._admission is not None:
                self._admission.close()
            self._socket.close(0)
            raise
        if self._admission is not None:
            self._admission.start(self._bound)
        if self.address.startswith("tcp:") and not curve:
            _log.warning(log_events.WIRE_OPEN, line=line, address=self.address)
        spool.announce()
        self._lock = threading.Lock()
        """Of the socket, and of all that is sent on it."""
        self._poll = select.poll()  # not ZeroMQ's own: that would use the socket unlocked
        for handle in (self._event, self._socket.fileno()):
            self._poll.register(handle, select.POLLIN)

    @property
    def address(self) -> str:
        """Where the socket is bound, with the port the system chose for `:*`."""
        return str(self._socket.last_endpoint, "utf-8").rstrip("\0")  # type: ignore[arg-type]

    def wake(self) -> None:
        """Say that a frame has been closed. Thread-safe."""
        os.eventfd_write(self._event, 1)

    def queue_status(self, status: Status) -> None:
        """Send a status when there is a moment. Thread-safe."""
        self._queued_status.append(status)
        self.wake()

    def try_send(self) -> None:
        """Send what is closed, in the caller's thread if nobody sends now. Thread-safe."""
        if self._part_aggregator is not None or not self._lock.acquire(blocking=False):
            self.wake()
            return
        try:
            self.publish_ready()
        finally:
            self._lock.release()

    def _has_subscriptions(self) -> bool:
        """True if subscriptions wait: what the socket took in while it sent does not show on
        its descriptor again (zmq_getsockopt, ZMQ_FD). So each turn of the thread asks.
        """
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def run(self) -> None:
        """The publisher's thread, until `stop`; what is closed by then is sent."""
        beat_at_ns = self._clock.now_ns()
        while not self._stop:
            self.progress_count += 1
            with self._lock:
                self.publish_ready()
                while self._queued_status:
                    self._send_multipart(
                        [self._status_topic, encode_message(self._queued_status.popleft())]
                    )
                now_ns = self._clock.now_ns()
                if now_ns >= beat_at_ns:
                    self.send_heartbeat()
                    beat_at_ns = max(beat_at_ns + self._heartbeat_ns, now_ns)
                self._accept_subscriptions()
                due_ns = self._expire_parts(now_ns, beat_at_ns)
                asked = self._has_subscriptions()
            if self._poll.poll(0 if asked else max(0, due_ns - now_ns) // NS_PER_MS + 1):
                with contextlib.suppress(BlockingIOError):  # it was the socket
                    os.eventfd_read(self._event)
        with self._lock:
            self.publish_ready()
            self._expire_parts(1 << 62, 0)  # all of them: nobody will know more
            self.send_heartbeat()

    def publish_ready(self) -> int:
        """Send every closed verdict up to the first open frame; returns how many."""
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
        traces = self._timings
        row = seq % traces.slots
        topic = traces.topics[row]
        if not topic:  # left by the daemon before this one
            verdict = decode_verdict(body)
            topic = verdict_topic(verdict.line, verdict.camera, verdict.decision)
            self._send_multipart([topic, body])
            self._add_to_part(body, None)
            return
        mask = traces.masks.pop(seq, None)
        self._send_multipart([topic, body] if mask is None else [topic, body, mask])
        traces.sent_ns[row] = now_ns = self._clock.now_ns()
        self._add_to_part(body, traces.captured_ns[row])
        latency_us = (now_ns - traces.captured_ns[row]) // NS_PER_US
        engine_us = traces.engine_ns[row] // NS_PER_US
        if engine_us:
            self.latency.record(latency_us)
            self.engine.record(engine_us)
            self.overhead.record(latency_us - engine_us)
        past_us = (now_ns - traces.deadline_ns[row]) // NS_PER_US
        if past_us > 0:
            self.past_deadline.record(past_us)

    def _add_to_part(self, body: bytes, captured_ns: int | None) -> None:
        """One verdict on a part more. A dead daemon's has no instant on this clock."""
        if self._part_aggregator is not None:
            now_ns = self._clock.now_ns()
            at_ns = now_ns if captured_ns is None else captured_ns
            self._send_part_verdicts(
                self._part_aggregator.add(decode_verdict(body), at_ns, now_ns, self._spool.epoch)
            )

    def _expire_parts(self, now_ns: int, until_ns: int) -> int:
        """Decide the parts that are due; returns when to look again, at `until_ns` at last."""
        if self._part_aggregator is None:
            return until_ns
        self._send_part_verdicts(self._part_aggregator.expire(now_ns, self._spool.epoch))
        due_ns = self._part_aggregator.due_in_ns(now_ns)
        return until_ns if due_ns is None else min(until_ns, now_ns + due_ns)

    def _send_part_verdicts(self, closed: list[PartVerdict]) -> None:
        for part in closed:
            self._send_multipart([part_topic(self._line, part.decision), encode_message(part)])

    def send_heartbeat(self) -> None:
        """Send one heartbeat."""
        self._heartbeat_count += 1
        self._send_multipart(self._make_heartbeat())

    def _make_heartbeat(self) -> list[bytes]:
        inspecting, alarm = self._health()
        heartbeat = Heartbeat(
            line=self._line,
            epoch=self._spool.epoch,
            last_seq=self._spool.published_seq,
            beat=self._heartbeat_count,
            utc_ns=self._clock.utc_ns(),
            period_ms=self._heartbeat_ns / NS_PER_MS,
            inspecting=inspecting and not self._stop,
            alarm=alarm,
            clock_stepped=self._is_clock_stepped(),
            spool=self._spool_path,
        )
        return [self._heartbeat_topic, encode_message(heartbeat)]

    def _send_multipart(self, parts: list[bytes]) -> None:
        self._socket.send_multipart(parts)
        sent_bytes, messages = self._sent_totals
        self._sent_totals = sent_bytes + sum(map(len, parts)), messages + 1
        self._last_messages.pop(parts[0], None)  # so that the newest stands last
        self._last_messages[parts[0]] = parts

    def _accept_subscriptions(self) -> None:
        """Take a few subscriptions, and give each newcomer the last value of what it wants.

        The first message after a subscription, or after the end of one, goes to that peer
        alone (libzmq's XPUB_MANUAL_LAST_VALUE). So one is sent at once, whether it matches
        or not: or else the next verdict would be the one that all others miss.
        """
        for _ in range(_SUBSCRIPTIONS_PER_LOOP):
            try:
                frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            request = frame.bytes
            kind, topic = request[:1], request[1:]
            answer = None
            useful = self._subscription_limiter.may_match(topic)
            admitted = self._subscription_limiter.allow(frame, can_match=useful)
            if kind not in (b"\x00", b"\x01"):  # no subscriber sends that
                self._subscription_limiter.disconnect_sender(frame)
                continue
            if not admitted or not useful:
                pass
            elif kind == b"\x00":
                self._socket.setsockopt(zmq.UNSUBSCRIBE, topic)
            else:
                self._socket.setsockopt(zmq.SUBSCRIBE, topic)
                if not self._heartbeat_topic.startswith(topic):  # an old one would mislead
                    fits = [
                        parts
                        for name, parts in self._last_messages.items()
                        if name.startswith(topic)
                    ]
                    answer = fits[-1] if fits else None
            self._socket.send_multipart(answer or self._make_heartbeat())

    def stop(self) -> None:
        """End the thread. Thread-safe."""
        self._stop = True
        self.wake()

    def close(self) -> None:
        """Close the socket after the thread has ended; what is queued gets half a second."""
        if self._admission is not None:
            self._admission.close()
        self._socket.close()
        self._bound.release()
        os.close(self._event)
