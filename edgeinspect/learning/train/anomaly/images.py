"""The images of a training from good parts: which of them are good, and which only measure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import (
    TEST,
    TRAIN,
    VAL,
    Dataset,
    ImageArrays,
    NoLayoutError,
    OnlyGoodError,
    Sample,
    SkippedImage,
    common_size,
    exact_copies,
    file_digests,
    infer_channels,
    is_good_class,
    join_groups,
    load_arrays,
    open_dataset,
    read_plain_folder,
    read_split,
    split_dataset,
    without_copies_of_train,
)
from edgeinspect.learning.train.anomaly.config import AnomalyConfig
from edgeinspect.learning.train.progress import StageProgress

MIN_GOOD_IMAGES = 3
MAX_FRAME_PX = 800 * 800
"""Larger images are scaled down: a frame takes time in proportion."""
_DEFECTIVE_SHARES = (0.5, 0.5, 0.0)
"""Of defective images without a split: those that choose the threshold, those that test it."""


@dataclass(frozen=True, slots=True)
class AnomalyImages:
    """The images of one training, by what they are for."""

    data: Dataset
    """With a split for every sample; no defective one in `train`."""
    digests: Mapping[str, str]
    """Of its image files, by name."""
    good: ImageArrays
    """Of `train`: the bank is built from these."""
    validation: ImageArrays | None
    """Of `val`: they set the threshold if some are defective. Without copies of `good`, as
    `test`."""
    test: ImageArrays | None
    groups: tuple[str, ...]
    """Of each image of `good`."""

    @property
    def left_out(self) -> tuple[SkippedImage, ...]:
        """Images that are not used, and why."""
        parts = (self.good, self.validation, self.test)
        return (*self.data.skipped, *(one for part in parts if part for one in part.skipped))


def load_images(config: AnomalyConfig, on_progress: StageProgress) -> AnomalyImages:
    """Open the folder, split it, and decode the images into frames.

    Raises:
        DataError: No folder, too few good images, or images that cannot be used.
    """
    data = open_good(config)
    digests = file_digests(data)
    # Copies in two folds would score each other as if the bank had seen them.
    data = split_good(join_groups(data, exact_copies(digests)), config)
    usable = without_copies_of_train(data, digests)
    data = usable.with_samples(data.samples)
    good = [sample for sample in data.in_splits(TRAIN) if not sample.is_defective]
    if len(good) < MIN_GOOD_IMAGES:
        raise DataError(
            f"has {len(good)} good images to learn from; {MIN_GOOD_IMAGES} are needed",
            where=str(config.data),
            remedy="Add images of good parts; a folder of a class that is good is named with "
            "--good-class",
        )
    size = config.size or frame_size(data.with_samples(good))
    channels = config.channels or infer_channels(data.with_samples(good))
    parts = {}
    for name in (TRAIN, VAL, TEST):
        samples = usable.in_splits(name)
        if samples:
            parts[name] = load_arrays(
                data,
                samples,
                height_px=size[0],
                width_px=size[1],
                channels=channels,
                cache=config.out / "cache",
                progress=lambda done, name=name, samples=samples: on_progress(  # type: ignore[misc]
                    f"read {name}", done, len(samples), 0.0
                ),
            )
    train = parts[TRAIN]
    if train.defective.any():  # a mask with a defect, in an image that its layout calls good
        number = int(train.defective.argmax())
        raise DataError(
            f"{train.names[number]} is labelled good, and its mask marks a defect",
            where=str(config.data),
            remedy="Correct the label or the mask: a bank learns everything in a good image",
        )
    if len(train) < MIN_GOOD_IMAGES:
        raise DataError(
            f"has {len(train)} good images that can be read; {MIN_GOOD_IMAGES} are needed",
            where=str(config.data),
            remedy="List what is wrong with: edgeinspect data inspect",
        )
    data = data.with_notes(*_copies_note(train))
    group_of = {sample.name: sample.group for sample in data.samples}
    groups = tuple(group_of[name] for name in train.names)
    return AnomalyImages(data, digests, train, parts.get(VAL), parts.get(TEST), groups)


def _copies_note(good: ImageArrays) -> list[str]:
    """Return a warning if some good images have the same pixels.

    A bank that holds an image finds nothing new in its copy: the threshold comes out too low.
    """
    different = len({hashlib.sha256(image.tobytes()).digest() for image in good.images})
    if different == len(good):
        return []
    return [
        f"{number_of(len(good), 'good image')} are copies of "
        f"{number_of(different, 'different image')}: copies teach nothing, and set the threshold "
        "too low. Give more images, each of another part"
    ]


def open_good(config: AnomalyConfig) -> Dataset:
    """Open a data set of any layout, or a folder of images without labels: all good.

    Raises:
        DataError: No such folder, no image in it, or it is a data set that is refused.
    """
    try:
        return open_dataset(config.data, config.layout, good_classes=config.good_classes)
    except DataError as error:
        if not config.data.is_dir():
            raise
        if isinstance(error, (NoLayoutError, OnlyGoodError)):
            return read_plain_folder(config.data, config.good_classes)
        if (data := _read_folders_named_good(config)) is None:
            raise
        return data


def _read_folders_named_good(config: AnomalyConfig) -> Dataset | None:
    """Return the images of a folder if each lies in one named good: `cam1/good`, `cam2/good`."""
    try:
        data = read_plain_folder(config.data, config.good_classes)
    except DataError:
        return None
    for sample in data.samples:
        folders = sample.path.relative_to(config.data).parts[:-1]
        if not any(is_good_class(name, tuple(config.good_classes)) for name in folders):
            return None
    return data


def split_good(data: Dataset, config: AnomalyConfig) -> Dataset:
    """Return the set with a split for every sample, and no defective one in `train`.

    The set's own split is kept. Without one, and without defective images, all are in `train`:
    cross-validation needs no images set aside. With defective images, good ones are set aside for
    `val` and `test`, and the defective ones are divided between those.

    Raises:
        DataError: The split file is of other images.
    """
    if config.split_file is not None:
        data = read_split(config.split_file, data)
    good = [sample for sample in data.samples if not sample.is_defective]
    bad = [sample for sample in data.samples if sample.is_defective]
    if not good:
        raise DataError(
            "has no good image",
            where=str(config.data),
            remedy="Name the class that is good with --good-class, or add images of good parts",
        )
    has_own = any(sample.split for sample in data.samples)
    if not has_own and not bad:
        return data.with_samples([replace(sample, split=TRAIN) for sample in data.samples])
    if has_own:
        moved = [sample for sample in bad if sample.split in (None, TRAIN)]
        if moved:
            data = data.with_notes(
                f"{len(moved)} defective images of `train` are in `val`: they set the threshold, "
                "the bank does not learn them"
            )
        splits = {sample.name: sample.split or TRAIN for sample in good}
        splits |= {
            sample.name: VAL if sample.split in (None, TRAIN) else sample.split for sample in bad
        }
    else:
        splits = _split_of(data, good, config.seed)
        places = {TRAIN: VAL, VAL: TEST}
        shares = _DEFECTIVE_SHARES if len(bad) > 1 else (1.0, 0.0, 0.0)
        halves = split_dataset(data.with_samples(bad), config.seed, shares, ignore_existing=True)
        splits |= {sample.name: places[sample.split or TRAIN] for sample in halves.samples}
    return data.with_samples(
        [replace(sample, split=splits[sample.name]) for sample in data.samples]
    )


def _split_of(data: Dataset, good: list[Sample], seed: int) -> dict[str, str]:
    """Return the split of each good image: with few of them, all are needed to learn."""
    if len(good) < 4 * MIN_GOOD_IMAGES:
        return {sample.name: TRAIN for sample in good}
    split = split_dataset(data.with_samples(good), seed, ignore_existing=True)
    return {sample.name: sample.split or TRAIN for sample in split.samples}


def frame_size(data: Dataset) -> tuple[int, int]:
    """Return the default (height_px, width_px): the images' own, scaled to at most `MAX_FRAME_PX`.

    Odd sizes become multiples of 16, so that the class map need not have a cell for each pixel.
    """
    height, width = common_size(data)
    if height * width > MAX_FRAME_PX:
        scale = (MAX_FRAME_PX / (height * width)) ** 0.5
        height, width = (max(32, int(side * scale) // 16 * 16) for side in (height, width))
    if height % 2 or width % 2:
        height, width = (max(32, round(side / 16) * 16) for side in (height, width))
    return height, width
