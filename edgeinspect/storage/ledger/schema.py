"""The ledger's file: its tables, a verdict's row, and how a body is packed.

A body is the JSON that was published, deflated against a dictionary. The dictionary is a
body of the same causes (configuration and models), which is nearly the same text: what is
stored is a twelfth of the JSON, a fifth of what plain zlib gives.
Source: docs/decisions/0009-ledger.md
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Any

import msgspec

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
"""A body that unpacks to more is damaged or hostile."""
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
"""The table's columns as far as they come from the verdict."""
INSERT_VERDICT = "INSERT OR IGNORE INTO verdicts VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"

SPOOL_LOST = "spool.lost"
"""Event: the spool had been lost, and seqs were left out so that none is used twice."""

Cause = tuple[str | None, ...]
"""config_hash, then name/version, sha256 and calibration of the gate and of the segmenter."""


class _FatalRegion(msgspec.Struct):
    class_name: str
    fatal: bool


class _TotalTime(msgspec.Struct):
    total_us: DurationUs


class _VerdictColumns(msgspec.Struct, kw_only=True, tag_field="schema", tag=VERDICT_SCHEMA):
    """What the columns need of a verdict: the rest of the JSON is skipped, not built."""

    seq: Count
    epoch: Count
    captured_at_utc_ns: UtcNs
    camera: str
    decision: str
    reason: str
    part_id: str | None = None
    encoder_count: Int64 | None = None
    defect_prob: float | None = None
    reject_code: PlcWord
    regions: tuple[_FatalRegion, ...]
    degraded: bool
    simulated: bool
    stages: _TotalTime
    gate: ModelRef | None
    segmenter: ModelRef | None
    config_hash: str


_decode_body: Decoder[_VerdictColumns] = json_decoder(_VerdictColumns)
_EXAMPLE_REGIONS = (Region(1, "", 0.5, 1, 1.0, Box(1, 1, 1, 1), (1.5, 1.5), (1.5, 1.5), True),)


def verdict_columns(body: bytes) -> tuple[tuple[Any, ...], Cause]:
    """A verdict's columns in the table's order, up to `total_us`, and its causes.

    Raises:
        msgspec.DecodeError: It is no verdict.
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
        ",".join(sorted({region.class_name for region in verdict.regions if region.fatal}))
        if verdict.regions
        else "",
        verdict.degraded,
        verdict.simulated,
        verdict.stages.total_us,
    ), (verdict.config_hash, *_model_columns(verdict.gate), *_model_columns(verdict.segmenter))


def _model_columns(model: ModelRef | None) -> tuple[str | None, str | None, str | None]:
    if model is None:
        return None, None, None
    return f"{model.name}/{model.version}", model.sha256, model.calibration


def compress(body: bytes, dictionary: bytes) -> bytes:
    """Deflate a body. A 4 KiB window: setting up a larger one costs more than it saves."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 12, 5, zdict=dictionary)
    return packer.compress(body) + packer.flush()


def decompress(packed: bytes, dictionary: bytes) -> bytes:
    """The body again.

    Raises:
        zlib.error: Damaged, or packed with another dictionary.
    """
    unpacker = zlib.decompressobj(zdict=dictionary)
    body = unpacker.decompress(packed, _MAX_BODY_BYTES)
    if not unpacker.eof:
        raise zlib.error("is cut short or too long")
    return body


class RowEncoder:
    """Makes rows for one open file, and keeps its table of causes. One thread.

    To be made anew after a transaction that failed: it may have learnt a cause that the
    file has not.
    """

    def __init__(self, base: sqlite3.Connection) -> None:
        self._db = base
        self._provenances: dict[Cause, tuple[int, bytes]] = {
            tuple(cause): (number, dictionary)
            for number, *cause, dictionary in base.execute("SELECT * FROM causes")
        }

    def encode(self, body: bytes) -> tuple[Any, ...]:
        """A verdict's whole row, from its JSON; inside a transaction.

        Raises:
            msgspec.DecodeError: It is no verdict.
        """
        columns, cause = verdict_columns(body)
        known = self._provenances.get(cause) or self._add_dictionary(cause, body)
        return (*columns, known[0], compress(body, known[1]))

    def _add_dictionary(self, cause: Cause, body: bytes) -> tuple[int, bytes]:
        # With a region in it, whose keys the first verdict of a run seldom has.
        example = msgspec.structs.replace(decode_verdict(body), regions=_EXAMPLE_REGIONS)
        dictionary = encode_message(example)
        done = self._db.execute(
            "INSERT INTO causes VALUES (NULL,?,?,?,?,?,?,?,?)", (*cause, dictionary)
        )
        number = done.lastrowid
        assert number is not None
        self._provenances[cause] = number, dictionary
        return number, dictionary


def late_row(verdict: Verdict) -> tuple[Any, ...]:
    """The row of a result that came too late; `at_utc_ns` is when it was decided."""
    at_ns = verdict.captured_at_utc_ns + verdict.stages.total_us * 1000
    return verdict.seq, verdict.epoch, at_ns, zlib.compress(encode_message(verdict), 1)


PRUNED = "ledger.pruned"
"""Event: verdicts were removed on purpose; its detail is `RemovedVerdicts`."""


class RemovedVerdicts(msgspec.Struct, frozen=True):
    """What retention took out of a ledger in one go, or in a row of them."""

    from_seq: Int64
    to_seq: Int64
    """The last; no seq up to it is in the ledger any more."""
    verdicts: Int64
    """Rows among them; fewer than seqs where some were never used."""
    why: str
    """`age` or `size`."""


def read_removals(base: sqlite3.Connection) -> list[RemovedVerdicts]:
    """All entries about what was removed, the lowest seqs first; a damaged one is left out."""
    found = []
    for (detail,) in base.execute("SELECT detail FROM events WHERE kind = ?", (PRUNED,)):
        try:
            found.append(decode_json(detail, RemovedVerdicts))
        except (DecodeError, TypeError):
            continue
    return sorted(found, key=lambda removed: removed.from_seq)


class _SkippedRange(msgspec.Struct):
    from_seq: Count
    to_seq: Count


def skipped_ranges(base: sqlite3.Connection) -> dict[int, int]:
    """First to last seq of what was left out on purpose after a spool was lost."""
    found = {}
    for (detail,) in base.execute("SELECT detail FROM events WHERE kind = ?", (SPOOL_LOST,)):
        try:
            left_out = decode_json(detail, _SkippedRange)
        except (DecodeError, TypeError):  # damaged: then the gap is a gap
            continue
        if left_out.from_seq <= left_out.to_seq:
            found[left_out.from_seq] = left_out.to_seq
    return found


def last_accounted_seq(base: sqlite3.Connection) -> int | None:
    """The last seq a ledger accounts for: of a verdict, or left out; None if it has neither."""
    last: int | None = base.execute("SELECT max(seq) FROM verdicts").fetchone()[0]
    left_out = skipped_ranges(base)
    if last is None and left_out:
        last = min(left_out) - 1
    while last is not None and last + 1 in left_out:
        last = left_out[last + 1]
    return last
