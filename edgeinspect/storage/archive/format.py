"""What an archive of pictures looks like on disk, for who writes it and for who reads it.

    ARCHIVE/archive.json                      says that this is one, and whose
    ARCHIVE/2026-11-21/06/NAME.png            a picture, as the engine saw it
    ARCHIVE/2026-11-21/06/NAME.json           its sidecar: the verdict, the mask, the hash
    ARCHIVE/state.json                        how its process is (archive_state.py)
    ARCHIVE/index.sqlite                      made again from the sidecars when it is lost

A frame is in the archive when its sidecar is: it is written last and removed first, so a
picture that was cut off by a crash counts for nothing.

Source: docs/archive.md
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path

import msgspec

from edgeinspect.domain import Decision, Int64, UtcNs, Verdict
from edgeinspect.errors import DataError
from edgeinspect.system import (
    MODEL_BYTES_MAX,
    TEXT_BYTES_MAX,
    DecodeError,
    Decoder,
    json_decoder,
    read_regular,
)
from edgeinspect.wire import Mask

MARKER_FILE = "archive.json"
INDEX_FILE = "index.sqlite"
SIDECAR_SUFFIX = ".json"
PARTIAL_SUFFIX = ".part"
"""Ends the name of a file that is still being written; what a crash leaves is removed."""
_NS_PER_S = 1_000_000_000
_HOUR_FOLDER = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}/[0-9]{2}")


class Category(str, Enum):
    """Why a frame is kept, the least useful first. The order is the archive's policy."""

    SIMULATED = "simulated"
    """A challenge part: its picture is known already."""
    PASS = "pass"
    """A sampled fraction of ordinary good parts."""
    NO_VERDICT = "no_verdict"
    """Could not be judged, and has pixels: shows what went wrong."""
    REJECT = "reject"
    """A reject by a clear margin."""
    NEAR = "near"
    """Near a threshold, on either side: what a model learns most from."""

    @property
    def rank(self) -> int:
        """0 for the least useful."""
        return _RANKS[self]


_RANKS = {kind: rank for rank, kind in enumerate(Category)}


class ArchiveMarker(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.archive/1"
):
    """The marker: one archive is one line's."""

    line: str


class ImageFile(msgspec.Struct, frozen=True, kw_only=True):
    """The picture beside a sidecar."""

    file: str
    """Its name, in the same folder."""
    size_bytes: Int64
    sha256: str
    lossless: bool
    color: str = ""
    """What the channels were on the line: `mono`, `bgr` or `rgb`. The file itself is as any
    picture viewer expects it."""


class Sidecar(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.archived/1"
):
    """All that is known of one frame."""

    kind: Category
    label: str
    """Class of the worst region, `gate` where the gate alone decided, else empty."""
    saved_at_utc_ns: UtcNs
    picture: ImageFile
    verdict: Verdict
    mask: Mask | None = None


_decode: Decoder[Sidecar] = json_decoder(Sidecar)
_decode_marker: Decoder[ArchiveMarker] = json_decoder(ArchiveMarker)
_encode = msgspec.json.Encoder().encode


def encode_document(message: Sidecar | ArchiveMarker) -> bytes:
    """As it stands in its file."""
    return _encode(message)


def verdict_label(verdict: Verdict) -> str:
    """What a verdict found, in one word; see `Sidecar.label`."""
    for region in verdict.regions:
        if region.fatal:
            return region.class_name
    if verdict.regions:
        return verdict.regions[0].class_name
    return "gate" if verdict.decision is Decision.REJECT else ""


def frame_name(verdict: Verdict) -> str:
    """A frame's name, unique in a plant: `LINE.CAMERA.EPOCH.SEQ`."""
    return f"{verdict.line}.{verdict.camera}.{verdict.epoch}.{verdict.seq}"


def frame_folder(verdict: Verdict) -> str:
    """Where in the archive a frame stands: `DAY/HOUR` of its capture, UTC."""
    at = datetime.fromtimestamp(verdict.captured_at_utc_ns // _NS_PER_S, timezone.utc)
    return f"{at:%Y-%m-%d/%H}"


def is_archive(root: Path) -> bool:
    """True for the folder of an archive."""
    return (root / MARKER_FILE).is_file() and _try_read_marker(root) is not None


def read_marker(root: Path) -> ArchiveMarker:
    """Whose archive a folder is.

    Raises:
        DataError: It is none.
    """
    owner = _try_read_marker(root)
    if owner is None:
        raise DataError(
            "is not an archive", where=str(root), remedy=f"Give the folder that holds {MARKER_FILE}"
        )
    return owner


def _try_read_marker(root: Path) -> ArchiveMarker | None:
    try:
        return _decode_marker(read_regular(root / MARKER_FILE, TEXT_BYTES_MAX))
    except (OSError, DecodeError):
        return None


def read_sidecar(path: Path) -> Sidecar:
    """One sidecar.

    Raises:
        DataError: It cannot be read, or is of another version.
    """
    try:
        told = _decode(read_regular(path, TEXT_BYTES_MAX))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except DecodeError as error:
        raise DataError(f"is no sidecar: {error}", where=str(path)) from error
    name = told.picture.file
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise DataError("names a picture that is not beside it", where=str(path))
    return told


def hour_folders(root: Path) -> list[Path]:
    """The folders that hold frames, oldest first."""
    return sorted(
        path
        for path in root.glob("????-??-??/??")
        if _HOUR_FOLDER.fullmatch(path.relative_to(root).as_posix()) and path.is_dir()
    )


def sidecars_in(folder: Path) -> list[Path]:
    """The sidecars of one hour, sorted; empty if the folder is gone."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(SIDECAR_SUFFIX)]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def sidecars(root: Path) -> Iterator[Path]:
    """Every sidecar of an archive, oldest hour first."""
    for folder in hour_folders(root):
        yield from sidecars_in(folder)


def is_complete(sidecar: Path, told: Sidecar, *, check_hash: bool = False) -> bool:
    """True if the picture beside a sidecar is there in its full size; and its hash, if asked."""
    path = sidecar.with_name(told.picture.file)
    try:
        if path.stat().st_size != told.picture.size_bytes:
            return False
        return not check_hash or hashlib.sha256(
            read_regular(path, MODEL_BYTES_MAX)
        ).hexdigest() == (told.picture.sha256)
    except OSError:
        return False
