"""Listening to a line: the subscriber's end of the wire.

`Listener` hears what is said now. `Feed` gets every verdict once and in order, whatever
the network or either process does, and says so where a verdict is gone for good.

    with Feed("tcp://pc:5590", "tcp://pc:5591", name="gateway-1", cursor=stored) as feed:
        for event in feed:
            if isinstance(event, Delivered):
                apply(event.verdict)
                feed.ack(event.verdict.seq)
"""

from __future__ import annotations

from edgeinspect.client.feed import Beat, Delivered, Event, Feed, Lost, Renumbered
from edgeinspect.client.listener import Listener
from edgeinspect.client.orders import order
from edgeinspect.client.sockets import DEFAULT_ADDRESS, DEFAULT_REPLAY, Prepare, Received

__all__ = [
    "DEFAULT_ADDRESS",
    "DEFAULT_REPLAY",
    "Beat",
    "Delivered",
    "Event",
    "Feed",
    "Listener",
    "Lost",
    "Prepare",
    "Received",
    "Renumbered",
    "order",
]
