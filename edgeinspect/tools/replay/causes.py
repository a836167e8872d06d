"""What decided a recorded verdict: the picture, or something that no picture shows."""

from __future__ import annotations

from enum import Enum

from edgeinspect.domain import Reason, Verdict


class DecidedBy(str, Enum):
    """What decided. Only the first is judged anew; the others are given again by the flow."""

    IMAGE = "picture"
    """The engines and the thresholds, or the checks of the picture itself."""
    TIME = "time"
    """The budget: no verdict in time, or the gate alone since no time was left to segment."""
    CAMERA = "camera"
    """The camera delivered no picture."""
    ENGINE = "engine"
    """An engine failed."""
    END = "end"
    """The daemon stopped or died."""


_DECIDED_BY = {
    Reason.DEADLINE: DecidedBy.TIME,
    Reason.OVERRUN: DecidedBy.TIME,
    Reason.CAPTURE_LOST: DecidedBy.CAMERA,
    Reason.CAPTURE_ERROR: DecidedBy.CAMERA,
    Reason.ENGINE_ERROR: DecidedBy.ENGINE,
    Reason.RESTART: DecidedBy.END,
    Reason.SHUTDOWN: DecidedBy.END,
}


def decided_by(verdict: Verdict) -> DecidedBy:
    """What decided a verdict.

    A degraded one counts as decided by the picture here: that the gate decided alone is given
    again, and what it decided is judged anew.
    """
    return _DECIDED_BY.get(verdict.reason, DecidedBy.IMAGE)
