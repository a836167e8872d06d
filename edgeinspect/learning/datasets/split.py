"""Splits a data set into train, val and test: by group, stratified, seeded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from edgeinspect.errors import DataError, UsageError
from edgeinspect.learning.datasets.dataset import SPLITS, TRAIN, VAL, Dataset, Sample

DEFAULT_SHARES = (0.7, 0.15, 0.15)


def split_dataset(
    data: Dataset,
    seed: int,
    shares: tuple[float, float, float] = DEFAULT_SHARES,
    *,
    ignore_existing: bool = False,
    groups: Iterable[Sequence[str]] = (),
) -> Dataset:
    """Return the set with a split for every sample. The same seed and set give the same split.

    Samples that stay in one split because of `groups` get one group.

    The layout's own split is kept if it can train a model. If it has no `val`, that is taken
    from `train`. If its `train` has no defective image (or no good one) although the set does,
    as in MVTec-AD, everything is split again and a note says so.

    Args:
        data: Any data set.
        seed: Seed of the shuffling.
        shares: Shares of train, val and test; they are scaled to sum to 1.
        ignore_existing: Ignore the layout's own split.
        groups: Names of samples that must stay in one split, such as groups of duplicates.

    Raises:
        UsageError: A negative share, or none for train.
        DataError: Too few groups to fill the splits that have a share.
    """
    total = sum(shares)
    if min(shares) < 0 or shares[0] <= 0 or not np.isfinite(total):
        raise UsageError(
            f"shares of {shares}", remedy="Give three non-negative numbers, the first above 0"
        )
    shares = (shares[0] / total, shares[1] / total, shares[2] / total)
    families = _group_roots(data, groups)
    data = _with_joined_groups(data, families)
    own = not ignore_existing and any(sample.split for sample in data.samples)
    if own and (why := _split_problem(data)):
        data = data.with_notes(f"the set's split is not used: {why}")
        own = False
    targets = dict(zip(SPLITS, shares, strict=True))
    if not own:
        return _assign_splits(data, list(data.samples), families, seed, targets)
    if missing := [sample for sample in data.samples if not sample.split]:
        data = _assign_splits(data, missing, families, seed, targets)
    if shares[1] and not data.in_splits(VAL):
        ratio = shares[1] / (shares[0] + shares[1])
        cut = {TRAIN: 1 - ratio, VAL: ratio}
        data = _assign_splits(data, list(data.in_splits(TRAIN)), families, seed, cut)
        data = data.with_notes("`val` is taken from the set's `train`")
    return data


def join_groups(data: Dataset, groups: Iterable[Sequence[str]]) -> Dataset:
    """Return the set with one group for the samples that are connected by groups.

    Args:
        data: Any data set, with or without groups of its own.
        groups: Names of samples that belong together.
    """
    return _with_joined_groups(data, _group_roots(data, groups))


def _split_problem(data: Dataset) -> str:
    """Return why the set's own split cannot train a model; empty if it can."""
    train = data.in_splits(TRAIN)
    kinds = {sample.is_defective for sample in train}
    if not train:
        return "it has no `train`"
    for kind, word in ((True, "defective"), (False, "good")):
        if kind not in kinds and any(sample.is_defective is kind for sample in data.samples):
            return f"its `train` has no {word} image"
    return ""


def _group_roots(data: Dataset, groups: Iterable[Sequence[str]]) -> dict[str, str]:
    """Map sample names to the root of their connected group (union-find)."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while (above := parent.setdefault(key, key)) != key:
            parent[key] = key = parent.get(above, above)
        return key

    for sample in data.samples:
        if sample.group:
            parent[root("name " + sample.name)] = root("group " + sample.group)
    for names in groups:
        for name in names[1:]:
            parent[root("name " + name)] = root("name " + names[0])
    return {sample.name: root("name " + sample.name) for sample in data.samples}


def _with_joined_groups(data: Dataset, families: dict[str, str]) -> Dataset:
    """Return the set with one group for the samples of each family."""
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in data.samples:
        members[families[sample.name]].append(sample)
    label: dict[str, str] = {}
    for root, family in members.items():
        named = sorted({sample.group for sample in family if sample.group})
        if len(family) > 1:
            label[root] = named[0] if named else f"duplicates of {family[0].name}"
    return data.with_samples(
        [
            replace(sample, group=label.get(families[sample.name], sample.group))
            for sample in data.samples
        ]
    )


def _assign_splits(
    data: Dataset,
    samples: list[Sample],
    group_of: dict[str, str],
    seed: int,
    shares: dict[str, float],
) -> Dataset:
    """Assign whole groups: the rarest stratum first, each to the split that lacks most of it."""
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        members[group_of[sample.name]].append(sample)
    targets = {name: share for name, share in shares.items() if share > 0}
    if len(members) < len(targets):
        raise DataError(
            f"has {len(members)} groups for {len(targets)} splits",
            where=str(data.root),
            remedy="Images of one group (or near duplicates) stay in one split; add more images",
        )
    loads = {
        key: Counter(s for r in family for s in _strata_of(r)) for key, family in members.items()
    }
    totals: Counter[str] = Counter()
    for load in loads.values():
        totals.update(load)
    rarest = {key: min(load, key=lambda s: (totals[s], s)) for key, load in loads.items()}
    keys = sorted(members)
    shuffled = [keys[index] for index in np.random.default_rng(seed).permutation(len(keys))]
    # Large groups first: the small ones can still balance them.
    order = sorted(shuffled, key=lambda key: (totals[rarest[key]], -len(members[key])))
    assigned: dict[str, Counter[str]] = {name: Counter() for name in targets}
    size: Counter[str] = Counter()
    split_of: dict[str, str] = {}
    for place, key in enumerate(order):
        empty = [name for name in targets if not size[name]]
        options = empty if len(order) - place <= len(empty) else list(targets)

        def need(name: str, stratum: str = rarest[key]) -> tuple[float, float]:
            missing = targets[name] * totals[stratum] - assigned[name][stratum]
            return missing, targets[name] * len(samples) - size[name]

        best = max(options, key=need)
        assigned[best].update(loads[key])
        size[best] += len(members[key])
        split_of.update((sample.name, best) for sample in members[key])
    return data.with_samples(
        [replace(r, split=split_of[r.name]) if r.name in split_of else r for r in data.samples]
    )


def _strata_of(sample: Sample) -> tuple[str, ...]:
    """Return what splits are balanced by: the classes in an image, or its image-level class."""
    if sample.class_ids:
        return tuple(f"class {class_id}" for class_id in sample.class_ids)
    return (f"{'bad' if sample.is_defective else 'good'} {sample.class_name or ''}",)
