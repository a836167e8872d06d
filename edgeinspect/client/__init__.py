"""Listening to a line: the subscriber's end of the wire.

`Listener` hears what is said now. `Feed` gets every verdict once and in order, whatever
the network or either process does, and says so where a verdict is gone for good.

    line = find_line("strip")
    with Feed(line.verdicts, line.replay, name="gateway-1", line="strip", cursor=stored,
              proof=line.proof()) as feed:
        for event in feed:
            if isinstance(event, Delivered):
                apply(event.verdict)
                feed.ack(event.verdict.seq)
"""

from __future__ import annotations

from edgeinspect.client.connection import LineSource, find_line
from edgeinspect.client.feed import Feed
from edgeinspect.client.feed_events import Beat, Delivered, Event, Lost, Renumbered
from edgeinspect.client.listener import Listener
from edgeinspect.client.proof import Proof, Proofs
from edgeinspect.client.requests import order
from edgeinspect.client.sockets import Prepare, Received

__all__ = [
    "Beat",
    "Delivered",
    "Event",
    "Feed",
    "LineSource",
    "Listener",
    "Lost",
    "Prepare",
    "Proof",
    "Proofs",
    "Received",
    "Renumbered",
    "find_line",
    "order",
]
