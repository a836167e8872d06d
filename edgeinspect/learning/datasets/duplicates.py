"""Exact and near duplicates: the same image rotated, mirrored, brighter or recompressed.

A perceptual hash selects candidates, a correlation decides. The hash is the signs of the 63 lowest
frequencies of a 32 by 32 thumbnail. Rotating or mirroring an image only permutes these and flips
signs, so all eight orientations are compared without rendering them. Textures are similar to any
hash of 63 bits, so a candidate counts only if the thumbnails correlate, after the mean image of
the set is subtracted.

The library ImageHash 4.3.2 (BSD-2) was weighed and left out: it has the same hash, of one
orientation at a time, but neither the subtraction nor the correlation, so that different castings
of the tests are only 8 of 64 bits apart. It would replace about 15 lines here (`_hash`,
`_count_bits`) and add Pillow, PyWavelets (together 32 MB installed) and SciPy.

Source: Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging import to_channels

THUMBNAIL_SIDE_PX = 32
MAX_BITS = 14
"""Maximum number of differing bits, of 63, between the hashes of duplicates."""
MIN_CORRELATION = 0.93
"""Minimum correlation of the thumbnails of duplicates. On real strip images, rotated, mirrored,
1.2 times brighter copies at JPEG quality 50 reach 0.96 in 95 of 100 cases; unrelated images stay
below 0.93."""
MIN_CONTRAST = 1.0
"""Grey levels: thumbnails with less contrast cannot be told apart."""
ASPECT_RATIO = 1.1

_FREQUENCIES = 8
_DETAIL_LIMIT = 2.2
_ROWS = 512
_BLOCK = 4096
_MIN_FOR_COMMON = 16
"""With fewer images, the mean image is not subtracted."""
_1, _2, _4, _56 = (np.uint64(bits) for bits in (1, 2, 4, 56))
_ODD, _PAIRS, _NIBBLES, _ONES = (
    np.uint64(int(digits * 8, 16)) for digits in ("55", "33", "0f", "01")
)


@dataclass(frozen=True, slots=True)
class ImageFingerprint:
    """What is kept of an image to find duplicates: about 4 KiB."""

    digest: str
    """SHA-256 of its pixels and size."""
    height_px: int
    width_px: int
    thumbnail: NDArray[np.float32]
    """(32, 32), mean 0, norm 1; all 0 for an image without contrast."""


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two duplicate images, by their indices in the list of fingerprints."""

    first: int
    second: int
    is_exact: bool
    correlation: float


def fingerprint_image(image: NDArray[np.uint8]) -> ImageFingerprint:
    """Return the fingerprint of a uint8 (h, w, c) image."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(image.tobytes())
    grey = to_channels(image, 1)[:, :, 0]
    small = cv2.resize(
        grey.astype(np.float32),
        (THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX),
        interpolation=cv2.INTER_AREA,
    )
    # Remove the slow shading that all images of one camera share.
    detail = small - cv2.GaussianBlur(
        small, (0, 0), THUMBNAIL_SIDE_PX / 8, borderType=cv2.BORDER_REFLECT
    )
    detail = detail - detail.mean()
    if float(detail.std()) < MIN_CONTRAST:
        detail = np.zeros_like(detail)
    else:
        # Limit strong details: a bright scratch at the same place does not make duplicates.
        detail = np.tanh(detail / (_DETAIL_LIMIT * float(np.median(np.abs(detail))) + 1e-6))
        detail -= detail.mean()
    length = float(np.linalg.norm(detail)) or 1.0
    height_px, width_px = image.shape[:2]
    return ImageFingerprint(
        digest.hexdigest(), height_px, width_px, np.asarray(detail / length, np.float32)
    )


def find_duplicates(fingerprints: Sequence[ImageFingerprint]) -> list[DuplicatePair]:
    """Return all pairs of exact and near duplicates, `first` below `second`.

    Time grows with the square of the number of images: 12 000 take about ten seconds.
    """
    pairs = {}
    by_digest: dict[str, list[int]] = defaultdict(list)
    for index, look in enumerate(fingerprints):
        by_digest[look.digest].append(index)
    for same in by_digest.values():
        for second in same[1:]:
            pairs[same[0], second] = DuplicatePair(same[0], second, True, 1.0)
    chosen = [same[0] for same in by_digest.values() if fingerprints[same[0]].thumbnail.any()]
    chosen.sort()
    thumbnails = _subtract_common([fingerprints[index].thumbnail for index in chosen])
    for candidates in _candidates(thumbnails):
        for first, second, correlation in _correlated(thumbnails, candidates):
            key = chosen[first], chosen[second]
            if _similar_aspect(fingerprints[key[0]], fingerprints[key[1]]):
                pairs[key] = DuplicatePair(*key, False, correlation)
    return [pairs[key] for key in sorted(pairs)]


def duplicate_groups(pairs: Iterable[DuplicatePair]) -> list[tuple[int, ...]]:
    """Return the connected groups of duplicates, sorted."""
    of: dict[int, set[int]] = {}
    for pair in pairs:
        joined = of.get(pair.first, {pair.first}) | of.get(pair.second, {pair.second})
        for index in joined:
            of[index] = joined
    return sorted({tuple(sorted(family)) for family in of.values()})


def _orientations(thumbnails: NDArray[np.float32]) -> Iterable[NDArray[np.float32]]:
    """Yield the eight orientations of (N, 32, 32) thumbnails, the original first."""
    for quarter in range(4):
        turned = np.rot90(thumbnails, quarter, axes=(1, 2))
        yield turned
        yield turned[:, :, ::-1]


def _similar_aspect(one: ImageFingerprint, other: ImageFingerprint) -> bool:
    """Return whether two images have the same aspect ratio, or that of a quarter turn."""
    ratio = one.height_px / one.width_px
    for other_ratio in (other.height_px / other.width_px, other.width_px / other.height_px):
        if 1 / ASPECT_RATIO <= ratio / other_ratio <= ASPECT_RATIO:
            return True
    return False


def _subtract_common(thumbnails: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return (N, 32, 32) thumbnails minus the mean of the set, each of norm 1.

    Castings all show the same part at the same place, which would correlate them all. The
    subtracted mean is symmetrised over the eight orientations, so that duplicates stay
    duplicates.
    """
    stack = np.asarray(thumbnails, np.float32).reshape(-1, THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX)
    if len(stack) < _MIN_FOR_COMMON:
        return stack
    mean = stack.mean(axis=0, keepdims=True)
    difference = stack - np.mean(list(_orientations(mean)), axis=0)
    length = np.sqrt((difference**2).sum(axis=(1, 2), keepdims=True))
    return np.asarray(difference / np.maximum(length, 1e-6), np.float32)


def _correlated(
    thumbnails: NDArray[np.float32], candidates: NDArray[np.int64]
) -> Iterable[tuple[int, int, float]]:
    """Yield those of (N, 2) candidates that correlate in an orientation, and the correlation."""
    for start in range(0, len(candidates), _BLOCK):
        block = candidates[start : start + _BLOCK]
        first, second = thumbnails[block[:, 0]], thumbnails[block[:, 1]]
        best = np.max(
            [np.einsum("nij,nij->n", first, way) for way in _orientations(second)], axis=0
        )
        for at in np.flatnonzero(best >= MIN_CORRELATION).tolist():
            yield int(block[at, 0]), int(block[at, 1]), float(best[at])


def _candidates(thumbnails: NDArray[np.float32]) -> Iterable[NDArray[np.int64]]:
    """Yield pairs whose hashes are close in one of the eight orientations, (N, 2) at a time."""
    if len(thumbnails) < 2:
        return
    low = np.asarray([cv2.dct(one)[:_FREQUENCIES, :_FREQUENCIES] for one in thumbnails], np.float32)
    plain = _hash(low)
    for start in range(0, len(low), _ROWS):
        near = np.zeros((min(_ROWS, len(low) - start), len(low) - start), np.bool_)
        for turned in _dct_orientations(low[start : start + _ROWS]):
            differing = _hash(turned)[:, None] ^ plain[None, start:]
            near |= _count_bits(differing) <= MAX_BITS
        yield np.argwhere(np.triu(near, 1)) + start


def _count_bits(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(values), np.uint8)
    values = values - ((values >> _1) & _ODD)
    values = (values & _PAIRS) + ((values >> _2) & _PAIRS)
    return np.asarray((((values + (values >> _4)) & _NIBBLES) * _ONES) >> _56, np.uint8)


def _hash(low: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return (N,) hashes of (N, 8, 8) frequencies: the signs of all but the mean."""
    bits = (low.reshape(len(low), -1)[:, 1:] > 0).astype(np.uint64)
    return np.asarray((bits << np.arange(63, dtype=np.uint64)).sum(axis=1), np.uint64)


def _dct_orientations(low: NDArray[np.float32]) -> Iterable[NDArray[np.float32]]:
    """Yield the frequencies of the eight orientations: mirroring flips the odd ones' signs."""
    odd = np.where(np.arange(_FREQUENCIES) % 2, -1, 1).astype(np.float32)
    for way in (low, low.transpose(0, 2, 1)):
        for rows in (1, odd[:, None]):
            for columns in (1, odd[None, :]):
                yield np.asarray(way * rows * columns, np.float32)
