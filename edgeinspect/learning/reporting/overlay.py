"""Masks drawn on pictures, and pictures as data inside a page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.datasets import VOID

CLASS_COLORS = (
    "#e4572e",
    "#2e86ab",
    "#f2b134",
    "#6a994e",
    "#a05195",
    "#17bebb",
    "#bc4749",
    "#7d8597",
)
"""Of class 1, 2, ...; they repeat."""
WIDE_ASPECT_RATIO = 2.2
"""Frames wider than this, by their height, are shown one below the other."""
_STACKED_PX, _SIDE_PX = 1000, 330
_FILL_OPACITY = 0.38
_FULL_CONTRAST_RANGE = 150
"""A picture whose greys span more than this is shown as it is."""
_SMALL_REGION_PX = 26
"""Regions smaller than this on the page get a box around them."""


_MAX_GAIN = 2.5
"""More would show noise instead of steel."""


def class_color(class_id: int) -> str:
    """#rrggbb of a class."""
    return CLASS_COLORS[(class_id - 1) % len(CLASS_COLORS)]


def display_width_px(height_px: int, width_px: int) -> int:
    """Width in page pixels of a frame of this size."""
    return _STACKED_PX if width_px > WIDE_ASPECT_RATIO * height_px else _SIDE_PX


def stretch_contrast(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same picture with its greys spread for the eye, at most by `_MOST_GAIN`.

    Black (letterboxing) has no part in it. A picture that uses its range stays as it is.
    """
    seen = image[image > 0]
    if not seen.size:
        return image
    low, high = (float(each) for each in np.percentile(seen, (1, 99)))
    if high - low > _FULL_CONTRAST_RANGE or high <= low:
        return image
    gain = min(_MAX_GAIN, 235 / (high - low))
    scaled = (image.astype(np.float32) - (low + high) / 2) * gain + 127.5
    return np.asarray(np.clip(scaled, 0, 255), np.uint8)


def to_display_size(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """A frame as blue, green, red of the page's width.

    Args:
        image: uint8 (H, W, 1 or 3).
        width: In pixels; small frames are enlarged by whole pixels' colour.
    """
    picture: Any = stretch_contrast(image)
    if image.shape[2] == 1:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    scale = width / image.shape[1]
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (width, max(1, round(image.shape[0] * scale)))
    out: NDArray[np.uint8] = cv2.resize(picture, size, interpolation=way)
    return out


def overlay_class_map(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], width: int
) -> NDArray[np.uint8]:
    """A frame with its class map in colour over it: filled, outlined, small regions boxed.

    Args:
        image: uint8 (H, W, 1 or 3).
        mask: uint8 (H, W), class ids.
        width: Of the result in pixels.
    """
    out = to_display_size(image, width)
    size = (out.shape[1], out.shape[0])
    for class_id in np.unique(mask):
        if class_id in (0, VOID):
            continue
        binary = (mask == class_id).astype(np.uint8)
        # Enlarged by area so that a line thinner than a page pixel does not vanish.
        share = cv2.resize(binary.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        drawn = (share > 0.15).astype(np.uint8)
        color = np.array(_hex_to_bgr(class_color(int(class_id))), np.float32)
        inside = drawn.astype(bool)
        out[inside] = (out[inside] * (1 - _FILL_OPACITY) + color * _FILL_OPACITY).astype(np.uint8)
        edges, _tree = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        bgr = tuple(int(each) for each in color)
        cv2.drawContours(out, edges, -1, bgr, 1)
        for edge in edges:
            x, y, wide, tall = cv2.boundingRect(edge)
            if max(wide, tall) < _SMALL_REGION_PX:
                cv2.rectangle(out, (x - 5, y - 5), (x + wide + 4, y + tall + 4), bgr, 1)
    return out


def overlay_heatmap(
    image: NDArray[np.uint8], values: NDArray[np.floating[Any]], width: int
) -> NDArray[np.uint8]:
    """A frame with a map over it, from clear (0) to red (1).

    Args:
        image: uint8 (H, W, 1 or 3).
        values: (h, w), 0 to 1, over the same field of view.
        width: Of the result in pixels.
    """
    out = to_display_size(image, width)
    size = (out.shape[1], out.shape[0])
    strength = cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    strength = np.clip(strength, 0, 1)
    colors: Any = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    weight = (0.65 * strength)[:, :, None]
    return np.asarray(out * (1 - weight) + colors * weight, np.uint8)


def jpeg_data_uri(image: NDArray[np.uint8]) -> str:
    """A picture (blue, green, red) as a JPEG inside a page."""
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 84])
    if not done:
        raise ValueError("the picture cannot be encoded")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def class_legend(classes: Sequence[str]) -> list[tuple[str, str]]:
    """(name, colour) of each class."""
    return [(name, class_color(index + 1)) for index, name in enumerate(classes)]


def _hex_to_bgr(color: str) -> tuple[int, int, int]:
    return int(color[5:7], 16), int(color[3:5], 16), int(color[1:3], 16)
