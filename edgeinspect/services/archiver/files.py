"""Writes images and sidecars atomically: a crash or a full disk leaves no partial file."""

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
from edgeinspect.system import write_atomic


def encode_image(pixels: Pixels, color: str, image_format: ImageFormat) -> bytes:
    """Encode pixels as an image file.

    Args:
        pixels: uint8 (H, W, C).
        color: `rgb` is converted to OpenCV's order; other values are written unchanged.
        image_format: Format and quality.

    Raises:
        DataError: OpenCV cannot encode it.
    """
    image = np.ascontiguousarray(pixels[..., ::-1]) if color == "rgb" else pixels
    if image_format.format == "png":
        options = [cv2.IMWRITE_PNG_COMPRESSION, image_format.png_level]
    else:
        options = [cv2.IMWRITE_JPEG_QUALITY, image_format.jpeg_quality]
    is_encoded, data = cv2.imencode(file_suffix(image_format), image, options)
    if not is_encoded:
        raise DataError(f"an image of {pixels.shape} cannot be encoded as {image_format.format}")
    return data.tobytes()


def file_suffix(image_format: ImageFormat) -> str:
    """Return the suffix of image files."""
    return ".png" if image_format.format == "png" else ".jpg"


@dataclass(frozen=True, slots=True)
class ArchiveFrame:
    """One frame, ready to be written."""

    sidecar: Sidecar
    sidecar_json: bytes
    """Content of the sidecar file."""
    image_data: bytes
    """Content of the image file."""

    @property
    def size_bytes(self) -> int:
        """Size on disk."""
        return len(self.sidecar_json) + len(self.image_data)


def encode_frame(frame: PendingFrame, image_format: ImageFormat, now_utc_ns: int) -> ArchiveFrame:
    """Encode one frame with its sidecar; raises as `encode_image`."""
    data = encode_image(frame.pixels, frame.color, image_format)
    sidecar = Sidecar(
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
    return ArchiveFrame(sidecar, encode_document(sidecar), data)


def write_frame(root: Path, encoded: ArchiveFrame) -> IndexEntry:
    """Write one frame: first the image, then the sidecar, without which it does not count.

    Raises:
        OSError: Writing failed; no part of the frame is left.
    """
    relative_folder = frame_folder(encoded.sidecar.verdict)
    folder = root / relative_folder
    folder.mkdir(parents=True, exist_ok=True)
    name = frame_name(encoded.sidecar.verdict) + SIDECAR_SUFFIX
    image_path = folder / encoded.sidecar.picture.file
    write_atomic(image_path, encoded.image_data, suffix=PARTIAL_SUFFIX)
    try:
        write_atomic(folder / name, encoded.sidecar_json, suffix=PARTIAL_SUFFIX)
    except OSError:
        with contextlib.suppress(OSError):
            image_path.unlink()
        raise
    path = f"{relative_folder}/{name}"
    return entry_from_sidecar(encoded.sidecar, path, len(encoded.sidecar_json))


def remove_frame(root: Path, entry: IndexEntry) -> None:
    """Remove one frame, the sidecar first, so that it never counts without its image.

    Raises:
        OSError: It cannot be removed.
    """
    sidecar = root / entry.path
    sidecar.unlink(missing_ok=True)
    for suffix in (".png", ".jpg"):
        sidecar.with_name(entry.name + suffix).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty
        sidecar.parent.rmdir()
        sidecar.parent.parent.rmdir()


def free_disk_bytes(root: Path) -> int:
    """Return the space that an unprivileged process may still use."""
    status = os.statvfs(root)
    return status.f_bavail * status.f_frsize
