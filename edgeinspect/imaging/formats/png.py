"""PNG headers, and the check of checksums and of the number of pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

from edgeinspect.imaging.formats.image_info import (
    ImageFileError,
    ImageInfo,
    ambiguous_orientation,
    check_xmp_orientation,
    exif_orientation,
    invalid_header,
    truncated,
    unsupported,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Valid bit depths by colour type: grey, RGB, palette, grey with alpha, RGB with alpha."""
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column, first row, column step and row step of each Adam7 pass."""
_INFLATE_BLOCK_BYTES = 1 << 18
_CHUNKS_MAX = 200_000
_TEXT_CHUNKS = frozenset((b"tEXt", b"zTXt", b"iTXt"))
_TEXTS_MAX = 64
_XMP = b"XML:com.adobe.xmp"
_ORIENTATION_KEYS = frozenset((_XMP, b"Raw profile type exif", b"Raw profile type APP1"))


def iter_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, first byte, end) of the content of every chunk up to IEND.

    Raises:
        ImageFileError: The file ends before its IEND.
    """
    at = len(SIGNATURE)
    for _ in range(_CHUNKS_MAX):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            break
        yield kind, at + 8, at + 8 + length
        if kind == b"IEND":
            return
        at += 12 + length
    else:
        raise invalid_header("PNG")
    raise truncated("a PNG without its end")


def read_size(data: bytes) -> tuple[int, int]:
    """Return (height, width)."""
    if data[12:16] != b"IHDR":
        raise invalid_header("PNG")
    width_px, height_px = struct.unpack_from(">II", data, 16)
    return height_px, width_px


def read_info(data: bytes) -> ImageInfo:
    """Parse the headers; see `detection.read_info`. The file may be cut off after them."""
    if data[12:16] != b"IHDR":
        raise invalid_header("PNG")
    width_px, height_px, bits, kind = struct.unpack_from(">IIBB", data, 16)
    if bits not in _DEPTHS.get(kind, ()):
        raise invalid_header("PNG")
    orientation, has_alpha, is_grey = None, kind in (4, 6), kind in (0, 4)
    texts: list[tuple[int, int]] = []
    try:
        for name, start, end in iter_chunks(data):
            if name == b"eXIf":
                orientation = orientation or exif_orientation(data[start:end])
            elif name in _TEXT_CHUNKS:
                texts.append((start, end))
            elif name == b"PLTE" and kind == 3:
                red, green, blue = (data[start + index : end : 3] for index in range(3))
                is_grey = red == green == blue
            elif name == b"tRNS":
                has_alpha = True
            elif name == b"acTL" and struct.unpack_from(">I", data, start)[0] > 1:
                raise unsupported("is an animation", "Save one image of it")
    except ImageFileError as error:
        if not error.what.startswith("is cut off"):
            raise
    if orientation is None:
        for start, end in texts[:_TEXTS_MAX]:
            _check_text_orientation(data[start:end])
    return ImageInfo(
        "png",
        height_px,
        width_px,
        1 if is_grey else 3,
        16 if bits == 16 else 8,
        has_alpha=has_alpha,
        orientation=orientation or 1,
    )


def _check_text_orientation(body: bytes) -> None:
    """Refuse an orientation in a text chunk, where programs stored it before PNG had EXIF.

    Raises:
        UnsupportedImageError: The orientation is 2 to 8.
    """
    key, _, text = body.partition(b"\0")
    if key not in _ORIENTATION_KEYS:
        return
    text = text.lstrip(b"\0\1")  # zTXt and iTXt: flags of the compression
    with suppress(zlib.error):
        text = zlib.decompressobj().decompress(text, _INFLATE_BLOCK_BYTES)
    if key == _XMP:
        check_xmp_orientation(text, "XMP")
        return
    try:
        exif = bytes.fromhex(b"".join(text[:_INFLATE_BLOCK_BYTES].split()[2:]).decode("ascii"))
    except ValueError:
        return
    orientation = exif_orientation(exif)
    if orientation is not None and orientation > 1:
        raise ambiguous_orientation(orientation, "text")


def verify(data: bytes) -> None:
    """Check the checksum of every chunk, and that all pixels are there.

    Raises:
        ImageFileError: A checksum does not match, or pixels are missing.
    """
    view = memoryview(data)
    width_px, height_px, bits, kind, _method, _filter, interlace = struct.unpack_from(
        ">IIBBBBB", data, 16
    )
    expected = _raw_bytes(width_px, height_px, bits * _SAMPLES[kind], is_interlaced=bool(interlace))
    inflate, size = zlib.decompressobj(), 0
    for name, start, end in iter_chunks(data):
        if zlib.crc32(view[start - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ImageFileError(
                f"is damaged: the checksum of its chunk {name.decode('latin-1')} does not match",
                remedy="Copy it again",
            )
        if name != b"IDAT":
            continue
        rest: bytes | memoryview = view[start:end]
        try:
            while len(rest) and not inflate.eof and size <= expected:
                size += len(inflate.decompress(rest, _INFLATE_BLOCK_BYTES))
                rest = inflate.unconsumed_tail
        except zlib.error as error:
            raise ImageFileError(
                f"is damaged: its pixels cannot be decompressed ({error})", remedy="Copy it again"
            ) from error
    while inflate.unconsumed_tail and not inflate.eof and size <= expected:
        size += len(inflate.decompress(inflate.unconsumed_tail, _INFLATE_BLOCK_BYTES))
    if size < expected:
        raise truncated("a PNG without all of its pixels")


def _raw_bytes(width_px: int, height_px: int, bits_per_px: int, *, is_interlaced: bool) -> int:
    """Return the bytes of all rows, including one byte per row for its filter."""
    if not is_interlaced:
        return height_px * (1 + (width_px * bits_per_px + 7) // 8)
    total = 0
    for left, top, across, down in _ADAM7_PASSES:
        columns = max(0, -(-(width_px - left) // across))
        rows = max(0, -(-(height_px - top) // down))
        if columns:
            total += rows * (1 + (columns * bits_per_px + 7) // 8)
    return total
