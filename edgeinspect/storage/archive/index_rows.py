"""Entries of the archive's index, and how they are read from the sidecars of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.storage.archive.format import (
    PARTIAL_SUFFIX,
    SIDECAR_SUFFIX,
    ArchiveCategory,
    Sidecar,
    frame_folder,
    frame_name,
    is_complete,
    read_marker,
    read_sidecar,
    sidecars_in,
)
from edgeinspect.system import TEXT_BYTES_MAX, DecodeError, decode_json, read_regular


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One frame in the index; its fields are `COLUMNS`."""

    epoch: int
    seq: int
    camera: str
    captured_at_utc_ns: int
    kind: ArchiveCategory
    label: str
    decision: str
    reason: str
    defect_prob: float | None
    size_bytes: int
    path: str

    @property
    def name(self) -> str:
        """Name of the frame."""
        return self.path.rpartition("/")[2].removesuffix(SIDECAR_SUFFIX)

    def values(self) -> tuple[object, ...]:
        """Return the fields in the order of `COLUMNS`."""
        return tuple(getattr(self, name) for name in COLUMNS)


COLUMNS = tuple(field.name for field in fields(IndexEntry))
"""Columns of a frame; `path` is that of its sidecar, relative to the archive."""


def entry_from_sidecar(sidecar: Sidecar, path: str, sidecar_bytes: int) -> IndexEntry:
    """Return the index entry of a sidecar."""
    verdict = sidecar.verdict
    return IndexEntry(
        verdict.epoch,
        verdict.seq,
        verdict.camera,
        verdict.captured_at_utc_ns,
        sidecar.kind,
        sidecar.label,
        verdict.decision.value,
        verdict.reason.value,
        verdict.defect_prob,
        sidecar.picture.size_bytes + sidecar_bytes,
        path,
    )


def entry_from_row(values: Iterable[object]) -> IndexEntry:
    """Return the entry of a row that SQLite returned."""
    row = list(values)
    row[4] = ArchiveCategory(row[4])
    return IndexEntry(*row)  # type: ignore[arg-type]


def scan_hour_folder(root: Path, folder: Path, *, clean: bool = True) -> Iterator[IndexEntry]:
    """Yield the complete frames in the folder of one hour.

    Args:
        root: The archive.
        folder: A folder of it.
        clean: Remove what a crash left: partial files, images without a sidecar, sidecars
            without their complete image.
    """
    kept: set[str] = set()
    line = read_marker(root).line
    for path in sidecars_in(folder):
        try:
            sidecar = read_sidecar(path)
        except DataError:
            if _is_json(path):  # of another version of this program: kept
                kept |= {f"{path.stem}{suffix}" for suffix in (SIDECAR_SUFFIX, ".png", ".jpg")}
            continue
        if is_complete(path, sidecar):
            kept |= {path.name, sidecar.picture.file}
            relative = path.relative_to(root).as_posix()
            if _is_own_frame(sidecar, relative, line):
                yield entry_from_sidecar(sidecar, relative, path.stat().st_size)
    if clean:
        for entry in list(os.scandir(folder)):
            # A folder is not the rest of a file.
            if (
                entry.name not in kept
                and _has_archive_name(entry.name)
                and not entry.is_dir(follow_symlinks=False)
            ):
                os.unlink(entry.path)


def _is_own_frame(sidecar: Sidecar, path: str, line: str) -> bool:
    """Return False for a renamed copy or another line's frame, which would replace ours."""
    verdict = sidecar.verdict
    expected = f"{frame_folder(verdict)}/{frame_name(verdict)}{SIDECAR_SUFFIX}"
    return verdict.line == line and path == expected and path.isascii() and path.isprintable()


def _is_json(path: Path) -> bool:
    try:
        decode_json(read_regular(path, TEXT_BYTES_MAX))
    except (OSError, DecodeError):
        return False
    return True


def _has_archive_name(name: str) -> bool:
    """Return whether the archive creates such names; files of other names are kept."""
    stem = name.removesuffix(PARTIAL_SUFFIX).rpartition(".")[0]
    parts = stem.split(".")
    return len(parts) == 4 and parts[2].isdecimal() and parts[3].isdecimal()
