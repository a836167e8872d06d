"""Augmentation of one image and its mask, reproducible by a given random generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """The changes that leave the label of this part true."""

    flip_x: bool = True
    flip_y: bool = True
    transpose: bool = False
    """Rotations by 90°: only for square crops of parts without a rolling direction."""
    rotate_deg: float = 0.0
    """Maximum rotation in either direction; corners are mirrored."""
    scale: float = 0.0
    """Maximum relative change of size."""
    contrast: float = 0.3
    brightness: float = 12.0
    """Grey levels."""
    gamma: float = 0.0
    """Exponent between 1 / (1 + gamma) and 1 + gamma."""
    gradient: float = 0.0
    """Maximum difference of an uneven illumination in grey levels."""
    noise: float = 3.0
    """Maximum standard deviation in grey levels."""
    blur: float = 0.0
    """Share of images that are blurred slightly."""


def augment_image(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    settings: AugmentSettings,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return a changed copy of an image and its mask.

    Args:
        image: (H, W, C); not changed.
        mask: (H, W); not changed.
        settings: The permitted changes.
        rng: The same state gives the same result.

    Returns:
        float32 (H, W, C), 0 to 255, and the mask; (W, H) after a transposition.
    """
    image, mask = _flip_and_transpose(image, mask, settings, rng)
    if settings.rotate_deg or settings.scale:
        image, mask = _rotate_and_scale(image, mask, settings, rng)
    out: Any = _change_illumination(image.astype(np.float32), settings, rng)
    if settings.blur and rng.random() < settings.blur:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.4, 1.2))).reshape(out.shape)
    if settings.noise:
        deviation = float(rng.random()) * settings.noise
        out = out + rng.standard_normal(out.shape, np.float32) * np.float32(deviation)
    return np.clip(out, 0, 255, out=out), np.ascontiguousarray(mask)


def _flip_and_transpose(
    image: Any, mask: Any, settings: AugmentSettings, rng: np.random.Generator
) -> tuple[Any, Any]:
    if settings.flip_x and rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    if settings.flip_y and rng.random() < 0.5:
        image, mask = image[::-1], mask[::-1]
    if settings.transpose and image.shape[0] == image.shape[1] and rng.random() < 0.5:
        image, mask = image.swapaxes(0, 1), mask.T
    return image, mask


def _rotate_and_scale(
    image: Any, mask: Any, settings: AugmentSettings, rng: np.random.Generator
) -> tuple[Any, Any]:
    height, width = mask.shape
    angle = float(rng.uniform(-settings.rotate_deg, settings.rotate_deg))
    scale = float(np.exp(rng.uniform(-1, 1) * np.log1p(settings.scale)))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)

    def warp(pixels: Any, interpolation: int) -> Any:
        return cv2.warpAffine(
            np.ascontiguousarray(pixels),
            matrix,
            (width, height),
            flags=interpolation,
            borderMode=cv2.BORDER_REFLECT_101,
        )

    image = warp(image, cv2.INTER_LINEAR).reshape(height, width, -1)
    return image, warp(mask, cv2.INTER_NEAREST)


def _change_illumination(
    image: NDArray[np.float32], settings: AugmentSettings, rng: np.random.Generator
) -> NDArray[np.float32]:
    mean = image.mean(dtype=np.float32)
    factor = 1 + float(rng.uniform(-1, 1)) * settings.contrast
    offset = float(rng.uniform(-1, 1)) * settings.brightness
    image = (image - mean) * np.float32(factor) + (mean + np.float32(offset))
    if settings.gamma:
        exponent = float(np.exp(rng.uniform(-1, 1) * np.log1p(settings.gamma)))
        image = np.float32(255) * (np.clip(image, 0, 255) / np.float32(255)) ** np.float32(exponent)
    if settings.gradient:
        height, width = image.shape[:2]
        down, right = rng.uniform(-0.5, 0.5, 2) * settings.gradient
        image = image + np.linspace(-down, down, height, dtype=np.float32)[:, None, None]
        image = image + np.linspace(-right, right, width, dtype=np.float32)[None, :, None]
    return image
