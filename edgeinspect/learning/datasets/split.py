"""Splitting a set into train, val and test: by group, stratified, seeded, kept in a file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeinspect.errors import DataError, UsageError
from edgeinspect.learning.datasets.dataset import SPLITS, TRAIN, VAL, Dataset, Sample
from edgeinspect.system import TEXT_BYTES_MAX, decode_json_names, read_regular

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
    """The set with every record's split set. The same seed and set give the same split.

    A layout's own split is kept, where it can train a model: where it has no `val`, that is cut
    from `train`, and where its `train` holds no defective picture (or no good one) though the
    set does, as in MVTec-AD, all is split anew and a note says so.

    Args:
        data: Any set.
        seed: Of the shuffling.
        shares: Of train, val and test; they are scaled to sum to 1.
        anew: Ignore the layout's own split.
        together: Sets of names that must not part, as `duplicates.duplicate_groups` finds them.

    Raises:
        UsageError: A negative share, or none for train.
        DataError: Too few groups to fill the splits that have a share.
    """
    total = sum(shares)
    if min(shares) < 0 or shares[0] <= 0 or not np.isfinite(total):
        raise UsageError(f"shares of {shares}", remedy="Give three that are not negative")
    shares = (shares[0] / total, shares[1] / total, shares[2] / total)
    families = _group_roots(data, groups)
    own = not ignore_existing and any(record.split for record in data.samples)
    if own and (why := _split_problem(data)):
        data = data.with_notes(f"the set's own split is not used: {why}")
        own = False
    wanted = dict(zip(SPLITS, shares, strict=True))
    if not own:
        return _assign_splits(data, list(data.samples), families, seed, wanted)
    if missing := [record for record in data.samples if not record.split]:
        data = _assign_splits(data, missing, families, seed, wanted)
    if shares[1] and not data.in_splits(VAL):
        ratio = shares[1] / (shares[0] + shares[1])
        cut = {TRAIN: 1 - ratio, VAL: ratio}
        data = _assign_splits(data, list(data.in_splits(TRAIN)), families, seed, cut)
        data = data.with_notes("`val` is cut from the set's own `train`")
    return data


def _split_problem(data: Dataset) -> str:
    """Why the set's own split cannot train a model; empty if it can."""
    train = data.in_splits(TRAIN)
    kinds = {record.is_defective for record in train}
    if not train:
        return "it has no `train`"
    for kind, word in ((True, "defective"), (False, "good")):
        if kind not in kinds and any(record.is_defective is kind for record in data.samples):
            return f"its `train` holds no {word} picture"
    return ""


def _group_roots(data: Dataset, groups: Iterable[Sequence[str]]) -> dict[str, str]:
    """Name of a record to its family: what its group and `together` tie it to, transitively."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while (above := parent.setdefault(key, key)) != key:
            parent[key] = key = parent.get(above, above)
        return key

    for record in data.samples:
        if record.group:
            parent[root("name " + record.name)] = root("group " + record.group)
    for names in groups:
        for name in names[1:]:
            parent[root("name " + name)] = root("name " + names[0])
    return {record.name: root("name " + record.name) for record in data.samples}


def _assign_splits(
    data: Dataset,
    samples: list[Sample],
    group_of: dict[str, str],
    seed: int,
    shares: dict[str, float],
) -> Dataset:
    """Give whole families to splits: the rarest stratum first, each to the neediest split."""
    members: dict[str, list[Sample]] = defaultdict(list)
    for record in samples:
        members[group_of[record.name]].append(record)
    wanted = {name: share for name, share in shares.items() if share > 0}
    if len(members) < len(wanted):
        raise DataError(
            f"has {len(members)} groups for {len(wanted)} splits",
            where=str(data.root),
            remedy="Pictures of one group (or near-duplicates) stay together; give more pictures",
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
    # Big families first: the small ones can still balance them.
    order = sorted(shuffled, key=lambda key: (totals[rarest[key]], -len(members[key])))
    have: dict[str, Counter[str]] = {name: Counter() for name in wanted}
    size: Counter[str] = Counter()
    split_of: dict[str, str] = {}
    for place, key in enumerate(order):
        empty = [name for name in wanted if not size[name]]
        options = empty if len(order) - place <= len(empty) else list(wanted)

        def need(name: str, stratum: str = rarest[key]) -> tuple[float, float]:
            missing = wanted[name] * totals[stratum] - have[name][stratum]
            return missing, wanted[name] * len(samples) - size[name]

        best = max(options, key=need)
        have[best].update(loads[key])
        size[best] += len(members[key])
        split_of.update((record.name, best) for record in members[key])
    return data.with_samples(
        [replace(r, split=split_of[r.name]) if r.name in split_of else r for r in data.samples]
    )


def _strata_of(sample: Sample) -> tuple[str, ...]:
    """What the splits are balanced by: the classes in a picture, or its image-level class."""
    if sample.class_ids:
        return tuple(f"class {class_id}" for class_id in sample.class_ids)
    return (f"{'bad' if sample.is_defective else 'good'} {sample.class_name or ''}",)


# -- the file -----------------------------------------------------------------------------


def names_hash(data: Dataset) -> str:
    """SHA-256 of the names of a set's pictures, in order."""
    text = "\n".join(sorted(record.name for record in data.samples))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def write_split(
    path: Path, data: Dataset, seed: int, shares: tuple[float, float, float] = DEFAULT_SHARES
) -> None:
    """Write which picture is in which split, as JSON.

    Raises:
        DataError: A record has no split, or the file cannot be written.
    """
    if not data.has_splits:
        raise DataError("is not split", where=str(data.root), remedy="Call `split` first")
    told = {
        "schema": _SCHEMA,
        "seed": seed,
        "shares": list(shares),
        "names_sha256": names_hash(data),
        "notes": list(data.notes),
        "splits": {name: [record.name for record in data.in_splits(name)] for name in SPLITS},
    }
    try:
        path.write_text(json.dumps(told, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(path)) from error


def read_split(path: Path, data: Dataset) -> Dataset:
    """The set split as a file says.

    Raises:
        DataError: Unreadable, or of another set of pictures.
    """
    remedy = "Write it with: edgeinspect data split PATH --out FILE"
    try:
        told = decode_json_names(read_regular(path, TEXT_BYTES_MAX))
        pairs = [(name, split) for split in SPLITS for name in told["splits"].get(split, [])]
        splits = dict(pairs)
        stored = told["names_sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"is not a split file: {error}", where=str(path), remedy=remedy) from error
    if len(splits) < len(pairs):
        count = Counter(name for name, _split in pairs)
        twice = [name for name, times in count.items() if times > 1]
        raise DataError(
            f"names {len(twice)} pictures more than once: {', '.join(map(str, twice[:3]))}",
            where=str(path),
            remedy="A picture is in one split: take it out of the others",
        )
    names = {record.name for record in data.samples}
    if stored != names_hash(data) or splits.keys() != names:
        raise DataError(
            f"splits other pictures: it names {len(splits)}, the set has {len(names)}, "
            f"{len(names & splits.keys())} in common",
            where=str(path),
            remedy=remedy,
        )
    return data.with_samples([replace(r, split=splits[r.name]) for r in data.samples])
