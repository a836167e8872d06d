"""Synthetic images of steel strip: texture, lighting, benign marks and four defect classes.

The classes follow Severstal's: pits, inclusions (and short cracks), scratches, patches. The
third dominates, and more than half of all images are clean. Benign marks (stains, roll marks,
dust, edge shadow, exposure drift) prevent a separation by grey level alone.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CLASS_NAMES: tuple[str, ...] = ("pit", "inclusion", "scratch", "patch")
CLASS_SHARE: tuple[float, ...] = (0.14, 0.08, 0.60, 0.18)
"""Share of each class among defects, as in Severstal's data."""
DEFECTIVE_SHARE = 0.42
"""Share of images with at least one defect."""

_BANK_SIDE_PX = 2048
_SIZE_MIN_PX = (48, 240)
"""Smallest height and width in which every mark fits."""
_Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StripImage:
    """One image with its ground truth."""

    image: NDArray[np.uint8]
    """uint8 (H, W), grey."""
    mask: NDArray[np.uint8]
    """uint8 (H, W), class ids; 0 is good steel, i + 1 is `CLASS_NAMES[i]`."""

    @property
    def has_defect(self) -> bool:
        """Return True if any pixel is a defect."""
        return bool(self.mask.any())


def render_strip(seed: int, index: int, height_px: int = 256, width_px: int = 1600) -> StripImage:
    """Render one image; the same (seed, index, size) always gives the same pixels.

    Args:
        seed: The coil. Different seeds share no image.
        index: The image of the coil.
        height_px: Across the rolling direction.
        width_px: Along the rolling direction.
    """
    if height_px < _SIZE_MIN_PX[0] or width_px < _SIZE_MIN_PX[1]:  # crop a larger image
        whole = render_strip(
            seed, index, max(height_px, _SIZE_MIN_PX[0]), max(width_px, _SIZE_MIN_PX[1])
        )
        crop = np.s_[:height_px, :width_px]
        return StripImage(whole.image[crop].copy(), whole.mask[crop].copy())
    rng = np.random.default_rng([seed, index])
    scene = _StripScene(rng, height_px, width_px)
    scene.add_texture()
    scene.add_benign_marks()
    if rng.random() < DEFECTIVE_SHARE:
        for _ in range(1 + (rng.random() < 0.35) + (rng.random() < 0.12)):
            kind = int(rng.choice(len(CLASS_NAMES), p=CLASS_SHARE))
            scene.add_defect(kind)
    return scene.to_image()


@functools.lru_cache(maxsize=1)
def _noise_banks() -> tuple[_Float, _Float, _Float]:
    """Return noise of unit deviation to crop from: fine grain, rolling lines, slow clouds.

    The noise is fixed; the seed of an image selects where it is cropped and how it is mixed.
    """
    rng = np.random.default_rng(20_260)
    side = _BANK_SIDE_PX
    white = rng.standard_normal((side, side), np.float32)
    grain = cv2.GaussianBlur(white, (3, 3), 0.7)
    lines = cv2.GaussianBlur(rng.standard_normal((side, side), np.float32), (0, 0), 28, sigmaY=0.8)
    small = rng.standard_normal((side // 16, side // 16)).astype(np.float32)
    clouds = _resize(_blur(small, 2.5), (side, side))
    return _unit(grain), _unit(lines), _unit(clouds)


def _unit(field: NDArray[Any]) -> _Float:
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def _resize(
    field: NDArray[Any], size: tuple[int, int], interpolation: int = cv2.INTER_LINEAR
) -> _Float:
    return np.asarray(cv2.resize(field, size, interpolation=interpolation), np.float32)


def _blur(field: NDArray[Any], sigma: float) -> _Float:
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float32)


class _StripScene:
    """An image being rendered: grey levels as float32, mask as class ids."""

    def __init__(self, rng: np.random.Generator, height_px: int, width_px: int) -> None:
        self.rng = rng
        self.height = height_px
        self.width = width_px
        self.grey: _Float = np.empty((height_px, width_px), np.float32)
        self.mask = np.zeros((height_px, width_px), np.uint8)
        self.contrast = 1.0

    def _crop_noise(self, bank: _Float) -> _Float:
        y = int(self.rng.integers(0, _BANK_SIDE_PX - min(self.height, _BANK_SIDE_PX - 1)))
        x = int(self.rng.integers(0, _BANK_SIDE_PX - min(self.width, _BANK_SIDE_PX - 1)))
        crop = bank[y : y + self.height, x : x + self.width]
        if crop.shape != self.grey.shape:  # an image larger than the noise
            below, right = self.height - crop.shape[0], self.width - crop.shape[1]
            crop = cv2.copyMakeBorder(  # type: ignore[assignment]
                crop, 0, below, 0, right, cv2.BORDER_REFLECT
            )
        return crop

    def add_texture(self) -> None:
        """Draw rolled steel under uneven light."""
        rng = self.rng
        grain, lines, clouds = _noise_banks()
        base = rng.uniform(70, 150)
        self.contrast = base / 110
        self.grey = np.multiply(self._crop_noise(grain), np.float32(rng.uniform(2.5, 6)))
        self.grey += self._crop_noise(lines) * np.float32(rng.uniform(2, 8) * self.contrast)
        self.grey += self._crop_noise(clouds) * np.float32(rng.uniform(2, 9) * self.contrast)
        x = np.linspace(-1, 1, self.width, dtype=np.float32)
        y = np.linspace(-1, 1, self.height, dtype=np.float32)
        tilt = rng.uniform(-0.16, 0.16) * x - rng.uniform(0, 0.15) * x * x
        fall = rng.uniform(-0.12, 0.12) * y - rng.uniform(0, 0.12) * y * y
        self.light = (1 + tilt[None, :] + fall[:, None]).astype(np.float32)
        self.grey += np.float32(base)

    # -- benign marks -----------------------------------------------------------------

    def add_benign_marks(self) -> None:
        """Draw stains, roll marks, dust and a dark coil edge."""
        rng = self.rng
        if rng.random() < 0.35:
            self._stain()
        if rng.random() < 0.25:
            self._roll_marks()
        if rng.random() < 0.5:
            self._dust(int(rng.integers(3, 25)))
        if rng.random() < 0.12:
            edge = int(rng.integers(20, 220))
            ramp = np.minimum(1, np.arange(edge, dtype=np.float32) / edge + rng.uniform(0, 0.5))
            columns = slice(0, edge) if rng.random() < 0.5 else slice(self.width - edge, self.width)
            self.grey[:, columns] *= ramp if columns.start == 0 else ramp[::-1]

    def _stain(self) -> None:
        """Draw oil or water: a large change of grey with soft edges."""
        rng = self.rng
        blob = self._soft_blob(int(rng.integers(40, 120)), 0.5, blur=14)
        if blob is not None:
            area, alpha = blob
            self.grey[area] += alpha * np.float32(rng.uniform(-9, 9) * self.contrast)

    def _roll_marks(self) -> None:
        """Draw faint repeated dots along the rolling direction."""
        rng = self.rng
        step = int(rng.integers(150, 400))
        y = int(rng.integers(8, self.height - 8))
        level = float(rng.uniform(-7, 7) * self.contrast)
        for x in range(int(rng.integers(4, step)), self.width - 8, step):
            patch = self.grey[y - 3 : y + 4, x - 3 : x + 4]
            patch += np.float32(level) * _DOT[: patch.shape[0], : patch.shape[1]]

    def _dust(self, count: int) -> None:
        """Draw single bright or dark pixels."""
        ys = self.rng.integers(0, self.height - 1, count)
        xs = self.rng.integers(0, self.width - 1, count)
        level = self.rng.uniform(-30, 35, count).astype(np.float32)
        self.grey[ys, xs] += level
        self.grey[ys, xs + 1] += level * 0.5

    # -- defects -----------------------------------------------------------------------

    def add_defect(self, kind: int) -> None:
        """Draw one defect (or cluster) of class id `kind + 1`."""
        (self._pits, self._inclusion, self._scratches, self._patch)[kind]()

    def _blend(self, y: int, x: int, alpha: _Float, level: float, class_id: int) -> None:
        """Blend a stamp in, and mark it where its alpha exceeds 0.34."""
        top, left = max(0, y), max(0, x)
        bottom = min(self.height, y + alpha.shape[0])
        right = min(self.width, x + alpha.shape[1])
        if bottom <= top or right <= left:
            return
        alpha = alpha[top - y : bottom - y, left - x : right - x]
        area = (slice(top, bottom), slice(left, right))
        self.grey[area] += alpha * np.float32(level * self.contrast)
        self.mask[area][alpha > 0.34] = class_id

    def _pits(self) -> None:
        """Draw a cluster of small dark holes with a light rim."""
        rng = self.rng
        x0, y0 = rng.uniform(30, self.width - 30), rng.uniform(20, self.height - 20)
        for _ in range(int(rng.integers(5, 22))):
            radius = float(rng.uniform(2.2, 6))
            side = int(radius * 2) + 5
            stamp = _disc(side, radius, 1.2, stretch=float(rng.uniform(0.8, 1.6)))
            y, x = int(rng.normal(y0, 18)), int(rng.normal(x0, 45))
            self._blend(y, x, stamp, -float(rng.uniform(22, 52)), 1)

    def _inclusion(self) -> None:
        """Draw a dark ragged streak along the rolling direction, or a short crack."""
        rng = self.rng
        length = int(rng.integers(60, 260))
        thick = float(rng.uniform(1.6, 4.5))
        points = _walk(rng, length, wander=0.35)
        stamp = _stroke(points, thick, length, blur=0.8)
        holes = _resize(
            rng.uniform(0.45, 1, (4, max(4, length // 12))).astype(np.float32),
            (stamp.shape[1], stamp.shape[0]),
        )
        y = int(rng.integers(5, max(6, self.height - stamp.shape[0])))
        x = int(rng.integers(5, max(6, self.width - length)))
        self._blend(y, x, stamp * holes, -float(rng.uniform(26, 60)), 2)

    def _scratches(self) -> None:
        """Draw one to four parallel scratches, mostly bright, at any angle."""
        rng = self.rng
        angle = float(rng.normal(0, 0.35)) if rng.random() < 0.7 else float(rng.uniform(-1.5, 1.5))
        length = float(rng.uniform(70, 420))
        level = float(rng.uniform(20, 55)) * (1 if rng.random() < 0.75 else -0.8)
        x0, y0 = rng.uniform(20, self.width - 60), rng.uniform(15, self.height - 15)
        canvas = np.zeros((self.height, self.width), np.uint8)
        for number in range(1 + int(rng.integers(0, 4))):
            shift = number * float(rng.uniform(5, 16))
            start = (x0 - shift * np.sin(angle), y0 + shift * np.cos(angle))
            extent = length * float(rng.uniform(0.6, 1))
            end = (start[0] + extent * np.cos(angle), start[1] + extent * np.sin(angle))
            bend = float(rng.normal(0, 3))
            middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + bend)
            line = np.array([start, middle, end]).round().astype(np.int32)
            thick = 1 + int(rng.random() < 0.6) + int(rng.random() < 0.25)
            cv2.polylines(canvas, [line], False, 255, thick, cv2.LINE_AA)
        x, y, width, height = cv2.boundingRect(canvas)
        if width and height:
            stamp = canvas[y : y + height, x : x + width].astype(np.float32) / 255
            soft = np.asarray(cv2.GaussianBlur(stamp, (3, 3), 0.6), np.float32)
            self._blend(y, x, np.minimum(1, soft * 1.25), level, 3)

    def _patch(self) -> None:
        """Draw a large area of rough, darker or lighter scale with a ragged edge."""
        rng = self.rng
        blob = self._soft_blob(int(rng.integers(28, 85)), 0.55, blur=2.2)
        if blob is None:
            return
        area, alpha = blob
        rough = rng.standard_normal(alpha.shape).astype(np.float32)
        rough = _blur(rough, 1.6)
        rough *= np.float32(rng.uniform(5, 11)) / max(1e-3, float(rough.std()))
        level = float(rng.uniform(12, 32)) * (-1 if rng.random() < 0.7 else 1)
        self.grey[area] += alpha * (np.float32(level * self.contrast) + rough)
        self.mask[area][alpha > 0.5] = 4

    def _soft_blob(
        self, radius: int, ragged: float, blur: float
    ) -> tuple[tuple[slice, slice], _Float] | None:
        """Return a ragged round area as (slices, alpha 0 to 1); None if it is too small."""
        rng = self.rng
        wide = int(radius * float(rng.uniform(1, 2.6)))
        y0 = int(rng.integers(-radius // 3, self.height - radius // 2))
        x0 = int(rng.integers(0, max(1, self.width - wide)))
        height, width = 2 * radius, 2 * wide
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        coarse = rng.standard_normal((7, 9)).astype(np.float32)
        noise = _resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        alpha = (1 - (x * x + y * y) + ragged * 0.5 * noise > 0.35).astype(np.float32)
        alpha *= (np.abs(x) < 0.97) & (np.abs(y) < 0.97)
        alpha = _blur(alpha, blur)
        top, left = max(0, y0), max(0, x0)
        bottom, right = min(self.height, y0 + height), min(self.width, x0 + width)
        if bottom - top < 12 or right - left < 12:
            return None
        alpha = alpha[top - y0 : bottom - y0, left - x0 : right - x0]
        return (slice(top, bottom), slice(left, right)), alpha

    def to_image(self) -> StripImage:
        """Apply light and sensor noise, and convert to 8 bits."""
        self.grey *= self.light
        self.grey += self._crop_noise(_noise_banks()[0]) * np.float32(self.rng.uniform(1, 2.5))
        np.clip(self.grey, 0, 255, out=self.grey)
        return StripImage(self.grey.astype(np.uint8), self.mask)


def _disc(side: int, radius: float, soft: float, stretch: float = 1.0) -> _Float:
    """Return a soft disc, 1 inside, stretched along x."""
    axis = np.arange(side, dtype=np.float32) - side / 2
    distance = np.sqrt((axis[None, :] / stretch) ** 2 + axis[:, None] ** 2)
    return np.clip((radius - distance) / soft + 0.5, 0, 1)


_DOT = np.float32(1) * _disc(7, 2.0, 1.5)


def _walk(rng: np.random.Generator, length: int, wander: float) -> NDArray[np.float32]:
    """Return the heights of a crooked line, one per 8 px."""
    steps = rng.normal(0, wander * 4, max(3, length // 8))
    return np.cumsum(steps).astype(np.float32)


def _stroke(heights: NDArray[np.float32], thick: float, length: int, blur: float) -> _Float:
    """Return a line through the heights as a stamp, 0 to 1."""
    heights = heights - heights.min()
    margin = int(thick) + 3
    tall = int(heights.max()) + 2 * margin + 1
    canvas = np.zeros((tall, length + 2 * margin), np.uint8)
    xs = np.linspace(margin, length + margin, len(heights))
    points = np.stack([xs, heights + margin], axis=1).round().astype(np.int32)
    cv2.polylines(canvas, [points], False, 255, max(1, round(thick)), cv2.LINE_AA)
    stamp = canvas.astype(np.float32) / 255
    return _blur(stamp, blur)
