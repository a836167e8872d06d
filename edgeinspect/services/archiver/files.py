"""Writing pictures and sidecars so that a crash, or a full disk, leaves no half of one."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgeinspect.domain.frame import Pixels
from edgeinspect.errors import DataError
from edgeinspect.services.archiver.config import Picture
from edgeinspect.services.archiver.write_queue import Caught
from edgeinspect.storage.archive.format import (
    PART,
    SIDECAR,
    PictureFile,
    Sidecar,
    encode,
    frame_folder,
    frame_name,
    label_of,
)
from edgeinspect.storage.archive.index_rows import Row, row_of


def encode_picture(pixels: Pixels, color: str, how: Picture) -> bytes:
    """A picture file's bytes.

    Args:
        pixels: uint8 (H, W, C).
        color: `rgb` is turned into what OpenCV writes; anything else is written as it is.
        how: Format and quality.

    Raises:
        DataError: OpenCV cannot encode it.
    """
    picture = np.ascontiguousarray(pixels[..., ::-1]) if color == "rgb" else pixels
    if how.format == "png":
        options = [cv2.IMWRITE_PNG_COMPRESSION, how.png_level]
    else:
        options = [cv2.IMWRITE_JPEG_QUALITY, how.jpeg_quality]
    good, data = cv2.imencode(suffix_of(how), picture, options)
    if not good:
        raise DataError(f"a picture of {pixels.shape} cannot be written as {how.format}")
    return data.tobytes()


def suffix_of(how: Picture) -> str:
    """Of a picture's file name."""
    return ".png" if how.format == "png" else ".jpg"


@dataclass(frozen=True, slots=True)
class Encoded:
    """One frame, ready to be written."""

    told: Sidecar
    body: bytes
    """The sidecar's file."""
    data: bytes
    """The picture's file."""

    @property
    def size_bytes(self) -> int:
        """What it takes on the disk."""
        return len(self.body) + len(self.data)


def prepare(frame: Caught, how: Picture, now_utc_ns: int) -> Encoded:
    """Encode one frame; raises as `encode_picture`."""
    data = encode_picture(frame.pixels, frame.color, how)
    told = Sidecar(
        kind=frame.kind,
        label=label_of(frame.verdict),
        saved_at_utc_ns=now_utc_ns,
        picture=PictureFile(
            file=frame_name(frame.verdict) + suffix_of(how),
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            lossless=how.format == "png",
            color=frame.color,
        ),
        verdict=frame.verdict,
        mask=frame.mask,
    )
    return Encoded(told, encode(told), data)


def save(root: Path, ready: Encoded) -> Row:
    """Put one frame into an archive: the picture, then the sidecar that makes it count.

    Raises:
        OSError: The disk does not take it; nothing of it is left there.
    """
    below = frame_folder(ready.told.verdict)
    folder = root / below
    folder.mkdir(parents=True, exist_ok=True)
    name = frame_name(ready.told.verdict) + SIDECAR
    picture = folder / ready.told.picture.file
    write_whole(picture, ready.data)
    try:
        write_whole(folder / name, ready.body)
    except OSError:
        with contextlib.suppress(OSError):
            picture.unlink()
        raise
    return row_of(ready.told, f"{below}/{name}", len(ready.body))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, whoever is killed in between.

    Raises:
        OSError: It cannot be written; no part of it is left.
    """
    part = path.with_name(path.name + PART)
    try:
        with part.open("wb") as file:
            file.write(data)
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def remove(root: Path, row: Row) -> None:
    """Take one frame out: its sidecar first, so that it never counts without its picture.

    Raises:
        OSError: The disk does not let us.
    """
    sidecar = root / row.path
    sidecar.unlink(missing_ok=True)
    for suffix in (".png", ".jpg"):
        sidecar.with_name(row.name + suffix).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: others stand there
        sidecar.parent.rmdir()
        sidecar.parent.parent.rmdir()


def free_bytes(root: Path) -> int:
    """What a process without privileges may still write."""
    status = os.statvfs(root)
    return status.f_bavail * status.f_frsize
