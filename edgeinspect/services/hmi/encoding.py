"""Pictures as a browser takes them: JPEG, and class maps as PNG in colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import Region
from edgeinspect.errors import DataError
from edgeinspect.imaging import class_color_bgr, decode_classes
from edgeinspect.wire import Mask

_MAX_WIDTH_PX = 2_000
_JPEG_QUALITY = 82
_THUMBNAIL_SIZE_PX = (240, 144)
_MASK_ALPHA = 150
_MAX_MASK_PX = 1 << 24


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """A JPEG of a uint8 (H, W) or (H, W, 3) picture, at most 2000 pixels wide."""
    height, width = image.shape[:2]
    if width > _MAX_WIDTH_PX:
        size = (_MAX_WIDTH_PX, max(1, height * _MAX_WIDTH_PX // width))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def encode_mask_png(mask: Mask) -> bytes:
    """A PNG of a class map: a colour for each class, nothing where there is none.

    Raises:
        DataError: Its runs contradict its size, or it is absurdly large.
    """
    if not 0 < mask.height_px * mask.width_px <= _MAX_MASK_PX:
        raise DataError(f"a class map of {mask.height_px} x {mask.width_px} is refused")
    classes = decode_classes(mask.runs, mask.height_px, mask.width_px)
    table = np.zeros((256, 4), np.uint8)
    for class_id in np.unique(classes):
        if class_id:
            table[class_id] = (*class_color_bgr(int(class_id)), _MASK_ALPHA)
    return _encode(".png", table[classes], [])


def encode_thumbnail(image: NDArray[np.uint8], regions: Sequence[Region]) -> bytes:
    """A small JPEG of what made a frame a reject: the worst region, boxed."""
    fatal = [region for region in regions if region.fatal]
    colored = image if image.ndim == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    left, top, width, height = _crop_box(image.shape, fatal[0] if fatal else None)
    piece = colored[top : top + height, left : left + width]
    scale = min(_THUMBNAIL_SIZE_PX[0] / width, _THUMBNAIL_SIZE_PX[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.ascontiguousarray(cv2.resize(piece, size, interpolation=cv2.INTER_AREA))
    for region in fatal:
        box = region.box
        begin = (round((box.x_px - left) * scale), round((box.y_px - top) * scale))
        end = (
            round((box.x_px + box.width_px - left) * scale),
            round((box.y_px + box.height_px - top) * scale),
        )
        cv2.rectangle(small, begin, end, class_color_bgr(region.class_id), 2)
    return _encode(".jpg", np.asarray(small, np.uint8), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def _crop_box(shape: tuple[int, ...], region: Region | None) -> tuple[int, int, int, int]:
    """(left, top, width, height) of a piece of 5 by 3 around a region; the middle without one."""
    height, width = shape[:2]
    if region is None:
        wide, center_x, center_y = min(width, height * 5 // 3), width // 2, height // 2
    else:
        box = region.box
        wide = max(round(box.width_px * 1.4), round(box.height_px * 1.4 * 5 / 3), 160)
        center_x = box.x_px + box.width_px // 2
        center_y = box.y_px + box.height_px // 2
    wide = max(1, min(wide, width, max(1, height * 5 // 3)))
    tall = max(1, min(height, wide * 3 // 5))
    left = min(max(0, center_x - wide // 2), width - wide)
    top = min(max(0, center_y - tall // 2), height - tall)
    return left, top, wide, tall


def _encode(suffix: str, image: NDArray[Any], options: Sequence[int]) -> bytes:
    done, data = cv2.imencode(suffix, image, list(options))
    if not done:
        raise DataError(f"a picture cannot be encoded as {suffix}")
    return data.tobytes()
