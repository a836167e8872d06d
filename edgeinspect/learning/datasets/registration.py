"""Whether two images show one piece: their fine detail is registered and compared part by part.

Two pieces of one product at the same place look alike in a thumbnail, and so do their outlines.
What only one piece has is the grain of its surface and of the ground beside it, everywhere in the
image. So the images are registered by the cross-correlation of their fine detail, cut into
tiles, and the median of the tiles' correlations decides: outlines are in few tiles, grain in all.

Measured on public sets, with the images at 128 px: rotated, 0.8 or 1.2 times as bright copies at
JPEG quality 50 reach 0.47 at least, 0.67 in 95 of 100 cases; different screws at the same angle on
the same ground 0.29 at most; unrelated images 0.22 at most.

Source: phase correlation, Kuglin and Hines 1975; here without whitening, which JPEG blocks disturb
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

DETAIL_SIDE_PX = 128
"""Side of the square image in which detail is compared."""
MAX_SHIFT_PX = 12
"""Of `DETAIL_SIDE_PX`: a second exposure of a piece may be cut a little differently."""
MIN_DETAIL_CORRELATION = 0.4
"""Minimum of the tiles' median correlation, if unrelated images of the set reach less than
`MIN_DETAIL_CORRELATION - NULL_MARGIN`."""
NULL_MARGIN = 0.25
"""Required distance to what unrelated images of the set reach."""
NULL_GAP_RATIO = 0.75
"""The same for parts that differ little: of the gap between that and 1. On rendered washers at one
place unrelated images reach 0.75 in 95 of 100 cases and 0.89 at most, copies 0.99 at least."""
MAX_DETAIL_CORRELATION = 0.97
"""The required correlation never exceeds this."""

_TILE_PX = 16
_FINE_PX, _COARSE_PX, _LOCAL_PX = 0.7, 3.0, 8.0
_HANNING = np.hanning(DETAIL_SIDE_PX).astype(np.float32)
_WINDOW = _HANNING[:, None] * _HANNING[None, :]
Detail = NDArray[np.float32]
"""(128, 128): band-passed image, its local contrast normalised."""


def shrink_image(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (128, 128): what is kept of a uint8 (h, w) image to compare its detail."""
    small = cv2.resize(grey, (DETAIL_SIDE_PX, DETAIL_SIDE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def extract_detail(small: NDArray[np.uint8]) -> Detail:
    """Return the fine detail of a shrunk image, with the same contrast everywhere."""
    grey = small.astype(np.float32)
    detail = cv2.GaussianBlur(grey, (0, 0), _FINE_PX) - cv2.GaussianBlur(grey, (0, 0), _COARSE_PX)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), _LOCAL_PX))
    return np.asarray(detail / (contrast + 0.5), np.float32)


def orientation(image: NDArray[np.float32], way: int) -> NDArray[np.float32]:
    """Return one of the eight orientations of an (h, w) image; 0 is the image itself."""
    turned = np.rot90(image, way // 2)
    return turned[:, ::-1] if way % 2 else turned


def detail_correlation(first: Detail, second: Detail) -> float:
    """Return the median correlation of the tiles of two images, registered by a shift."""
    down_px, right_px = _best_shift(first, second)
    a = first[max(0, down_px) :, max(0, right_px) :]
    b = second[max(0, -down_px) :, max(0, -right_px) :]
    rows, columns = (min(a.shape[i], b.shape[i]) // _TILE_PX * _TILE_PX for i in (0, 1))
    one, other = (_tiles(each[:rows, :columns]) for each in (a, b))
    norm = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    return float(np.median((one * other).sum(1) / (norm + 1e-6)))


def required_correlation(unrelated: NDArray[np.float64]) -> float:
    """Return the detail correlation from which two images of a set show one piece.

    Args:
        unrelated: (N,) correlations of unrelated pairs of the set; may be empty. Parts at the
            same place share details of their shape.
    """
    reached = float(np.quantile(unrelated, 0.95)) if len(unrelated) else 0.0
    margin = min(NULL_MARGIN, NULL_GAP_RATIO * (1 - reached))
    return min(MAX_DETAIL_CORRELATION, max(MIN_DETAIL_CORRELATION, reached + margin))


def common_detail(details: Sequence[Detail]) -> Detail:
    """Return what the images of a set have in common: the same part at the same place.

    It is symmetrised over the eight orientations, so that turned copies stay copies.
    """
    mean = np.mean(details, axis=0)
    return np.asarray(np.mean([orientation(mean, way) for way in range(8)], axis=0), np.float32)


def _best_shift(first: Detail, second: Detail) -> tuple[int, int]:
    """Return by how many pixels the second is moved down and right to lie on the first."""
    spectrum = np.fft.rfft2(first * _WINDOW) * np.conj(np.fft.rfft2(second * _WINDOW))
    product = np.fft.irfft2(spectrum, s=first.shape)
    near = np.roll(product, (MAX_SHIFT_PX, MAX_SHIFT_PX), axis=(0, 1))
    side = 2 * MAX_SHIFT_PX + 1
    down_px, right_px = divmod(int(near[:side, :side].argmax()), side)
    return down_px - MAX_SHIFT_PX, right_px - MAX_SHIFT_PX


def _tiles(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (tiles, pixels), each with mean 0."""
    rows, columns = image.shape[0] // _TILE_PX, image.shape[1] // _TILE_PX
    tiles = image.reshape(rows, _TILE_PX, columns, _TILE_PX).swapaxes(1, 2)
    flat = tiles.reshape(rows * columns, _TILE_PX * _TILE_PX)
    return np.asarray(flat - flat.mean(axis=1, keepdims=True), np.float32)
