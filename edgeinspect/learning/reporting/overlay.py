"""Images of a report: contrast, class maps and heat maps drawn over a frame, JPEG data URIs."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging import class_color_bgr
from edgeinspect.learning.datasets import VOID

WIDE_ASPECT_RATIO = 2.2
"""Frames with a larger width / height are shown one below the other."""
_STACKED_PX, _SIDE_PX = 1000, 330
_FILL_OPACITY = 0.38
_FULL_CONTRAST_RANGE = 150
"""An image whose grey levels span more than this is not stretched."""
_SMALL_REGION_PX = 26
"""Regions smaller than this in the report get a box around them."""
_MAX_GAIN = 2.5
"""More would amplify noise."""


def display_width_px(height_px: int, width_px: int) -> int:
    """Return the width in CSS pixels at which a report shows a frame of this size."""
    return _STACKED_PX if width_px > WIDE_ASPECT_RATIO * height_px else _SIDE_PX


def stretch_contrast(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image with its contrast raised for display, at most by `_MAX_GAIN`.

    Black pixels (letterboxing) are ignored. An image with enough contrast is returned as it is.
    """
    content = image[image > 0]
    if not content.size:
        return image
    low, high = (float(level) for level in np.percentile(content, (1, 99)))
    if high - low > _FULL_CONTRAST_RANGE or high <= low:
        return image
    gain = min(_MAX_GAIN, 235 / (high - low))
    scaled = (image.astype(np.float32) - (low + high) / 2) * gain + 127.5
    return np.asarray(np.clip(scaled, 0, 255), np.uint8)


def to_display_size(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Return a frame as uint8 (h, width, 3), BGR, with stretched contrast.

    Args:
        image: uint8 (H, W, 1 or 3).
        width: Of the result in pixels.
    """
    stretched: Any = stretch_contrast(image)
    if image.shape[2] == 1:
        stretched = cv2.cvtColor(stretched, cv2.COLOR_GRAY2BGR)
    scale = width / image.shape[1]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (width, max(1, round(image.shape[0] * scale)))
    out: NDArray[np.uint8] = cv2.resize(stretched, size, interpolation=interpolation)
    return out


def overlay_class_map(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], width: int
) -> NDArray[np.uint8]:
    """Draw a class map over a frame: regions filled and outlined, small ones boxed.

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
        # By area and a low threshold, so that a line thinner than a display pixel stays visible.
        coverage = cv2.resize(binary.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        drawn = (coverage > 0.15).astype(np.uint8)
        bgr = class_color_bgr(int(class_id))
        inside = drawn.astype(bool)
        fill = np.array(bgr, np.float32) * _FILL_OPACITY
        out[inside] = (out[inside] * (1 - _FILL_OPACITY) + fill).astype(np.uint8)
        contours, _hierarchy = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(out, contours, -1, bgr, 1)
        for contour in contours:
            x, y, w, h = cv2.boundingRect(contour)
            if max(w, h) < _SMALL_REGION_PX:
                cv2.rectangle(out, (x - 5, y - 5), (x + w + 4, y + h + 4), bgr, 1)
    return out


def overlay_heatmap(
    image: NDArray[np.uint8], values: NDArray[np.floating[Any]], width: int
) -> NDArray[np.uint8]:
    """Draw a heat map over a frame, from transparent (0) to red (1).

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
    opacity = (0.65 * strength)[:, :, None]
    return np.asarray(out * (1 - opacity) + colors * opacity, np.uint8)


def jpeg_data_uri(image: NDArray[np.uint8]) -> str:
    """Encode a BGR image as a JPEG `data:` URI."""
    is_encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 84])
    if not is_encoded:
        raise ValueError("the image cannot be encoded")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
