"""Selects the image format by the signature of a file, and checks its size and completeness.

A file of a few megabytes may expand to gigabytes. OpenCV allocates first, and its own limit
(2^30 pixels) is far above what a line can handle: check the size before decoding.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.imaging.formats import bmp, jpeg, png, pnm, tiff, tiff_directory
from edgeinspect.imaging.formats.image_info import (
    ImageFileError,
    ImageInfo,
    invalid_header,
    truncated,
    unsupported,
)
from edgeinspect.system import open_regular

DATASET_PIXELS_MAX = 200_000_000
"""Largest image of a data set."""
LINE_PIXELS_MAX = 64_000_000
"""Largest image on a line, where decoding takes time from other frames."""
FILE_BYTES_MAX = 1 << 29
"""Largest image file that is read: 200 Mpx of 16 bits fit."""
_HEAD_BYTES = 4096
_HEADERS_BYTES = 1 << 16
_FIRST_TURNED = 5
"""Orientations from this one on exchange height and width."""


@dataclass(frozen=True, slots=True)
class ImageSize:
    """The size of an image by its header, without its orientation."""

    height_px: int
    width_px: int

    @property
    def pixels(self) -> int:
        """Return height times width."""
        return self.height_px * self.width_px


@dataclass(frozen=True, slots=True)
class StoredBitDepth:
    """The bit depth of one file."""

    bits: int
    """8 or 16, as decoded."""
    significant_bits: int | None = None
    """How many of 16 bits are used; None if the file does not state it."""


@dataclass(frozen=True, slots=True)
class _Format:
    """The functions of one format. They raise `struct.error` or `IndexError` on truncated data."""

    name: str
    signatures: tuple[bytes, ...]
    read_size: Callable[[bytes], tuple[int, int]]
    """Returns (height, width) as a decoder allocates it."""
    read_info: Callable[[bytes], ImageInfo]
    verify: Callable[[bytes], None] = lambda data: None
    """Checks what `read_info` does not."""


_FORMATS = (
    _Format("PNG", (png.SIGNATURE,), png.read_size, png.read_info, png.verify),
    _Format("JPEG", (jpeg.SIGNATURE,), jpeg.read_size, jpeg.read_info, jpeg.verify),
    _Format("BMP", (bmp.SIGNATURE,), bmp.read_size, bmp.read_info),
    _Format("TIFF", tiff_directory.SIGNATURES, tiff_directory.read_size, tiff.read_info),
    _Format("PNM", pnm.SIGNATURES, pnm.read_size, pnm.read_info),
)


def check_is_image(data: bytes) -> None:
    """Check the signature of a file.

    Raises:
        ImageFileError: It is not an image of a supported format.
    """
    _find_format(data)


def read_image_size(data: bytes) -> ImageSize:
    """Return the size of an image, of which the first bytes of the file may be enough.

    For a tiled TIFF this is at least one tile, as decoders allocate whole tiles.

    Raises:
        ImageFileError: The format is not supported, or the header is cut off or damaged.
    """
    image_format = _find_format(data)
    with _truncation_errors(image_format.name):
        height_px, width_px = image_format.read_size(data)
    if height_px < 1 or width_px < 1:
        raise invalid_header(image_format.name)
    return ImageSize(height_px, width_px)


def check_size(data: bytes, pixels_max: int) -> None:
    """Check that an image may be decoded.

    Raises:
        ImageFileError: As `read_image_size`, or it has more than `pixels_max` pixels.
    """
    size = read_image_size(data)
    if size.pixels > pixels_max:
        raise ImageFileError(
            f"is an image of {size.width_px}x{size.height_px} px, more than the "
            f"limit of {pixels_max} px",
            remedy="Check the file, or cut it into smaller images",
        )


def read_info(data: bytes) -> ImageInfo:
    """Parse the headers of an image file.

    Raises:
        ImageFileError: It is not a supported image, or is cut off.
    """
    image_format = _find_format(data)
    with _truncation_errors(image_format.name):
        info = image_format.read_info(data)
    if info.height_px < 1 or info.width_px < 1:
        raise invalid_header(image_format.name)
    return info


def verify_image(data: bytes) -> ImageInfo:
    """Parse the headers and check that the file is complete, with its checksums.

    Raises:
        ImageFileError: As `read_info`, or a part is missing or does not match its checksum.
    """
    info = read_info(data)
    image_format = _find_format(data)
    with _truncation_errors(image_format.name):
        image_format.verify(data)
    return info


def read_stored_bit_depth(path: Path) -> StoredBitDepth | None:
    """Return the depth of a file by a few of its bytes; None if it is not a readable image."""
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD_BYTES)
            if head.startswith(png.SIGNATURE):
                return StoredBitDepth(16 if head[24] == 16 else 8)
            if head.startswith((jpeg.SIGNATURE, bmp.SIGNATURE)):
                return StoredBitDepth(8)
            if head.startswith(tiff_directory.SIGNATURES):
                return StoredBitDepth(*tiff_directory.read_bit_depth(file))
            if head[:2] in (b"P4", b"P5", b"P6"):
                return StoredBitDepth(*pnm.read_bit_depth(head))
    except (OSError, ImageFileError, struct.error, IndexError):
        pass
    return None


def read_displayed_size(path: Path) -> ImageSize | None:
    """Return the size of an image file with its orientation applied; None if it is unreadable.

    Reads the start of the file, and the whole file only if its headers are longer.
    """
    try:
        with open_regular(path) as file:
            data = file.read(_HEADERS_BYTES)
            try:
                info = read_info(data)
            except ImageFileError:
                if len(data) < _HEADERS_BYTES:
                    raise
                info = read_info(data + file.read(FILE_BYTES_MAX))
    except (OSError, DataError):
        return None
    size = (info.height_px, info.width_px)
    return ImageSize(*(size if info.orientation < _FIRST_TURNED else size[::-1]))


@contextmanager
def _truncation_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (struct.error, IndexError) as error:
        raise truncated(f"within the header of a {name}") from error


def _find_format(data: bytes) -> _Format:
    for image_format in _FORMATS:
        if data.startswith(image_format.signatures):
            return image_format
    for start, name in _UNSUPPORTED_SIGNATURES:
        if data[: len(start)] == start or data[4 : 4 + len(start)] == start:
            raise unsupported(f"is a {name} file, which is not supported")
    for start in (png.SIGNATURE, jpeg.SIGNATURE):
        if data and start.startswith(data):
            raise truncated("within its first bytes")
    if not data.strip(b"\0"):
        raise truncated("it holds nothing but zeros")
    raise ImageFileError(
        "is not an image of a supported format",
        remedy="Supported are PNG, JPEG, BMP, TIFF, PGM and PPM",
    )


_UNSUPPORTED_SIGNATURES = (
    (b"GIF8", "GIF"),
    (b"RIFF", "WebP"),
    (b"ftypavif", "AVIF"),
    (b"ftypheic", "HEIF"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cjP", "JPEG 2000"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"PF\n", "PFM"),
    (b"Pf\n", "PFM"),
    (b"8BPS", "Photoshop"),
    (b"gimp xcf", "GIMP"),
    (b"%PDF", "PDF"),
    (b"\xff\x0a", "JPEG XL"),
)
