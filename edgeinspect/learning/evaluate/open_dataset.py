"""Opens a split of a data set, or a synthetic set, as an `ImageSource` for a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeinspect.domain import ModelSpec
from edgeinspect.errors import DataError, UsageError
from edgeinspect.imaging import synthetic_strip
from edgeinspect.learning.datasets import (
    OWN_GROUPS,
    SPLITS,
    Dataset,
    GroupRule,
    ImageArrays,
    Sample,
    group_samples,
    load_arrays,
    open_dataset,
)
from edgeinspect.learning.evaluate.image_source import ImageSource, ImageTruth, with_model_classes
from edgeinspect.learning.evaluate.training_images import (
    NOT_ASKED,
    UNSEEN_IMAGES,
    TrainingKnowledge,
    training_note,
)
from edgeinspect.system import escape_name, is_short_decimal

ALL_SPLITS = "all"
SYNTHETIC_PREFIX = "strip:"
"""`strip:SEED:COUNT` instead of a folder: rendered images of the synthetic strip."""
_BATCH_BYTES = 64 << 20
_MIN_BATCH, _MAX_BATCH = 8, 256
_OWN_SPLIT = "Leave --split-file out: the training's own split is used then"


def open_image_source(
    data: str,
    spec: ModelSpec,
    *,
    split: str = "test",
    split_file: Path | None = None,
    training: TrainingKnowledge = NOT_ASKED,
    on_training_images: bool = False,
    groups: GroupRule = OWN_GROUPS,
    classes: Sequence[str] | None = None,
    good_classes: Sequence[str] = (),
    layout: str | None = None,
    draws_boxes: bool = False,
) -> ImageSource:
    """Open the images of one split, decoded a batch at a time.

    Args:
        data: A data set's folder, or `strip:SEED:COUNT`.
        spec: The model that receives them; gives frame size and colours.
        split: `train`, `val`, `test` or `all`.
        split_file: Assigns images to splits, instead of the data set's own split.
        training: The training images of the models, whose split is used.
        on_training_images: Training images are allowed.
        groups: Images that belong together, for the intervals.
        classes: The segmenter's, for the ids in the masks; the data set's own if empty.
        good_classes: Names of the data set's classes that are good.
        layout: The data set's layout, if it is not recognised.
        draws_boxes: Fill annotated boxes as masks.

    Raises:
        DataError: No such data set, no image in the split, training images in it that are not
            allowed, or a class unknown to the model.
        UsageError: `split` is unknown, or `strip:` is not followed by two numbers.
    """
    if split not in (*SPLITS, ALL_SPLITS):
        raise UsageError(
            f"there is no split '{split}'", remedy=f"There are: {', '.join((*SPLITS, ALL_SPLITS))}"
        )
    if data.startswith(SYNTHETIC_PREFIX):
        return with_model_classes(_synthetic_source(data, spec), classes or ())
    dataset = open_dataset(Path(data), layout, good_classes=good_classes, draws_boxes=draws_boxes)
    dataset, trained = training.split(dataset, split_file)
    dataset = group_samples(dataset, groups)
    samples = _split_samples(dataset, split)
    trained_count = training.count(samples, trained)
    remedy = _OWN_SPLIT if split_file is not None else UNSEEN_IMAGES
    training.check(
        trained_count,
        len(samples),
        escape_name(data),
        is_allowed=on_training_images,
        remedy=remedy,
    )
    batch = _batch_size(spec, spec.shape.channels + 1)
    skipped = {each.name: each.reason for each in dataset.skipped if not each.is_intentional}

    def batches() -> Iterator[ImageArrays]:
        for first in range(0, len(samples), batch):
            images = load_arrays(
                dataset,
                samples[first : first + batch],
                height_px=spec.shape.height_px,
                width_px=spec.shape.width_px,
                channels=spec.shape.channels,
            )
            skipped.update({each.name: each.reason for each in images.skipped})
            yield _to_model_color_order(images, spec.color)

    source = ImageSource(
        where=f"{escape_name(data)}, {'all of it' if split == ALL_SPLITS else f'split {split}'}",
        image_count=len(samples),
        classes=dataset.classes,
        has_masks=dataset.has_masks,
        batches=batches,
        skipped=skipped,
        notes=(*dataset.notes, *training.notes, *training_note(trained_count, len(samples))),
        groups={sample.name: sample.group for sample in samples if sample.group},
        training_images=trained_count,
        truth={sample.name: sample_truth(sample, dataset.classes) for sample in samples},
    )
    return with_model_classes(source, classes or ())


def sample_truth(sample: Sample, classes: Sequence[str]) -> ImageTruth:
    """Return what is known of an image without reading its mask."""
    names = [classes[class_id - 1] for class_id in sample.class_ids]
    if sample.is_defective and not names and sample.class_name in classes:
        names = [str(sample.class_name)]
    return ImageTruth(sample.split or "", tuple(dict.fromkeys(names)))


def _split_samples(dataset: Dataset, split: str) -> tuple[Sample, ...]:
    if split == ALL_SPLITS:
        return dataset.samples
    available = sorted({sample.split for sample in dataset.samples if sample.split})
    if not available:
        raise DataError(
            "brings no split of its own",
            where=str(dataset.root),
            remedy="Give --split all, or --split-file FILE (a training run's split.json)",
        )
    samples = dataset.in_splits(split)
    if not samples:
        why = f" ({'; '.join(dataset.notes)})" if dataset.notes else ""
        raise DataError(
            f"has no image in split '{split}'{why}",
            where=str(dataset.root),
            remedy=f"It has: {', '.join(available)}; or give --split all",
        )
    return samples


def _to_model_color_order(images: ImageArrays, color: str) -> ImageArrays:
    """Loaded images are BGR; reverse the channels for a model that was trained on RGB."""
    if color != "rgb":
        return images
    return replace(images, images=np.ascontiguousarray(images.images[..., ::-1]))


def _batch_size(spec: ModelSpec, bytes_per_px: int) -> int:
    bytes_per_image = spec.shape.height_px * spec.shape.width_px * bytes_per_px
    return max(_MIN_BATCH, min(_MAX_BATCH, _BATCH_BYTES // bytes_per_image))


def _synthetic_source(data: str, spec: ModelSpec) -> ImageSource:
    numbers = data.removeprefix(SYNTHETIC_PREFIX).split(":")
    if len(numbers) != 2 or not all(map(is_short_decimal, numbers)) or not int(numbers[1]):
        raise UsageError(f"'{data:.80}' names no rendered strip", remedy="Write strip:SEED:COUNT")
    if spec.shape.channels != 1:
        raise UsageError("the synthetic strip is grey", where=str(spec.id))
    seed, count = int(numbers[0]), int(numbers[1])
    height, width = spec.shape.height_px, spec.shape.width_px
    batch = _batch_size(spec, 2)

    def batches() -> Iterator[ImageArrays]:
        for first in range(0, count, batch):
            indices = range(first, min(count, first + batch))
            rendered = [
                synthetic_strip.render_strip(seed, index, height, width) for index in indices
            ]
            masks = np.stack([each.mask for each in rendered])
            yield ImageArrays(
                np.stack([each.image for each in rendered])[..., None],
                masks,
                np.asarray(masks.reshape(len(masks), -1).any(axis=1)),
                [f"strip-{seed}-{index}" for index in indices],
                synthetic_strip.CLASS_NAMES,
            )

    return ImageSource(
        f"synthetic strip, seed {seed}", count, synthetic_strip.CLASS_NAMES, True, batches
    )
