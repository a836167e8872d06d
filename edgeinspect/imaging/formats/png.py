"""PNG: chunks with checksums, and pixels whose number the header says."""

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
"""Bits of a sample by colour type: grey, RGB, palette, grey and alpha, RGB and alpha."""
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
"""Adam7: first column, first row, step of columns, step of rows."""
_INFLATE_BLOCK_BYTES = 1 << 18
_CHUNKS_MAX = 200_000
_TEXT_CHUNKS = frozenset((b"tEXt", b"zTXt", b"iTXt"))
_TEXTS_MAX = 64
_XMP = b"XML:com.adobe.xmp"
_ORIENTATION_KEYS = frozenset((_XMP, b"Raw profile type exif", b"Raw profile type APP1"))


def iter_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, first byte, end) of every chunk's content, until IEND or what is cut off.

    Raises:
        FormError: The file ends before its IEND.
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


def read_info(data: bytes) -> ImageInfo:
    """See `picture_form.form_of`; of a file that is cut off too, if its header is there."""
    if data[12:16] != b"IHDR":
        raise invalid_header("PNG")
    width_px, height_px, bits, kind = struct.unpack_from(">IIBB", data, 16)
    if bits not in _DEPTHS.get(kind, ()):
        raise invalid_header("PNG")
    turn, alpha, grey = None, kind in (4, 6), kind in (0, 4)
    texts: list[tuple[int, int]] = []
    try:
        for name, start, end in iter_chunks(data):
            if name == b"eXIf":
                turn = turn or exif_orientation(data[start:end])
            elif name in _TEXT_CHUNKS:
                texts.append((start, end))
            elif name == b"PLTE" and kind == 3:
                grey = data[start:end:3] == data[start + 1 : end : 3] == data[start + 2 : end : 3]
            elif name == b"tRNS":
                alpha = True
            elif name == b"acTL" and struct.unpack_from(">I", data, start)[0] > 1:
                raise unsupported("is an animation", "Save the one picture that is meant")
    except ImageFileError as error:
        if not error.what.startswith("is cut off"):
            raise
    if turn is None:
        for start, end in texts[:_TEXTS_MAX]:
            _check_text_orientation(data[start:end])
    return ImageInfo(
        "png",
        height_px,
        width_px,
        1 if grey else 3,
        16 if bits == 16 else 8,
        has_alpha=alpha,
        orientation=turn or 1,
    )


def _check_text_orientation(body: bytes) -> None:
    """Refuse an orientation that stands in a text: before PNG had EXIF, programs put it there.

    Raises:
        RefusedError: It says that the picture is to be turned.
    """
    key, _, text = body.partition(b"\0")
    if key not in _ORIENTATION_KEYS:
        return
    text = text.lstrip(b"\0\1")  # zTXt and iTXt say first how it is packed
    with suppress(zlib.error):
        text = zlib.decompressobj().decompress(text, _INFLATE_BLOCK_BYTES)
    if key == _XMP:
        check_xmp_orientation(text, "XMP")
        return
    try:
        exif = bytes.fromhex(b"".join(text[:_INFLATE_BLOCK_BYTES].split()[2:]).decode("ascii"))
    except ValueError:
        return
    turn = exif_orientation(exif)
    if turn is not None and turn > 1:
        raise ambiguous_orientation(turn, "text")


def verify(data: bytes) -> None:
    """Every chunk has its checksum, and the pixels are all there.

    Raises:
        FormError: If not.
    """
    view = memoryview(data)
    width_px, height_px, bits, kind, _way, _filter, woven = struct.unpack_from(">IIBBBBB", data, 16)
    wanted = _raw_bytes(width_px, height_px, bits * _SAMPLES[kind], is_interlaced=bool(woven))
    inflate, size = zlib.decompressobj(), 0
    for name, start, end in iter_chunks(data):
        if zlib.crc32(view[start - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ImageFileError(
                f"is damaged: its chunk {name.decode('latin-1')} has another checksum",
                remedy="Copy it again",
            )
        if name != b"IDAT":
            continue
        left: bytes | memoryview = view[start:end]
        try:
            while len(left) and not inflate.eof and size <= wanted:
                size += len(inflate.decompress(left, _INFLATE_BLOCK_BYTES))
                left = inflate.unconsumed_tail
        except zlib.error as error:
            raise ImageFileError(
                f"is damaged: its pixels cannot be unpacked ({error})", remedy="Copy it again"
            ) from error
    while inflate.unconsumed_tail and not inflate.eof and size <= wanted:
        size += len(inflate.decompress(inflate.unconsumed_tail, _INFLATE_BLOCK_BYTES))
    if size < wanted:
        raise truncated("a PNG without all of its pixels")


def _raw_bytes(width_px: int, height_px: int, bits_per_px: int, *, is_interlaced: bool) -> int:
    """Bytes of all rows, each with the byte that names its filter."""
    if not is_interlaced:
        return height_px * (1 + (width_px * bits_per_px + 7) // 8)
    total = 0
    for left, top, across, down in _ADAM7_PASSES:
        columns = max(0, -(-(width_px - left) // across))
        rows = max(0, -(-(height_px - top) // down))
        if columns:
            total += rows * (1 + (columns * bits_per_px + 7) // 8)
    return total
