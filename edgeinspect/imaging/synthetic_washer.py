"""Synthetic images of a turned steel washer, seen from above, with three classes of defects.

The example data set of `edgeinspect data example` and of the tutorial. Position, exposure, the
turning marks and the direction of the highlight differ from part to part, so a defect cannot
be found by comparing with one good image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

WASHER_CLASSES: tuple[str, ...] = ("scratch", "dent", "stain")
WASHER_SIDE_PX = 192
"""Height and width of each image."""

_OUTER_PX, _INNER_PX = 80.0, 33.0
_CHAMFER_PX = 3.0
_Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WasherImage:
    """One image with its ground truth."""

    image: NDArray[np.uint8]
    """uint8 (H, W), grey."""
    mask: NDArray[np.uint8]
    """uint8 (H, W), class ids; 0 is good, i + 1 is `WASHER_CLASSES[i]`."""


def render_washer(seed: int, index: int, defect: str | None = None) -> WasherImage:
    """Render one washer; the same arguments always give the same pixels.

    Args:
        seed: The batch of parts. Different seeds share no image.
        index: The part of the batch.
        defect: One of `WASHER_CLASSES`, or None for a good part.
    """
    washer = _Washer(np.random.default_rng([seed, index, 20_261]))
    if defect is not None:
        (washer.add_scratch, washer.add_dent, washer.add_stain)[WASHER_CLASSES.index(defect)]()
    return washer.to_image()


class _Washer:
    """One part while it is drawn, in grey levels of 0 to 255."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        side = WASHER_SIDE_PX
        self.mask = np.zeros((side, side), np.uint8)
        centre = side / 2 + rng.uniform(-4, 4, 2)
        y, x = np.mgrid[:side, :side].astype(np.float32)
        self.centre = centre
        self.radius_px: _Float = np.hypot(y - centre[0], x - centre[1]).astype(np.float32)
        self.angle: _Float = np.arctan2(y - centre[0], x - centre[1]).astype(np.float32)
        self.outer_px = _OUTER_PX + float(rng.uniform(-1.5, 1.5))
        self.inner_px = _INNER_PX + float(rng.uniform(-1.5, 1.5))
        self.metal: _Float = np.clip(self.outer_px - self.radius_px, 0, 1) * np.clip(
            self.radius_px - self.inner_px, 0, 1
        )
        self.light_angle = float(rng.uniform(-np.pi, np.pi))
        self.grey = self._surface()

    def _surface(self) -> _Float:
        """Return turned steel: concentric marks, a highlight across them, bright chamfers."""
        rng = self.rng
        marks = _blur_1d(rng.standard_normal(4 * WASHER_SIDE_PX), 2.0) * rng.uniform(7, 13)
        grey = np.interp(self.radius_px * 4, np.arange(marks.size), marks).astype(np.float32)
        highlight = np.cos(2 * (self.angle - self.light_angle))
        grey += np.float32(rng.uniform(118, 152)) + highlight * np.float32(rng.uniform(10, 22))
        grey += _clouds(rng, 7) * np.float32(rng.uniform(3, 7))  # a film of oil
        edge = np.minimum(self.outer_px - self.radius_px, self.radius_px - self.inner_px)
        grey += 45 * np.exp(-((edge - _CHAMFER_PX / 2) ** 2) / 3)
        for _ in range(int(rng.integers(0, 9))):  # dust
            row, column = rng.integers(2, WASHER_SIDE_PX - 2, 2)
            grey[row, column] += float(rng.uniform(-30, 30))
        return grey

    def _inside(self, margin_px: float) -> tuple[float, float]:
        """Return a point (y, x) of the face that is `margin_px` away from its edges."""
        low, high = self.inner_px + margin_px, self.outer_px - margin_px
        radius = np.sqrt(self.rng.uniform(low * low, high * high))
        angle = self.rng.uniform(-np.pi, np.pi)
        y, x = self.centre + radius * np.array([np.sin(angle), np.cos(angle)])
        return float(y), float(x)

    def _mark(self, class_id: int, alpha: _Float, threshold: float) -> None:
        self.mask[(alpha > threshold) & (self.metal > 0.5)] = class_id

    # -- defects -----------------------------------------------------------------------

    def add_scratch(self) -> None:
        """Draw a thin bent line, mostly bright, at any angle to the turning marks."""
        rng = self.rng
        y, x = self._inside(11)
        length, angle = rng.uniform(26, 60), rng.uniform(-np.pi, np.pi)
        along = np.array([np.sin(angle), np.cos(angle)])
        across = np.array([along[1], -along[0]])
        steps = np.linspace(-0.5, 0.5, 9)[:, None]
        bend = rng.normal(0, 0.08) * length * (0.25 - steps**2) * 4
        points = np.array([y, x]) + steps * length * along + bend * across
        canvas = np.zeros(self.mask.shape, np.uint8)
        line = (points[:, ::-1] * 16).round().astype(np.int32)
        thick = 2 + int(rng.random() < 0.4)
        cv2.polylines(canvas, [line], False, 255, thick, cv2.LINE_AA, shift=4)
        alpha = _blur(canvas.astype(np.float32) / 255, 0.7) * 1.4
        self.grey += np.minimum(alpha, 1) * float(
            rng.uniform(60, 100) * (1 if rng.random() < 0.7 else -1)
        )
        self._mark(1, alpha, 0.25)

    def add_dent(self) -> None:
        """Draw a hollow: its wall is dark towards the lamp and bright away from it."""
        rng = self.rng
        radius = float(rng.uniform(6, 10.5))
        y, x = self._inside(radius + 2)
        rows, columns = np.mgrid[:WASHER_SIDE_PX, :WASHER_SIDE_PX].astype(np.float32)
        rows, columns = (rows - y) / radius, (columns - x) / radius
        hollow = np.exp(-1.6 * (rows**2 + columns**2))
        slope = rows * np.sin(self.light_angle) + columns * np.cos(self.light_angle)
        self.grey += hollow * (slope * float(rng.uniform(110, 165)) - float(rng.uniform(15, 35)))
        self._mark(2, hollow, 0.2)

    def add_stain(self) -> None:
        """Draw a dark area with a ragged edge: rust or burnt coolant."""
        rng = self.rng
        radius = float(rng.uniform(10, 19))
        y, x = self._inside(9)
        rows, columns = np.mgrid[:WASHER_SIDE_PX, :WASHER_SIDE_PX].astype(np.float32)
        distance = np.hypot(rows - y, (columns - x) * rng.uniform(0.7, 1.3)) / radius
        ragged = distance + 0.28 * _clouds(rng, 18)
        alpha = _blur(np.clip((1 - ragged) * 5 + 0.5, 0, 1), 1.2)
        dark = float(rng.uniform(0.25, 0.45)) * (1 + 0.25 * _clouds(rng, 32))
        self.grey *= 1 - alpha * dark
        self._mark(3, alpha, 0.5)

    def to_image(self) -> WasherImage:
        """Put the part on the belt, apply exposure and sensor noise, and convert to 8 bits."""
        rng = self.rng
        belt = 38 + 10 * _clouds(rng, 9) + 3 * rng.standard_normal(self.grey.shape)
        shadow = np.exp(-np.maximum(self.radius_px - self.outer_px, 0) / 7)
        grey = self.metal * self.grey + (1 - self.metal) * belt * (1 - 0.5 * shadow)
        grey = _blur(grey.astype(np.float32), 0.6) * float(rng.uniform(0.88, 1.12))
        grey += rng.normal(0, 2.2, grey.shape)
        return WasherImage(np.clip(grey, 0, 255).astype(np.uint8), self.mask)


def _clouds(rng: np.random.Generator, cells: int) -> _Float:
    """Return smooth noise of about unit deviation, `cells` of it from side to side."""
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    size = (WASHER_SIDE_PX, WASHER_SIDE_PX)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.float32)


def _blur(image: NDArray[Any], sigma_px: float) -> _Float:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), np.float32)


def _blur_1d(values: NDArray[Any], sigma: float) -> NDArray[np.float64]:
    kernel = np.exp(-(np.arange(-8, 9) ** 2) / (2 * sigma**2))
    smooth = np.convolve(values, kernel / kernel.sum(), mode="same")
    return np.asarray(smooth / smooth.std())
