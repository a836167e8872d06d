"""PGM, PPM and PBM. Decoded here, as decoders differ in how they use the maximum value."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging.formats.image_info import ImageInfo, invalid_header, truncated, unsupported

_HEADER_BYTES = 4096
SIGNATURES = tuple(b"P%d%c" % (kind, blank) for kind in range(1, 8) for blank in b" \t\n\v\f\r")
_NUMBER = re.compile(rb"(?:[ \t\n\v\f\r]+|#[^\n]*\n)*([0-9]{1,9})(?![0-9])")
_BITS_BY_MAX_VALUE = {2**bits - 1: bits for bits in (10, 12, 14)}
_UNSPECIFIED_DEPTH = 65_535
"""Written by many programs for any depth above 8 bits: it does not state the depth."""


def read_size(data: bytes) -> tuple[int, int]:
    """Return (height, width)."""
    width_px, at = _read_number(data[:_HEADER_BYTES], 2)
    height_px, _at = _read_number(data[:_HEADER_BYTES], at)
    return height_px, width_px


def read_info(data: bytes) -> ImageInfo:
    """Parse the header; see `detection.read_info`."""
    kind, height_px, width_px, top, at = _read_header(data)
    channels = 3 if kind == 6 else 1
    if kind == 4:
        row_bytes = (width_px + 7) // 8
    else:
        row_bytes = width_px * channels * (2 if top > 255 else 1)
    end = at + row_bytes * height_px
    if len(data) < end:
        raise truncated("a PNM without all of its rows")
    if len(data) > end:  # the length is the only check that the format allows
        raise unsupported(
            f"is a PNM with {len(data) - end} bytes more than its header states: a second "
            "image, a comment after the maximum value, or lines that end in CR LF",
            "Save it with the pixels alone after a header whose last line ends in LF",
        )
    # Not checked for bitmaps, where black rows are common.
    raw = ((at, end),) if kind != 4 else ()
    return ImageInfo(
        "pnm",
        height_px,
        width_px,
        channels,
        16 if top > 255 else 8,
        _BITS_BY_MAX_VALUE.get(top),
        row_bytes=row_bytes,
        pixel_ranges=raw,
    )


def _read_header(data: bytes) -> tuple[int, int, int, int, int]:
    """Return (type digit, height, width, maximum value, first byte of the pixels)."""
    kind = data[1] - 0x30
    if kind not in (4, 5, 6):
        raise unsupported(
            "is a plain-text PNM or a PAM",
            "Save it as binary PGM or PPM, or as PNG",
            is_valid_mask=kind == 1 or _plain_text_max_value(data) in (1, 255),
        )
    head, at, numbers = data[:_HEADER_BYTES], 2, []
    for _ in range(2 if kind == 4 else 3):
        number, at = _read_number(head, at)
        numbers.append(number)
    width_px, height_px = numbers[:2]
    top = 1 if kind == 4 else numbers[2]
    if not width_px or not height_px or not 1 <= top <= 65_535 or not head[at : at + 1].isspace():
        raise invalid_header("PNM")
    if top > 255 and top not in _BITS_BY_MAX_VALUE and top != _UNSPECIFIED_DEPTH:
        raise unsupported(
            f"is a PNM with a maximum value of {top}, which is not a depth of a camera",
            "Save it with a maximum value of 255, 1023, 4095, 16383 or 65535",
        )
    return kind, height_px, width_px, top, at + 1


def _read_number(head: bytes, at: int) -> tuple[int, int]:
    """Return the next number of the header, and the position after it."""
    found = _NUMBER.match(head, at)
    if found is None:
        raise invalid_header("PNM")
    return int(found[1]), found.end()


def _plain_text_max_value(data: bytes) -> int:
    """Return the maximum value of a plain-text PNM; decoders scale others than 1 and 255."""
    at, number = 2, 0
    for _ in range(3):
        found = _NUMBER.match(data[:_HEADER_BYTES], at)
        if found is None:
            return 0
        number, at = int(found[1]), found.end()
    return number


def read_bit_depth(head: bytes) -> tuple[int, int | None]:
    """Return (8 or 16, significant bits of 16 if stated) from the first bytes of a file."""
    top = _read_header(head)[3]
    return 16 if top > 255 else 8, _BITS_BY_MAX_VALUE.get(top)


def decode(data: bytes, info: ImageInfo) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return (h, w, c) grey, or blue, green, red; values above 8 bits are not scaled."""
    kind, height_px, width_px, top, at = _read_header(data)
    body = data[at : at + info.row_bytes * height_px]
    if kind == 4:
        rows = np.frombuffer(body, np.uint8).reshape(height_px, info.row_bytes)
        bits = np.unpackbits(rows, axis=1)[:, :width_px]
        return np.where(bits, 0, 255).astype(np.uint8)[:, :, None]
    stored = np.frombuffer(body, ">u2" if top > 255 else np.uint8)
    if top != 255 and int(stored.max(initial=0)) > top:
        raise unsupported(
            f"has a value of {int(stored.max())}, above its maximum value of {top}",
            "Save it with the maximum value of its camera",
        )
    shaped = stored.reshape(height_px, width_px, info.channels)
    if top > 255:
        return np.ascontiguousarray(shaped[:, :, ::-1].astype(np.uint16))
    if top < 255:
        shaped = (shaped.astype(np.uint16) * 255 + top // 2) // top
    return np.ascontiguousarray(shaped[:, :, ::-1].astype(np.uint8))
