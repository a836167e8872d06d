"""Reads an archive by its index, or by its sidecars if the index is not readable."""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.storage.archive.format import (
    INDEX_FILE,
    ArchiveCategory,
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
    """Which frames to select; a field that is None or empty matches all."""

    since_utc_ns: int | None = None
    until_utc_ns: int | None = None
    kinds: tuple[ArchiveCategory, ...] = ()
    decision: str | None = None
    label: str | None = None
    camera: str | None = None
    limit: int | None = None
    """At most this many, the newest ones."""

    def matches(self, row: IndexEntry) -> bool:
        """Return whether a frame is selected, except for the limit."""
        at = row.captured_at_utc_ns
        return (
            (self.since_utc_ns is None or at >= self.since_utc_ns)
            and (self.until_utc_ns is None or at < self.until_utc_ns)
            and (not self.kinds or row.kind in self.kinds)
            and (self.decision is None or row.decision == self.decision)
            and (self.label is None or row.label == self.label)
            and (self.camera is None or row.camera == self.camera)
        )


def find_frames(root: Path, query: FrameQuery) -> list[IndexEntry]:
    """Return the selected frames, newest first. The archive may be running.

    Raises:
        DataError: The folder is not an archive.
    """
    read_marker(root)
    entries = [row for row in _all_entries(root) if query.matches(row)]
    entries.sort(key=lambda row: (row.captured_at_utc_ns, row.seq), reverse=True)
    return entries[: query.limit]


def find_frame(root: Path, name: str) -> tuple[Path, Sidecar]:
    """Return the sidecar of one frame, by its name, or by its seq if that is unique.

    Raises:
        DataError: There is no such frame, or several.
    """
    read_marker(root)
    hits = [row for row in _all_entries(root) if name in (row.name, str(row.seq))]
    if len(hits) != 1:
        names = ", ".join(row.name for row in hits[:5])
        raise DataError(
            f"has {len(hits)} frames '{name}'" if hits else f"has no frame '{name}'",
            where=str(root),
            remedy=f"Name one: {names}"
            if hits
            else f"List them with: edgeinspect archive list {shlex.quote(str(root))}",
        )
    path = root / hits[0].path
    return path, read_sidecar(path)


def read_losses(root: Path) -> list[tuple[int, str, str, int]]:
    """Return (hour since 1970, category, reason, count) of frames without an image, oldest first.

    Raises:
        DataError: The index, which alone has them, cannot be read.
    """
    if not os.path.lexists(root / INDEX_FILE):
        return []
    try:
        with closing(open_to_read(root)) as db:
            return db.execute("SELECT * FROM missed ORDER BY 1, 2, 3").fetchall()
    except sqlite3.Error as error:
        raise DataError(
            f"cannot be read: {error}",
            where=str(root / INDEX_FILE),
            remedy="The archive rebuilds it at its next start, without the earlier losses",
        ) from error


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """The result of reading every file."""

    frames: int
    broken: tuple[str, ...]
    """Sidecars that are unreadable or do not match their image."""
    unindexed: int
    """Number of complete frames that the index does not have (yet)."""


def check_integrity(root: Path) -> IntegrityReport:
    """Read every sidecar and every image.

    Raises:
        DataError: The folder is not an archive.
    """
    read_marker(root)
    listed = {row.path for row in _all_entries(root)}
    broken, frames, unlisted = [], 0, 0
    for path in sidecars(root):
        relative = path.relative_to(root).as_posix()
        try:
            complete = is_complete(path, read_sidecar(path), check_hash=True)
        except DataError:
            complete = False
        if complete:
            frames += 1
            unlisted += relative not in listed
        elif path.exists():  # not removed meanwhile
            broken.append(relative)
    return IntegrityReport(frames, tuple(broken), unlisted)


def _all_entries(root: Path) -> Iterator[IndexEntry]:
    try:
        with closing(open_to_read(root)) as db:
            values = db.execute(f"SELECT {', '.join(COLUMNS)} FROM frames").fetchall()
    except sqlite3.Error:  # missing, damaged, or on a read-only file system
        for folder in hour_folders(root):
            yield from scan_hour_folder(root, folder, clean=False)
        return
    yield from map(entry_from_row, values)
