"""Selects the image format by the signature of a file, never by its name."""

from __future__ import annotations

import struct
from collections.abc import Callable

from edgeinspect.imaging.formats import bmp, jpeg, png, pnm, tiff
from edgeinspect.imaging.formats.image_info import (
    ImageFileError,
    ImageInfo,
    invalid_header,
    truncated,
    unsupported,
)


def check_is_image(data: bytes) -> None:
    """Check the signature of a file.

    Raises:
        ImageFileError: It is not an image of a supported format.
    """
    _find_format(data)


def read_info(data: bytes) -> ImageInfo:
    """Parse the headers of an image file.

    Raises:
        ImageFileError: It is not a supported image, or is cut off.
    """
    return _read_checked(data, lambda form: None)


def verify_image(data: bytes) -> ImageInfo:
    """Parse the headers and check that the file is complete, with its checksums.

    Raises:
        ImageFileError: As `read_info`, or a part is missing or does not match its checksum.
    """

    def check(form: ImageInfo) -> None:
        if form.format == "png":
            png.verify(data)
        elif form.format == "jpeg":
            jpeg.verify(data)

    return _read_checked(data, check)


def _read_checked(data: bytes, check: Callable[[ImageInfo], None]) -> ImageInfo:
    name, read = _find_format(data)
    try:
        form = read(data)
        if form.height_px < 1 or form.width_px < 1:
            raise invalid_header(name)
        check(form)
    except (struct.error, IndexError) as error:
        raise truncated(f"within the header of a {name}") from error
    return form


def _find_format(data: bytes) -> tuple[str, Callable[[bytes], ImageInfo]]:
    if data[:8] == png.SIGNATURE:
        return "PNG", png.read_info
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG", jpeg.read_info
    if data[:2] == b"BM":
        return "BMP", bmp.read_info
    if data[:4] in tiff.SIGNATURES:
        return "TIFF", tiff.read_info
    if data[:1] == b"P" and data[1:2] in b"1234567" and data[2:3].isspace():
        return "PNM", pnm.read_info
    for start, name in _UNSUPPORTED_SIGNATURES:
        if data[: len(start)] == start or data[4 : 4 + len(start)] == start:
            raise unsupported(f"is a {name} file, which is not supported")
    for start in (png.SIGNATURE, b"\xff\xd8\xff"):
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
