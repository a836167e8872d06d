"""Decides which frames are saved and which are evicted first, as pure functions.

`ArchiveCategory` orders frames by usefulness. Beyond the capacity, the least useful category that
exceeds its quota loses a frame: the oldest of the label that uses the most space. Quotas keep
ordinary parts on a line that rejects much: calibration needs both.

Source: docs/howto/archive.md, "What is evicted first"
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from edgeinspect.domain import Decision, Reason, Verdict
from edgeinspect.services.archiver.config import ArchiveConfig
from edgeinspect.storage.archive import ArchiveCategory

NEVER_IN_RING = frozenset(
    (Reason.SHAPE, Reason.CAPTURE_ERROR, Reason.CAPTURE_HEALTH, Reason.CAPTURE_LOST)
)
"""Reasons of frames that were closed before they got a slot: they have no pixels."""
_HASH_RANGE = 1 << 64


def classify(verdict: Verdict, config: ArchiveConfig) -> ArchiveCategory | None:
    """Return the category of a frame, or None if it is not saved."""
    if verdict.simulated:
        return ArchiveCategory.SIMULATED
    if verdict.decision is Decision.NO_VERDICT:
        return None if verdict.reason in NEVER_IN_RING else ArchiveCategory.NO_VERDICT
    if verdict.needs_review or _is_unknown_reject(verdict):
        return ArchiveCategory.UNKNOWN
    if verdict.reason is Reason.BELOW_THRESHOLDS or verdict.degraded or _is_near(verdict, config):
        return ArchiveCategory.NEAR
    if verdict.decision is Decision.REJECT:
        return ArchiveCategory.REJECT
    return (
        ArchiveCategory.PASS if is_sampled(verdict.epoch, verdict.seq, config.pass_ratio) else None
    )


def _is_unknown_reject(verdict: Verdict) -> bool:
    """Whether the good-parts model rejected the frame: it is asked about passes only."""
    return verdict.decision is Decision.REJECT and verdict.unknown_model is not None


def _is_near(verdict: Verdict, config: ArchiveConfig) -> bool:
    near, prob = config.near, verdict.defect_prob
    return near is not None and prob is not None and near.low <= prob <= near.high


def is_sampled(epoch: int, seq: int, ratio: float) -> bool:
    """Return True for a fixed fraction of frames, selected by a hash of their number.

    Every n-th frame would alias with what repeats on a line (a roll's mark, a mould's cavity).
    """
    digest = hashlib.blake2b(f"{epoch}.{seq}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < ratio * _HASH_RANGE


def category_to_evict(
    sizes: Mapping[ArchiveCategory, int],
    quota: Callable[[ArchiveCategory], float],
    capacity_bytes: float,
) -> ArchiveCategory:
    """Return the category that loses a frame: the least useful one that exceeds its quota.

    Args:
        sizes: Bytes by category, including the new frame; at least one is not 0.
        quota: Reserved share of the capacity by category, 0 to 1.
        capacity_bytes: Of all categories together.
    """
    present = [category for category in ArchiveCategory if sizes.get(category, 0) > 0]
    exceeding = [each for each in present if sizes[each] > quota(each) * capacity_bytes]
    return (exceeding or present)[0]


def label_to_evict(sizes: Mapping[str, int]) -> str:
    """Return the label that loses a frame: the one that uses the most space."""
    return max(sizes, key=lambda label: (sizes[label], label))
