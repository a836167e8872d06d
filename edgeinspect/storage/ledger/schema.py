"""The ledger's tables, a verdict's row, and how a body is compressed.

A body is the JSON that was published, deflated against a dictionary. The dictionary is a
body of the same provenance (configuration and models), which is nearly the same text: the
result has a twelfth of the size of the JSON, a fifth of what plain zlib gives.
Source: docs/explanation/decisions/0009-ledger.md
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from edgeinspect.domain import (
    VERDICT_SCHEMA,
    Box,
    Count,
    DurationUs,
    Int64,
    ModelRef,
    PlcWord,
    Region,
    UtcNs,
    Verdict,
)
from edgeinspect.system import DecodeError, Decoder, decode_json, json_decoder
from edgeinspect.wire import decode_verdict, encode_message

SCHEMA_VERSION = 2
_MAX_BODY_BYTES = 1 << 20
"""A body that expands to more is damaged or hostile."""
TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS epochs (
    epoch INTEGER PRIMARY KEY, started_at_utc_ns INTEGER NOT NULL, first_seq INTEGER NOT NULL,
    config_hash TEXT NOT NULL, gate TEXT, segmenter TEXT, version TEXT NOT NULL,
    ended_at_utc_ns INTEGER);
CREATE TABLE IF NOT EXISTS causes (
    cause INTEGER PRIMARY KEY, config_hash TEXT NOT NULL,
    gate TEXT, gate_sha256 TEXT, gate_calibration TEXT,
    segmenter TEXT, segmenter_sha256 TEXT, segmenter_calibration TEXT,
    dictionary BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS verdicts (
    seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, captured_at_utc_ns INTEGER NOT NULL,
    camera TEXT NOT NULL, decision TEXT NOT NULL, reason TEXT NOT NULL, part_id TEXT,
    encoder_count INTEGER, defect_prob REAL, reject_code INTEGER NOT NULL, classes TEXT NOT NULL,
    degraded INTEGER NOT NULL, simulated INTEGER NOT NULL, total_us INTEGER NOT NULL,
    cause INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS verdicts_part ON verdicts (part_id) WHERE part_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS verdicts_time ON verdicts (captured_at_utc_ns);
CREATE INDEX IF NOT EXISTS verdicts_bad ON verdicts (captured_at_utc_ns, decision)
    WHERE decision != 'PASS';
CREATE TABLE IF NOT EXISTS late (
    seq INTEGER NOT NULL, epoch INTEGER NOT NULL, at_utc_ns INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS late_seq ON late (seq);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, at_utc_ns INTEGER NOT NULL, epoch INTEGER NOT NULL,
    kind TEXT NOT NULL, actor TEXT NOT NULL, detail TEXT NOT NULL);
"""
OWN_COLUMNS = (
    "seq",
    "epoch",
    "captured_at_utc_ns",
    "camera",
    "decision",
    "reason",
    "part_id",
    "encoder_count",
    "defect_prob",
    "reject_code",
    "classes",
    "degraded",
    "simulated",
    "total_us",
)
"""The columns that come from the verdict."""
INSERT_VERDICT = "INSERT OR IGNORE INTO verdicts VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"

SPOOL_LOST = "spool.lost"
"""Event: the spool had been lost, and seqs were skipped so that none is used twice."""
RESTORED = "ledger.restored"
"""Event: the ledger is a backup. Its detail is `RestoredBackup`: the seqs that were skipped, since
the line may have used them after the backup."""

Provenance = tuple[str | None, ...]
"""config_hash, then name/version, sha256 and calibration of the gate and of the segmenter."""


class _FatalRegion(msgspec.Struct):
    class_name: str
    fatal: bool


class _TotalTime(msgspec.Struct):
    total_us: DurationUs


class _VerdictColumns(msgspec.Struct, kw_only=True, tag_field="schema", tag=VERDICT_SCHEMA):
    """The fields of a verdict that the columns need; the rest of the JSON is not decoded."""

    seq: Count
    epoch: Count
    captured_at_utc_ns: UtcNs
    camera: str
    decision: str
    reason: str
    part_id: str | None = None
    encoder_count: Int64 | None = None
    defect_prob: float | None = None
    kind: str | UnsetType = UNSET
    reject_code: PlcWord
    regions: tuple[_FatalRegion, ...]
    degraded: bool
    simulated: bool
    stages: _TotalTime
    gate: ModelRef | None
    segmenter: ModelRef | None
    config_hash: str


def _reject_classes(verdict: _VerdictColumns) -> list[str]:
    names = {region.class_name for region in verdict.regions if region.fatal}
    return sorted({*names, verdict.kind} if isinstance(verdict.kind, str) else names)


_decode_body: Decoder[_VerdictColumns] = json_decoder(_VerdictColumns)
_EXAMPLE_REGIONS = (Region(1, "", 0.5, 1, 1.0, Box(1, 1, 1, 1), (1.5, 1.5), (1.5, 1.5), True),)


def verdict_columns(body: bytes) -> tuple[tuple[Any, ...], Provenance]:
    """Return a verdict's columns in the table's order, up to `total_us`, and its provenance.

    Raises:
        msgspec.DecodeError: It is not a verdict.
    """
    verdict = _decode_body(body)
    return (
        verdict.seq,
        verdict.epoch,
        verdict.captured_at_utc_ns,
        verdict.camera,
        verdict.decision,
        verdict.reason,
        verdict.part_id,
        verdict.encoder_count,
        verdict.defect_prob,
        verdict.reject_code,
        ",".join(_reject_classes(verdict)),
        verdict.degraded,
        verdict.simulated,
        verdict.stages.total_us,
    ), (verdict.config_hash, *_model_columns(verdict.gate), *_model_columns(verdict.segmenter))


def _model_columns(model: ModelRef | None) -> tuple[str | None, str | None, str | None]:
    if model is None:
        return None, None, None
    return f"{model.name}/{model.version}", model.sha256, model.calibration


def compress(body: bytes, dictionary: bytes) -> bytes:
    """Deflate a body. With a 4 KiB window: a larger one costs more to set up than it saves."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 12, 5, zdict=dictionary)
    return packer.compress(body) + packer.flush()


def decompress(packed: bytes, dictionary: bytes) -> bytes:
    """Return the body of `compress`.

    Raises:
        zlib.error: It is damaged, or compressed with another dictionary.
    """
    unpacker = zlib.decompressobj(zdict=dictionary)
    body = unpacker.decompress(packed, _MAX_BODY_BYTES)
    if not unpacker.eof:
        raise zlib.error("is cut short or too long")
    return body


class RowEncoder:
    """Makes rows for one open file, and maintains its table of provenances. One thread.

    After a transaction that failed a new one is needed: it may have added a provenance that
    the file does not have.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._provenances: dict[Provenance, tuple[int, bytes]] = {
            tuple(cause): (number, dictionary)
            for number, *cause, dictionary in db.execute("SELECT * FROM causes")
        }

    def encode(self, body: bytes) -> tuple[Any, ...]:
        """Return a verdict's row from its JSON; inside a transaction.

        Raises:
            msgspec.DecodeError: It is not a verdict.
        """
        columns, provenance = verdict_columns(body)
        stored = self._provenances.get(provenance) or self._add_dictionary(provenance, body)
        return (*columns, stored[0], compress(body, stored[1]))

    def _add_dictionary(self, provenance: Provenance, body: bytes) -> tuple[int, bytes]:
        # With a region, whose keys the first verdict of a run rarely has.
        example = msgspec.structs.replace(decode_verdict(body), regions=_EXAMPLE_REGIONS)
        dictionary = encode_message(example)
        cursor = self._db.execute(
            "INSERT INTO causes VALUES (NULL,?,?,?,?,?,?,?,?)", (*provenance, dictionary)
        )
        number = cursor.lastrowid
        assert number is not None
        self._provenances[provenance] = number, dictionary
        return number, dictionary


def late_row(verdict: Verdict) -> tuple[Any, ...]:
    """Return the row of a late result; `at_utc_ns` is when it was decided."""
    at_ns = verdict.captured_at_utc_ns + verdict.stages.total_us * 1000
    return verdict.seq, verdict.epoch, at_ns, zlib.compress(encode_message(verdict), 1)


PRUNED = "ledger.pruned"
"""Event: retention removed verdicts; its detail is `RemovedVerdicts`."""


class RemovedVerdicts(msgspec.Struct, frozen=True):
    """What retention removed from a ledger in one step or in several consecutive ones."""

    from_seq: Int64
    to_seq: Int64
    """The last one; no seq up to it is in the ledger any more."""
    verdicts: Int64
    """Number of rows; fewer than seqs where some were never used."""
    why: str
    """`age` or `size`."""


def read_removals(db: sqlite3.Connection) -> list[RemovedVerdicts]:
    """Return all removals, the lowest seqs first, without damaged entries."""
    result = []
    for (detail,) in db.execute("SELECT detail FROM events WHERE kind = ?", (PRUNED,)):
        try:
            result.append(decode_json(detail, RemovedVerdicts))
        except (DecodeError, TypeError):
            continue
    return sorted(result, key=lambda removed: removed.from_seq)


class _SkippedRange(msgspec.Struct):
    from_seq: Count
    to_seq: Count


class RestoredBackup(msgspec.Struct, frozen=True):
    """What a restore skipped, and from which file it was."""

    from_seq: Int64
    to_seq: Int64
    """Below `from_seq` if nothing was skipped."""
    backup: str
    """Name of the backup's file."""


def skipped_ranges(
    db: sqlite3.Connection, kinds: tuple[str, ...] = (SPOOL_LOST, RESTORED)
) -> dict[int, int]:
    """Return first to last seq of each range that was skipped, and recorded as such.

    Args:
        db: The ledger.
        kinds: Why: the spool was lost, or the ledger was restored from a backup.
    """
    result = {}
    marks = ", ".join("?" * len(kinds))
    for (detail,) in db.execute(f"SELECT detail FROM events WHERE kind IN ({marks})", kinds):
        try:
            skipped = decode_json(detail, _SkippedRange)
        except (DecodeError, TypeError):  # damaged: then the range counts as a gap
            continue
        if skipped.from_seq <= skipped.to_seq:
            result[skipped.from_seq] = skipped.to_seq
    return result


def last_accounted_seq(db: sqlite3.Connection) -> int | None:
    """Return the last seq of a verdict or skipped range; None if there is neither."""
    last: int | None = db.execute("SELECT max(seq) FROM verdicts").fetchone()[0]
    ranges = skipped_ranges(db)
    if last is None and ranges:
        last = min(ranges) - 1
    while last is not None and last + 1 in ranges:
        last = ranges[last + 1]
    return last
