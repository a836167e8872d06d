"""Verdicts: `ledger`."""

from __future__ import annotations

from typing import Any

import msgspec


class LedgerVerification(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.ledger_verification/1"
):
    """`ledger verify`: whether every frame has exactly one verdict."""

    holds: bool
    ledger: str
    spool: str | None
    """None if the spool was not checked."""
    epochs: list[EpochResult]
    problems: list[str]
    notes: list[str]
    skipped: int
    """Seqs that were skipped because the spool had been lost."""
    removed: int
    """Verdicts that retention removed."""


class EpochResult(msgspec.Struct, kw_only=True):
    """One run of the daemon."""

    epoch: int
    started_at: str | None
    """UTC, ISO 8601."""
    started_at_utc_ns: int | None
    ended_at: str | None
    """None while it runs, and after a `kill -9`."""
    ended_at_utc_ns: int | None
    first_seq: int
    last_seq: int
    captured: int
    passed: int
    reject: int
    no_verdict: int
    late: int
    """Results that came after the deadline."""
    gaps: int
    """Missing seqs."""
    damaged: int
    holds: bool


class LedgerRow(msgspec.Struct, kw_only=True):
    """`ledger query`: a verdict, one per line. `--whole` prints the verdict as published."""

    epoch: int
    seq: int
    captured_at: str
    """UTC, ISO 8601."""
    captured_at_utc_ns: int
    camera: str
    decision: str
    reason: str
    part_id: str | None
    encoder_count: int | None
    defect_prob: float | None
    reject_code: int
    classes: str
    """Classes of the fatal regions, separated by commas."""
    degraded: bool
    """True if the gate decided alone for lack of time."""
    simulated: bool
    """True for a challenge part."""
    total_us: int
    """From capture to verdict."""
    gate: str | None
    gate_calibration: str | None
    segmenter: str | None
    segmenter_calibration: str | None
    config_hash: str | None
    label: str | None
    """The camera's name for the image, such as a file name."""


class LedgerEvent(msgspec.Struct, kw_only=True):
    """`ledger events`: an event other than a verdict, one per line."""

    at: str
    """UTC, ISO 8601."""
    at_utc_ns: int
    epoch: int
    kind: str
    actor: str
    detail: Any
    """An object whose keys depend on the kind; a text if it is damaged."""


class LedgerExport(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.ledger_export/1"
):
    """`ledger export`: what was written."""

    verdicts: int
    file: str
    format: str
    """`csv` or `parquet`."""


class LedgerCopyResult(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.ledger_copy/1"
):
    """`ledger backup` and `ledger restore`: the file that was written."""

    path: str
    size_bytes: int
    verdicts: int
    last_seq: int
    last_at: str | None
    """Time of the last verdict; UTC, ISO 8601. None without verdicts."""
    last_utc_ns: int | None
    holds: bool
    """False if the ledger itself has problems."""
    problems: list[str]
    skipped: tuple[int, int] | None = None
    """First and last number that a restored line does not use; None if there are none."""
