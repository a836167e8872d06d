"""Groups of a set's images that stay in one split: by their names, folders or times."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError, UsageError
from edgeinspect.learning.datasets.capture_time import capture_times_s
from edgeinspect.learning.datasets.dataset import SPLITS, Dataset, Sample

_SHOWN = 3
_MAX_PATTERN_CHARS = 500
_NOT_GROUPS = frozenset((*SPLITS, "valid", "validation", "training", "testing", "images"))
"""Folders that say which split or kind of file an image is, not from what it comes."""


@dataclass(frozen=True, slots=True)
class GroupRule:
    """How images are grouped. One of the fields is given; without one the set's own groups hold."""

    pattern: str = ""
    """A regular expression that is searched in the name; its one capture group is the group."""
    by_folder: bool = False
    """The folder of an image, without the folders of classes and splits."""
    gap_minutes: float | None = None
    """A longer time between two images starts a new group."""

    def __bool__(self) -> bool:
        return bool(self.pattern) or self.by_folder or self.gap_minutes is not None


_ROBOFLOW_COPY = re.compile(r"(?P<source>.+)\.rf\.[0-9A-Za-z]{16,64}")
"""Roboflow names the augmented copies of `a.jpg`: `a_jpg.rf.<hash>.jpg`."""

OWN_GROUPS = GroupRule()
"""The groups of the set itself."""


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """The groups of a set, for people."""

    count: int
    """Groups, an image without a group counted as one."""
    largest: str
    largest_images: int
    examples: tuple[tuple[str, tuple[str, ...]], ...]
    """Up to three groups, each with up to three names."""


def with_copies_grouped(data: Dataset) -> Dataset:
    """Return the set with Roboflow's augmented copies of an image as a group, in any layout."""
    samples = [
        replace(sample, group=copy["source"])
        if sample.group == sample.name
        and (copy := _ROBOFLOW_COPY.fullmatch(PurePath(sample.name).stem))
        else sample
        for sample in data.samples
    ]
    return data.with_samples(samples)


def group_samples(data: Dataset, rule: GroupRule) -> Dataset:
    """Return the set with the groups of a rule instead of its own, and a note that says which.

    Raises:
        UsageError: More than one field of the rule, or a pattern that is not one.
        DataError: No name matches, or all images are in one group, or each is in its own.
    """
    if not rule:
        return data
    if sum((bool(rule.pattern), rule.by_folder, rule.gap_minutes is not None)) > 1:
        raise UsageError(
            "images are grouped in one way",
            remedy="Give one of --group-pattern, --group-folder and --group-gap",
        )
    if rule.pattern:
        groups, how = _groups_by_pattern(data, rule.pattern)
    elif rule.by_folder:
        groups, how = [_folder_of(data, sample) for sample in data.samples], "by folder"
    else:
        groups, how = _groups_by_time(data.samples, rule.gap_minutes or 0.0)
    _check_groups(data, groups, how)
    grouped = [
        replace(sample, group=group) for sample, group in zip(data.samples, groups, strict=True)
    ]
    return data.with_samples(grouped).with_notes(
        f"{number_of(len(set(groups) - {''}) + groups.count(''), 'group')} {how}"
    )


def summarise_groups(data: Dataset) -> GroupSummary | None:
    """Return what is grouped; None if no two images share a group."""
    members: dict[str, list[str]] = defaultdict(list)
    for sample in data.samples:
        if sample.group:
            members[sample.group].append(sample.name)
    if not any(len(names) > 1 for names in members.values()):
        return None
    single = sum(not sample.group for sample in data.samples)
    by_size = sorted(members, key=lambda group: (-len(members[group]), group))
    shown = [by_size[0], *sorted(by_size[1:])[: _SHOWN - 1]]
    return GroupSummary(
        len(members) + single,
        by_size[0],
        len(members[by_size[0]]),
        tuple((group, tuple(members[group][:_SHOWN])) for group in shown),
    )


def groups_across_splits(data: Dataset) -> list[str]:
    """Return the groups of which images are in more than one split, sorted."""
    splits: dict[str, set[str]] = defaultdict(set)
    for sample in data.samples:
        if sample.group and sample.split:
            splits[sample.group].add(sample.split)
    return sorted(group for group, its in splits.items() if len(its) > 1)


def _groups_by_pattern(data: Dataset, text: str) -> tuple[list[str], str]:
    example = r"Give one with a capture group, as --group-pattern 'coil_(\d+)_'"
    if len(text) > _MAX_PATTERN_CHARS:
        raise UsageError(f"the pattern has {len(text)} characters", remedy=example)
    try:
        pattern = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(
            f"'{text}' is not a regular expression: {error}", remedy=example
        ) from error
    if pattern.groups != 1:
        raise UsageError(
            f"'{text}' has {number_of(pattern.groups, 'capture group')}, not one", remedy=example
        )
    found = [pattern.search(sample.name) for sample in data.samples]
    groups = [(match[1] or "") if match else "" for match in found]
    missed = [sample.name for sample, group in zip(data.samples, groups, strict=True) if not group]
    if len(missed) == len(groups):
        raise DataError(
            f"no name matches '{text}': they are like {_names(missed)}",
            where=str(data.root),
            remedy=example,
        )
    how = f"by the pattern '{text}'"
    if missed:
        how += (
            f"; {number_of(len(missed), 'name does', 'names do')} not match, as {_names(missed)}: "
            "each such image is a group"
        )
    return groups, how


def _folder_of(data: Dataset, sample: Sample) -> str:
    try:
        folders = PurePath(sample.path).relative_to(data.root).parts[:-1]
    except ValueError:
        folders = PurePath(sample.name).parts[:-1]
    names = {sample.class_name, *data.classes}
    return "/".join(
        each for each in folders if each not in names and each.casefold() not in _NOT_GROUPS
    )


def _groups_by_time(samples: Sequence[Sample], gap_minutes: float) -> tuple[list[str], str]:
    times_s, source = capture_times_s(samples)
    groups = [""] * len(samples)
    number, before_s = 0, float("-inf")
    for at in sorted(range(len(samples)), key=lambda index: times_s[index]):
        if times_s[at] - before_s > 60 * gap_minutes:
            number += 1
        before_s = times_s[at]
        groups[at] = f"period {number}"
    return groups, f"by gaps of more than {gap_minutes:g} minutes in {source}"


def _check_groups(data: Dataset, groups: Sequence[str], how: str) -> None:
    """Refuse groups that group nothing, with names.

    Raises:
        DataError: All images are in one group, or each is in its own.
    """
    count = Counter(groups)
    names = [sample.name for sample in data.samples]
    if len(count) == 1 and len(groups) > 1:
        which = f"'{groups[0]}'" if groups[0] else "no folder of its own"
        raise DataError(
            f"grouped {how}, all {len(groups)} images are in one group, {which}: {_names(names)}",
            where=str(data.root),
            remedy="Group them by what differs: a coil, a part, a shift",
        )
    if all(number == 1 for group, number in count.items() if group):
        raise DataError(
            f"grouped {how}, every image is in a group of its own, as "
            + ", ".join(
                f"{name} in '{group}'"
                for name, group in list(zip(names, groups, strict=True))[:_SHOWN]
                if group
            ),
            where=str(data.root),
            remedy="Group them by what several images share: a coil, a part, a shift",
        )


def _names(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:_SHOWN])
