"""Writing pictures and sidecars so that a crash, or a full disk, leaves no half of one."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgeinspect.domain import Pixels
from edgeinspect.errors import DataError
from edgeinspect.services.archiver.config import ImageFormat
from edgeinspect.services.archiver.write_queue import PendingFrame
from edgeinspect.storage.archive import (
    PARTIAL_SUFFIX,
    SIDECAR_SUFFIX,
    ImageFile,
    IndexEntry,
    Sidecar,
    encode_document,
    entry_from_sidecar,
    frame_folder,
    frame_name,
    verdict_label,
)


def encode_image(pixels: Pixels, color: str, image_format: ImageFormat) -> bytes:
    """A picture file's bytes.

    Args:
        pixels: uint8 (H, W, C).
        color: `rgb` is turned into what OpenCV writes; anything else is written as it is.
        how: Format and quality.

    Raises:
        DataError: OpenCV cannot encode it.
    """
    picture = np.ascontiguousarray(pixels[..., ::-1]) if color == "rgb" else pixels
    if image_format.format == "png":
        options = [cv2.IMWRITE_PNG_COMPRESSION, image_format.png_level]
    else:
        options = [cv2.IMWRITE_JPEG_QUALITY, image_format.jpeg_quality]
    good, data = cv2.imencode(file_suffix(image_format), picture, options)
    if not good:
        raise DataError(f"a picture of {pixels.shape} cannot be written as {image_format.format}")
    return data.tobytes()


def file_suffix(image_format: ImageFormat) -> str:
    """Of a picture's file name."""
    return ".png" if image_format.format == "png" else ".jpg"


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One frame, ready to be written."""

    sidecar: Sidecar
    sidecar_json: bytes
    """The sidecar's file."""
    image_data: bytes
    """The picture's file."""

    @property
    def size_bytes(self) -> int:
        """What it takes on the disk."""
        return len(self.sidecar_json) + len(self.image_data)


def encode_frame(frame: PendingFrame, image_format: ImageFormat, now_utc_ns: int) -> EncodedFrame:
    """Encode one frame; raises as `encode_picture`."""
    data = encode_image(frame.pixels, frame.color, image_format)
    told = Sidecar(
        kind=frame.kind,
        label=verdict_label(frame.verdict),
        saved_at_utc_ns=now_utc_ns,
        picture=ImageFile(
            file=frame_name(frame.verdict) + file_suffix(image_format),
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            lossless=image_format.format == "png",
            color=frame.color,
        ),
        verdict=frame.verdict,
        mask=frame.mask,
    )
    return EncodedFrame(told, encode_document(told), data)


def write_frame(root: Path, encoded: EncodedFrame) -> IndexEntry:
    """Put one frame into an archive: the picture, then the sidecar that makes it count.

    Raises:
        OSError: The disk does not take it; nothing of it is left there.
    """
    below = frame_folder(encoded.sidecar.verdict)
    folder = root / below
    folder.mkdir(parents=True, exist_ok=True)
    name = frame_name(encoded.sidecar.verdict) + SIDECAR_SUFFIX
    picture = folder / encoded.sidecar.picture.file
    write_atomically(picture, encoded.image_data)
    try:
        write_atomically(folder / name, encoded.sidecar_json)
    except OSError:
        with contextlib.suppress(OSError):
            picture.unlink()
        raise
    return entry_from_sidecar(encoded.sidecar, f"{below}/{name}", len(encoded.sidecar_json))


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, whoever is killed in between.

    Raises:
        OSError: It cannot be written; no part of it is left.
    """
    part = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        with part.open("wb") as file:
            file.write(data)
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def remove_frame(root: Path, row: IndexEntry) -> None:
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


def free_disk_bytes(root: Path) -> int:
    """What a process without privileges may still write."""
    status = os.statvfs(root)
    return status.f_bavail * status.f_frsize
