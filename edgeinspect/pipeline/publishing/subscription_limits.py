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

from edgeinspect.domain import NS_PER_S, Clock, Decision
from edgeinspect.system import RateLimitedLogger, log_events
from edgeinspect.wire import disconnect

TOPIC_BYTES_MAX = 128
"""Of a subscription, or of what a client says of itself when it connects; who sends more is
disconnected by ZeroMQ itself. Under CURVE the greetings alone are longer."""
CURVE_BYTES_MAX = 1024
SUBSCRIPTIONS_MAX = 64
"""Subscribed and unsubscribed by one client at once; `_REFILL_NS` later one more."""
UNMATCHED_PER_CLIENT_MAX = 32
"""Of them such as no message of this line matches, as a client of several lines has."""
UNMATCHED_TOTAL_MAX = 512
"""The same of all clients together."""
_REFILL_NS = NS_PER_S // 2
_DECISIONS = "|".join(
    f"(?:{'(?:'.join(name)}{')?' * (len(name) - 1)})?"
    for name in (decision.value.lower() for decision in Decision)
)
_log = structlog.get_logger()


class SubscriptionLimiter:
    """Counts by connection. For whoever holds the publisher's lock."""

    def __init__(self, line: str, cameras: Sequence[str], clock: Clock) -> None:
        """`cameras` are the line's, or none if any may be."""
        self.disconnected_count = 0
        """Clients that were disconnected because they asked for too much."""
        self.disconnect: Callable[[int], None] = disconnect
        """Ends a connection."""
        self._disconnected: set[int] = set()
        self._clock = clock
        self._throttled_log = RateLimitedLogger(_log, clock)
        self._allowances: dict[int, tuple[float, int]] = {}
        self._unmatched_counts: dict[int, int] = {}
        name = re.escape(line)
        camera = f"(?:{'|'.join(map(re.escape, cameras))})" if cameras else "[a-z0-9_-]{0,32}"
        self._matchable = re.compile(
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
        return self._matchable.fullmatch(topic) is not None

    def has_subscribed(self, connection: int) -> bool:
        """Whether a client has subscribed to anything. Thread-safe."""
        return connection in self._allowances

    def last_subscribed_ns(self, connection: int) -> int:
        """When a client subscribed last; 0 for never. Thread-safe."""
        return self._allowances.get(connection, (0.0, 0))[1]

    def remove(self, connection: int) -> None:
        """The number is another client's now. Thread-safe."""
        self._allowances.pop(connection, None)
        self._unmatched_counts.pop(connection, None)
        self._disconnected.discard(connection)

    def allow(self, frame: zmq.Frame, *, can_match: bool) -> bool:
        """Count a subscription, or its end; False if its client was disconnected for it."""
        try:
            connection = int(frame.get(zmq.SRCFD))
        except zmq.ZMQError:  # its client has gone: ZeroMQ itself says so
            return True
        if connection in self._disconnected:
            return False
        now_ns = self._clock.now_ns()
        left, at_ns = self._allowances.get(connection, (float(SUBSCRIPTIONS_MAX), now_ns))
        left = min(SUBSCRIPTIONS_MAX, left + (now_ns - at_ns) / _REFILL_NS) - 1
        useless = self._unmatched_counts.get(connection, 0)
        if not can_match:
            useless = self._unmatched_counts[connection] = useless + 1
        crowded = not can_match and sum(self._unmatched_counts.values()) > UNMATCHED_TOTAL_MAX
        if left >= 0 and useless <= UNMATCHED_PER_CLIENT_MAX and not crowded:
            self._allowances[connection] = (left, now_ns)
            return True
        self._disconnect(connection, "subscriptions")
        return False

    def disconnect_sender(self, frame: zmq.Frame) -> None:
        """Disconnect who sent no subscription: libzmq mixes up whose the next ones are."""
        with contextlib.suppress(zmq.ZMQError):
            self._disconnect(int(frame.get(zmq.SRCFD)), "no subscription")

    def _disconnect(self, connection: int, problem: str) -> None:
        if connection in self._disconnected:
            return
        self._disconnected.add(connection)
        self.disconnected_count += 1
        self.disconnect(connection)
        self._throttled_log.warning(
            log_events.CLIENT_CUT,
            address="publish.verdicts",
            problem=problem,
            cut=self.disconnected_count,
        )
