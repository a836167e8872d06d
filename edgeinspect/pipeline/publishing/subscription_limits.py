"""Limits on subscriptions: a client with too many of them is disconnected.

ZeroMQ keeps every subscription in a tree, with a node per byte, which the thread that sends
verdicts has to build and tear down. Without a limit, 20 MB of subscriptions took 940 MiB and
stopped the heartbeat for seconds. Source: docs/explanation/decisions/0020-wire.md
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
"""Of a subscription, or of a message in the handshake; ZeroMQ disconnects a client that sends
more. Under CURVE the handshake's messages are longer."""
CURVE_BYTES_MAX = 1024
SUBSCRIPTIONS_MAX = 64
"""Subscriptions and their ends from one client at once; one more every `_REFILL_NS`."""
UNMATCHED_PER_CLIENT_MAX = 32
"""Subscriptions that no message of this line matches, as a client of several lines sends."""
UNMATCHED_TOTAL_MAX = 512
"""The same of all clients together."""
_REFILL_NS = NS_PER_S // 2
_DECISIONS = "|".join(
    f"(?:{'(?:'.join(name)}{')?' * (len(name) - 1)})?"
    for name in (decision.value.lower() for decision in Decision)
)
_log = structlog.get_logger()


class SubscriptionLimiter:
    """Counts subscriptions per connection. Used while holding the publisher's lock.

    Args:
        line: Its name is part of every topic.
        cameras: Of the line; empty if any camera may be.
        clock: Refills the allowance of each client.
    """

    def __init__(self, line: str, cameras: Sequence[str], clock: Clock) -> None:
        self.disconnected_count = 0
        """Clients that were disconnected for too many subscriptions."""
        self.disconnect: Callable[[int], None] = disconnect
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
        self._camera_topics = tuple(f"verdict.{line}.{each}".encode() for each in cameras)
        self._prefixes = tuple(
            f"{kind}.{line}.".encode() for kind in ("verdict", "part", "heartbeat", "status")
        )

    def may_match(self, topic: bytes) -> bool:
        """Return whether a message of this line can match a subscription."""
        if any(prefix.startswith(topic) for prefix in self._prefixes):
            return True
        if any(name.startswith(topic) for name in self._camera_topics):
            return True
        return self._matchable.fullmatch(topic) is not None

    def has_subscribed(self, connection: int) -> bool:
        """Return whether a client has subscribed to anything. Thread-safe."""
        return connection in self._allowances

    def last_subscribed_ns(self, connection: int) -> int:
        """Return when a client subscribed last, monotonic; 0 for never. Thread-safe."""
        return self._allowances.get(connection, (0.0, 0))[1]

    def remove(self, connection: int) -> None:
        """Remove a client that has disconnected. Thread-safe."""
        self._allowances.pop(connection, None)
        self._unmatched_counts.pop(connection, None)
        self._disconnected.discard(connection)

    def allow(self, frame: zmq.Frame, *, can_match: bool) -> bool:
        """Count a subscription or its end; return False if its client was disconnected for it."""
        try:
            connection = int(frame.get(zmq.SRCFD))
        except zmq.ZMQError:  # the client has disconnected
            return True
        if connection in self._disconnected:
            return False
        now_ns = self._clock.now_ns()
        left, at_ns = self._allowances.get(connection, (float(SUBSCRIPTIONS_MAX), now_ns))
        left = min(SUBSCRIPTIONS_MAX, left + (now_ns - at_ns) / _REFILL_NS) - 1
        unmatched = self._unmatched_counts.get(connection, 0)
        if not can_match:
            unmatched = self._unmatched_counts[connection] = unmatched + 1
        is_crowded = not can_match and sum(self._unmatched_counts.values()) > UNMATCHED_TOTAL_MAX
        if left >= 0 and unmatched <= UNMATCHED_PER_CLIENT_MAX and not is_crowded:
            self._allowances[connection] = (left, now_ns)
            return True
        self._disconnect(connection, "subscriptions")
        return False

    def disconnect_sender(self, frame: zmq.Frame) -> None:
        """Disconnect a client that sent no subscription: libzmq assigns its next ones wrongly."""
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
