"""Encodes frames as JPEG and class maps as coloured PNG for browsers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import HEAT_MAP_CELL_PX, Region
from edgeinspect.errors import DataError
from edgeinspect.imaging import class_color_bgr, decode_classes
from edgeinspect.wire import HeatMap, Mask

_MAX_WIDTH_PX = 2_000
_JPEG_QUALITY = 82
_THUMBNAIL_SIZE_PX = (240, 144)
_MASK_ALPHA = 150
_MAX_MASK_PX = 1 << 24
_HEAT_BEGIN = 0.25
"""Share of the level of rejects from which colour begins: a good part's median is at 0.2 of it."""


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """Encode a uint8 (H, W) or (H, W, 3) image, scaled to at most 2000 pixels width."""
    height, width = image.shape[:2]
    if width > _MAX_WIDTH_PX:
        size = (_MAX_WIDTH_PX, max(1, height * _MAX_WIDTH_PX // width))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def encode_mask_png(mask: Mask) -> bytes:
    """Encode a class map: one colour per class, transparent elsewhere.

    A heat map is drawn instead of the class map, if there is one.

    Raises:
        DataError: Its runs or levels contradict its size, or it is too large.
    """
    if not 0 < mask.height_px * mask.width_px <= _MAX_MASK_PX:
        raise DataError(f"a class map of {mask.height_px} x {mask.width_px} is too large")
    classes = decode_classes(mask.runs, mask.height_px, mask.width_px)
    table = np.zeros((256, 4), np.uint8)
    for class_id in np.unique(classes):
        if class_id:
            table[class_id] = (*class_color_bgr(int(class_id)), _MASK_ALPHA)
    drawn = table[classes]
    if isinstance(mask.heat, HeatMap):
        drawn = _draw_heat(mask.heat, mask)
    return _encode(".png", drawn, [])


def _draw_heat(heat: HeatMap, mask: Mask) -> NDArray[np.uint8]:
    """Return a heat map as BGRA of the class map's size: the nearer to good, the clearer."""
    if len(heat.levels) != heat.height * heat.width:
        raise DataError(f"a heat map of {heat.height} x {heat.width} has {len(heat.levels)} cells")
    cells = np.frombuffer(heat.levels, np.uint8).reshape(heat.height, heat.width)
    side = max(1, HEAT_MAP_CELL_PX // max(1, mask.stride))
    if not 0 < heat.height * heat.width * side * side <= _MAX_MASK_PX:
        raise DataError(f"a heat map of {heat.height} x {heat.width} is too large")
    size = (heat.width * side, heat.height * side)
    levels = cv2.resize(cells, size, interpolation=cv2.INTER_LINEAR)
    levels = levels[: mask.height_px, : mask.width_px]
    if levels.shape != (mask.height_px, mask.width_px):
        raise DataError(f"a heat map of {heat.height} x {heat.width} does not fit its class map")
    return np.asarray(_heat_table(heat.reject_level)[levels], np.uint8)


def _heat_table(reject_level: int) -> NDArray[np.uint8]:
    """Return BGRA of each level: clear to yellow, red from the level of rejects on, then darker."""
    red_from = min(max(reject_level, 1), 254)
    begin = red_from * _HEAT_BEGIN
    level = np.arange(256, dtype=np.float32)
    rise = np.clip((level - begin) / (red_from - begin), 0, 1)
    beyond = np.clip((level - red_from) / (255 - red_from), 0, 1)
    green, red = 230 * (1 - rise), 255 - 75 * beyond
    alpha = 30 * (rise > 0) + 90 * rise + 40 * beyond
    return np.stack([0 * level, green, red, alpha], axis=1).round().astype(np.uint8)


def encode_thumbnail(image: NDArray[np.uint8], regions: Sequence[Region]) -> bytes:
    """Encode a small JPEG of the worst region of a rejected frame, with boxes."""
    fatal = [region for region in regions if region.fatal]
    colored = image if image.ndim == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    left, top, width, height = _crop_box(image.shape, fatal[0] if fatal else None)
    crop = colored[top : top + height, left : left + width]
    scale = min(_THUMBNAIL_SIZE_PX[0] / width, _THUMBNAIL_SIZE_PX[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.ascontiguousarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA))
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
    """Return (left, top, width, height) of a 5:3 crop around a region, or of the centre."""
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
    is_encoded, data = cv2.imencode(suffix, image, list(options))
    if not is_encoded:
        raise DataError(f"an image cannot be encoded as {suffix}")
    return data.tobytes()
