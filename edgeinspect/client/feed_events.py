"""The events of a `VerdictFeed`."""

from __future__ import annotations

from dataclasses import dataclass

from edgeinspect.domain import Verdict
from edgeinspect.wire import Heartbeat, Mask, Status


@dataclass(frozen=True, slots=True)
class VerdictReceived:
    """The next verdict in order."""

    verdict: Verdict
    body: bytes
    replayed: bool
    """True if it was replayed: its act-by time may have passed."""
    mask: Mask | None = None
    """Its class map, if the line publishes masks; a replayed verdict has none."""


@dataclass(frozen=True, slots=True)
class VerdictsLost:
    """Verdicts that are no longer held anywhere: treat each as a reject."""

    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class StatusReceived:
    """A heartbeat or status of the line."""

    message: Heartbeat | Status


@dataclass(frozen=True, slots=True)
class SequenceReset:
    """The line lost its spool and counts from a lower seq: frames open at that time are lost."""

    epoch: int
    last_seq: int


FeedEvent = VerdictReceived | VerdictsLost | StatusReceived | SequenceReset
