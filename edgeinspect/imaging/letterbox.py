"""Letterboxing: fits an image of any size into the line's frame, keeping its proportions."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import Letterbox, Pixels
from edgeinspect.errors import DataError


def letterbox_image(image: Pixels, height_px: int, width_px: int) -> tuple[Pixels, float, int, int]:
    """Scale an image to fit, centred, and fill the rest with 0.

    Args:
        image: uint8 (h, w) or (h, w, c).
        height_px: Height of the frame.
        width_px: Width of the frame.

    Returns:
        (frame uint8 (height_px, width_px[, c]), scale, left_px, top_px), where
        frame_px = image_px * scale + (left_px, top_px). Shrinks by area averaging,
        enlarges linearly.
    """
    scale = min(height_px / image.shape[0], width_px / image.shape[1])
    height = max(1, min(height_px, round(image.shape[0] * scale)))
    width = max(1, min(width_px, round(image.shape[1] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    fitted = cv2.resize(image, (width, height), interpolation=interpolation)
    frame = np.zeros((height_px, width_px, *image.shape[2:]), np.uint8)
    top_px, left_px = (height_px - height) // 2, (width_px - width) // 2
    target = frame[top_px : top_px + height, left_px : left_px + width]
    target[:] = fitted.reshape(target.shape)
    return frame, scale, left_px, top_px


def fit_into(target: Pixels, image: Pixels) -> Letterbox | None:
    """Copy an image into a frame's memory, letterboxed if the sizes differ.

    Args:
        target: uint8 (H, W, C), overwritten.
        image: uint8 (h, w, C).

    Returns:
        The letterbox; None if the sizes are equal.
    """
    if image.shape == target.shape:
        np.copyto(target, image)
        return None
    fitted, scale, left_px, top_px = letterbox_image(image, target.shape[0], target.shape[1])
    np.copyto(target, fitted.reshape(target.shape))
    return Letterbox(scale, left_px, top_px)


def letterbox_mask(
    mask: NDArray[np.uint8],
    scale: float,
    left_px: int,
    top_px: int,
    height_px: int,
    width_px: int,
) -> NDArray[np.uint8]:
    """Return (height_px, width_px) class ids, placed as `letterbox_image` places the image."""
    frame = np.zeros((height_px, width_px), np.uint8)
    height = max(1, min(height_px, round(mask.shape[0] * scale)))
    width = max(1, min(width_px, round(mask.shape[1] * scale)))
    fitted = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    frame[top_px : top_px + height, left_px : left_px + width] = fitted
    return frame


def upsample_class_map(
    class_map: NDArray[np.uint8], stride: int, height_px: int, width_px: int
) -> NDArray[np.uint8]:
    """Return a class map at frame size, C-contiguous; a cell covers stride x stride pixels.

    Raises:
        DataError: The class map is smaller than the frame.
    """
    full = class_map.repeat(stride, 0).repeat(stride, 1)
    if full.shape[0] < height_px or full.shape[1] < width_px:
        raise DataError(
            f"the class map is {full.shape[0]} x {full.shape[1]} px, its image "
            f"{height_px} x {width_px} px"
        )
    return np.ascontiguousarray(full[:height_px, :width_px])
