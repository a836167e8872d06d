"""Image files with the same bytes: they stay in one split, or are not measured.

Copies that are not the same file (turned, brighter, compressed again) are those of `duplicates`,
which decodes every image; this needs the digests alone, which a training computes anyway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from edgeinspect.learning.datasets.dataset import TRAIN, Dataset, SkippedImage


def exact_copies(digests: Mapping[str, str]) -> list[list[str]]:
    """Return the names of each group of image files with one content, for `split_dataset`.

    Args:
        digests: Of the files, by name.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name, digest in digests.items():
        groups[digest].append(name)
    return [names for names in groups.values() if len(names) > 1]


def without_copies_of_train(data: Dataset, digests: Mapping[str, str]) -> Dataset:
    """Return the set without the images of other splits that are the same file as one of `train`.

    They are among its skipped images: what is measured on them would be too good.

    Args:
        data: The set, split.
        digests: Of its image files, by name.
    """
    first: dict[str, str] = {}
    for sample in data.in_splits(TRAIN):
        if digest := digests.get(sample.name):
            first.setdefault(digest, sample.name)
    kept, copies = [], []
    for sample in data.samples:
        original = first.get(digests.get(sample.name, ""))
        if original is None or sample.split == TRAIN:
            kept.append(sample)
            continue
        reason = f"in `{sample.split}`, and the same file as {original} in `train`: not measured on"
        copies.append(SkippedImage(sample.name, reason))
    return data.with_samples(kept).with_skipped(*copies) if copies else data
