"""How many clients get to a bound socket: so many at once, and so many a second.

Without keys anybody who reaches a socket may connect, and each connection costs the threads
of ZeroMQ: what it subscribes to is built into a tree and taken out again when it ends. Too
many in a second, and the door is shut for newcomers for a moment; who is in stays in, and who
waits outside tries again by itself. Under CURVE nobody gets in without a known key.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable

import structlog
import zmq
from zmq.utils.monitor import parse_monitor_message

from edgeinspect import events
from edgeinspect.connections import hang_up, silence, unread_bytes, untaken_bytes
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.listening import Bound, Socket
from edgeinspect.log import RateLimited

AT_ONCE = 40
"""Clients that may connect in a burst: all of a line's own when it starts."""
PER_S = 8
"""Clients that may connect in a second after that."""
CLIENTS_MAX = 400
"""Clients of a socket; beyond them who has asked for nothing has to go."""
_IDLE_NS = 10 * NS_PER_S
UNTAKEN_NS = 15 * NS_PER_S
"""Who takes nothing of what waits for it for so long is let go: what is queued for it is
memory. It comes again, and asks for what it missed."""
LOOK_UNTAKEN_NS = NS_PER_S
_DEAF_PER_LOOK = 8
_REOPEN = 2
_LOOK_MS = 100
_LOOK_YOUNG_MS = 5
_YOUNG_NS = 2 * NS_PER_S
"""How long after a client came there is looked more often."""
_END_NS = 50 * NS_PER_MS
_WATCHED = zmq.EVENT_ACCEPTED.value | zmq.EVENT_DISCONNECTED.value
_log = structlog.get_logger()


class Admission:
    """Follows who comes and goes at one socket, in a thread of its own. `close` is the owner's."""

    def __init__(
        self,
        context: zmq.Context[Socket],
        socket: Socket,
        bound: Bound,
        *,
        has_asked: Callable[[int], bool],
        forget: Callable[[int], None],
        clock: Clock,
        unread_max: int = 0,
    ) -> None:
        """Begin to watch, before anybody can have connected.

        Args:
            context: The socket's.
            socket: Bound, without CURVE.
            bound: Its door.
            has_asked: Whether the client of a descriptor has asked for anything. Called from
                the thread.
            forget: Told of a descriptor that is another client's now, or nobody's; likewise.
            clock: For the rates.
            unread_max: Bytes that a client may have sent ahead of what was read; who has more
                is let go. 0 for as many as it likes.
        """
        self.cut = 0
        """Clients that were let go for what they sent."""
        self.refused = 0
        """How often the door was shut."""
        self._bound = bound
        self._socket = socket
        self._has_asked = has_asked
        self._forget = forget
        self._unread_max = unread_max
        self._silenced: deque[int] = deque()
        self._ended_at_ns = 0
        self._young_until_ns = 0
        self._clock = clock
        self._quiet = RateLimited(_log, clock)
        self._tokens = float(AT_ONCE)
        self._counted_at_ns = clock.now_ns()
        self._clients: dict[int, int] = {}
        self._untaken: dict[int, tuple[int, int]] = {}
        """Of a client: bytes that wait for it, and since when they are so many."""
        self._looked_at_ns = clock.now_ns()
        self._is_shut = False
        self._stop = False
        self._monitor = context.socket(zmq.PAIR)
        # Without a limit: a full one would block libzmq's own thread, and with it verdicts.
        self._monitor.rcvhwm = 0
        address = f"inproc://admission-{id(self)}"
        socket.monitor(address, _WATCHED)
        self._monitor.connect(address)
        self._thread = threading.Thread(target=self._run, name="admission", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; before the socket is closed."""
        self._stop = True
        self._thread.join(5)
        if not self._socket.closed:
            self._socket.disable_monitor()  # first: libzmq's thread waits for a lost listener
        self._monitor.close(0)

    def _run(self) -> None:
        try:
            while not self._stop:
                young = self._silenced or self._clock.now_ns() < self._young_until_ns
                there = self._monitor.poll(_LOOK_YOUNG_MS if young else _LOOK_MS)
                while there:
                    self._hear()
                    there = self._monitor.poll(0)
                if self._unread_max:
                    self._look_for_floods()
                self._look_for_deaf()
                self._refill()
        except zmq.ZMQError:  # its context has ended: a start that failed
            pass

    def _hear(self) -> None:
        message = parse_monitor_message(self._monitor.recv_multipart())
        client = message["value"]
        if message["event"] == zmq.EVENT_DISCONNECTED:
            self._clients.pop(client, None)
            self._untaken.pop(client, None)
            self._forget(client)
            with contextlib.suppress(ValueError):
                self._silenced.remove(client)
            return
        self._forget(client)
        self._untaken.pop(client, None)
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
            events.CLIENT_CUT,
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
        """Take nothing more from a client, and end it soon. Thread-safe."""
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
            self.let_go(client)
            self.cut += 1
            self._quiet.warning(
                events.CLIENT_CUT, address=self._bound.address, problem="a flood", cut=self.cut
            )
        now_ns = self._clock.now_ns()
        if self._silenced and now_ns - self._ended_at_ns >= _END_NS:
            self._ended_at_ns = now_ns
            hang_up(self._silenced.popleft())

    def _look_for_deaf(self) -> None:
        """End who does not read, some at a time."""
        now_ns = self._clock.now_ns()
        gone_ns = now_ns - self._looked_at_ns
        if gone_ns < LOOK_UNTAKEN_NS:
            return
        self._looked_at_ns = now_ns
        if gone_ns > 5 * NS_PER_S:  # it was we who stood still
            self._untaken.clear()
        deaf = []
        for client in self._clients:
            size = untaken_bytes(client)
            known = self._untaken.get(client)
            if known is None or known[0] != size:
                self._untaken[client] = size, now_ns
            elif size and now_ns - known[1] >= UNTAKEN_NS:
                deaf.append(client)
        for client in deaf[:_DEAF_PER_LOOK]:
            del self._untaken[client]
            hang_up(client)
            self.cut += 1
            self._quiet.warning(
                events.CLIENT_CUT, address=self._bound.address,
                problem="takes nothing", cut=self.cut,
            )  # fmt: skip

    def _drop_idle(self, now_ns: int) -> None:
        """End who has asked for nothing, one at a time, the one that came first first."""
        for client, since_ns in self._clients.items():
            if now_ns - since_ns < _IDLE_NS:
                return
            if not self._has_asked(client):
                hang_up(client)
                self._clients.pop(client)
                return
