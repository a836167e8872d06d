"""JPEG headers, and the check that no scan or restart interval is missing."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from edgeinspect.imaging.formats.image_info import (
    EXIF_SIGNATURE,
    ZERO_BLOCK_BYTES,
    ImageFileError,
    ImageInfo,
    check_xmp_orientation,
    exif_orientation,
    invalid_header,
    truncated,
    unsupported,
)

_SOI, _EOI, _SOS, _DRI, _APP1, _APP14, _DNL = 0xD8, 0xD9, 0xDA, 0xDD, 0xE1, 0xEE, 0xDC
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_READ_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
"""Baseline, extended, progressive; the same with arithmetic coding."""
_PROGRESSIVE = frozenset((0xC2, 0xCA))
_STANDALONE_MARKERS = frozenset((0x01, *range(0xD0, 0xD8)))
_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
"""A marker. Within scan data, 0xff is followed by 0."""
_COEFFICIENTS = 64
_RESTART = frozenset(range(0xD0, 0xD8))
_SEGMENTS_MAX = 10_000
SIGNATURE = b"\xff\xd8\xff"
_TRAILING_IMAGES_MAX = 64
_HEADER_BYTES = 1 << 20
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(slots=True)
class _Scan:
    components: tuple[int, ...]
    start: int
    """First byte of the scan data."""
    restarts: int
    interval: int
    first: int = 0
    last: int = _COEFFICIENTS - 1
    """Range of coefficients of a progressive scan."""
    lowest_bit: int = 0
    """Lowest bit of the coefficients that the scan refines."""


@dataclass(slots=True)
class _JpegFile:
    height_px: int = 0
    width_px: int = 0
    code: int = 0
    sampling_factors: dict[int, tuple[int, int]] = field(default_factory=dict)
    orientation: int | None = None
    """By EXIF; None if EXIF states none."""
    xmp: bytes = b""
    frame_at: int = 0
    """First byte after the frame header."""
    end: int = 0
    """First byte after the end marker."""
    scans: list[_Scan] = field(default_factory=list)


def read_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) from the first frame header."""
    at = 2
    for _ in range(_SEGMENTS_MAX):
        found = _MARKER.search(data, at)  # decoders skip bytes between segments
        if found is None or found[1][0] in (_EOI, _SOS):
            break
        code, at = found[1][0], found.end()
        if code in _STANDALONE_MARKERS or code == _SOI:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2:
            break
        if code in _FRAMES:
            height_px, width_px = struct.unpack_from(">HH", data, at + 3)
            return height_px, width_px
        at += length
    raise invalid_header("JPEG")


def read_info(data: bytes) -> ImageInfo:
    """Parse the headers; see `detection.read_info`. The file may be cut off after them."""
    parsed = _parse_segments(data, scans=False)
    if len(parsed.sampling_factors) == 4:
        raise unsupported("has CMYK colours")
    if parsed.orientation is None:
        check_xmp_orientation(parsed.xmp, "XMP")
    channels = 1 if len(parsed.sampling_factors) == 1 else 3
    return ImageInfo(
        "jpeg", parsed.height_px, parsed.width_px, channels, orientation=parsed.orientation or 1
    )


def verify(data: bytes) -> None:
    """Check that the end marker, every scan and every restart marker are there.

    Raises:
        ImageFileError: Something is missing.
    """
    parsed = _parse_segments(data, scans=True)
    covered: set[int] = set()
    for scan in parsed.scans:
        covered.update(scan.components)
        expected = _expected_restarts(parsed, scan)
        if expected is not None and scan.restarts < expected:
            raise truncated(f"a JPEG with {scan.restarts} of {expected} restart markers")
    if data.find(bytes(ZERO_BLOCK_BYTES), parsed.frame_at, parsed.end) >= 0:
        raise ImageFileError(
            f"has {ZERO_BLOCK_BYTES} zeros within its scan data: a missing block",
            remedy="Copy it again",
        )
    if covered != set(parsed.sampling_factors):
        raise truncated("a JPEG without all of its colours")
    if parsed.code in _PROGRESSIVE and not _has_all_coefficients(parsed):
        raise truncated("a progressive JPEG without all of its scans")
    _check_no_second_image(data, parsed)


def _has_all_coefficients(parsed: _JpegFile) -> bool:
    """Return True if the scans refine every coefficient of every component to its last bit."""
    missing = {name: [True] * _COEFFICIENTS for name in parsed.sampling_factors}
    for scan in parsed.scans:
        for name in scan.components:
            for at in range(scan.first, min(scan.last + 1, _COEFFICIENTS)):
                missing[name][at] = scan.lowest_bit > 0
    return not any(map(any, missing.values()))


def _check_no_second_image(data: bytes, parsed: _JpegFile) -> None:
    """Refuse a second image after the first (MPO, a stream). A smaller one is a preview.

    Raises:
        UnsupportedImageError: There is one.
    """
    at = parsed.end
    for _ in range(_TRAILING_IMAGES_MAX):
        at = data.find(SIGNATURE, at)
        if at < 0:
            return
        try:
            other = _parse_segments(data[at : at + _HEADER_BYTES], scans=False)
        except (ImageFileError, struct.error, IndexError):
            other = _JpegFile()
        if other.height_px * other.width_px >= parsed.height_px * parsed.width_px:
            raise unsupported(
                "has a second image after its end", "Save each image as a separate file"
            )
        at += len(SIGNATURE)


def _parse_segments(data: bytes, *, scans: bool) -> _JpegFile:
    parsed, interval, at = _JpegFile(), 0, 2
    for _ in range(_SEGMENTS_MAX):
        found = _MARKER.search(data, at)
        if found is None:
            raise truncated("a JPEG without its end")
        code, at = found[1][0], found.end()
        if code in _STANDALONE_MARKERS or code == _SOI:
            continue
        if code == _EOI:
            if not parsed.code or (scans and not parsed.scans):
                raise truncated("a JPEG without pixels")
            parsed.end = at
            return parsed
        (length,) = struct.unpack_from(">H", data, at)
        body, end = at + 2, at + length
        if end > len(data):
            raise truncated("a JPEG within its header")
        if code in _FRAMES:
            _read_frame_header(parsed, code, data[body:end])
            parsed.frame_at = end
        elif code == _DRI:
            (interval,) = struct.unpack_from(">H", data, body)
        elif code == _DNL:
            raise unsupported("is a JPEG that states its height at its end")
        elif code == _APP1:
            _read_app1(parsed, data[body:end])
        elif code == _SOS:
            if not parsed.code:
                raise invalid_header("JPEG")
            if not scans:
                return parsed
            ids = tuple(data[body + 1 + 2 * i] for i in range(data[body]))
            first, last, bits = data[end - 3 : end]
            scan = _Scan(ids, end, 0, interval, first, last, bits & 15)
            at = _skip_scan_data(data, scan, parsed.height_px * parsed.width_px)
            parsed.scans.append(scan)
            continue
        at = end
    raise invalid_header("JPEG")


def _read_app1(parsed: _JpegFile, body: bytes) -> None:
    """Read EXIF or XMP from an APP1 segment. A long EXIF continues in a second segment."""
    if body.startswith(EXIF_SIGNATURE):
        parsed.orientation = parsed.orientation or exif_orientation(body)
    elif body.startswith(_XMP):
        parsed.xmp += body


def _read_frame_header(parsed: _JpegFile, code: int, body: bytes) -> None:
    if code not in _READ_FRAMES:
        raise unsupported("is a lossless or hierarchical JPEG")
    if parsed.code:
        raise invalid_header("JPEG")
    bits, height_px, width_px, count = struct.unpack_from(">BHHB", body)
    if bits != 8:
        raise unsupported(f"is a JPEG of {bits} bits")
    if not height_px:
        raise unsupported("is a JPEG that states its height at its end")
    if count not in (1, 3, 4):
        raise unsupported(f"is a JPEG with {count} components")
    parsed.code, parsed.height_px, parsed.width_px = code, height_px, width_px
    for number in range(count):
        name, factors = body[6 + 3 * number], body[7 + 3 * number]
        if not 1 <= factors >> 4 <= 4 or not 1 <= factors & 15 <= 4:
            raise invalid_header("JPEG")
        parsed.sampling_factors[name] = (factors >> 4, factors & 15)


def _skip_scan_data(data: bytes, scan: _Scan, pixels: int) -> int:
    """Skip a scan's data, count its restart markers, return the position of the next marker."""
    at = scan.start
    while True:
        found = _MARKER.search(data, at)
        if found is None:
            raise truncated("a JPEG without its end")
        if found[1][0] not in _RESTART:
            return found.start()
        scan.restarts += 1
        if scan.restarts > pixels:
            raise invalid_header("JPEG")
        at = found.end()


def _expected_restarts(parsed: _JpegFile, scan: _Scan) -> int | None:
    """Return the number of restart markers that a scan must have; None without an interval."""
    if not scan.interval:
        return None
    x_max = max(x for x, _y in parsed.sampling_factors.values())
    y_max = max(y for _x, y in parsed.sampling_factors.values())
    if len(scan.components) > 1:
        across = _ceil_div(parsed.width_px, 8 * x_max)
        down = _ceil_div(parsed.height_px, 8 * y_max)
    else:
        x, y = parsed.sampling_factors.get(scan.components[0], (1, 1))
        across = _ceil_div(_ceil_div(parsed.width_px * x, x_max), 8)
        down = _ceil_div(_ceil_div(parsed.height_px * y, y_max), 8)
    return _ceil_div(across * down, scan.interval) - 1


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
