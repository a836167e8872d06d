"""Shadow results: what candidate models would have decided for frames that the line inspected.

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
    connect_read_only,
    find_irregular_file,
)

RESULTS_SUFFIX = ".shadow.sqlite"
MAX_KEPT_FRAMES = 500_000
"""Frames kept; the oldest are deleted first."""
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
"""The types of what `read_comparisons` reads: SQLite stores any value in any column."""


class ShadowSample(msgspec.Struct, frozen=True, kw_only=True):
    """The decision for one frame, of the live models or of the shadow."""

    seq: Int64
    epoch: Int64
    at_utc_ns: Int64
    decision: str
    classes: tuple[str, ...]
    """Classes of its fatal regions, sorted."""
    prob: float | None


class ShadowResultWriter:
    """The results file open for writing. One thread."""

    def __init__(self, path: Path, live: str, shadow: str) -> None:
        """Open or create the file; `live` and `shadow` are the keys of the compared models.

        Raises:
            DataError: It, or one of SQLite's files beside it, is no regular file.
            sqlite3.Error: It is damaged, or the disk cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if (irregular := find_irregular_file(path)) is not None:
            raise DataError("is no regular file", where=str(irregular), remedy="Remove it")
        self._db = sqlite3.connect(path, timeout=5, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_TABLE)
        self._pair = (live, shadow)
        self._rows: list[tuple[Any, ...]] = []

    def add(self, live: ShadowSample, shadow: ShadowSample, shadow_us: int) -> None:
        """Add one frame; `flush` writes it."""
        columns = (live.seq, live.epoch, live.at_utc_ns, *self._pair)
        decisions = [(each.decision, ",".join(each.classes), each.prob) for each in (live, shadow)]
        self._rows.append((*columns, *decisions[0], *decisions[1], shadow_us))

    def flush(self) -> None:
        """Write the added frames."""
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
        """Number of frames that were added and are not written."""
        return len(self._rows)

    def close(self) -> None:
        """Write the rest and close."""
        self.flush()
        self._db.close()


@dataclass(slots=True)
class ShadowClassCount:
    """How often one defect class was fatal, for which of the two model sets."""

    both: Int64 = 0
    only_live: Int64 = 0
    only_shadow: Int64 = 0


@dataclass(slots=True)
class ShadowComparison:
    """The paired decisions of two model sets."""

    live: str
    shadow: str
    frames: Int64 = 0
    only_live_rejects: Int64 = 0
    """Frames that the candidate would have passed."""
    only_shadow_rejects: Int64 = 0
    both_reject: Int64 = 0
    classes: dict[str, ShadowClassCount] = field(default_factory=dict)
    seqs: list[Int64] = field(default_factory=list)
    """Frames that differ in decision or defect classes, the newest first, at most 1000."""
    differing: Int64 = 0
    """Number of all frames that differ."""
    p99_us: Int64 = 0
    last_at_utc_ns: Int64 = 0

    @property
    def disagreements(self) -> int:
        """Number of frames with different decisions."""
        return self.only_live_rejects + self.only_shadow_rejects


def read_comparisons(paths: Iterable[Path], candidate: str) -> list[ShadowComparison]:
    """Return the comparisons of a candidate, the newest pair first.

    Args:
        paths: Result files; missing ones are ignored.
        candidate: A `model_key`; without `#` it matches any file of that version.

    Raises:
        DataError: A file is damaged.
    """
    comparisons: dict[tuple[str, str], ShadowComparison] = {}
    times: dict[tuple[str, str], list[int]] = {}
    for path in paths:
        if not path.exists():
            continue
        try:
            with closing(_open_results(path)) as db:
                for values in db.execute(
                    "SELECT live, shadow, seq, at_utc_ns, decision, classes, shadow_decision, "
                    "shadow_classes, shadow_us FROM opinions ORDER BY id DESC"
                ):
                    row = msgspec.convert(values, _ResultRow)
                    if _includes_model(row[1], candidate):
                        pair = (row[0], row[1])
                        comparison = comparisons.setdefault(pair, ShadowComparison(*pair))
                        _count_frame(comparison, row)
                        times.setdefault(pair, []).append(row[8])
        except (sqlite3.Error, OSError, UnicodeDecodeError, msgspec.ValidationError) as error:
            raise DataError(
                f"the shadow results cannot be read: {error}", where=str(path)
            ) from error
    for pair, values in times.items():
        values.sort()
        comparisons[pair].p99_us = values[min(len(values) - 1, len(values) * 99 // 100)]
    return sorted(
        comparisons.values(), key=lambda comparison: comparison.last_at_utc_ns, reverse=True
    )


def _open_results(path: Path) -> sqlite3.Connection:
    """Open a file to read; SQLite would wait for a pipe, and read a view without end."""
    check_regular_files(path)
    db = connect_read_only(path)
    try:
        check_plain_schema(db)
    except BaseException:
        db.close()
        raise
    return db


def model_key(name: str, version: int, sha256: str) -> str:
    """Return a model's key, with its hash, since a version may be built again."""
    return f"{name}/{version}#{sha256[:12]}"


def set_key(models: Sequence[str]) -> str:
    """Return the key of a set of models."""
    return " ".join(models)


def _includes_model(models: str, candidate: str) -> bool:
    return any(
        model == candidate or ("#" not in candidate and model.partition("#")[0] == candidate)
        for model in models.split(" ")
    )


def _count_frame(comparison: ShadowComparison, row: _ResultRow) -> None:
    _live, _shadow, seq, at_utc_ns, decision, classes, other, other_classes, _us = row
    comparison.frames += 1
    comparison.last_at_utc_ns = max(comparison.last_at_utc_ns, at_utc_ns)
    rejects, shadow_rejects = decision == "REJECT", other == "REJECT"
    comparison.both_reject += rejects and shadow_rejects
    comparison.only_live_rejects += rejects and not shadow_rejects
    comparison.only_shadow_rejects += shadow_rejects and not rejects
    live_classes = set(classes.split(",")) if classes else set()
    shadow_classes = set(other_classes.split(",")) if other_classes else set()
    for name in live_classes | shadow_classes:
        count = comparison.classes.setdefault(name, ShadowClassCount())
        count.both += name in live_classes and name in shadow_classes
        count.only_live += name not in shadow_classes
        count.only_shadow += name not in live_classes
    if rejects != shadow_rejects or live_classes != shadow_classes:
        comparison.differing += 1
        if len(comparison.seqs) < MAX_LISTED_SEQS:
            comparison.seqs.append(seq)
