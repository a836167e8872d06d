"""A row of the archive's index, and the rows of an hour's folder as its sidecars tell them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.storage.archive.format import (
    PARTIAL_SUFFIX,
    SIDECAR_SUFFIX,
    Category,
    Sidecar,
    frame_folder,
    frame_name,
    is_complete,
    read_marker,
    read_sidecar,
    sidecars_in,
)
from edgeinspect.system import TEXT_BYTES_MAX, DecodeError, decode_json, read_regular

COLUMNS = (
    "epoch",
    "seq",
    "camera",
    "captured_at_utc_ns",
    "kind",
    "label",
    "decision",
    "reason",
    "defect_prob",
    "size_bytes",
    "path",
)
"""Of a frame; `path` is its sidecar's, below the archive."""


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One frame of the archive, as the index knows it; its fields are `COLUMNS`."""

    epoch: int
    seq: int
    camera: str
    captured_at_utc_ns: int
    kind: Category
    label: str
    decision: str
    reason: str
    defect_prob: float | None
    size_bytes: int
    path: str

    @property
    def name(self) -> str:
        """The frame's name."""
        return self.path.rpartition("/")[2].removesuffix(SIDECAR_SUFFIX)

    def values(self) -> tuple[object, ...]:
        """In the order of `COLUMNS`."""
        return (
            self.epoch,
            self.seq,
            self.camera,
            self.captured_at_utc_ns,
            self.kind.value,
            self.label,
            self.decision,
            self.reason,
            self.defect_prob,
            self.size_bytes,
            self.path,
        )


def entry_from_sidecar(told: Sidecar, path: str, sidecar_bytes: int) -> IndexEntry:
    """What the index keeps of a sidecar."""
    verdict = told.verdict
    return IndexEntry(
        verdict.epoch,
        verdict.seq,
        verdict.camera,
        verdict.captured_at_utc_ns,
        told.kind,
        told.label,
        verdict.decision.value,
        verdict.reason.value,
        verdict.defect_prob,
        told.picture.size_bytes + sidecar_bytes,
        path,
    )


def entry_from_row(values: Iterable[object]) -> IndexEntry:
    """A row as SQLite gives it."""
    row = list(values)
    row[4] = Category(row[4])
    return IndexEntry(*row)  # type: ignore[arg-type]


def scan_hour_folder(root: Path, folder: Path, *, clean: bool = True) -> Iterator[IndexEntry]:
    """The whole frames of one hour's folder, as the archive saved them.

    Args:
        root: The archive's.
        folder: Below it.
        clean: Remove what a crash left: parts, pictures without a sidecar, sidecars without
            their whole picture.
    """
    kept: set[str] = set()
    line = read_marker(root).line
    for path in sidecars_in(folder):
        try:
            told = read_sidecar(path)
        except DataError:
            if _is_json(path):  # of another version of this program: not ours to remove
                kept |= {f"{path.stem}{suffix}" for suffix in (SIDECAR_SUFFIX, ".png", ".jpg")}
            continue
        if is_complete(path, told):
            kept |= {path.name, told.picture.file}
            below = path.relative_to(root).as_posix()
            if _is_own_frame(told, below, line):
                yield entry_from_sidecar(told, below, path.stat().st_size)
    if clean:
        for entry in list(os.scandir(folder)):
            # A folder is nobody's torn file.
            if (
                entry.name not in kept
                and _has_archive_name(entry.name)
                and not entry.is_dir(follow_symlinks=False)
            ):
                os.unlink(entry.path)


def _is_own_frame(told: Sidecar, path: str, line: str) -> bool:
    """False for a copy under another name, or another line's frame: it would stand for ours."""
    verdict = told.verdict
    own = f"{frame_folder(verdict)}/{frame_name(verdict)}{SIDECAR_SUFFIX}"
    return verdict.line == line and path == own and path.isascii() and path.isprintable()


def _is_json(path: Path) -> bool:
    try:
        decode_json(read_regular(path, TEXT_BYTES_MAX))
    except (OSError, DecodeError):
        return False
    return True


def _has_archive_name(name: str) -> bool:
    """True for a name that the archive gives: what a person put there is left alone."""
    stem = name.removesuffix(PARTIAL_SUFFIX).rpartition(".")[0]
    parts = stem.split(".")
    return len(parts) == 4 and parts[2].isdecimal() and parts[3].isdecimal()
