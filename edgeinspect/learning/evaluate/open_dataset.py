"""From a data set's folder to the pictures of one split, as a model takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeinspect.domain import ModelSpec
from edgeinspect.errors import DataError, UsageError
from edgeinspect.imaging import synthetic_strip
from edgeinspect.learning.datasets import (
    SPLITS,
    Dataset,
    ImageArrays,
    Sample,
    load_arrays,
    open_dataset,
    read_split,
)
from edgeinspect.learning.evaluate.image_source import ImageSource, with_model_classes
from edgeinspect.learning.evaluate.open_model import CHECKPOINT_FILE
from edgeinspect.system import escape_name, is_short_decimal

ALL_SPLITS = "all"
SPLIT_FILE_NAME = "split.json"
"""In a training run's folder: which picture was trained on."""
SYNTHETIC_PREFIX = "strip:"
"""`strip:SEED:COUNT` instead of a folder: rendered pictures of the synthetic strip."""
_BATCH_BYTES = 64 << 20
_MIN_BATCH, _MAX_BATCH = 8, 256


def open_image_source(
    data: str,
    spec: ModelSpec,
    *,
    split: str = "test",
    split_file: Path | None = None,
    training_split: Path | None = None,
    classes: Sequence[str] | None = None,
    good_classes: Sequence[str] = (),
    layout: str | None = None,
) -> ImageSource:
    """The pictures of one split, decoded a batch at a time.

    Args:
        data: A data set's folder, or `strip:SEED:COUNT`.
        spec: The model that will see them: its frame, its colours.
        split: `train`, `val`, `test` or `all`.
        split_file: Which picture is in which split, instead of the set's own word.
        run_split: The same from the model's training; passed over, and noted, where it is of
            other pictures.
        classes: Of the masks: the segmenter's; the data set's own where None or empty.
        good: Names of the data set's classes that are good, where the rule guesses wrongly.
        layout: The data set's layout, where it is recognised wrongly.

    Raises:
        DataError: No such set, no picture in the split, or other classes than the model's.
        UsageError: `split` is unknown, or `strip:` is followed by no numbers.
    """
    if split not in (*SPLITS, ALL_SPLITS):
        raise UsageError(
            f"there is no split '{split}'", remedy=f"There are: {', '.join((*SPLITS, ALL_SPLITS))}"
        )
    if data.startswith(SYNTHETIC_PREFIX):
        return with_model_classes(_synthetic_source(data, spec), classes or ())
    found = open_dataset(Path(data), layout, good_classes=good_classes)
    if split_file is not None:
        found = read_split(split_file, found)
    elif training_split is not None:
        found = _with_training_split(found, training_split)
    records = _split_records(found, split)
    per_picture = spec.shape.height_px * spec.shape.width_px * (spec.shape.channels + 1)
    batch = max(_MIN_BATCH, min(_MAX_BATCH, _BATCH_BYTES // per_picture))
    skipped = {one.name: one.reason for one in found.skipped if not one.is_intentional}

    def batches() -> Iterator[ImageArrays]:
        for first in range(0, len(records), batch):
            pictures = load_arrays(
                found,
                records[first : first + batch],
                height_px=spec.shape.height_px,
                width_px=spec.shape.width_px,
                channels=spec.shape.channels,
            )
            skipped.update({each.name: each.reason for each in pictures.skipped})
            yield _to_model_color_order(pictures, spec.color)

    source = ImageSource(
        where=f"{escape_name(data)}, {'all of it' if split == ALL_SPLITS else f'split {split}'}",
        image_count=len(records),
        classes=found.classes,
        has_masks=found.has_masks,
        batches=batches,
        skipped=skipped,
        notes=found.notes,
    )
    return with_model_classes(source, classes or ())


def find_training_split(model: str) -> Path | None:
    """The split that a training run was made with, if the model's folder is one."""
    path = Path(model)
    for folder in (path, *path.absolute().parents[:3]):
        if (folder / CHECKPOINT_FILE).is_file() and (folder / SPLIT_FILE_NAME).is_file():
            return folder / SPLIT_FILE_NAME
    return None


def _with_training_split(data: Dataset, file: Path) -> Dataset:
    """The set as the training split it; as it is if the training had other pictures."""
    try:
        return read_split(file, data).with_notes(f"split as in the model's training, {file}")
    except DataError:
        return data.with_notes(
            f"{file} splits other pictures than these: nothing tells whether some of these were "
            "trained on"
        )


def _split_records(data: Dataset, split: str) -> tuple[Sample, ...]:
    if split == ALL_SPLITS:
        return data.samples
    if not any(record.split for record in data.samples):
        raise DataError(
            "brings no split of its own",
            where=str(data.root),
            remedy="Give --split all, or --split-file FILE (a training run's split.json)",
        )
    records = data.in_splits(split)
    if not records:
        held = sorted({record.split for record in data.samples if record.split})
        raise DataError(
            f"has no picture in split '{split}'",
            where=str(data.root),
            remedy=f"It has: {', '.join(held)}; or give --split all",
        )
    return records


def _to_model_color_order(pictures: ImageArrays, color: str) -> ImageArrays:
    """Blue, green, red as loaded; turned where the model was trained the other way."""
    if color != "rgb":
        return pictures
    return replace(pictures, images=np.ascontiguousarray(pictures.images[..., ::-1]))


def _synthetic_source(data: str, spec: ModelSpec) -> ImageSource:
    words = data.removeprefix(SYNTHETIC_PREFIX).split(":")
    if len(words) != 2 or not all(map(is_short_decimal, words)) or not int(words[1]):
        raise UsageError(f"'{data:.80}' names no rendered strip", remedy="Write strip:SEED:COUNT")
    if spec.shape.channels != 1:
        raise UsageError("the synthetic strip is grey", where=str(spec.id))
    seed, count = int(words[0]), int(words[1])
    height, width = spec.shape.height_px, spec.shape.width_px
    per_batch = max(_MIN_BATCH, min(_MAX_BATCH, _BATCH_BYTES // (2 * height * width)))

    def batches() -> Iterator[ImageArrays]:
        for first in range(0, count, per_batch):
            indices = range(first, min(count, first + per_batch))
            drawn = [synthetic_strip.render_strip(seed, index, height, width) for index in indices]
            masks = np.stack([each.mask for each in drawn])
            yield ImageArrays(
                np.stack([each.image for each in drawn])[..., None],
                masks,
                np.asarray(masks.reshape(len(masks), -1).any(axis=1)),
                [f"strip-{seed}-{index}" for index in indices],
                synthetic_strip.CLASS_NAMES,
            )

    return ImageSource(
        f"synthetic strip, seed {seed}", count, synthetic_strip.CLASS_NAMES, True, batches
    )
