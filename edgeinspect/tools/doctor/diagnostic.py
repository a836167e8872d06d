"""Result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class DiagnosticSeverity(str, Enum):
    """Severity of a diagnostic."""

    OK = "good"
    """As it should be."""
    WARNING = "warn"
    """The line runs, but not as well as it could on this PC."""
    ERROR = "bad"
    """The line will not run, or will lose frames or records."""
    SKIPPED = "none"
    """Not applicable to this PC, or not required by this line."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """What was checked, what was found, and the remedy."""

    check: str
    """Name of the check, as `processor.governor`; stable, for programs."""
    state: DiagnosticSeverity
    found: str
    """What was found."""
    remedy: str = ""
    """What to do; empty if nothing is needed."""


def ok(check: str, found: str) -> Diagnostic:
    """Return a diagnostic without a problem."""
    return Diagnostic(check, DiagnosticSeverity.OK, found)


def skipped(check: str, found: str) -> Diagnostic:
    """Return a diagnostic of a check that does not apply."""
    return Diagnostic(check, DiagnosticSeverity.SKIPPED, found)


def warning(check: str, found: str, remedy: str) -> Diagnostic:
    """Return a diagnostic of something to improve."""
    return Diagnostic(check, DiagnosticSeverity.WARNING, found, remedy)


def failure(check: str, found: str, remedy: str) -> Diagnostic:
    """Return a diagnostic of an error that must be fixed."""
    return Diagnostic(check, DiagnosticSeverity.ERROR, found, remedy)
