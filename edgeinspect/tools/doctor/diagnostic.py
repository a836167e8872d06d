"""One thing the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """How a finding stands."""

    OK = "good"
    """As it should be."""
    WARNING = "warn"
    """The line runs, but not as well as on this PC it could."""
    ERROR = "bad"
    """The line will not run, or will lose frames or records."""
    SKIPPED = "none"
    """Not on this PC, or not wanted by this line."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """What was looked at, what stands there, and what to do about it."""

    check: str
    """Its name, as `processor.governor`; stable, for programs."""
    state: Severity
    found: str
    """What stands there, in words."""
    remedy: str = ""
    """What to do; empty if nothing."""


def ok(check: str, found: str) -> Diagnostic:
    """As it should be."""
    return Diagnostic(check, Severity.OK, found)


def skipped(check: str, found: str) -> Diagnostic:
    """Not on this PC, or not wanted."""
    return Diagnostic(check, Severity.SKIPPED, found)


def warning(check: str, found: str, remedy: str) -> Diagnostic:
    """Could be better."""
    return Diagnostic(check, Severity.WARNING, found, remedy)


def failure(check: str, found: str, remedy: str) -> Diagnostic:
    """Must be put right."""
    return Diagnostic(check, Severity.ERROR, found, remedy)
