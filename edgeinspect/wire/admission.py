"""How many clients get to a bound socket: so many at once, and so many a second.

Without keys anybody who reaches a socket may connect, and each connection costs the threads
of ZeroMQ: what it subscribes to is built into a tree and taken out again when it ends. So a
client waits in its handshake until there was a look at those let in before it (`zap.py`):
a few are unknown at any time, however many come, and where a flood came from it is one at a
time. Too many in a second, and the door is shut for newcomers for a moment; who is in stays
in, and who waits outside tries again by itself. Under CURVE nobody gets in without a known key.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable

import structlog
import zmq
from zmq.utils.monitor import parse_monitor_message

from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.system import RateLimitedLogger, log_events
from edgeinspect.wire.listening_sockets import HANDSHAKE_MS, BoundEndpoint, Socket
from edgeinspect.wire.slow_clients import ClientMonitors
from edgeinspect.wire.tcp_connections import (
    disconnect,
    drop_input,
    peer_origin,
    receive_queue_bytes,
)
from edgeinspect.wire.zap import ZAP_ACCEPT, HandshakeRequest, ZapHandler

CLIENT_BURST = 40
"""Clients that may connect in a burst: all of a line's own when it starts."""
CLIENTS_PER_S = 8
"""Clients that may connect in a second after that."""
CLIENTS_MAX = 400
"""Clients of a socket; beyond them who has asked for nothing has to go."""
_IDLE_AFTER_NS = 10 * NS_PER_S
_RESUME_TOKENS = 2
_POLL_MS = 100
_POLL_BUSY_MS = 5
_BUSY_NS = 2 * NS_PER_S
"""How long after a client came there is looked more often."""
_DISCONNECT_INTERVAL_NS = 50 * NS_PER_MS
_ADMITTED_PER_POLL = 2
"""Clients let in between two looks at who sends too much."""
FLOOD_ADMIT_INTERVAL_NS = 100 * NS_PER_MS
"""Time between two clients from where a flood came, of them all."""
_FLOOD_MEMORY_NS = 10 * NS_PER_S
"""How long a flood is held against where it came from."""
_HANDSHAKE_NS = HANDSHAKE_MS * NS_PER_MS
_ORIGINS_MAX = 256
_MONITORED_EVENTS = zmq.EVENT_ACCEPTED.value | zmq.EVENT_DISCONNECTED.value
_log = structlog.get_logger()


class AdmissionControl:
    """Follows who comes and goes at one socket, in a thread of its own.

    Made before the socket is bound, and `start`ed after it; until then nobody gets in.
    `close` is the owner's.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        socket: Socket,
        *,
        has_requested: Callable[[int], bool],
        clock: Clock,
        client_monitors: ClientMonitors,
        unread_max: int = 0,
    ) -> None:
        """Begin to watch, before anybody can have connected.

        Args:
            context: The socket's; nothing else is bound in it.
            socket: Not bound yet, without CURVE.
            has_asked: Whether the client of a descriptor has asked for anything. Called from
                the thread.
            clock: For the rates.
            watched: Sees who does not read, or sends without an end.
            unread_max: Bytes that a client may have sent ahead of what was read; who has more
                is let go. 0 for as many as it likes.
        """
        self.disconnected_count = 0
        """Clients that were let go for what they sent."""
        self.pause_count = 0
        """How often the door was shut."""
        self._bound = BoundEndpoint("")
        self._socket = socket
        self._has_requested = has_requested
        self._unread_max = unread_max
        self._client_monitors = client_monitors
        self._draining: deque[int] = deque()
        self._disconnected_at_ns = 0
        self._busy_until_ns = 0
        self._clock = clock
        self._throttled_log = RateLimitedLogger(_log, clock)
        self._tokens = float(CLIENT_BURST)
        self._counted_at_ns = clock.now_ns()
        self._clients: dict[int, int] = {}
        self._waiting: OrderedDict[str, deque[HandshakeRequest]] = OrderedDict()
        """By where they come from, whose turn it is first."""
        self._floods: dict[str, int] = {}
        """When a flood came from where."""
        self._admitted_at_ns = 0
        self._is_paused = False
        self._stop = False
        self._zap = ZapHandler(context, socket)
        self._monitor = context.socket(zmq.PAIR)
        # Without a limit: a full one would block libzmq's own thread, and with it verdicts.
        self._monitor.rcvhwm = 0
        address = f"inproc://admission-{id(self)}"
        socket.monitor(address, _MONITORED_EVENTS)
        self._monitor.connect(address)
        self._poller = zmq.Poller()
        self._poller.register(self._monitor, zmq.POLLIN)
        self._poller.register(self._zap.socket, zmq.POLLIN)
        self._thread = threading.Thread(target=self._run, name="admission", daemon=True)

    def start(self, bound: BoundEndpoint) -> None:
        """Let clients in, at the bound socket's door."""
        self._bound = bound
        self._thread.start()

    def close(self) -> None:
        """End the thread; before the socket is closed."""
        self._stop = True
        if self._thread.ident:
            self._thread.join(5)
        if not self._socket.closed:
            self._socket.disable_monitor()  # first: libzmq's thread waits for a lost listener
        self._monitor.close(0)
        self._zap.close()

    def _run(self) -> None:
        try:
            while not self._stop:
                young = self._draining or self._clock.now_ns() < self._busy_until_ns
                if young:  # a look is no sooner for one more that comes
                    self._clock.sleep_until(self._clock.now_ns() + _POLL_BUSY_MS * NS_PER_MS)
                self._poller.poll(0 if young else _POLL_MS)
                while self._monitor.poll(0):
                    self._on_monitor_event()
                if self._unread_max:
                    self._check_floods()
                self._check_clients()
                self._refill_tokens()
                self._admit()
        except zmq.ZMQError:  # its context has ended: a start that failed
            pass

    def _on_monitor_event(self) -> None:
        message = parse_monitor_message(self._monitor.recv_multipart())
        client = message["value"]
        if message["event"] == zmq.EVENT_DISCONNECTED:
            self._clients.pop(client, None)
            self._client_monitors.forget(client)
            with contextlib.suppress(ValueError):
                self._draining.remove(client)
            return
        self._client_monitors.forget(client)
        now_ns = self._clients[client] = self._clock.now_ns()
        self._busy_until_ns = now_ns + _BUSY_NS
        self._tokens -= 1
        if self._tokens < 0 or len(self._clients) > CLIENTS_MAX:
            self._pause()

    def _pause(self) -> None:
        if self._is_paused:
            return
        self._is_paused = True
        self.pause_count += 1
        self._bound.pause_accepting()
        self._throttled_log.warning(
            log_events.CLIENT_CUT,
            address=self._bound.address,
            problem="too many clients connect: the next ones wait",
            cut=self.pause_count,
        )

    def _refill_tokens(self) -> None:
        now_ns = self._clock.now_ns()
        gained = (now_ns - self._counted_at_ns) / NS_PER_S * CLIENTS_PER_S
        self._tokens = min(float(CLIENT_BURST), self._tokens + gained)
        self._counted_at_ns = now_ns
        if not self._is_paused:
            return
        if len(self._clients) >= CLIENTS_MAX:
            self._disconnect_idle(now_ns)
        elif self._tokens >= _RESUME_TOKENS:
            self._is_paused = False
            self._bound.resume_accepting()

    def disconnect_flooding(self, client: int) -> None:
        """Take nothing more from a client that floods, and end it soon. Thread-safe."""
        self._floods[peer_origin(client)] = self._clock.now_ns()
        if drop_input(client):
            self._draining.append(client)
        else:
            disconnect(client)

    def _check_floods(self) -> None:
        """Take nothing more from who sends faster than is read, and end them one by one.

        ZeroMQ walks the whole tree of subscriptions for each one that ends, in the thread that
        sends verdicts: all at once would silence the heartbeat.
        """
        for client in tuple(self._clients):
            if receive_queue_bytes(client) <= self._unread_max or client in self._draining:
                continue
            self.disconnected_count += 1
            self.disconnect_flooding(client)
            self._throttled_log.warning(
                log_events.CLIENT_CUT,
                address=self._bound.address,
                problem="a flood",
                cut=self.disconnected_count,
            )
        now_ns = self._clock.now_ns()
        if self._draining and now_ns - self._disconnected_at_ns >= _DISCONNECT_INTERVAL_NS:
            self._disconnected_at_ns = now_ns
            disconnect(self._draining.popleft())

    def _check_clients(self) -> None:
        """End who does not read, or sends without an end."""
        for client, why in self._client_monitors.check(self._clients):
            self.disconnected_count += 1
            disconnect(client)
            self._throttled_log.warning(
                log_events.CLIENT_CUT,
                address=self._bound.address,
                problem=why,
                cut=self.disconnected_count,
            )
        if self._client_monitors.unfinished_messages.has_suspect:
            self._busy_until_ns = self._clock.now_ns() + _BUSY_NS

    def _admit(self) -> None:
        """Let a few newcomers in, each origin in its turn."""
        now_ns = self._clock.now_ns()
        while (newcomer := self._zap.next_request(now_ns)) is not None:
            self._waiting.setdefault(newcomer.origin, deque()).append(newcomer)
            self._busy_until_ns = now_ns + _BUSY_NS
        self._floods = {
            origin: at_ns
            for origin, at_ns in tuple(self._floods.items())[-_ORIGINS_MAX:]
            if now_ns - at_ns < _FLOOD_MEMORY_NS
        }
        left = _ADMITTED_PER_POLL
        for origin in tuple(self._waiting):
            queue = self._waiting[origin]
            while queue and now_ns - queue[0].received_at_ns > _HANDSHAKE_NS:
                queue.popleft()  # ZeroMQ has ended it
            if not queue:
                del self._waiting[origin]
                continue
            # "": a client that was gone before it could be seen whose it was
            flooded = origin in self._floods or "" in self._floods
            if not left or (flooded and now_ns - self._admitted_at_ns < FLOOD_ADMIT_INTERVAL_NS):
                continue
            left -= 1
            if flooded:
                self._admitted_at_ns = now_ns
            self._zap.reply(queue.popleft(), ZAP_ACCEPT)
            self._waiting.move_to_end(origin)

    def _disconnect_idle(self, now_ns: int) -> None:
        """End who has asked for nothing, one at a time, the one that came first first."""
        for client, since_ns in self._clients.items():
            if now_ns - since_ns < _IDLE_AFTER_NS:
                return
            if not self._has_requested(client):
                disconnect(client)
                self._clients.pop(client)
                return
