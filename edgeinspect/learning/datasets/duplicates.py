"""Exact and near duplicates: the same picture again, turned, mirrored, brighter or compressed.

A perceptual hash proposes, a correlation decides. The hash is the signs of the 63 lowest
frequencies of a 32 by 32 thumbnail; a mirrored or turned picture has the same ones with other
signs and places, so all eight twins are found without making them. Textures look alike to any
hash of 63 bits, so a candidate counts only if the thumbnails themselves correlate. What all
pictures of a set show is taken away first.

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
"""Most bits of 63 in which the hashes of twins differ."""
MIN_CORRELATION = 0.93
"""Least correlation of twins' thumbnails. Turned, mirrored, 1.2 times brighter copies at JPEG
quality 50 reach 0.96 in 95 of 100 cases on real strip pictures, strangers stay below 0.93."""
MIN_CONTRAST = 1.0
"""Grey levels: a thumbnail flatter than this looks like any other flat one."""
ASPECT_RATIO = 1.1

_FREQUENCIES = 8
_DETAIL_LIMIT = 2.2
_ROWS = 512
_BLOCK = 4096
_MIN_FOR_COMMON = 16
"""Fewer pictures do not tell what is common to all."""
_1, _2, _4, _56 = (np.uint64(bits) for bits in (1, 2, 4, 56))
_ODD, _PAIRS, _NIBBLES, _ONES = (
    np.uint64(int(digits * 8, 16)) for digits in ("55", "33", "0f", "01")
)


@dataclass(frozen=True, slots=True)
class ImageFingerprint:
    """What of a picture is kept to find it again: about 4 KiB."""

    digest: str
    """SHA-256 of its pixels and size."""
    height_px: int
    width_px: int
    thumbnail: NDArray[np.float32]
    """(32, 32), mean 0, length 1; all 0 for a flat picture."""


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two pictures that are one, by their places in the list of looks."""

    first: int
    second: int
    is_exact: bool
    correlation: float


def fingerprint(image: NDArray[np.uint8]) -> ImageFingerprint:
    """The look of a uint8 (h, w, c) picture."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(image.tobytes())
    grey = to_channels(image, 1)[:, :, 0]
    small = cv2.resize(
        grey.astype(np.float32),
        (THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX),
        interpolation=cv2.INTER_AREA,
    )
    # Without slow shading, which pictures of one camera share.
    detail = small - cv2.GaussianBlur(
        small, (0, 0), THUMBNAIL_SIDE_PX / 8, borderType=cv2.BORDER_REFLECT
    )
    detail = detail - detail.mean()
    if float(detail.std()) < MIN_CONTRAST:
        detail = np.zeros_like(detail)
    else:
        # One bright scratch at the same place makes no twins: strong details count less.
        detail = np.tanh(detail / (_DETAIL_LIMIT * float(np.median(np.abs(detail))) + 1e-6))
        detail -= detail.mean()
    length = float(np.linalg.norm(detail)) or 1.0
    height_px, width_px = image.shape[:2]
    return ImageFingerprint(
        digest.hexdigest(), height_px, width_px, np.asarray(detail / length, np.float32)
    )


def find_duplicates(fingerprints: Sequence[ImageFingerprint]) -> list[DuplicatePair]:
    """All pairs of exact and near duplicates, the first before the second.

    Time grows with the square of the number: 12 thousand pictures take about ten seconds.
    """
    pairs = {}
    by_digest: dict[str, list[int]] = defaultdict(list)
    for index, look in enumerate(fingerprints):
        by_digest[look.digest].append(index)
    for same in by_digest.values():
        for second in same[1:]:
            pairs[same[0], second] = DuplicatePair(same[0], second, True, 1.0)
    chosen = [same[0] for same in by_digest.values() if fingerprints[same[0]].thumbnail.any()]
    places = np.asarray(sorted(chosen))
    thumbnails = _subtract_common([fingerprints[index].thumbnail for index in places])
    for candidates in _candidates(thumbnails):
        for first, second, correlation in _correlated(thumbnails, candidates):
            key = int(places[first]), int(places[second])
            if _similar_aspect(fingerprints[key[0]], fingerprints[key[1]]):
                pairs[key] = DuplicatePair(*key, False, correlation)
    return [pairs[key] for key in sorted(pairs)]


def duplicate_groups(pairs: Iterable[DuplicatePair]) -> list[tuple[int, ...]]:
    """Pictures that are tied to each other by twins, directly or not; sorted."""
    of: dict[int, set[int]] = {}
    for pair in pairs:
        joined = of.get(pair.first, {pair.first}) | of.get(pair.second, {pair.second})
        for index in joined:
            of[index] = joined
    return sorted({tuple(sorted(family)) for family in of.values()})


def _orientations(thumbnails: NDArray[np.float32]) -> Iterable[NDArray[np.float32]]:
    """The eight ways to turn and mirror (N, 32, 32) thumbnails, themselves first."""
    for quarter in range(4):
        turned = np.rot90(thumbnails, quarter, axes=(1, 2))
        yield turned
        yield turned[:, :, ::-1]


def _similar_aspect(one: ImageFingerprint, other: ImageFingerprint) -> bool:
    """The same proportions, or those of a quarter turn."""
    ratio = one.height_px / one.width_px
    for wanted in (other.height_px / other.width_px, other.width_px / other.height_px):
        if 1 / ASPECT_RATIO <= ratio / wanted <= ASPECT_RATIO:
            return True
    return False


def _subtract_common(thumbnails: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(N, 32, 32) thumbnails without what all pictures of the set show, each of length 1.

    Castings all show the same part at the same place: it says nothing about which is which.
    What is taken away looks the same from all eight sides, so that twins stay twins.
    """
    stack = np.asarray(thumbnails, np.float32).reshape(-1, THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX)
    if len(stack) < _MIN_FOR_COMMON:
        return stack
    shown = stack.mean(axis=0, keepdims=True)
    own = stack - np.mean(list(_orientations(shown)), axis=0)
    length = np.sqrt((own**2).sum(axis=(1, 2), keepdims=True))
    return np.asarray(own / np.maximum(length, 1e-6), np.float32)


def _correlated(
    thumbnails: NDArray[np.float32], candidates: NDArray[np.int64]
) -> Iterable[tuple[int, int, float]]:
    """Those of (N, 2) candidates that correlate in one of the eight ways, and how much."""
    for start in range(0, len(candidates), _BLOCK):
        block = candidates[start : start + _BLOCK]
        first, second = thumbnails[block[:, 0]], thumbnails[block[:, 1]]
        best = np.max(
            [np.einsum("nij,nij->n", first, way) for way in _orientations(second)], axis=0
        )
        for at in np.flatnonzero(best >= MIN_CORRELATION).tolist():
            yield int(block[at, 0]), int(block[at, 1]), float(best[at])


def _candidates(thumbnails: NDArray[np.float32]) -> Iterable[NDArray[np.int64]]:
    """Pairs whose hashes are near in one of the eight ways, (N, 2) at a time."""
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
    """(N, 8, 8) frequencies to (N,) hashes: their signs, but for the first, the mean."""
    bits = (low.reshape(len(low), -1)[:, 1:] > 0).astype(np.uint64)
    return np.asarray((bits << np.arange(63, dtype=np.uint64)).sum(axis=1), np.uint64)


def _dct_orientations(low: NDArray[np.float32]) -> Iterable[NDArray[np.float32]]:
    """The frequencies of the eight twins: mirroring changes the odd ones' signs."""
    odd = np.where(np.arange(_FREQUENCIES) % 2, -1, 1).astype(np.float32)
    for way in (low, low.transpose(0, 2, 1)):
        for rows in (1, odd[:, None]):
            for columns in (1, odd[None, :]):
                yield np.asarray(way * rows * columns, np.float32)
