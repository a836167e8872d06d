"""A row of the archive's index, and the rows of an hour's folder as its sidecars tell them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.storage.archive.format import (
    PART,
    SIDECAR,
    Kind,
    Sidecar,
    frame_folder,
    frame_name,
    is_whole,
    owner_of,
    read_sidecar,
    sidecars_in,
)
from edgeinspect.system.decoding import DecodeError, decode_json
from edgeinspect.system.regular_file import TEXT_BYTES_MAX, read_regular

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
class Row:
    """One frame of the archive, as the index knows it; its fields are `COLUMNS`."""

    epoch: int
    seq: int
    camera: str
    captured_at_utc_ns: int
    kind: Kind
    label: str
    decision: str
    reason: str
    defect_prob: float | None
    size_bytes: int
    path: str

    @property
    def name(self) -> str:
        """The frame's name."""
        return self.path.rpartition("/")[2].removesuffix(SIDECAR)

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


def row_of(told: Sidecar, path: str, sidecar_bytes: int) -> Row:
    """What the index keeps of a sidecar."""
    verdict = told.verdict
    return Row(
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


def row_from(values: Iterable[object]) -> Row:
    """A row as SQLite gives it."""
    row = list(values)
    row[4] = Kind(row[4])
    return Row(*row)  # type: ignore[arg-type]


def frames_in(root: Path, folder: Path, *, clean: bool = True) -> Iterator[Row]:
    """The whole frames of one hour's folder, as the archive saved them.

    Args:
        root: The archive's.
        folder: Below it.
        clean: Remove what a crash left: parts, pictures without a sidecar, sidecars without
            their whole picture.
    """
    kept: set[str] = set()
    line = owner_of(root).line
    for path in sidecars_in(folder):
        try:
            told = read_sidecar(path)
        except DataError:
            if _is_json(path):  # of another version of this program: not ours to remove
                kept |= {f"{path.stem}{suffix}" for suffix in (SIDECAR, ".png", ".jpg")}
            continue
        if is_whole(path, told):
            kept |= {path.name, told.picture.file}
            below = path.relative_to(root).as_posix()
            if _stands_as_saved(told, below, line):
                yield row_of(told, below, path.stat().st_size)
    if clean:
        for entry in list(os.scandir(folder)):
            # A folder is nobody's torn file.
            if (
                entry.name not in kept
                and _is_ours(entry.name)
                and not entry.is_dir(follow_symlinks=False)
            ):
                os.unlink(entry.path)


def _stands_as_saved(told: Sidecar, path: str, line: str) -> bool:
    """False for a copy under another name, or another line's frame: it would stand for ours."""
    verdict = told.verdict
    own = f"{frame_folder(verdict)}/{frame_name(verdict)}{SIDECAR}"
    return verdict.line == line and path == own and path.isascii() and path.isprintable()


def _is_json(path: Path) -> bool:
    try:
        decode_json(read_regular(path, TEXT_BYTES_MAX))
    except (OSError, DecodeError):
        return False
    return True


def _is_ours(name: str) -> bool:
    """True for a name that the archive gives: what a person put there is left alone."""
    stem = name.removesuffix(PART).rpartition(".")[0]
    parts = stem.split(".")
    return len(parts) == 4 and parts[2].isdecimal() and parts[3].isdecimal()
