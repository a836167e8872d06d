"""JPEG: segments up to the end marker, and the restart markers that the header promises."""

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
"""A marker. Among coded pixels 0xff is followed by 0."""
_COEFFICIENTS = 64
_RESTART = frozenset(range(0xD0, 0xD8))
_SEGMENTS_MAX = 10_000
_SIGNATURE = b"\xff\xd8\xff"
_TRAILING_IMAGES_MAX = 64
_HEADER_BYTES = 1 << 20
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(slots=True)
class _Scan:
    components: tuple[int, ...]
    start: int
    """First byte of its coded pixels."""
    restarts: int
    interval: int
    first: int = 0
    last: int = _COEFFICIENTS - 1
    """Coefficients of a progressive one."""
    lowest_bit: int = 0
    """Their lowest bit that it brings."""


@dataclass(slots=True)
class _JpegFile:
    height_px: int = 0
    width_px: int = 0
    code: int = 0
    sampling_factors: dict[int, tuple[int, int]] = field(default_factory=dict)
    orientation: int | None = None
    """What EXIF says, if it says anything."""
    xmp: bytes = b""
    frame_at: int = 0
    """First byte behind the frame's header."""
    end: int = 0
    """First byte behind the end marker."""
    scans: list[_Scan] = field(default_factory=list)


def read_info(data: bytes) -> ImageInfo:
    """See `picture_form.form_of`; of a file that is cut off too, if its header is there."""
    read = _parse_segments(data, scans=False)
    if len(read.sampling_factors) == 4:
        raise unsupported("has the four colours of print (CMYK)")
    if read.orientation is None:
        check_xmp_orientation(read.xmp, "XMP")
    channels = 1 if len(read.sampling_factors) == 1 else 3
    return ImageInfo(
        "jpeg", read.height_px, read.width_px, channels, orientation=read.orientation or 1
    )


def verify(data: bytes) -> None:
    """The end is there, and every restart marker.

    Raises:
        FormError: If not.
    """
    read = _parse_segments(data, scans=True)
    covered: set[int] = set()
    for scan in read.scans:
        covered.update(scan.components)
        wanted = _expected_restarts(read, scan)
        if wanted is not None and scan.restarts < wanted:
            raise truncated(f"a JPEG with {scan.restarts} of {wanted} restart markers")
    if data.find(bytes(ZERO_BLOCK_BYTES), read.frame_at, read.end) >= 0:
        raise ImageFileError(
            f"has {ZERO_BLOCK_BYTES} zeros among its coded pixels: a block that has not arrived",
            remedy="Copy it again",
        )
    if covered != set(read.sampling_factors):
        raise truncated("a JPEG without all of its colours")
    if read.code in _PROGRESSIVE and not _has_all_coefficients(read):
        raise truncated("a progressive JPEG without all of its scans")
    _check_no_second_image(data, read)


def _has_all_coefficients(parsed: _JpegFile) -> bool:
    """Whether the scans bring every coefficient of every colour to its last bit."""
    missing = {name: [True] * _COEFFICIENTS for name in parsed.sampling_factors}
    for scan in parsed.scans:
        for name in scan.components:
            for at in range(scan.first, min(scan.last + 1, _COEFFICIENTS)):
                missing[name][at] = scan.lowest_bit > 0
    return not any(map(any, missing.values()))


def _check_no_second_image(data: bytes, parsed: _JpegFile) -> None:
    """Refuse a second picture behind the first (MPO, a stream); a smaller one is a preview.

    Raises:
        RefusedError: There is one.
    """
    at = parsed.end
    for _ in range(_TRAILING_IMAGES_MAX):
        at = data.find(_SIGNATURE, at)
        if at < 0:
            return
        try:
            other = _parse_segments(data[at : at + _HEADER_BYTES], scans=False)
        except (ImageFileError, struct.error, IndexError):
            other = _JpegFile()
        if other.height_px * other.width_px >= parsed.height_px * parsed.width_px:
            raise unsupported(
                "has a second picture behind its end", "Save each as a file of its own"
            )
        at += len(_SIGNATURE)


def _parse_segments(data: bytes, *, scans: bool) -> _JpegFile:
    read, interval, at = _JpegFile(), 0, 2
    for _ in range(_SEGMENTS_MAX):
        found = _MARKER.search(data, at)
        if found is None:
            raise truncated("a JPEG without its end")
        code, at = found[1][0], found.end()
        if code in _STANDALONE_MARKERS or code == _SOI:
            continue
        if code == _EOI:
            if not read.code or (scans and not read.scans):
                raise truncated("a JPEG without pixels")
            read.end = at
            return read
        (length,) = struct.unpack_from(">H", data, at)
        body, end = at + 2, at + length
        if end > len(data):
            raise truncated("a JPEG within its header")
        if code in _FRAMES:
            _read_frame_header(read, code, data[body:end])
            read.frame_at = end
        elif code == _DRI:
            (interval,) = struct.unpack_from(">H", data, body)
        elif code == _DNL:
            raise unsupported("is a JPEG that tells its height at its end")
        elif code == _APP1:
            _read_app1(read, data[body:end])
        elif code == _SOS:
            if not read.code:
                raise invalid_header("JPEG")
            if not scans:
                return read
            ids = tuple(data[body + 1 + 2 * i] for i in range(data[body]))
            first, last, bits = data[end - 3 : end]
            scan = _Scan(ids, end, 0, interval, first, last, bits & 15)
            at = _skip_scan_data(data, scan, read.height_px * read.width_px)
            read.scans.append(scan)
            continue
        at = end
    raise invalid_header("JPEG")


def _read_app1(parsed: _JpegFile, body: bytes) -> None:
    """What an APP1 segment says of the orientation; a long EXIF goes on in a second one."""
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
        raise unsupported("is a JPEG that tells its height at its end")
    if count not in (1, 3, 4):
        raise unsupported(f"is a JPEG of {count} colours")
    parsed.code, parsed.height_px, parsed.width_px = code, height_px, width_px
    for number in range(count):
        name, factors = body[6 + 3 * number], body[7 + 3 * number]
        if not 1 <= factors >> 4 <= 4 or not 1 <= factors & 15 <= 4:
            raise invalid_header("JPEG")
        parsed.sampling_factors[name] = (factors >> 4, factors & 15)


def _skip_scan_data(data: bytes, scan: _Scan, pixels: int) -> int:
    """Pass over coded pixels; returns where the next marker begins."""
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
    """How many restart markers a scan must have; None if it has none."""
    if not scan.interval:
        return None
    most_x = max(x for x, _y in parsed.sampling_factors.values())
    most_y = max(y for _x, y in parsed.sampling_factors.values())
    if len(scan.components) > 1:
        across = _ceil_div(parsed.width_px, 8 * most_x)
        down = _ceil_div(parsed.height_px, 8 * most_y)
    else:
        x, y = parsed.sampling_factors.get(scan.components[0], (1, 1))
        across = _ceil_div(_ceil_div(parsed.width_px * x, most_x), 8)
        down = _ceil_div(_ceil_div(parsed.height_px * y, most_y), 8)
    return _ceil_div(across * down, scan.interval) - 1


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
