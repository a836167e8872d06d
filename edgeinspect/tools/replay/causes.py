"""What decided a recorded verdict: the picture, or something that no picture shows."""

from __future__ import annotations

from enum import Enum

from edgeinspect.domain.verdict import Reason, Verdict


class Cause(str, Enum):
    """What decided. Only the first is judged anew; the others are given again by the flow."""

    PICTURE = "picture"
    """The engines and the thresholds, or the checks of the picture itself."""
    TIME = "time"
    """The budget: no verdict in time, or the gate alone since no time was left to segment."""
    CAMERA = "camera"
    """The camera delivered no picture."""
    ENGINE = "engine"
    """An engine failed."""
    END = "end"
    """The daemon stopped or died."""


_CAUSES = {
    Reason.DEADLINE: Cause.TIME,
    Reason.OVERRUN: Cause.TIME,
    Reason.CAPTURE_LOST: Cause.CAMERA,
    Reason.CAPTURE_ERROR: Cause.CAMERA,
    Reason.ENGINE_ERROR: Cause.ENGINE,
    Reason.RESTART: Cause.END,
    Reason.SHUTDOWN: Cause.END,
}


def cause_of(verdict: Verdict) -> Cause:
    """What decided a verdict.

    A degraded one counts as decided by the picture here: that the gate decided alone is given
    again, and what it decided is judged anew.
    """
    return _CAUSES.get(verdict.reason, Cause.PICTURE)
