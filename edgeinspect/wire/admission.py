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

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.system import log_events
from edgeinspect.system.log import RateLimited
from edgeinspect.wire.listening_sockets import HANDSHAKE_MS, Bound, Socket
from edgeinspect.wire.slow_clients import Watched
from edgeinspect.wire.tcp_connections import hang_up, origin_of, silence, unread_bytes
from edgeinspect.wire.zap import LET_IN, Newcomer, Zap

AT_ONCE = 40
"""Clients that may connect in a burst: all of a line's own when it starts."""
PER_S = 8
"""Clients that may connect in a second after that."""
CLIENTS_MAX = 400
"""Clients of a socket; beyond them who has asked for nothing has to go."""
_IDLE_NS = 10 * NS_PER_S
_REOPEN = 2
_LOOK_MS = 100
_LOOK_YOUNG_MS = 5
_YOUNG_NS = 2 * NS_PER_S
"""How long after a client came there is looked more often."""
_END_NS = 50 * NS_PER_MS
_IN_PER_LOOK = 2
"""Clients let in between two looks at who sends too much."""
FLOOD_PAUSE_NS = 100 * NS_PER_MS
"""Time between two clients from where a flood came, of them all."""
_FLOOD_NS = 10 * NS_PER_S
"""How long a flood is held against where it came from."""
_HANDSHAKE_NS = HANDSHAKE_MS * NS_PER_MS
_ORIGINS_MAX = 256
_WATCHED = zmq.EVENT_ACCEPTED.value | zmq.EVENT_DISCONNECTED.value
_log = structlog.get_logger()


class Admission:
    """Follows who comes and goes at one socket, in a thread of its own.

    Made before the socket is bound, and `start`ed after it; until then nobody gets in.
    `close` is the owner's.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        socket: Socket,
        *,
        has_asked: Callable[[int], bool],
        clock: Clock,
        watched: Watched,
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
        self.cut = 0
        """Clients that were let go for what they sent."""
        self.refused = 0
        """How often the door was shut."""
        self._bound = Bound("")
        self._socket = socket
        self._has_asked = has_asked
        self._unread_max = unread_max
        self._watched = watched
        self._silenced: deque[int] = deque()
        self._ended_at_ns = 0
        self._young_until_ns = 0
        self._clock = clock
        self._quiet = RateLimited(_log, clock)
        self._tokens = float(AT_ONCE)
        self._counted_at_ns = clock.now_ns()
        self._clients: dict[int, int] = {}
        self._waiting: OrderedDict[str, deque[Newcomer]] = OrderedDict()
        """By where they come from, whose turn it is first."""
        self._floods: dict[str, int] = {}
        """When a flood came from where."""
        self._let_in_at_ns = 0
        self._is_shut = False
        self._stop = False
        self._zap = Zap(context, socket)
        self._monitor = context.socket(zmq.PAIR)
        # Without a limit: a full one would block libzmq's own thread, and with it verdicts.
        self._monitor.rcvhwm = 0
        address = f"inproc://admission-{id(self)}"
        socket.monitor(address, _WATCHED)
        self._monitor.connect(address)
        self._poller = zmq.Poller()
        self._poller.register(self._monitor, zmq.POLLIN)
        self._poller.register(self._zap.socket, zmq.POLLIN)
        self._thread = threading.Thread(target=self._run, name="admission", daemon=True)

    def start(self, bound: Bound) -> None:
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
                young = self._silenced or self._clock.now_ns() < self._young_until_ns
                if young:  # a look is no sooner for one more that comes
                    self._clock.sleep_until(self._clock.now_ns() + _LOOK_YOUNG_MS * NS_PER_MS)
                self._poller.poll(0 if young else _LOOK_MS)
                while self._monitor.poll(0):
                    self._hear()
                if self._unread_max:
                    self._look_for_floods()
                self._look_at_clients()
                self._refill()
                self._let_in()
        except zmq.ZMQError:  # its context has ended: a start that failed
            pass

    def _hear(self) -> None:
        message = parse_monitor_message(self._monitor.recv_multipart())
        client = message["value"]
        if message["event"] == zmq.EVENT_DISCONNECTED:
            self._clients.pop(client, None)
            self._watched.forget(client)
            with contextlib.suppress(ValueError):
                self._silenced.remove(client)
            return
        self._watched.forget(client)
        now_ns = self._clients[client] = self._clock.now_ns()
        self._young_until_ns = now_ns + _YOUNG_NS
        self._tokens -= 1
        if self._tokens < 0 or len(self._clients) > CLIENTS_MAX:
            self._shut()

    def _shut(self) -> None:
        if self._is_shut:
            return
        self._is_shut = True
        self.refused += 1
        self._bound.shut()
        self._quiet.warning(
            log_events.CLIENT_CUT,
            address=self._bound.address,
            problem="too many clients connect: the next ones wait",
            cut=self.refused,
        )

    def _refill(self) -> None:
        now_ns = self._clock.now_ns()
        gained = (now_ns - self._counted_at_ns) / NS_PER_S * PER_S
        self._tokens = min(float(AT_ONCE), self._tokens + gained)
        self._counted_at_ns = now_ns
        if not self._is_shut:
            return
        if len(self._clients) >= CLIENTS_MAX:
            self._drop_idle(now_ns)
        elif self._tokens >= _REOPEN:
            self._is_shut = False
            self._bound.open()

    def let_go(self, client: int) -> None:
        """Take nothing more from a client that floods, and end it soon. Thread-safe."""
        self._floods[origin_of(client)] = self._clock.now_ns()
        if silence(client):
            self._silenced.append(client)
        else:
            hang_up(client)

    def _look_for_floods(self) -> None:
        """Take nothing more from who sends faster than is read, and end them one by one.

        ZeroMQ walks the whole tree of subscriptions for each one that ends, in the thread that
        sends verdicts: all at once would silence the heartbeat.
        """
        for client in tuple(self._clients):
            if unread_bytes(client) <= self._unread_max or client in self._silenced:
                continue
            self.cut += 1
            self.let_go(client)
            self._quiet.warning(
                log_events.CLIENT_CUT, address=self._bound.address, problem="a flood", cut=self.cut
            )
        now_ns = self._clock.now_ns()
        if self._silenced and now_ns - self._ended_at_ns >= _END_NS:
            self._ended_at_ns = now_ns
            hang_up(self._silenced.popleft())

    def _look_at_clients(self) -> None:
        """End who does not read, or sends without an end."""
        for client, why in self._watched.look(self._clients):
            self.cut += 1
            hang_up(client)
            self._quiet.warning(
                log_events.CLIENT_CUT, address=self._bound.address, problem=why, cut=self.cut
            )
        if self._watched.unended.sees_one:
            self._young_until_ns = self._clock.now_ns() + _YOUNG_NS

    def _let_in(self) -> None:
        """Let a few newcomers in, each origin in its turn."""
        now_ns = self._clock.now_ns()
        while (newcomer := self._zap.take(now_ns)) is not None:
            self._waiting.setdefault(newcomer.origin, deque()).append(newcomer)
            self._young_until_ns = now_ns + _YOUNG_NS
        self._floods = {
            origin: at_ns
            for origin, at_ns in tuple(self._floods.items())[-_ORIGINS_MAX:]
            if now_ns - at_ns < _FLOOD_NS
        }
        left = _IN_PER_LOOK
        for origin in tuple(self._waiting):
            queue = self._waiting[origin]
            while queue and now_ns - queue[0].came_at_ns > _HANDSHAKE_NS:
                queue.popleft()  # ZeroMQ has ended it
            if not queue:
                del self._waiting[origin]
                continue
            # "": a client that was gone before it could be seen whose it was
            flooded = origin in self._floods or "" in self._floods
            if not left or (flooded and now_ns - self._let_in_at_ns < FLOOD_PAUSE_NS):
                continue
            left -= 1
            if flooded:
                self._let_in_at_ns = now_ns
            self._zap.answer(queue.popleft(), LET_IN)
            self._waiting.move_to_end(origin)

    def _drop_idle(self, now_ns: int) -> None:
        """End who has asked for nothing, one at a time, the one that came first first."""
        for client, since_ns in self._clients.items():
            if now_ns - since_ns < _IDLE_NS:
                return
            if not self._has_asked(client):
                hang_up(client)
                self._clients.pop(client)
                return
