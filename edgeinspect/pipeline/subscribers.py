"""What subscribers may ask of the PUB: so many subscriptions each, or they are disconnected.

ZeroMQ keeps every subscription in a tree that the thread which sends verdicts has to build
and tear down, a node for each byte. Without a bound, 20 MB of them took 940 MiB and silenced
the heartbeat for seconds. Source: docs/decisions/0020-wire.md
"""

from __future__ import annotations

import os
import re
import socket as sockets

import structlog
import zmq

from edgeinspect import events
from edgeinspect.domain.clock import NS_PER_S, Clock
from edgeinspect.domain.verdict import Decision
from edgeinspect.log import RateLimited

TOPIC_BYTES_MAX = 256
"""Of a subscription, or of what a client says of itself when it connects; who sends more is
disconnected by ZeroMQ itself. Under CURVE the greetings alone are longer."""
CURVE_BYTES_MAX = 1024
SUBSCRIPTIONS_MAX = 64
"""Subscribed and unsubscribed by one client at once; `_REFILL_NS` later one more."""
_REFILL_NS = NS_PER_S // 2
_DECISIONS = "|".join(
    f"(?:{'(?:'.join(name)}{')?' * (len(name) - 1)})?"
    for name in (decision.value.lower() for decision in Decision)
)
_log = structlog.get_logger()


class Subscribers:
    """Counts by connection. For whoever holds the publisher's lock."""

    def __init__(self, line: str, clock: Clock) -> None:
        self.cut = 0
        """Clients that were disconnected because they asked for too much."""
        self._clock = clock
        self._quiet = RateLimited(_log, clock)
        self._left: dict[int, tuple[float, int]] = {}
        name = re.escape(line)
        self._wanted = re.compile(
            rf"(?:verdict\.{name}\.[a-z0-9_-]{{0,32}}(?:\.(?:{_DECISIONS}))?"
            rf"|part\.{name}\.(?:{_DECISIONS})|heartbeat\.{name}|status\.{name})".encode()
        )
        self._prefixes = tuple(
            f"{kind}.{line}.".encode() for kind in ("verdict", "part", "heartbeat", "status")
        )

    def may_match(self, topic: bytes) -> bool:
        """False for a subscription that no message of this line can match."""
        if any(prefix.startswith(topic) for prefix in self._prefixes):
            return True
        return self._wanted.fullmatch(topic) is not None

    def admit(self, frame: zmq.Frame) -> bool:
        """Count a subscription, or its end; False if its client was disconnected for it."""
        try:
            connection = int(frame.get(zmq.SRCFD))
        except zmq.ZMQError:  # its client has gone: ZeroMQ itself says so
            return True
        now_ns = self._clock.now_ns()
        left, at_ns = self._left.get(connection, (float(SUBSCRIPTIONS_MAX), now_ns))
        left = min(SUBSCRIPTIONS_MAX, left + (now_ns - at_ns) / _REFILL_NS) - 1
        if left >= 0:
            self._left[connection] = (left, now_ns)
            return True
        self._left.pop(connection, None)  # the next client with this number begins anew
        hang_up(connection)
        self.cut += 1
        self._quiet.warning(
            events.CLIENT_CUT, address="publish.verdicts", problem="subscriptions", cut=self.cut
        )
        return False


def hang_up(connection: int) -> None:
    """End a connection by its descriptor; ZeroMQ notices as if the peer had."""
    try:
        with sockets.socket(fileno=os.dup(connection)) as copy:
            if copy.family in (sockets.AF_UNIX, sockets.AF_INET, sockets.AF_INET6):
                copy.shutdown(sockets.SHUT_RDWR)
    except OSError:  # closed since, and not a socket any more
        pass
