"""What is kept, and what goes first. Pure functions, so that the policy can be read and tested.

The order of usefulness is `Kind`'s. Where room is short, the victim is of the least useful
kind that has more than its share; within the kind, of the label that takes the most room; of
that label, the oldest. A share is what a kind is sure of: without it a line that rejects much
would in time hold no ordinary part at all, and nobody can calibrate with rejects alone.

Source: docs/archive.md, "What goes first"
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from edgeinspect.domain import Decision, Reason, Verdict
from edgeinspect.services.archiver.config import ArchiveConfig
from edgeinspect.storage.archive import Category

NEVER_IN_RING = frozenset(
    (Reason.SHAPE, Reason.CAPTURE_ERROR, Reason.CAPTURE_HEALTH, Reason.CAPTURE_LOST)
)
"""Reasons of frames that were closed before they got a slot: they have no pixels to keep."""
_HASH_RANGE = 1 << 64


def classify(verdict: Verdict, config: ArchiveConfig) -> Category | None:
    """Why a frame is worth keeping; None if it is not."""
    if verdict.simulated:
        return Category.SIMULATED
    if verdict.decision is Decision.NO_VERDICT:
        return None if verdict.reason in NEVER_IN_RING else Category.NO_VERDICT
    if verdict.reason is Reason.BELOW_THRESHOLDS or verdict.degraded or _is_near(verdict, config):
        return Category.NEAR
    if verdict.decision is Decision.REJECT:
        return Category.REJECT
    return Category.PASS if is_sampled(verdict.epoch, verdict.seq, config.pass_ratio) else None


def _is_near(verdict: Verdict, config: ArchiveConfig) -> bool:
    near, prob = config.near, verdict.defect_prob
    return near is not None and prob is not None and near.low <= prob <= near.high


def is_sampled(epoch: int, seq: int, ratio: float) -> bool:
    """True for a fixed fraction of frames, drawn by a hash of their number.

    Not every n-th: what repeats on a line (a roll's mark, a cavity of a mould) would then
    always or never be drawn.
    """
    digest = hashlib.blake2b(f"{epoch}.{seq}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < ratio * _HASH_RANGE


def category_to_evict(
    sizes: Mapping[Category, int], quota: Callable[[Category], float], capacity_bytes: float
) -> Category:
    """Which kind gives way: the least useful that has more than its share of the room.

    Args:
        sizes: Bytes by kind, a newcomer's among them; at least one is not 0.
        share: 0 to 1, by kind.
        room_bytes: For all.
    """
    held = [kind for kind in Category if sizes.get(kind, 0) > 0]
    above = [kind for kind in held if sizes[kind] > quota(kind) * capacity_bytes]
    return (above or held)[0]


def label_to_evict(sizes: Mapping[str, int]) -> str:
    """Which label of a kind gives way: the one that takes the most room."""
    return max(sizes, key=lambda label: (sizes[label], label))
