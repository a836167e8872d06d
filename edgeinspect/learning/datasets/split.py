"""Splits a data set into train, val and test: by group, stratified, seeded; and split files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError, OutputError, UsageError
from edgeinspect.learning.datasets.dataset import SPLITS, TRAIN, VAL, Dataset, Sample
from edgeinspect.system import TEXT_BYTES_MAX, decode_json_names, read_regular, write_atomic

DEFAULT_SHARES = (0.7, 0.15, 0.15)
_SCHEMA = "edgeinspect.split/1"


def split_dataset(
    data: Dataset,
    seed: int,
    shares: tuple[float, float, float] = DEFAULT_SHARES,
    *,
    ignore_existing: bool = False,
    groups: Iterable[Sequence[str]] = (),
) -> Dataset:
    """Return the set with a split for every sample. The same seed and set give the same split.

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


# -- the file -----------------------------------------------------------------------------


def names_hash(data: Dataset) -> str:
    """Return the SHA-256 of the sorted names of a set's images."""
    text = "\n".join(sorted(sample.name for sample in data.samples))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def write_split(
    path: Path,
    data: Dataset,
    seed: int,
    shares: tuple[float, float, float] = DEFAULT_SHARES,
    *,
    replaces: bool = False,
) -> None:
    """Write which image is in which split, as JSON.

    Args:
        path: The file.
        data: The set, split.
        seed: With which it was split.
        shares: Of the splits.
        replaces: A file of other content is replaced.

    Raises:
        DataError: A sample has no split.
        OutputError: The file cannot be written, or is there with other content: a split that
            is lost no longer proves what a model has not seen.
    """
    if not data.has_splits:
        raise DataError("is not split", where=str(data.root), remedy="Call `split_dataset` first")
    document = {
        "schema": _SCHEMA,
        "seed": seed,
        "shares": list(shares),
        "names_sha256": names_hash(data),
        "notes": list(data.notes),
        "splits": {name: [sample.name for sample in data.in_splits(name)] for name in SPLITS},
    }
    content = (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode()
    try:
        if not replaces and path.exists() and read_regular(path, TEXT_BYTES_MAX) != content:
            raise OutputError(
                "is there already, and is not this split",
                where=str(path),
                remedy="Give another name, or remove it first",
            )
        write_atomic(path, content)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from error


def read_split(path: Path, data: Dataset) -> Dataset:
    """Return the set with the splits of a file.

    Raises:
        DataError: Unreadable, or a split of other images.
    """
    remedy = "Write it with: edgeinspect data split DATASET --out FILE"
    try:
        document = decode_json_names(read_regular(path, TEXT_BYTES_MAX))
        pairs = [(name, split) for split in SPLITS for name in document["splits"].get(split, [])]
        splits = dict(pairs)
        stored = document["names_sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"is not a split file: {error}", where=str(path), remedy=remedy) from error
    if len(splits) < len(pairs):
        count = Counter(name for name, _split in pairs)
        repeated = [name for name, times in count.items() if times > 1]
        raise DataError(
            f"names {number_of(len(repeated), 'image')} more than once: "
            f"{', '.join(map(str, repeated[:3]))}",
            where=str(path),
            remedy="An image is in one split: remove it from the others",
        )
    names = {sample.name for sample in data.samples}
    if stored != names_hash(data) or splits.keys() != names:
        raise DataError(
            f"splits other images: it names {len(splits)}, the set has {len(names)}, "
            f"{len(names & splits.keys())} in common",
            where=str(path),
            remedy=remedy,
        )
    return data.with_samples([replace(r, split=splits[r.name]) for r in data.samples])
