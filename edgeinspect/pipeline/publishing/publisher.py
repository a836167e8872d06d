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

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_US, Clock
from edgeinspect.domain.latency import Histogram
from edgeinspect.domain.part_verdict import PartVerdict
from edgeinspect.pipeline.publishing.part_verdicts import PartBook
from edgeinspect.pipeline.publishing.subscription_limits import (
    CURVE_BYTES_MAX,
    TOPIC_BYTES_MAX,
    Subscribers,
)
from edgeinspect.pipeline.verdicts.closer import Traces
from edgeinspect.storage.spool.spool import Spool
from edgeinspect.system import log_events
from edgeinspect.wire.admission import Admission
from edgeinspect.wire.curve_authenticator import Prepare, open_to_all
from edgeinspect.wire.listening_sockets import HANDSHAKE_MS, bind
from edgeinspect.wire.messages import (
    Heartbeat,
    Status,
    decode_verdict,
    encode,
    heartbeat_topic,
    part_topic,
    status_topic,
    verdict_topic,
)
from edgeinspect.wire.slow_clients import Untaken, Watched
from edgeinspect.wire.unfinished_messages import Unended

Socket = zmq.Socket[bytes]
_log = structlog.get_logger()
_UNREAD_MAX = 1_500
"""Bytes that a subscriber may be ahead of us: all it says in a burst. More is a flood."""
_RECEIVE_BYTES = 4_096
"""What the kernel holds of a subscriber: ZeroMQ takes it in one bite."""
_WELCOMES = 4
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
        traces: Traces,
        clock: Clock,
        health: Callable[[], tuple[bool, str]],
        parts: PartBook | None = None,
        cameras: Sequence[str] = (),
        stepped: Callable[[], bool] = lambda: False,
        prepare: Prepare = open_to_all,
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
        self.latency = Histogram()
        """Captured to published, of frames judged by an engine, µs."""
        self.overhead, self.engine = Histogram(), Histogram()
        """The same less the time inside the engines, and that time, µs."""
        self.past_deadline = Histogram()
        """Published minus deadline, of verdicts published after it, µs."""
        self.turns = 0
        """Moves on at every turn of the thread, at each heartbeat at the least."""
        self.unsent = 0
        """Verdicts that were overwritten in the spool before they could be sent."""
        self._spool = spool
        self._traces = traces
        self._clock = clock
        self._health = health
        self._line = line
        self._parts = parts
        self._stepped = stepped
        self._heartbeat_ns = heartbeat_ns
        self._heartbeat_topic = heartbeat_topic(line)
        self._status_topic = status_topic(line)
        self._posts: deque[Status] = deque()
        self._beat = 0
        self._spool_path = str(spool.path.absolute())
        self._stop = False
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._last: dict[bytes, list[bytes]] = {}
        self._socket = context.socket(zmq.XPUB)
        self._socket.linger = 500
        self._socket.sndhwm = high_water_mark
        self._socket.setsockopt(zmq.XPUB_MANUAL_LAST_VALUE, 1)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self._subscribers = Subscribers(line, cameras, clock)
        self._sent = (0, 0)
        self._admission: Admission | None = None
        watched = Watched(
            Untaken(clock, lambda: self._sent, high_water_mark),
            Unended(clock, self._subscribers.heard_at_ns),
            self._subscribers.forget,
        )
        try:
            prepare(context, self._socket, watched)
            curve = self._socket.mechanism == zmq.CURVE
            self._socket.maxmsgsize = CURVE_BYTES_MAX if curve else TOPIC_BYTES_MAX
            # One at a time: what waits here is built into ZeroMQ's tree whenever we send. Under
            # CURVE one is not enough for its handshake.
            self._socket.rcvhwm = 4 if curve else 1
            if not curve:
                self._admission = Admission(
                    context,
                    self._socket,
                    has_asked=self._subscribers.knows,
                    clock=clock,
                    watched=watched,
                    unread_max=_UNREAD_MAX,
                )
                self._subscribers.let_go = self._admission.let_go
            held = 0 if curve else _RECEIVE_BYTES
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

    def post(self, status: Status) -> None:
        """Send a status when there is a moment. Thread-safe."""
        self._posts.append(status)
        self.wake()

    def try_send(self) -> None:
        """Send what is closed, in the caller's thread if nobody sends now. Thread-safe."""
        if self._parts is not None or not self._lock.acquire(blocking=False):
            self.wake()
            return
        try:
            self.release()
        finally:
            self._lock.release()

    def _asked(self) -> bool:
        """True if subscriptions wait: what the socket took in while it sent does not show on
        its descriptor again (zmq_getsockopt, ZMQ_FD). So each turn of the thread asks.
        """
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def run(self) -> None:
        """The publisher's thread, until `stop`; what is closed by then is sent."""
        beat_at_ns = self._clock.now_ns()
        while not self._stop:
            self.turns += 1
            with self._lock:
                self.release()
                while self._posts:
                    self._say([self._status_topic, encode(self._posts.popleft())])
                now_ns = self._clock.now_ns()
                if now_ns >= beat_at_ns:
                    self.beat()
                    beat_at_ns = max(beat_at_ns + self._heartbeat_ns, now_ns)
                self._welcome()
                due_ns = self._expire_parts(now_ns, beat_at_ns)
                asked = self._asked()
            if self._poll.poll(0 if asked else max(0, due_ns - now_ns) // NS_PER_MS + 1):
                with contextlib.suppress(BlockingIOError):  # it was the socket
                    os.eventfd_read(self._event)
        with self._lock:
            self.release()
            self._expire_parts(1 << 62, 0)  # all of them: nobody will know more
            self.beat()

    def release(self) -> int:
        """Send every closed verdict up to the first open frame; returns how many."""
        spool = self._spool
        sent = 0
        seq = spool.published_seq + 1
        while seq <= spool.last_seq:
            body = spool.read(seq)
            if body is None:
                if seq >= spool.oldest_seq:
                    break
                self.unsent += 1
            else:
                self._send(seq, body)
                sent += 1
            spool.mark_published(seq)
            seq += 1
        return sent

    def _send(self, seq: int, body: bytes) -> None:
        traces = self._traces
        row = seq % traces.slots
        topic = traces.topics[row]
        if not topic:  # left by the daemon before this one
            verdict = decode_verdict(body)
            topic = verdict_topic(verdict.line, verdict.camera, verdict.decision)
            self._say([topic, body])
            self._take_in(body, None)
            return
        mask = traces.masks.pop(seq, None)
        self._say([topic, body] if mask is None else [topic, body, mask])
        traces.sent_ns[row] = now_ns = self._clock.now_ns()
        self._take_in(body, traces.captured_ns[row])
        latency_us = (now_ns - traces.captured_ns[row]) // NS_PER_US
        engine_us = traces.engine_ns[row] // NS_PER_US
        if engine_us:
            self.latency.record(latency_us)
            self.engine.record(engine_us)
            self.overhead.record(latency_us - engine_us)
        past_us = (now_ns - traces.deadline_ns[row]) // NS_PER_US
        if past_us > 0:
            self.past_deadline.record(past_us)

    def _take_in(self, body: bytes, captured_ns: int | None) -> None:
        """One verdict on a part more. A dead daemon's has no instant on this clock."""
        if self._parts is not None:
            now_ns = self._clock.now_ns()
            at_ns = now_ns if captured_ns is None else captured_ns
            self._say_parts(
                self._parts.take(decode_verdict(body), at_ns, now_ns, self._spool.epoch)
            )

    def _expire_parts(self, now_ns: int, until_ns: int) -> int:
        """Decide the parts that are due; returns when to look again, at `until_ns` at last."""
        if self._parts is None:
            return until_ns
        self._say_parts(self._parts.expire(now_ns, self._spool.epoch))
        due_ns = self._parts.due_in_ns(now_ns)
        return until_ns if due_ns is None else min(until_ns, now_ns + due_ns)

    def _say_parts(self, closed: list[PartVerdict]) -> None:
        for part in closed:
            self._say([part_topic(self._line, part.decision), encode(part)])

    def beat(self) -> None:
        """Send one heartbeat."""
        self._beat += 1
        self._say(self._heartbeat())

    def _heartbeat(self) -> list[bytes]:
        inspecting, alarm = self._health()
        heartbeat = Heartbeat(
            line=self._line,
            epoch=self._spool.epoch,
            last_seq=self._spool.published_seq,
            beat=self._beat,
            utc_ns=self._clock.utc_ns(),
            period_ms=self._heartbeat_ns / NS_PER_MS,
            inspecting=inspecting and not self._stop,
            alarm=alarm,
            clock_stepped=self._stepped(),
            spool=self._spool_path,
        )
        return [self._heartbeat_topic, encode(heartbeat)]

    def _say(self, parts: list[bytes]) -> None:
        self._socket.send_multipart(parts)
        sent_bytes, messages = self._sent
        self._sent = sent_bytes + sum(map(len, parts)), messages + 1
        self._last.pop(parts[0], None)  # so that the newest stands last
        self._last[parts[0]] = parts

    def _welcome(self) -> None:
        """Take a few subscriptions, and give each newcomer the last value of what it wants.

        The first message after a subscription, or after the end of one, goes to that peer
        alone (libzmq's XPUB_MANUAL_LAST_VALUE). So one is sent at once, whether it matches
        or not: or else the next verdict would be the one that all others miss.
        """
        for _ in range(_WELCOMES):
            try:
                frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            request = frame.bytes
            kind, topic = request[:1], request[1:]
            answer = None
            useful = self._subscribers.may_match(topic)
            admitted = self._subscribers.admit(frame, useful=useful)
            if kind not in (b"\x00", b"\x01"):  # no subscriber sends that
                self._subscribers.end(frame)
                continue
            if not admitted or not useful:
                pass
            elif kind == b"\x00":
                self._socket.setsockopt(zmq.UNSUBSCRIBE, topic)
            else:
                self._socket.setsockopt(zmq.SUBSCRIBE, topic)
                if not self._heartbeat_topic.startswith(topic):  # an old one would mislead
                    fits = [parts for name, parts in self._last.items() if name.startswith(topic)]
                    answer = fits[-1] if fits else None
            self._socket.send_multipart(answer or self._heartbeat())

    def stop(self) -> None:
        """End the thread. Thread-safe."""
        self._stop = True
        self.wake()

    def dispose(self) -> None:
        """Close the socket after the thread has ended; what is queued gets half a second."""
        if self._admission is not None:
            self._admission.close()
        self._socket.close()
        self._bound.release()
        os.close(self._event)
