"""JPEG: segments up to the end marker, and the restart markers that the header promises."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from edgeinspect.imaging.formats.content import (
    EXIF_START,
    ZERO_HOLE_BYTES,
    Form,
    FormError,
    check_elsewhere,
    cut_off,
    damaged,
    exif_turn,
    refused,
)

_SOI, _EOI, _SOS, _DRI, _APP1, _APP14, _DNL = 0xD8, 0xD9, 0xDA, 0xDD, 0xE1, 0xEE, 0xDC
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_READ_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
"""Baseline, extended, progressive; the same with arithmetic coding."""
_PROGRESSIVE = frozenset((0xC2, 0xCA))
_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))
_NEXT = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
"""A marker. Among coded pixels 0xff is followed by 0."""
_COEFFICIENTS = 64
_RESTART = frozenset(range(0xD0, 0xD8))
_SEGMENTS_MAX = 10_000
_START = b"\xff\xd8\xff"
_BEHIND_MAX = 64
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
    low_bit: int = 0
    """Their lowest bit that it brings."""


@dataclass(slots=True)
class _File:
    height_px: int = 0
    width_px: int = 0
    code: int = 0
    factors: dict[int, tuple[int, int]] = field(default_factory=dict)
    turn: int | None = None
    """What EXIF says, if it says anything."""
    xmp: bytes = b""
    frame_at: int = 0
    """First byte behind the frame's header."""
    end: int = 0
    """First byte behind the end marker."""
    scans: list[_Scan] = field(default_factory=list)


def form_of(data: bytes) -> Form:
    """See `picture_form.form_of`; of a file that is cut off too, if its header is there."""
    read = _walk(data, scans=False)
    if len(read.factors) == 4:
        raise refused("has the four colours of print (CMYK)")
    if read.turn is None:
        check_elsewhere(read.xmp, "XMP")
    channels = 1 if len(read.factors) == 1 else 3
    return Form("jpeg", read.height_px, read.width_px, channels, turn=read.turn or 1)


def check(data: bytes) -> None:
    """The end is there, and every restart marker.

    Raises:
        FormError: If not.
    """
    read = _walk(data, scans=True)
    covered: set[int] = set()
    for scan in read.scans:
        covered.update(scan.components)
        wanted = _restarts(read, scan)
        if wanted is not None and scan.restarts < wanted:
            raise cut_off(f"a JPEG with {scan.restarts} of {wanted} restart markers")
    if data.find(bytes(ZERO_HOLE_BYTES), read.frame_at, read.end) >= 0:
        raise FormError(
            f"has {ZERO_HOLE_BYTES} zeros among its coded pixels: a block that has not arrived",
            remedy="Copy it again",
        )
    if covered != set(read.factors):
        raise cut_off("a JPEG without all of its colours")
    if read.code in _PROGRESSIVE and not _is_refined(read):
        raise cut_off("a progressive JPEG without all of its scans")
    _check_alone(data, read)


def _is_refined(read: _File) -> bool:
    """Whether the scans bring every coefficient of every colour to its last bit."""
    missing = {name: [True] * _COEFFICIENTS for name in read.factors}
    for scan in read.scans:
        for name in scan.components:
            for at in range(scan.first, min(scan.last + 1, _COEFFICIENTS)):
                missing[name][at] = scan.low_bit > 0
    return not any(map(any, missing.values()))


def _check_alone(data: bytes, read: _File) -> None:
    """Refuse a second picture behind the first (MPO, a stream); a smaller one is a preview.

    Raises:
        RefusedError: There is one.
    """
    at = read.end
    for _ in range(_BEHIND_MAX):
        at = data.find(_START, at)
        if at < 0:
            return
        try:
            other = _walk(data[at : at + _HEADER_BYTES], scans=False)
        except (FormError, struct.error, IndexError):
            other = _File()
        if other.height_px * other.width_px >= read.height_px * read.width_px:
            raise refused("has a second picture behind its end", "Save each as a file of its own")
        at += len(_START)


def _walk(data: bytes, *, scans: bool) -> _File:
    read, interval, at = _File(), 0, 2
    for _ in range(_SEGMENTS_MAX):
        found = _NEXT.search(data, at)
        if found is None:
            raise cut_off("a JPEG without its end")
        code, at = found[1][0], found.end()
        if code in _ALONE or code == _SOI:
            continue
        if code == _EOI:
            if not read.code or (scans and not read.scans):
                raise cut_off("a JPEG without pixels")
            read.end = at
            return read
        (length,) = struct.unpack_from(">H", data, at)
        body, end = at + 2, at + length
        if end > len(data):
            raise cut_off("a JPEG within its header")
        if code in _FRAMES:
            _frame(read, code, data[body:end])
            read.frame_at = end
        elif code == _DRI:
            (interval,) = struct.unpack_from(">H", data, body)
        elif code == _DNL:
            raise refused("is a JPEG that tells its height at its end")
        elif code == _APP1:
            _told(read, data[body:end])
        elif code == _SOS:
            if not read.code:
                raise damaged("JPEG")
            if not scans:
                return read
            ids = tuple(data[body + 1 + 2 * i] for i in range(data[body]))
            first, last, bits = data[end - 3 : end]
            scan = _Scan(ids, end, 0, interval, first, last, bits & 15)
            at = _pixels(data, scan, read.height_px * read.width_px)
            read.scans.append(scan)
            continue
        at = end
    raise damaged("JPEG")


def _told(read: _File, body: bytes) -> None:
    """What an APP1 segment says of the orientation; a long EXIF goes on in a second one."""
    if body.startswith(EXIF_START):
        read.turn = read.turn or exif_turn(body)
    elif body.startswith(_XMP):
        read.xmp += body


def _frame(read: _File, code: int, body: bytes) -> None:
    if code not in _READ_FRAMES:
        raise refused("is a lossless or hierarchical JPEG")
    if read.code:
        raise damaged("JPEG")
    bits, height_px, width_px, count = struct.unpack_from(">BHHB", body)
    if bits != 8:
        raise refused(f"is a JPEG of {bits} bits")
    if not height_px:
        raise refused("is a JPEG that tells its height at its end")
    if count not in (1, 3, 4):
        raise refused(f"is a JPEG of {count} colours")
    read.code, read.height_px, read.width_px = code, height_px, width_px
    for number in range(count):
        name, factors = body[6 + 3 * number], body[7 + 3 * number]
        if not 1 <= factors >> 4 <= 4 or not 1 <= factors & 15 <= 4:
            raise damaged("JPEG")
        read.factors[name] = (factors >> 4, factors & 15)


def _pixels(data: bytes, scan: _Scan, pixels: int) -> int:
    """Pass over coded pixels; returns where the next marker begins."""
    at = scan.start
    while True:
        found = _NEXT.search(data, at)
        if found is None:
            raise cut_off("a JPEG without its end")
        if found[1][0] not in _RESTART:
            return found.start()
        scan.restarts += 1
        if scan.restarts > pixels:
            raise damaged("JPEG")
        at = found.end()


def _restarts(read: _File, scan: _Scan) -> int | None:
    """How many restart markers a scan must have; None if it has none."""
    if not scan.interval:
        return None
    most_x = max(x for x, _y in read.factors.values())
    most_y = max(y for _x, y in read.factors.values())
    if len(scan.components) > 1:
        across = _up(read.width_px, 8 * most_x)
        down = _up(read.height_px, 8 * most_y)
    else:
        x, y = read.factors.get(scan.components[0], (1, 1))
        across = _up(_up(read.width_px * x, most_x), 8)
        down = _up(_up(read.height_px * y, most_y), 8)
    return _up(across * down, scan.interval) - 1


def _up(number: int, by: int) -> int:
    return -(-number // by)
