"""What subscribers may ask of the PUB: so many subscriptions each, or they are disconnected.

ZeroMQ keeps every subscription in a tree that the thread which sends verdicts has to build
and tear down, a node for each byte. Without a bound, 20 MB of them took 940 MiB and silenced
the heartbeat for seconds. Source: docs/decisions/0020-wire.md
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence

import structlog
import zmq

from edgeinspect.domain.clock import NS_PER_S, Clock
from edgeinspect.domain.verdict import Decision
from edgeinspect.system import log_events
from edgeinspect.system.log import RateLimited
from edgeinspect.wire.tcp_connections import hang_up

TOPIC_BYTES_MAX = 128
"""Of a subscription, or of what a client says of itself when it connects; who sends more is
disconnected by ZeroMQ itself. Under CURVE the greetings alone are longer."""
CURVE_BYTES_MAX = 1024
SUBSCRIPTIONS_MAX = 64
"""Subscribed and unsubscribed by one client at once; `_REFILL_NS` later one more."""
USELESS_EACH_MAX = 32
"""Of them such as no message of this line matches, as a client of several lines has."""
USELESS_MAX = 512
"""The same of all clients together."""
_REFILL_NS = NS_PER_S // 2
_DECISIONS = "|".join(
    f"(?:{'(?:'.join(name)}{')?' * (len(name) - 1)})?"
    for name in (decision.value.lower() for decision in Decision)
)
_log = structlog.get_logger()


class Subscribers:
    """Counts by connection. For whoever holds the publisher's lock."""

    def __init__(self, line: str, cameras: Sequence[str], clock: Clock) -> None:
        """`cameras` are the line's, or none if any may be."""
        self.cut = 0
        """Clients that were disconnected because they asked for too much."""
        self.let_go: Callable[[int], None] = hang_up
        """Ends a connection."""
        self._ended: set[int] = set()
        self._clock = clock
        self._quiet = RateLimited(_log, clock)
        self._left: dict[int, tuple[float, int]] = {}
        self._useless: dict[int, int] = {}
        name = re.escape(line)
        camera = f"(?:{'|'.join(map(re.escape, cameras))})" if cameras else "[a-z0-9_-]{0,32}"
        self._wanted = re.compile(
            rf"(?:verdict\.{name}\.{camera}(?:\.(?:{_DECISIONS}))?"
            rf"|part\.{name}\.(?:{_DECISIONS})|heartbeat\.{name}|status\.{name})".encode()
        )
        self._names = tuple(f"verdict.{line}.{each}".encode() for each in cameras)
        self._prefixes = tuple(
            f"{kind}.{line}.".encode() for kind in ("verdict", "part", "heartbeat", "status")
        )

    def may_match(self, topic: bytes) -> bool:
        """False for a subscription that no message of this line can match."""
        if any(prefix.startswith(topic) for prefix in self._prefixes):
            return True
        if any(topic == name[: len(topic)] for name in self._names):
            return True
        return self._wanted.fullmatch(topic) is not None

    def knows(self, connection: int) -> bool:
        """Whether a client has subscribed to anything. Thread-safe."""
        return connection in self._left

    def heard_at_ns(self, connection: int) -> int:
        """When a client subscribed last; 0 for never. Thread-safe."""
        return self._left.get(connection, (0.0, 0))[1]

    def forget(self, connection: int) -> None:
        """The number is another client's now. Thread-safe."""
        self._left.pop(connection, None)
        self._useless.pop(connection, None)
        self._ended.discard(connection)

    def admit(self, frame: zmq.Frame, *, useful: bool) -> bool:
        """Count a subscription, or its end; False if its client was disconnected for it."""
        try:
            connection = int(frame.get(zmq.SRCFD))
        except zmq.ZMQError:  # its client has gone: ZeroMQ itself says so
            return True
        if connection in self._ended:
            return False
        now_ns = self._clock.now_ns()
        left, at_ns = self._left.get(connection, (float(SUBSCRIPTIONS_MAX), now_ns))
        left = min(SUBSCRIPTIONS_MAX, left + (now_ns - at_ns) / _REFILL_NS) - 1
        useless = self._useless.get(connection, 0)
        if not useful:
            useless = self._useless[connection] = useless + 1
        crowded = not useful and sum(self._useless.values()) > USELESS_MAX
        if left >= 0 and useless <= USELESS_EACH_MAX and not crowded:
            self._left[connection] = (left, now_ns)
            return True
        self._end(connection, "subscriptions")
        return False

    def end(self, frame: zmq.Frame) -> None:
        """Disconnect who sent no subscription: libzmq mixes up whose the next ones are."""
        with contextlib.suppress(zmq.ZMQError):
            self._end(int(frame.get(zmq.SRCFD)), "no subscription")

    def _end(self, connection: int, why: str) -> None:
        if connection in self._ended:
            return
        self._ended.add(connection)
        self.cut += 1
        self.let_go(connection)
        self._quiet.warning(
            log_events.CLIENT_CUT, address="publish.verdicts", problem=why, cut=self.cut
        )
