"""Limits how many clients connect to a bound socket, at once and per second.

Without keys any host that reaches a socket may connect, and each connection costs ZeroMQ's
threads: its subscriptions are added to a tree and removed when it ends. So a client waits in its
handshake (`zap.py`) until the clients admitted before it were checked: only a few are unchecked
at any time, and from the origin of a flood only one. If too many connect in a second, accepting
is paused for a moment: connected clients stay, and others retry by themselves. With CURVE a
client needs a known key instead.
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
from edgeinspect.wire.listening_sockets import HANDSHAKE_MS, BoundEndpoint
from edgeinspect.wire.slow_clients import ClientMonitors
from edgeinspect.wire.tcp_connections import (
    disconnect,
    drop_input,
    peer_origin,
    receive_queue_bytes,
)
from edgeinspect.wire.zap import ZAP_ACCEPT, HandshakeRequest, Socket, ZapHandler

CLIENT_BURST = 40
"""Clients that may connect in a burst: all that belong to a line, when it starts."""
CLIENTS_PER_S = 8
"""Clients that may connect in a second after that."""
CLIENTS_MAX = 400
"""Clients of a socket; beyond that, clients that requested nothing are disconnected."""
_IDLE_AFTER_NS = 10 * NS_PER_S
_RESUME_TOKENS = 2
_POLL_MS = 100
_POLL_BUSY_MS = 5
_BUSY_NS = 2 * NS_PER_S
"""How long after a client connected the checks are more frequent."""
_DISCONNECT_INTERVAL_NS = 50 * NS_PER_MS
_ADMITTED_PER_POLL = 2
"""Clients admitted between two checks for floods."""
FLOOD_ADMIT_INTERVAL_NS = 100 * NS_PER_MS
"""Time between two admissions from the origins of floods."""
_FLOOD_MEMORY_NS = 10 * NS_PER_S
"""How long an origin counts as that of a flood."""
_HANDSHAKE_NS = HANDSHAKE_MS * NS_PER_MS
_ORIGINS_MAX = 256
_MONITORED_EVENTS = zmq.EVENT_ACCEPTED.value | zmq.EVENT_DISCONNECTED.value
_log = structlog.get_logger()


class AdmissionControl:
    """Tracks the connections of one socket, in a thread of its own.

    To be created before the socket is bound, and started after it; until then no client is
    admitted. The owner calls `close`.
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
        """Start monitoring, before any client can have connected.

        Args:
            context: The socket's; no other socket is bound in it.
            socket: Not bound yet, without CURVE.
            has_requested: Returns whether the client of a descriptor has requested anything.
                Called from the thread.
            clock: For the rates.
            client_monitors: Find clients that do not read, or send endless messages.
            unread_max: Bytes that a client may have sent and that are unread; beyond that it is
                disconnected. 0 for no limit.
        """
        self.disconnected_count = 0
        """Number of clients disconnected for what they sent."""
        self.pause_count = 0
        """How often accepting was paused."""
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
        self._origins: dict[int, str] = {}
        """Origin of the last client of each descriptor, known after it has disconnected too."""
        self._waiting: OrderedDict[str, deque[HandshakeRequest]] = OrderedDict()
        """Handshakes by origin, the next origin first."""
        self._floods: dict[str, int] = {}
        """When a flood came from which origin."""
        self._admitted_at_ns = 0
        self._is_paused = False
        self._stop = False
        self._zap = ZapHandler(context, socket)
        self._monitor = context.socket(zmq.PAIR)
        # Unlimited: a full queue would block libzmq's own thread, and with it verdicts.
        self._monitor.rcvhwm = 0
        address = f"inproc://admission-{id(self)}"
        socket.monitor(address, _MONITORED_EVENTS)
        self._monitor.connect(address)
        self._poller = zmq.Poller()
        self._poller.register(self._monitor, zmq.POLLIN)
        self._poller.register(self._zap.socket, zmq.POLLIN)
        self._thread = threading.Thread(target=self._run, name="admission", daemon=True)

    def start(self, bound: BoundEndpoint) -> None:
        """Admit clients to the bound socket."""
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
                busy = self._draining or self._clock.now_ns() < self._busy_until_ns
                if busy:  # one more client does not make the next check earlier
                    self._clock.sleep_until(self._clock.now_ns() + _POLL_BUSY_MS * NS_PER_MS)
                self._poller.poll(0 if busy else _POLL_MS)
                while self._monitor.poll(0):
                    self._on_monitor_event()
                if self._unread_max:
                    self._check_floods()
                self._check_clients()
                self._refill_tokens()
                self._admit()
        except zmq.ZMQError:  # its context was terminated: a failed start
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
        self._origins[client] = peer_origin(client)
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
            problem="too many clients connect: further ones wait",
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
        """Stop reading from a client that floods, and disconnect it soon. Thread-safe."""
        # A client that has flooded and gone is blamed by its own origin, not by an unknown one,
        # which would slow down new clients from everywhere.
        origin = peer_origin(client) or self._origins.get(client, "")
        self._floods[origin] = self._clock.now_ns()
        if drop_input(client):
            self._draining.append(client)
        else:
            disconnect(client)

    def _check_floods(self) -> None:
        """Stop reading from clients that send faster than is read; disconnect them one by one.

        For each disconnected client ZeroMQ walks the whole tree of subscriptions, in the thread
        that sends verdicts: all at once would stop the heartbeat.
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
        """Disconnect clients that do not read, or send endless messages."""
        for client, reason in self._client_monitors.check(self._clients):
            self.disconnected_count += 1
            disconnect(client)
            self._throttled_log.warning(
                log_events.CLIENT_CUT,
                address=self._bound.address,
                problem=reason,
                cut=self.disconnected_count,
            )
        if self._client_monitors.unfinished_messages.has_suspect:
            self._busy_until_ns = self._clock.now_ns() + _BUSY_NS

    def _admit(self) -> None:
        """Admit a few clients, the origins in turn."""
        now_ns = self._clock.now_ns()
        while (handshake := self._zap.next_request(now_ns)) is not None:
            self._waiting.setdefault(handshake.origin, deque()).append(handshake)
            self._busy_until_ns = now_ns + _BUSY_NS
        self._floods = {
            origin: at_ns
            for origin, at_ns in tuple(self._floods.items())[-_ORIGINS_MAX:]
            if now_ns - at_ns < _FLOOD_MEMORY_NS
        }
        remaining = _ADMITTED_PER_POLL
        for origin in tuple(self._waiting):
            handshakes = self._waiting[origin]
            while handshakes and now_ns - handshakes[0].received_at_ns > _HANDSHAKE_NS:
                handshakes.popleft()  # ZeroMQ has disconnected it
            if not handshakes:
                del self._waiting[origin]
                continue
            # "": a client that was gone before its origin was known
            flooded = origin in self._floods or "" in self._floods
            if not remaining or (
                flooded and now_ns - self._admitted_at_ns < FLOOD_ADMIT_INTERVAL_NS
            ):
                continue
            remaining -= 1
            if flooded:
                self._admitted_at_ns = now_ns
            self._zap.reply(handshakes.popleft(), ZAP_ACCEPT)
            self._waiting.move_to_end(origin)

    def _disconnect_idle(self, now_ns: int) -> None:
        """Disconnect a client that has requested nothing, the oldest first."""
        for client, since_ns in self._clients.items():
            if now_ns - since_ns < _IDLE_AFTER_NS:
                return
            if not self._has_requested(client):
                disconnect(client)
                self._clients.pop(client)
                return
