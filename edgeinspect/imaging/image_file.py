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

from edgeinspect.domain import Pixels
from edgeinspect.errors import DataError
from edgeinspect.imaging.formats import bmp, pnm, tiff
from edgeinspect.imaging.formats.detection import check_is_image, verify_image
from edgeinspect.imaging.formats.image_info import (
    ImageFileError,
    ImageInfo,
    UnsupportedImageError,
    check_missing_blocks,
    unsupported,
)
from edgeinspect.imaging.formats.image_size import (
    DATASET_PIXELS_MAX,
    FILE_BYTES_MAX,
    check_size,
    read_image_size,
)
from edgeinspect.imaging.read_settings import ReadSettings, to_8_bits
from edgeinspect.system import escape_name, read_regular

__all__ = [
    "IMAGE_SUFFIXES",
    "ReadSettings",
    "apply_orientation",
    "decode_native",
    "decode_tiff",
    "read_image",
    "read_image_bytes",
    "read_native",
    "read_verified_bytes",
    "to_8_bits",
    "to_channels",
]

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".ppm"))
"""File names that count as pictures, in lower case. What a file is, its content says."""

_Pixels = TypeVar("_Pixels", bound=NDArray[np.generic])
NativePixels = NDArray[np.uint8] | NDArray[np.uint16]
_AS_STORED = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_PIXEL_BYTES_MAX = 16
_METADATA_BYTES_MAX = 32 << 20
"""Of a file: bytes of each pixel, twice those of RGBA of 16 bits, and of all that is no pixel."""
_MISSING_BLOCK_GREY = 128
"""What a block becomes of which no coefficient is known."""
_AS_STORED_ANY = _AS_STORED | cv2.IMREAD_ANYCOLOR


def read_image(
    source: Path | bytes,
    settings: ReadSettings,
    *,
    where: str = "",
    pixels_max: int = DATASET_PIXELS_MAX,
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
    named = where or (escape_name(source) if isinstance(source, Path) else "")
    data = source if isinstance(source, bytes) else _read_nonempty(source)
    try:
        picture, form = decode_native(data, flat_end=settings.flat_end, pixels_max=pixels_max)
        return settings.convert(picture, form)
    except DataError as error:
        raise DataError(error.what, where=named, remedy=error.remedy) from error


def read_verified_bytes(path: Path) -> NDArray[np.uint8]:
    """The bytes of a picture file that is all there, and has one meaning as a mask.

    Raises:
        DataError: Unreadable, no regular file, empty, too large to decode, cut off (a decoder
            may fill the rest with grey and say nothing), or read in different ways.
    """
    data = _read_nonempty(path)
    check_size(data, DATASET_PIXELS_MAX, where=escape_name(path))
    try:
        verify_image(data)
    except DataError as error:
        if isinstance(error, UnsupportedImageError) and error.is_valid_mask:
            return np.frombuffer(data, np.uint8)
        raise DataError(error.what, where=escape_name(path), remedy=error.remedy) from error
    return np.frombuffer(data, np.uint8)


def read_native(path: Path, *, flat_end: bool = False) -> NativePixels:
    """(h, w, c) pixels at the file's own depth, 1 channel, or 3 as blue, green, red.

    Raises:
        DataError: As `read`, but for the depth.
    """
    try:
        return decode_native(_read_nonempty(path), flat_end=flat_end)[0]
    except DataError as error:
        raise DataError(error.what, where=escape_name(path), remedy=error.remedy) from error


def decode_native(
    data: bytes, *, flat_end: bool = False, pixels_max: int = DATASET_PIXELS_MAX
) -> tuple[NativePixels, ImageInfo]:
    """The content of a picture file at its own depth, turned, without alpha.

    Returns:
        uint8 or uint16 (h, w, 1), or (h, w, 3) as blue, green, red; and what the file said.

    Raises:
        DataError: It is too large, cut off, damaged, or has no one meaning.
    """
    if not data:
        raise ImageFileError("is empty", remedy="Copy it again")
    check_is_image(data)
    check_size(data, pixels_max)
    form = verify_image(data)
    if not flat_end:
        check_missing_blocks(data, form)
    picture = _decode(data, form)
    wanted = (form.height_px, form.width_px, form.channels)
    if picture.shape != wanted or picture.dtype.itemsize * 8 != form.bits:
        raise unsupported(
            f"is decoded as {picture.shape} of {picture.dtype}, though it says {wanted} of "
            f"{form.bits} bits"
        )
    if form.format == "jpeg" and not flat_end:
        _check_missing_jpeg_blocks(picture)
    return cast(
        NativePixels, np.ascontiguousarray(apply_orientation(picture, form.orientation))
    ), form


def read_image_bytes(path: Path) -> bytes:
    """The bytes of a picture file; of a long one that is none, little more than the first ones.

    Raises:
        FileReadError: It cannot be read, or is no regular file.
        DataError: It is no picture, or is longer than one of its size can be.
    """
    return read_regular(path, FILE_BYTES_MAX, check=_check_start)


def _check_start(start: bytes, size_bytes: int) -> None:
    check_is_image(start)
    try:
        pixels = read_image_size(start).pixels
    except DataError:
        return  # its header stands further behind
    bytes_max = pixels * _PIXEL_BYTES_MAX + _METADATA_BYTES_MAX
    if size_bytes > bytes_max:
        raise ImageFileError(
            f"is longer ({size_bytes} bytes) than a picture of {pixels} px can be",
            remedy="Copy it again, or save it anew",
        )


def _read_nonempty(path: Path) -> bytes:
    try:
        data = read_image_bytes(path)
    except ImageFileError as error:
        raise DataError(error.what, where=escape_name(path), remedy=error.remedy) from error
    if not data:
        raise DataError("is empty", where=escape_name(path), remedy="Copy it again")
    return data


def _decode(data: bytes, info: ImageInfo) -> NativePixels:
    """As stored: not turned; 1 channel if the header says that all is grey."""
    if info.format == "pnm":
        return pnm.decode(data, info)
    if info.format == "bmp" and info.is_uncompressed:
        picture: NativePixels = bmp.decode(data, info)
        return _drop_opaque_alpha(picture) if info.has_alpha else picture
    if info.format == "tiff":
        picture = decode_tiff(data, info)
    elif info.has_alpha:
        picture = _drop_opaque_alpha(_decode_with_opencv(data, cv2.IMREAD_UNCHANGED))
    else:
        color = cv2.IMREAD_COLOR if info.channels == 3 else cv2.IMREAD_ANYCOLOR
        picture = _decode_with_opencv(data, color | _AS_STORED)
    if info.channels == 1 and picture.shape[2] == 3:
        picture = picture[:, :, :1]
    return picture


def decode_tiff(data: bytes, info: ImageInfo, *, keep_alpha: bool = False) -> NativePixels:
    """The pixels of a whole TIFF: not turned, 0 is black, (h, w, c) grey or blue, green, red.

    Args:
        data: The file.
        form: What it says.
        keep_alpha: Transparency stays, as a fourth channel; else it is refused and dropped.
    """
    plain, palette = tiff.normalize(data)
    if info.is_uncompressed:
        picture = tiff.decode(data)
        if picture.shape[2] >= 3:
            picture = picture[:, :, (2, 1, 0, *range(3, picture.shape[2]))]
    else:
        picture = _decode_with_opencv(
            plain, cv2.IMREAD_UNCHANGED if info.has_alpha else _AS_STORED_ANY
        )
    alpha: NativePixels | None = None
    if info.has_alpha and keep_alpha and picture.shape[2] in (2, 4):
        alpha, picture = picture[:, :, -1:], picture[:, :, :-1]
    elif info.has_alpha:
        picture = _drop_opaque_alpha(picture)
    if palette:
        table = np.frombuffer(b"".join(palette), np.uint8).reshape(256, 3)
        picture = table[picture[:, :, 0]]
    if info.is_inverted:
        top = (1 << (info.significant_bits or info.bits)) - 1
        picture = cast(NativePixels, picture.dtype.type(top) - picture)
    if alpha is not None:
        colours = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture
        picture = cast(NativePixels, np.concatenate((colours, alpha), axis=2))
    return picture


def _decode_with_opencv(data: bytes, mode: int) -> NativePixels:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error as error:
        raise ImageFileError(f"cannot be decoded: {error.err}") from error
    if picture is None:
        raise ImageFileError("is damaged: it cannot be decoded", remedy="Copy it again")
    if picture.dtype not in (np.uint8, np.uint16):
        raise unsupported(f"has {picture.dtype} pixels")
    found = cast(NativePixels, picture)
    return found if found.ndim == 3 else found[:, :, None]


def _check_missing_jpeg_blocks(image: NativePixels) -> None:
    """Refuse a JPEG whose last blocks are of the grey that decoders put where nothing came.

    Its end marker may be there all the same: a writer that ran out of time closes its file.

    Raises:
        FormError: It ends so.
    """
    ends = bool((image[-8:, -64:] == _MISSING_BLOCK_GREY).all())
    if ends and bool((image != _MISSING_BLOCK_GREY).any()):
        raise ImageFileError(
            "ends in blocks of plain grey 128: pixels that have not arrived",
            remedy="Copy it again; if such grey is real, say `flat_end: true` in reading.yaml "
            "beside the pictures, or as the folder camera's option",
        )


def _drop_opaque_alpha(image: NativePixels) -> NativePixels:
    """The colours of a picture whose pixels are all opaque.

    Raises:
        RefusedError: Some are not: what stands behind them, nobody says.
    """
    if image.shape[2] not in (2, 4):
        raise unsupported("has transparent pixels")
    if int(image[:, :, -1].min()) != np.iinfo(image.dtype).max:
        raise unsupported("has transparent pixels")
    return image[:, :, :-1]


def apply_orientation(image: _Pixels, orientation: int) -> _Pixels:
    """A picture, or a mask, as its orientation (EXIF, 1 to 8) wants it to be shown; a view."""
    shown: NDArray[np.generic] = image
    if orientation in (5, 6, 7, 8):
        shown = shown.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        shown = shown[:, ::-1]
    if orientation in (3, 4, 7, 8):
        shown = shown[::-1]
    return cast(_Pixels, shown)


def to_channels(image: NDArray[np.uint8], channels: int) -> Pixels:
    """The picture with 1 or 3 channels: grey by the usual weights, or grey three times."""
    if image.shape[2] == channels:
        return image
    if channels == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)[:, :, None]
    return np.repeat(image, channels, axis=2)
