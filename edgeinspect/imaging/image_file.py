"""Reads one image file into pixels: the same for training, evaluation and the line.

The rules are in docs/reference/data.md, "How an image is read". The package `formats` parses the
headers; `ReadSettings` holds what no single file states, such as the bit depth of the camera.
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
from edgeinspect.imaging.formats.detection import (
    DATASET_PIXELS_MAX,
    FILE_BYTES_MAX,
    check_is_image,
    check_size,
    read_image_size,
    verify_image,
)
from edgeinspect.imaging.formats.image_info import (
    DECLARE_FLAT_END,
    ImageFileError,
    ImageInfo,
    UnsupportedImageError,
    check_missing_blocks,
    named_errors,
    unsupported,
)
from edgeinspect.imaging.read_settings import ReadSettings
from edgeinspect.system import escape_name, read_regular

_Pixels = TypeVar("_Pixels", bound=NDArray[np.generic])
NativePixels = NDArray[np.uint8] | NDArray[np.uint16]
_AS_STORED = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_PIXEL_BYTES_MAX = 16
_METADATA_BYTES_MAX = 32 << 20
"""Limits of a file's size: bytes per pixel (twice RGBA of 16 bits), and bytes of metadata."""
_MISSING_BLOCK_GREY = 128
"""Grey value of a JPEG block without coefficients."""
_AS_STORED_ANY = _AS_STORED | cv2.IMREAD_ANYCOLOR


def read_image(
    source: Path | bytes,
    settings: ReadSettings,
    *,
    where: str = "",
    pixels_max: int = DATASET_PIXELS_MAX,
) -> Pixels:
    """Read an image file as pixels for the models.

    Args:
        source: The file, or its content.
        settings: Of the camera or the data set that the file is from.
        where: The place that errors name; the path when absent.
        pixels_max: A larger image is refused.

    Returns:
        uint8 (h, w, 1) or (h, w, 3), C-contiguous, owned by the caller.

    Raises:
        FileReadError: The file cannot be read, or is not a regular file (also a `DataError`).
        DataError: It is too large, cut off, not a supported image, or its depth is not that of
            its camera.
    """
    with named_errors(where or (escape_name(source) if isinstance(source, Path) else "")):
        data = source if isinstance(source, bytes) else read_image_bytes(source)
        image, info = decode_native(data, flat_end=settings.flat_end, pixels_max=pixels_max)
        return settings.convert(image, info)


def read_verified_bytes(path: Path) -> NDArray[np.uint8]:
    """Return the bytes of an image file that is complete and readable as a mask.

    Raises:
        DataError: It is unreadable, not a regular file, empty, too large, cut off, or not
            supported.
    """
    with named_errors(escape_name(path)):
        data = read_image_bytes(path)
        check_size(data, DATASET_PIXELS_MAX)
        try:
            verify_image(data)
        except UnsupportedImageError as error:
            if not error.is_valid_mask:
                raise
    return np.frombuffer(data, np.uint8)


def read_native(path: Path, *, flat_end: bool = False) -> NativePixels:
    """Read an image file at its own depth: (h, w, 1), or (h, w, 3) as blue, green, red.

    Raises:
        DataError: As `read_image`, except for the depth.
    """
    with named_errors(escape_name(path)):
        return decode_native(read_image_bytes(path), flat_end=flat_end)[0]


def decode_native(
    data: bytes, *, flat_end: bool = False, pixels_max: int = DATASET_PIXELS_MAX
) -> tuple[NativePixels, ImageInfo]:
    """Decode an image file at its own depth, with its orientation applied and without alpha.

    Returns:
        uint8 or uint16 (h, w, 1), or (h, w, 3) as blue, green, red; and the parsed headers.

    Raises:
        DataError: It is too large, cut off, damaged, or not supported.
    """
    if not data:
        raise ImageFileError("is empty", remedy="Copy it again")
    check_is_image(data)
    check_size(data, pixels_max)
    info = verify_image(data)
    if not flat_end:
        check_missing_blocks(data, info)
    image = _decode(data, info)
    expected = (info.height_px, info.width_px, info.channels)
    if image.shape != expected or image.dtype.itemsize * 8 != info.bits:
        raise unsupported(
            f"is decoded as {image.shape} of {image.dtype}, its header states {expected} of "
            f"{info.bits} bits"
        )
    if info.format == "jpeg" and not flat_end:
        _check_missing_jpeg_blocks(image)
    return cast(
        NativePixels, np.ascontiguousarray(apply_orientation(image, info.orientation))
    ), info


def read_image_bytes(path: Path) -> bytes:
    """Return the bytes of an image file. Of a file that is not an image only the start is read.

    Raises:
        FileReadError: It cannot be read, or is not a regular file.
        DataError: It is empty, not an image, or longer than an image of its size can be.
    """
    data = read_regular(path, FILE_BYTES_MAX, check=_check_start)
    if not data:
        raise ImageFileError("is empty", remedy="Copy it again")
    return data


def _check_start(start: bytes, size_bytes: int) -> None:
    check_is_image(start)
    try:
        pixels = read_image_size(start).pixels
    except DataError:
        return  # the size is stated further on
    bytes_max = pixels * _PIXEL_BYTES_MAX + _METADATA_BYTES_MAX
    if size_bytes > bytes_max:
        raise ImageFileError(
            f"is longer ({size_bytes} bytes) than an image of {pixels} px can be",
            remedy="Copy or save it again",
        )


def _decode(data: bytes, info: ImageInfo) -> NativePixels:
    """Decode without applying the orientation; 1 channel if the header states grey."""
    if info.format == "pnm":
        return pnm.decode(data, info)
    if info.format == "bmp" and info.is_uncompressed:
        image: NativePixels = bmp.decode(data, info)
        return _drop_opaque_alpha(image) if info.has_alpha else image
    if info.format == "tiff":
        image = decode_tiff(data, info)
    elif info.has_alpha:
        image = _drop_opaque_alpha(_decode_with_opencv(data, cv2.IMREAD_UNCHANGED))
    else:
        color = cv2.IMREAD_COLOR if info.channels == 3 else cv2.IMREAD_ANYCOLOR
        image = _decode_with_opencv(data, color | _AS_STORED)
    if info.channels == 1 and image.shape[2] == 3:
        image = image[:, :, :1]
    return image


def decode_tiff(data: bytes, info: ImageInfo, *, keep_alpha: bool = False) -> NativePixels:
    """Decode a complete TIFF as (h, w, c) grey or blue, green, red, without its orientation.

    Args:
        data: The file.
        info: Its headers.
        keep_alpha: Return alpha as a fourth channel; otherwise only opaque images are accepted.
    """
    normalized, palette = tiff.normalize(data)
    if info.is_uncompressed:
        image = tiff.decode(data)
        if image.shape[2] >= 3:
            image = image[:, :, (2, 1, 0, *range(3, image.shape[2]))]
    else:
        image = _decode_with_opencv(
            normalized, cv2.IMREAD_UNCHANGED if info.has_alpha else _AS_STORED_ANY
        )
    alpha: NativePixels | None = None
    if info.has_alpha and keep_alpha and image.shape[2] in (2, 4):
        alpha, image = image[:, :, -1:], image[:, :, :-1]
    elif info.has_alpha:
        image = _drop_opaque_alpha(image)
    if palette:
        table = np.frombuffer(b"".join(palette), np.uint8).reshape(256, 3)
        image = table[image[:, :, 0]]
    if info.is_inverted:
        top = (1 << (info.significant_bits or info.bits)) - 1
        image = cast(NativePixels, image.dtype.type(top) - image)
    if alpha is not None:
        colours = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
        image = cast(NativePixels, np.concatenate((colours, alpha), axis=2))
    return image


def _decode_with_opencv(data: bytes, mode: int) -> NativePixels:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error as error:
        raise ImageFileError(f"cannot be decoded: {error.err}") from error
    if image is None:
        raise ImageFileError("is damaged: it cannot be decoded", remedy="Copy it again")
    if image.dtype not in (np.uint8, np.uint16):
        raise unsupported(f"has {image.dtype} pixels")
    native = cast(NativePixels, image)
    return native if native.ndim == 3 else native[:, :, None]


def _check_missing_jpeg_blocks(image: NativePixels) -> None:
    """Refuse a JPEG that ends in the grey that decoders use for missing blocks.

    A writer that was interrupted may still have written the end marker.

    Raises:
        ImageFileError: The last blocks are missing.
    """
    ends_grey = bool((image[-8:, -64:] == _MISSING_BLOCK_GREY).all())
    if ends_grey and bool((image != _MISSING_BLOCK_GREY).any()):
        raise ImageFileError(
            "ends in blocks of plain grey 128: missing pixels", remedy=DECLARE_FLAT_END
        )


def _drop_opaque_alpha(image: NativePixels) -> NativePixels:
    """Return an opaque image without its alpha channel.

    Raises:
        UnsupportedImageError: Some pixels are transparent, and their background is unknown.
    """
    if image.shape[2] not in (2, 4) or int(image[:, :, -1].min()) != np.iinfo(image.dtype).max:
        raise unsupported("has transparent pixels")
    return image[:, :, :-1]


def apply_orientation(image: _Pixels, orientation: int) -> _Pixels:
    """Return a view of an image or mask with its orientation (EXIF, 1 to 8) applied."""
    shown: NDArray[np.generic] = image
    if orientation in (5, 6, 7, 8):
        shown = shown.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        shown = shown[:, ::-1]
    if orientation in (3, 4, 7, 8):
        shown = shown[::-1]
    return cast(_Pixels, shown)
