"""The shadow's record: what candidates would have decided of frames that the line judged.

One SQLite file per line, written by the shadow's own process, read by `edgeinspect models`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edgeinspect.domain import Int64
from edgeinspect.errors import DataError
from edgeinspect.storage.sqlite_file import (
    check_plain_schema,
    check_regular_files,
    find_irregular_file,
)

RESULTS_SUFFIX = ".shadow.sqlite"
MAX_KEPT_FRAMES = 500_000
"""Frames kept; the oldest go first."""
MAX_LISTED_SEQS = 1000

_TABLE = """
CREATE TABLE IF NOT EXISTS opinions (
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL, epoch INTEGER NOT NULL, at_utc_ns INTEGER NOT NULL,
    live TEXT NOT NULL, shadow TEXT NOT NULL,
    decision TEXT NOT NULL, classes TEXT NOT NULL, prob REAL,
    shadow_decision TEXT NOT NULL, shadow_classes TEXT NOT NULL, shadow_prob REAL,
    shadow_us INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS opinions_pair ON opinions (shadow, live);
"""


_ResultRow = tuple[str, str, Int64, Int64, str, str, str, str, Int64]
"""The kinds of what `compare` reads: SQLite keeps any value in any column."""


class ShadowSample(msgspec.Struct, frozen=True, kw_only=True):
    """A frame that the line judged, as the shadow is shown it."""

    seq: Int64
    epoch: Int64
    at_utc_ns: Int64
    decision: str
    classes: tuple[str, ...]
    """Of its fatal regions, sorted."""
    prob: float | None


class ShadowResultWriter:
    """A record open for writing. One thread."""

    def __init__(self, path: Path, live: str, shadow: str) -> None:
        """Open or make the file; `live` and `shadow` name the models that are compared.

        Raises:
            DataError: It, or one of SQLite's files beside it, is no file.
            sqlite3.Error: It is damaged, or the disk does not let us.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if (foreign := find_irregular_file(path)) is not None:
            raise DataError("is not an ordinary file", where=str(foreign), remedy="Remove it")
        self._db = sqlite3.connect(path, timeout=5, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_TABLE)
        self._pair = (live, shadow)
        self._rows: list[tuple[Any, ...]] = []

    def add(self, live: ShadowSample, shadow: ShadowSample, shadow_us: int) -> None:
        """Take one frame in; it is on the disk after `flush`."""
        self._rows.append(
            (
                live.seq,
                live.epoch,
                live.at_utc_ns,
                *self._pair,
                live.decision,
                ",".join(live.classes),
                live.prob,
                shadow.decision,
                ",".join(shadow.classes),
                shadow.prob,
                shadow_us,
            )
        )

    def flush(self) -> None:
        """Write what was added."""
        rows, self._rows = self._rows, []
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO opinions VALUES (NULL,?,?,?,?,?,?,?,?,?,?,?,?)", rows)
            self._db.execute(
                "DELETE FROM opinions WHERE id <= (SELECT max(id) FROM opinions) - ?",
                (MAX_KEPT_FRAMES,),
            )

    @property
    def pending_count(self) -> int:
        """Frames added and not yet written."""
        return len(self._rows)

    def close(self) -> None:
        """Write the rest and close."""
        self.flush()
        self._db.close()


@dataclass(slots=True)
class ClassCount:
    """How often one defect type was fatal, for whom."""

    both: Int64 = 0
    only_live: Int64 = 0
    only_shadow: Int64 = 0


@dataclass(slots=True)
class ShadowComparison:
    """Paired judgements of one pair of model sets."""

    live: str
    shadow: str
    frames: Int64 = 0
    only_live_rejects: Int64 = 0
    """The candidate would have let the part pass."""
    only_shadow_rejects: Int64 = 0
    both_reject: Int64 = 0
    classes: dict[str, ClassCount] = field(default_factory=dict)
    seqs: list[Int64] = field(default_factory=list)
    """Frames that differ in decision or defect types, the newest first, at most 1000."""
    differing: Int64 = 0
    """All of them."""
    p99_us: Int64 = 0
    last_at_utc_ns: Int64 = 0

    @property
    def disagreements(self) -> int:
        """Frames with another decision."""
        return self.only_live_rejects + self.only_shadow_rejects


def read_comparisons(paths: Iterable[Path], candidate: str) -> list[ShadowComparison]:
    """What the records say of a candidate, the newest pair first.

    Args:
        paths: Records; those that do not exist are passed over.
        candidate: As `model_key` gives it; without `#`, of any file of that version.

    Raises:
        DataError: A record is damaged.
    """
    found: dict[tuple[str, str], ShadowComparison] = {}
    times: dict[tuple[str, str], list[int]] = {}
    for path in paths:
        if not path.exists():
            continue
        try:
            with closing(_open_results(path)) as base:
                for values in base.execute(
                    "SELECT live, shadow, seq, at_utc_ns, decision, classes, shadow_decision, "
                    "shadow_classes, shadow_us FROM opinions ORDER BY id DESC"
                ):
                    row = msgspec.convert(values, _ResultRow)
                    if _includes_model(row[1], candidate):
                        pair = (row[0], row[1])
                        one = found.setdefault(pair, ShadowComparison(*pair))
                        _count_frame(one, row)
                        times.setdefault(pair, []).append(row[8])
        except (sqlite3.Error, OSError, UnicodeDecodeError, msgspec.ValidationError) as error:
            raise DataError(
                f"the shadow's record cannot be read: {error}", where=str(path)
            ) from error
    for pair, values in times.items():
        values.sort()
        found[pair].p99_us = values[min(len(values) - 1, len(values) * 99 // 100)]
    return sorted(found.values(), key=lambda one: one.last_at_utc_ns, reverse=True)


def _open_results(path: Path) -> sqlite3.Connection:
    """A record to read; SQLite itself would wait for a pipe, and read a view without an end."""
    check_regular_files(path)
    base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        check_plain_schema(base)
    except BaseException:
        base.close()
        raise
    return base


def model_key(name: str, version: int, sha256: str) -> str:
    """A model's name in the record: with its hash, since a version may be made again."""
    return f"{name}/{version}#{sha256[:12]}"


def set_key(models: Sequence[str]) -> str:
    """The name of a set of models."""
    return " ".join(models)


def _includes_model(models: str, candidate: str) -> bool:
    return any(
        model == candidate or ("#" not in candidate and model.partition("#")[0] == candidate)
        for model in models.split(" ")
    )


def _count_frame(one: ShadowComparison, row: _ResultRow) -> None:
    _live, _shadow, seq, at_utc_ns, decision, classes, other, other_classes, _us = row
    one.frames += 1
    one.last_at_utc_ns = max(one.last_at_utc_ns, at_utc_ns)
    rejects, shadow_rejects = decision == "REJECT", other == "REJECT"
    one.both_reject += rejects and shadow_rejects
    one.only_live_rejects += rejects and not shadow_rejects
    one.only_shadow_rejects += shadow_rejects and not rejects
    mine = set(classes.split(",")) if classes else set()
    its = set(other_classes.split(",")) if other_classes else set()
    for name in mine | its:
        count = one.classes.setdefault(name, ClassCount())
        count.both += name in mine and name in its
        count.only_live += name not in its
        count.only_shadow += name not in mine
    if rejects != shadow_rejects or mine != its:
        one.differing += 1
        if len(one.seqs) < MAX_LISTED_SEQS:
            one.seqs.append(seq)
