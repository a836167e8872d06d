"""Reading one picture file into pixels: the same for training, evaluation and the line.

The rules are in docs/data.md, "How a picture is read". What a file says is found by
`picture_form`; how deep a camera's or a set's pictures are is a `Reading`, which no single
file can tell.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain.frame import Pixels
from edgeinspect.errors import DataError
from edgeinspect.imaging.formats import bmp, pnm, tiff
from edgeinspect.imaging.formats.content import Form, FormError, RefusedError, check_zeros, refused
from edgeinspect.imaging.formats.detection import check_known, check_whole
from edgeinspect.imaging.formats.header import (
    FILE_BYTES_MAX,
    SET_PIXELS_MAX,
    check_size,
    picture_size,
)
from edgeinspect.imaging.read_settings import Reading, to_8_bits
from edgeinspect.system.regular_file import printable, read_regular

__all__ = [
    "SUFFIXES",
    "Reading",
    "content_of",
    "decode",
    "decode_picture",
    "read",
    "read_whole",
    "tiff_pixels",
    "to_8_bits",
    "to_channels",
    "turned",
]

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".ppm"))
"""File names that count as pictures, in lower case. What a file is, its content says."""

_Pixels = TypeVar("_Pixels", bound=NDArray[np.generic])
Native = NDArray[np.uint8] | NDArray[np.uint16]
_AS_STORED = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_PIXEL_BYTES_MAX = 16
_BESIDES_BYTES_MAX = 32 << 20
"""Of a file: bytes of each pixel, twice those of RGBA of 16 bits, and of all that is no pixel."""
_NOTHING_CAME = 128
"""What a block becomes of which no coefficient is known."""
_AS_STORED_ANY = _AS_STORED | cv2.IMREAD_ANYCOLOR


def read(
    source: Path | bytes, reading: Reading, *, where: str = "", pixels_max: int = SET_PIXELS_MAX
) -> Pixels:
    """The pixels of a picture file, as the models take them.

    Args:
        source: The file, or its content.
        reading: Of the camera or the set that it is from.
        where: What an error names; the path when absent.
        pixels_max: A larger picture is not decoded.

    Returns:
        uint8 (h, w, 1) or (h, w, 3), C-contiguous, of its own memory.

    Raises:
        FileReadError: The file cannot be read, or is no regular file (a `DataError` too).
        DataError: It is too large, is cut off, is no picture, has no one meaning, or has
            another depth than its camera.
    """
    named = where or (printable(source) if isinstance(source, Path) else "")
    data = source if isinstance(source, bytes) else _content_of(source)
    try:
        picture, form = decode(data, flat_end=reading.flat_end, pixels_max=pixels_max)
        return reading.apply(picture, form)
    except DataError as error:
        raise DataError(error.what, where=named, remedy=error.remedy) from error


def read_whole(path: Path) -> NDArray[np.uint8]:
    """The bytes of a picture file that is all there, and has one meaning as a mask.

    Raises:
        DataError: Unreadable, no regular file, empty, too large to decode, cut off (a decoder
            may fill the rest with grey and say nothing), or read in different ways.
    """
    data = _content_of(path)
    check_size(data, SET_PIXELS_MAX, where=printable(path))
    try:
        check_whole(data)
    except DataError as error:
        if isinstance(error, RefusedError) and error.as_mask:
            return np.frombuffer(data, np.uint8)
        raise DataError(error.what, where=printable(path), remedy=error.remedy) from error
    return np.frombuffer(data, np.uint8)


def decode_picture(path: Path, *, flat_end: bool = False) -> Native:
    """(h, w, c) pixels at the file's own depth, 1 channel, or 3 as blue, green, red.

    Raises:
        DataError: As `read`, but for the depth.
    """
    try:
        return decode(_content_of(path), flat_end=flat_end)[0]
    except DataError as error:
        raise DataError(error.what, where=printable(path), remedy=error.remedy) from error


def decode(
    data: bytes, *, flat_end: bool = False, pixels_max: int = SET_PIXELS_MAX
) -> tuple[Native, Form]:
    """The content of a picture file at its own depth, turned, without alpha.

    Returns:
        uint8 or uint16 (h, w, 1), or (h, w, 3) as blue, green, red; and what the file said.

    Raises:
        DataError: It is too large, cut off, damaged, or has no one meaning.
    """
    if not data:
        raise FormError("is empty", remedy="Copy it again")
    check_known(data)
    check_size(data, pixels_max)
    form = check_whole(data)
    if not flat_end:
        check_zeros(data, form)
    picture = _pixels(data, form)
    wanted = (form.height_px, form.width_px, form.channels)
    if picture.shape != wanted or picture.dtype.itemsize * 8 != form.bits:
        raise refused(
            f"is decoded as {picture.shape} of {picture.dtype}, though it says {wanted} of "
            f"{form.bits} bits"
        )
    if form.format == "jpeg" and not flat_end:
        _check_grey_end(picture)
    return cast(Native, np.ascontiguousarray(turned(picture, form.turn))), form


def content_of(path: Path) -> bytes:
    """The bytes of a picture file; of a long one that is none, little more than the first ones.

    Raises:
        FileReadError: It cannot be read, or is no regular file.
        DataError: It is no picture, or is longer than one of its size can be.
    """
    return read_regular(path, FILE_BYTES_MAX, check=_check_start)


def _check_start(start: bytes, size_bytes: int) -> None:
    check_known(start)
    try:
        pixels = picture_size(start).pixels
    except DataError:
        return  # its header stands further behind
    bytes_max = pixels * _PIXEL_BYTES_MAX + _BESIDES_BYTES_MAX
    if size_bytes > bytes_max:
        raise FormError(
            f"is longer ({size_bytes} bytes) than a picture of {pixels} px can be",
            remedy="Copy it again, or save it anew",
        )


def _content_of(path: Path) -> bytes:
    try:
        data = content_of(path)
    except FormError as error:
        raise DataError(error.what, where=printable(path), remedy=error.remedy) from error
    if not data:
        raise DataError("is empty", where=printable(path), remedy="Copy it again")
    return data


def _pixels(data: bytes, form: Form) -> Native:
    """As stored: not turned; 1 channel if the header says that all is grey."""
    if form.format == "pnm":
        return pnm.decode(data, form)
    if form.format == "bmp" and form.unpacked:
        picture: Native = bmp.decode(data, form)
        return _without_alpha(picture) if form.alpha else picture
    if form.format == "tiff":
        picture = tiff_pixels(data, form)
    elif form.alpha:
        picture = _without_alpha(_by_opencv(data, cv2.IMREAD_UNCHANGED))
    else:
        color = cv2.IMREAD_COLOR if form.channels == 3 else cv2.IMREAD_ANYCOLOR
        picture = _by_opencv(data, color | _AS_STORED)
    if form.channels == 1 and picture.shape[2] == 3:
        picture = picture[:, :, :1]
    return picture


def tiff_pixels(data: bytes, form: Form, *, keep_alpha: bool = False) -> Native:
    """The pixels of a whole TIFF: not turned, 0 is black, (h, w, c) grey or blue, green, red.

    Args:
        data: The file.
        form: What it says.
        keep_alpha: Transparency stays, as a fourth channel; else it is refused and dropped.
    """
    plain, palette = tiff.plain(data)
    if form.unpacked:
        picture = tiff.decode(data)
        if picture.shape[2] >= 3:
            picture = picture[:, :, (2, 1, 0, *range(3, picture.shape[2]))]
    else:
        picture = _by_opencv(plain, cv2.IMREAD_UNCHANGED if form.alpha else _AS_STORED_ANY)
    alpha: Native | None = None
    if form.alpha and keep_alpha and picture.shape[2] in (2, 4):
        alpha, picture = picture[:, :, -1:], picture[:, :, :-1]
    elif form.alpha:
        picture = _without_alpha(picture)
    if palette:
        table = np.frombuffer(b"".join(palette), np.uint8).reshape(256, 3)
        picture = table[picture[:, :, 0]]
    if form.inverted:
        top = (1 << (form.depth_bits or form.bits)) - 1
        picture = cast(Native, picture.dtype.type(top) - picture)
    if alpha is not None:
        colours = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture
        picture = cast(Native, np.concatenate((colours, alpha), axis=2))
    return picture


def _by_opencv(data: bytes, mode: int) -> Native:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error as error:
        raise FormError(f"cannot be decoded: {error.err}") from error
    if picture is None:
        raise FormError("is damaged: it cannot be decoded", remedy="Copy it again")
    if picture.dtype not in (np.uint8, np.uint16):
        raise refused(f"has {picture.dtype} pixels")
    found = cast(Native, picture)
    return found if found.ndim == 3 else found[:, :, None]


def _check_grey_end(picture: Native) -> None:
    """Refuse a JPEG whose last blocks are of the grey that decoders put where nothing came.

    Its end marker may be there all the same: a writer that ran out of time closes its file.

    Raises:
        FormError: It ends so.
    """
    ends = bool((picture[-8:, -64:] == _NOTHING_CAME).all())
    if ends and bool((picture != _NOTHING_CAME).any()):
        raise FormError(
            "ends in blocks of plain grey 128: pixels that have not arrived",
            remedy="Copy it again; if such grey is real, say `flat_end: true` in reading.yaml "
            "beside the pictures, or as the folder camera's option",
        )


def _without_alpha(picture: Native) -> Native:
    """The colours of a picture whose pixels are all opaque.

    Raises:
        RefusedError: Some are not: what stands behind them, nobody says.
    """
    if picture.shape[2] not in (2, 4):
        raise refused("has transparent pixels")
    if int(picture[:, :, -1].min()) != np.iinfo(picture.dtype).max:
        raise refused("has transparent pixels")
    return picture[:, :, :-1]


def turned(picture: _Pixels, turn: int) -> _Pixels:
    """A picture, or a mask, as its orientation (EXIF, 1 to 8) wants it to be shown; a view."""
    shown: NDArray[np.generic] = picture
    if turn in (5, 6, 7, 8):
        shown = shown.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        shown = shown[:, ::-1]
    if turn in (3, 4, 7, 8):
        shown = shown[::-1]
    return cast(_Pixels, shown)


def to_channels(picture: NDArray[np.uint8], channels: int) -> Pixels:
    """The picture with 1 or 3 channels: grey by the usual weights, or grey three times."""
    if picture.shape[2] == channels:
        return picture
    if channels == 1:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)[:, :, None]
    return np.repeat(picture, channels, axis=2)
