"""The files of an archive of frames.

    ARCHIVE/archive.json                      marks an archive and names its line
    ARCHIVE/2026-11-21/06/NAME.png            an image, as the engine received it
    ARCHIVE/2026-11-21/06/NAME.json           its sidecar: the verdict, the mask, the hash
    ARCHIVE/state.json                        status of its process (status.py)
    ARCHIVE/index.sqlite                      rebuilt from the sidecars if it is lost

A frame is in the archive if its sidecar is: the sidecar is written last and removed first, so
that an image that a crash cut off does not count.

Source: docs/reference/archive.md
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
    list_matching,
    read_regular,
)
from edgeinspect.wire import Mask

MARKER_FILE = "archive.json"
INDEX_FILE = "index.sqlite"
SIDECAR_SUFFIX = ".json"
PARTIAL_SUFFIX = ".part"
"""Suffix of a file that is still being written; what a crash leaves is removed."""
_NS_PER_S = 1_000_000_000
_HOUR_FOLDER = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}/[0-9]{2}")


class ArchiveCategory(str, Enum):
    """Why a frame is archived, the least useful first: the order of eviction."""

    SIMULATED = "simulated"
    """A challenge part, whose image is already known."""
    PASS = "pass"
    """A sampled fraction of ordinary good parts."""
    NO_VERDICT = "no_verdict"
    """Could not be inspected but has pixels, which show why."""
    REJECT = "reject"
    """A reject by a clear margin."""
    NEAR = "near"
    """Near a threshold, on either side: the most useful for training."""
    UNKNOWN = "unknown"
    """The good-parts model found what good parts do not have: rejected for it, or for review."""

    @property
    def rank(self) -> int:
        """0 for the least useful."""
        return _RANKS[self]


_RANKS = {kind: rank for rank, kind in enumerate(ArchiveCategory)}


class ArchiveMarker(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.archive/1"
):
    """The marker of an archive, which belongs to one line."""

    line: str


class ImageFile(msgspec.Struct, frozen=True, kw_only=True):
    """The image file of a sidecar."""

    file: str
    """Its name, in the same folder."""
    size_bytes: Int64
    sha256: str
    lossless: bool
    color: str = ""
    """The channel order on the line: `mono`, `bgr` or `rgb`. The file has the usual order of
    its format."""


class Sidecar(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.archived/1"
):
    """The metadata of one frame."""

    kind: ArchiveCategory
    label: str
    """Class of the worst region, else the gate's kind, `gate` where it has none, else empty."""
    saved_at_utc_ns: UtcNs
    picture: ImageFile
    verdict: Verdict
    mask: Mask | None = None


_decode: Decoder[Sidecar] = json_decoder(Sidecar)
_decode_marker: Decoder[ArchiveMarker] = json_decoder(ArchiveMarker)
_encode = msgspec.json.Encoder().encode


def encode_document(message: Sidecar | ArchiveMarker) -> bytes:
    """Return the JSON of a file."""
    return _encode(message)


def verdict_label(verdict: Verdict) -> str:
    """Return the label of a verdict; see `Sidecar.label`."""
    for region in verdict.regions:
        if region.fatal:
            return region.class_name
    if verdict.regions:
        return verdict.regions[0].class_name
    if verdict.kind_name:
        return verdict.kind_name
    return "gate" if verdict.decision is Decision.REJECT else ""


def frame_name(verdict: Verdict) -> str:
    """Return a frame's name, unique in a plant: `LINE.CAMERA.EPOCH.SEQ`."""
    return f"{verdict.line}.{verdict.camera}.{verdict.epoch}.{verdict.seq}"


def frame_folder(verdict: Verdict) -> str:
    """Return a frame's folder in the archive: `DAY/HOUR` of its capture, UTC."""
    at = datetime.fromtimestamp(verdict.captured_at_utc_ns // _NS_PER_S, timezone.utc)
    return f"{at:%Y-%m-%d/%H}"


def is_archive(root: Path) -> bool:
    """Return whether a folder is an archive."""
    return (root / MARKER_FILE).is_file() and _try_read_marker(root) is not None


def read_marker(root: Path) -> ArchiveMarker:
    """Read the marker of an archive.

    Raises:
        DataError: The folder is not an archive.
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
    """Read one sidecar.

    Raises:
        DataError: It is unreadable, or of another version.
    """
    try:
        sidecar = _decode(read_regular(path, TEXT_BYTES_MAX))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except DecodeError as error:
        raise DataError(f"is not a sidecar: {error}", where=str(path)) from error
    name = sidecar.picture.file
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise DataError("names an image in another folder", where=str(path))
    return sidecar


def hour_folders(root: Path) -> list[Path]:
    """Return the folders with frames, oldest first."""
    return sorted(
        path
        for day in list_matching(root, "????-??-??")
        for path in list_matching(day, "??")
        if _HOUR_FOLDER.fullmatch(path.relative_to(root).as_posix()) and path.is_dir()
    )


def sidecars_in(folder: Path) -> list[Path]:
    """Return the sidecars of one hour, sorted; none if the folder was removed."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(SIDECAR_SUFFIX)]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def sidecars(root: Path) -> Iterator[Path]:
    """Yield every sidecar of an archive, oldest hour first."""
    for folder in hour_folders(root):
        yield from sidecars_in(folder)


def is_complete(path: Path, sidecar: Sidecar, *, check_hash: bool = False) -> bool:
    """Return whether a sidecar's image has its size, and its hash if `check_hash`."""
    image = path.with_name(sidecar.picture.file)
    try:
        if image.stat().st_size != sidecar.picture.size_bytes:
            return False
        return not check_hash or hashlib.sha256(
            read_regular(image, MODEL_BYTES_MAX)
        ).hexdigest() == (sidecar.picture.sha256)
    except OSError:
        return False
