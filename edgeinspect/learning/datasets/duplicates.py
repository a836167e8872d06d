"""Exact and near duplicates: the same image rotated, mirrored, brighter or recompressed.

A perceptual hash and a correlation of thumbnails select candidates, the fine detail decides
(`registration`). The hash is the signs of the 63 lowest frequencies of a 32 by 32 thumbnail.
Rotating or mirroring an image only permutes these and flips signs, so all eight orientations are
compared without rendering them. Textures are similar to any hash of 63 bits, so a candidate counts
only if the thumbnails correlate, after the mean image of the set is subtracted. Two pieces of one
product at the same angle still do: above 0.93 on 480 images of screws 5265 pairs, one of one screw.

The library ImageHash 4.3.2 (BSD-2) was weighed and left out: it has the same hash, of one
orientation at a time, but neither the subtraction nor the correlation, so that different castings
of the tests are only 8 of 64 bits apart. It would replace about 15 lines here (`_hash`,
`_count_bits`) and add Pillow, PyWavelets (together 32 MB installed) and SciPy.

Source: Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging import to_channels
from edgeinspect.learning.datasets.registration import (
    DETAIL_SIDE_PX,
    MAX_DETAIL_CORRELATION,
    Detail,
    common_detail,
    detail_correlation,
    extract_detail,
    orientation,
    required_correlation,
    shrink_image,
)

THUMBNAIL_SIDE_PX = 32
MAX_BITS = 18
"""Maximum number of differing bits, of 63, between the hashes of candidates."""
MIN_CORRELATION = 0.75
"""Minimum correlation of the thumbnails of candidates. Rotated, mirrored, 1.2 times brighter copies
at JPEG quality 50 reach 0.96 in 95 of 100 cases; exposures that are cut differently less."""
ALIKE_CORRELATION = 0.93
"""Of thumbnails that need no comparison of their detail if both images are copies of a third."""
UNLIKE_MARGIN = 0.15
"""More detail must agree if the thumbnails are not alike: of 40 pairs of magnetic tiles with
thumbnails below 0.93 and a detail correlation of 0.40 to 0.42 seven showed two tiles."""
MIN_CONTRAST = 1.0
"""Grey levels: thumbnails with less contrast cannot be told apart."""
ASPECT_RATIO = 1.1

_FREQUENCIES = 8
_DETAIL_LIMIT = 2.2
_ROWS = 512
_BLOCK = 4096
_MIN_FOR_COMMON = 16
"""With fewer images, the mean image is not subtracted, nor are unrelated pairs compared."""
_UNRELATED_PAIRS = 100
_SAMPLED_DETAILS = 256
"""Images whose mean detail is subtracted."""
_MAX_REFUTED = 16
"""Candidates of an image whose detail differs, the most alike first, before the others are not
examined: the copies of an image are more alike than other pieces."""
_CACHED_DETAILS = 1024
_CANDIDATE = np.dtype([("first", "i4"), ("second", "i4"), ("correlation", "f4"), ("ways", "u1")])
"""Two images whose thumbnails correlate, and in which orientations of the second, one bit each."""
_1, _2, _4, _56 = (np.uint64(bits) for bits in (1, 2, 4, 56))
_ODD, _PAIRS, _NIBBLES, _ONES = (
    np.uint64(int(digits * 8, 16)) for digits in ("55", "33", "0f", "01")
)


@dataclass(frozen=True, slots=True)
class ImageFingerprint:
    """What is kept of an image to find duplicates: about 20 KiB."""

    digest: str
    """SHA-256 of its pixels and size."""
    height_px: int
    width_px: int
    thumbnail: NDArray[np.float32]
    """(32, 32), mean 0, norm 1; all 0 for an image without contrast."""
    small: NDArray[np.uint8]
    """(128, 128): the grey image for `registration`."""


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
    thumbnail = np.asarray(detail / length, np.float32)
    return ImageFingerprint(digest.hexdigest(), height_px, width_px, thumbnail, shrink_image(grey))


def find_duplicates(fingerprints: Sequence[ImageFingerprint]) -> list[DuplicatePair]:
    """Return all pairs of exact and near duplicates, `first` below `second`.

    Time grows with the square of the number of images, and with the number of candidates, of
    which at most `_MAX_REFUTED` per image are compared in vain.
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
    found = [_correlated(thumbnails, near) for near in _candidates(thumbnails)]
    candidates = np.concatenate([np.zeros(0, _CANDIDATE), *found])
    for pair in _verified(fingerprints, chosen, candidates):
        pairs[pair.first, pair.second] = pair
    return [pairs[key] for key in sorted(pairs)]


def _verified(
    fingerprints: Sequence[ImageFingerprint], chosen: Sequence[int], candidates: NDArray[np.void]
) -> Iterable[DuplicatePair]:
    """Yield the candidates that show one piece, the most alike first.

    Two images whose thumbnails are alike and that are connected by verified pairs show one piece
    without a comparison.
    """
    if not len(candidates):
        return

    keys = set(zip(candidates["first"].tolist(), candidates["second"].tolist(), strict=True))
    reference = measure_reference([fingerprints[index] for index in chosen], keys)

    @lru_cache(maxsize=_CACHED_DETAILS)
    def detail(index: int) -> Detail:
        return reference.detail(fingerprints[chosen[index]])

    def likeness(first: int, second: int, ways: int) -> float:
        return max(
            detail_correlation(detail(first), orientation(detail(second), way))
            for way in range(8)
            if ways >> way & 1
        )

    family: dict[int, set[int]] = {}
    refuted: Counter[int] = Counter()
    for at in np.argsort(-candidates["correlation"], kind="stable").tolist():
        first, second, correlation, ways = candidates[at].item()
        one, other = chosen[first], chosen[second]
        joined = family.setdefault(first, {first})
        if second not in joined or correlation < ALIKE_CORRELATION:
            if min(refuted[first], refuted[second]) >= _MAX_REFUTED or not _similar_aspect(
                fingerprints[one], fingerprints[other]
            ):
                continue
            if likeness(first, second, ways) < reference.limit(correlation):
                refuted.update((first, second))
                continue
            joined |= family.get(second, {second})
            family.update(dict.fromkeys(joined, joined))
        yield DuplicatePair(one, other, False, correlation)


@dataclass(frozen=True, slots=True)
class DetailReference:
    """What the images of a set have in common, and how alike unrelated ones are."""

    common: Detail
    """Subtracted from the detail of each image; 0 for few images."""
    required: float
    """Detail correlation from which two images show one piece."""

    def detail(self, fingerprint: ImageFingerprint) -> Detail:
        """Return what is an image's own."""
        return np.asarray(extract_detail(fingerprint.small) - self.common, np.float32)

    def limit(self, correlation: float) -> float:
        """Return the required detail correlation, by the correlation of the thumbnails."""
        margin = 0.0 if correlation >= ALIKE_CORRELATION else UNLIKE_MARGIN
        return min(MAX_DETAIL_CORRELATION, self.required + margin)


def measure_reference(
    fingerprints: Sequence[ImageFingerprint], alike: Set[tuple[int, int]] = frozenset()
) -> DetailReference:
    """Measure the images of a set; with fewer than `_MIN_FOR_COMMON`, nothing is common.

    Args:
        fingerprints: Of all images, or of some.
        alike: Pairs that may show one piece, and tell nothing of unrelated ones.
    """
    nothing = np.zeros((DETAIL_SIDE_PX, DETAIL_SIDE_PX), np.float32)
    count = len(fingerprints)
    if count < _MIN_FOR_COMMON:
        return DetailReference(nothing, required_correlation(np.zeros(0)))
    sampled = np.unique(np.linspace(0, count - 1, _SAMPLED_DETAILS).astype(int)).tolist()
    common = common_detail([extract_detail(fingerprints[index].small) for index in sampled])
    reference = DetailReference(common, 0.0)
    rng = np.random.default_rng(1)
    reached = []
    for _ in range(_UNRELATED_PAIRS):
        first, second = sorted(rng.choice(count, 2, replace=False).tolist())
        if (first, second) not in alike:
            details = (reference.detail(fingerprints[index]) for index in (first, second))
            reached.append(detail_correlation(*details))
    return replace(reference, required=required_correlation(np.asarray(reached, np.float64)))


def are_duplicates(
    one: ImageFingerprint, other: ImageFingerprint, reference: DetailReference
) -> bool:
    """Return whether two images show one piece, the same way up whatever their thumbnails are."""
    if one.digest == other.digest:
        return True
    if not _similar_aspect(one, other):
        return False
    first, second = reference.detail(one), reference.detail(other)
    for way, thumbnail in enumerate(_orientations(other.thumbnail[None])):
        correlation = float((one.thumbnail * thumbnail[0]).sum())
        if way and correlation < MIN_CORRELATION:
            continue
        likeness = detail_correlation(first, orientation(second, way))
        if likeness >= reference.limit(correlation):
            return True
    return False


def duplicate_groups(pairs: Iterable[DuplicatePair]) -> list[tuple[int, ...]]:
    """Return the connected groups of duplicates, sorted."""
    of: dict[int, set[int]] = {}
    for pair in pairs:
        joined = of.get(pair.first, {pair.first}) | of.get(pair.second, {pair.second})
        for index in joined:
            of[index] = joined
    return sorted({tuple(sorted(family)) for family in of.values()})


def _orientations(thumbnails: NDArray[np.float32]) -> Iterable[NDArray[np.float32]]:
    """Yield the eight orientations of (N, 32, 32) thumbnails, as `registration.orientation`."""
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


def _correlated(thumbnails: NDArray[np.float32], candidates: NDArray[np.int64]) -> NDArray[np.void]:
    """Return those of (N, 2) candidates that correlate in an orientation, as `_CANDIDATE`."""
    found = [np.zeros(0, _CANDIDATE)]
    for start in range(0, len(candidates), _BLOCK):
        block = candidates[start : start + _BLOCK]
        first, second = thumbnails[block[:, 0]], thumbnails[block[:, 1]]
        each = np.stack([np.einsum("nij,nij->n", first, way) for way in _orientations(second)])
        best = each.max(axis=0)
        kept = best >= MIN_CORRELATION
        rows = np.zeros(int(kept.sum()), _CANDIDATE)
        rows["first"], rows["second"] = block[kept].T
        rows["correlation"] = best[kept]
        rows["ways"] = np.packbits(each[:, kept] >= MIN_CORRELATION, 0, "little")[0]
        found.append(rows)
    return np.concatenate(found)


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
