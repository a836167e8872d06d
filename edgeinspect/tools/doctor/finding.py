"""One thing the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    """How a finding stands."""

    GOOD = "good"
    """As it should be."""
    WARN = "warn"
    """The line runs, but not as well as on this PC it could."""
    BAD = "bad"
    """The line will not run, or will lose frames or records."""
    NONE = "none"
    """Not on this PC, or not wanted by this line."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what stands there, and what to do about it."""

    check: str
    """Its name, as `processor.governor`; stable, for programs."""
    state: State
    found: str
    """What stands there, in words."""
    remedy: str = ""
    """What to do; empty if nothing."""


def good(check: str, found: str) -> Finding:
    """As it should be."""
    return Finding(check, State.GOOD, found)


def none(check: str, found: str) -> Finding:
    """Not on this PC, or not wanted."""
    return Finding(check, State.NONE, found)


def warn(check: str, found: str, remedy: str) -> Finding:
    """Could be better."""
    return Finding(check, State.WARN, found, remedy)


def bad(check: str, found: str, remedy: str) -> Finding:
    """Must be put right."""
    return Finding(check, State.BAD, found, remedy)
