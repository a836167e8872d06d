"""Looking into an archive: by its index, or by its sidecars where there is none to be read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.storage.archive.format import (
    INDEX_FILE,
    Category,
    Sidecar,
    hour_folders,
    is_complete,
    read_marker,
    read_sidecar,
    sidecars,
)
from edgeinspect.storage.archive.index_file import open_to_read
from edgeinspect.storage.archive.index_rows import (
    COLUMNS,
    IndexEntry,
    entry_from_row,
    scan_hour_folder,
)


@dataclass(frozen=True, slots=True)
class FrameQuery:
    """Which frames; what is None or empty is not asked for."""

    since_utc_ns: int | None = None
    until_utc_ns: int | None = None
    kinds: tuple[Category, ...] = ()
    decision: str | None = None
    label: str | None = None
    camera: str | None = None
    limit: int | None = None
    """The newest so many."""

    def matches(self, row: IndexEntry) -> bool:
        """True for a frame that is wanted, whatever the limit."""
        at = row.captured_at_utc_ns
        return (
            (self.since_utc_ns is None or at >= self.since_utc_ns)
            and (self.until_utc_ns is None or at < self.until_utc_ns)
            and (not self.kinds or row.kind in self.kinds)
            and (self.decision is None or row.decision == self.decision)
            and (self.label is None or row.label == self.label)
            and (self.camera is None or row.camera == self.camera)
        )


def find_frames(root: Path, wanted: FrameQuery) -> list[IndexEntry]:
    """The frames that are wanted, newest first. The archive may be running.

    Raises:
        DataError: The folder is no archive.
    """
    read_marker(root)
    found = [row for row in _all_entries(root) if wanted.matches(row)]
    found.sort(key=lambda row: (row.captured_at_utc_ns, row.seq), reverse=True)
    return found[: wanted.limit]


def find_frame(root: Path, words: str) -> tuple[Path, Sidecar]:
    """The sidecar of one frame, by its name, or by its seq if that names one frame only.

    Raises:
        DataError: There is none, or several.
    """
    read_marker(root)
    hits = [row for row in _all_entries(root) if words in (row.name, str(row.seq))]
    if len(hits) != 1:
        names = ", ".join(row.name for row in hits[:5])
        raise DataError(
            f"holds {len(hits)} frames '{words}'",
            where=str(root),
            remedy=f"Name one: {names}" if hits else "See them with: edgeinspect archive list",
        )
    path = root / hits[0].path
    return path, read_sidecar(path)


def read_losses(root: Path) -> list[tuple[int, str, str, int]]:
    """(hour since 1970, kind, why, how many) of the frames without a picture; oldest first.

    Raises:
        DataError: The index, which alone knows it, is there and cannot be read.
    """
    if not os.path.lexists(root / INDEX_FILE):
        return []
    try:
        with closing(open_to_read(root)) as base:
            return base.execute("SELECT * FROM missed ORDER BY 1, 2, 3").fetchall()
    except sqlite3.Error as error:
        raise DataError(
            f"cannot be read: {error}",
            where=str(root / INDEX_FILE),
            remedy="The archive makes another when it starts; losses by now stand in the old one",
        ) from error


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """What a look at every file found."""

    frames: int
    broken: tuple[str, ...]
    """Sidecars that cannot be read, or whose picture is not what they say."""
    unindexed: int
    """Whole frames that the index does not have (yet)."""


def check_integrity(root: Path) -> IntegrityReport:
    """Read every sidecar and every picture.

    Raises:
        DataError: The folder is no archive.
    """
    read_marker(root)
    listed = {row.path for row in _all_entries(root)}
    broken, frames, unlisted = [], 0, 0
    for path in sidecars(root):
        below = path.relative_to(root).as_posix()
        try:
            whole = is_complete(path, read_sidecar(path), check_hash=True)
        except DataError:
            whole = False
        if whole:
            frames += 1
            unlisted += below not in listed
        elif path.exists():  # not removed in the meantime
            broken.append(below)
    return IntegrityReport(frames, tuple(broken), unlisted)


def _all_entries(root: Path) -> Iterator[IndexEntry]:
    try:
        with closing(open_to_read(root)) as base:
            values = base.execute(f"SELECT {', '.join(COLUMNS)} FROM frames").fetchall()
    except sqlite3.Error:  # none, damaged, or on a disk that is mounted read-only
        for folder in hour_folders(root):
            yield from scan_hour_folder(root, folder, clean=False)
        return
    yield from map(entry_from_row, values)


def image_path(sidecar: Path, told: Sidecar) -> Path:
    """The picture file of a frame."""
    return sidecar.with_name(told.picture.file)
