"""Data sets and training: `data`, `train`, `explain`."""

from __future__ import annotations

from typing import Any

import msgspec


class DatasetInspection(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.data/1"):
    """`data inspect`: what a data set contains, and its problems."""

    path: str
    layout: str
    images: int
    bits: int
    """Bit depth of the images."""
    colored: int
    """Images in colour."""
    has_masks: bool
    classes: list[str]
    counts: dict[str, dict[str, int]]
    """Class to split to number of images; `good` is one of the classes."""
    pixels: dict[str, int]
    """Class to the number of its pixels in all masks."""
    sizes: list[ImageSizeCount]
    """The most frequent first."""
    unusable: list[NamedReason]
    """Images and masks that cannot be read or do not fit."""
    left_out: list[NamedReason]
    """Files that are not part of the set."""
    empty_masks: list[str]
    duplicates: list[DuplicatePair]
    across_splits: list[list[str]]
    """Duplicates that are in two splits, in pairs."""
    findings: list[DatasetFindingResult]


class ImageSizeCount(msgspec.Struct, kw_only=True):
    """Number of images of one size."""

    height_px: int
    width_px: int
    count: int


class NamedReason(msgspec.Struct, kw_only=True):
    """A file, and why it is not used."""

    name: str
    why: str


class DuplicatePair(msgspec.Struct, kw_only=True):
    """Two images of the same scene."""

    names: list[str]
    exact: bool
    correlation: float


class DatasetFindingResult(msgspec.Struct, kw_only=True):
    """A finding about the set as a whole."""

    level: str
    """`error`, `warning` or `note`."""
    what: str
    remedy: str


class DatasetSplit(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.data_split/1"
):
    """`data split`: the split that was written."""

    file: str
    images: int
    counts: dict[str, dict[str, int]]
    """Class to split to number of images; `good` is one of the classes."""
    groups: ImageGroups | None = None
    """Images that stay in one split; None if no two of them do."""


class ImageGroups(msgspec.Struct, kw_only=True):
    """The groups of a data set."""

    groups: int
    """An image without a group is counted as one."""
    largest: str
    largest_images: int
    examples: list[ImageGroup]
    """The largest group, and two others."""


class ImageGroup(msgspec.Struct, kw_only=True):
    """One group, and some of its images."""

    group: str
    images: list[str]


class ImageSelection(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.data_selection/1"
):
    """`data select`: the images that are most worth labelling, the first ones first."""

    source: str
    models: list[str]
    considered: int
    """Images that were inspected."""
    selected: list[SelectedImageResult]
    described_by: str
    """What the distance between images is measured on."""
    duplicates: int
    """Images that were passed over because a near duplicate is selected."""
    labelled: dict[str, int]
    """Images that a training knows and that are left out, by model."""
    unreadable: dict[str, str]
    """Images that cannot be read, and why."""
    notes: list[str]
    out: str | None
    sheet: str | None


class SelectedImageResult(msgspec.Struct, kw_only=True):
    """A selected image, and why."""

    name: str
    path: str
    copy: str | None
    """Its copy in the folder `out`."""
    criterion: str
    """`disagree`, `uncertain` or `unlike`."""
    value: float
    """Uncertainty 0 to 1; distance in typical ones; disagreement 0 to 2."""
    reason: str
    opinions: list[str]
    """What each model says."""


class TrainingOutcome(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.training/1"
):
    """`train`: the trained models."""

    models: list[TrainedModel]
    skipped: dict[str, str]
    """Unusable images, and why."""
    comparison: str | None = None
    """With `--compare`: path of comparison.json."""
    line: str | None = None
    """The line file that was written; `line.new.yaml` where `line.yaml` had been edited."""
    next: list[NextCommand] = []
    """What to do next."""


class NextCommand(msgspec.Struct, kw_only=True):
    """A command to follow."""

    purpose: str
    command: str
    """For a shell, with the paths of this training."""


class DatasetConversion(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.data_conversion/1"
):
    """`data convert`: what was written."""

    folder: str
    images: int
    notes: list[str]
    """Assumptions made while reading, and what the format cannot hold."""
    skipped: dict[str, str]
    """Name to reason, of the images that could not be read."""


class TrainedModel(msgspec.Struct, kw_only=True):
    """A trained model."""

    name: str
    folder: str
    accuracy: dict[str, Any]
    """On the test split, as in its manifest."""
    note: str = ""
    """What the model cannot decide."""


class ExplanationOutcome(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.explanation/1"
):
    """`explain`: the drawn images; the same as its explain.json."""

    model: str
    method: str | None
    how: str
    notes: list[str]
    pictures: list[Any]
