"""What a training starts from: the data split and decoded, the recipe, the network, with checks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeinspect.domain import Decides
from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import (
    TEST,
    TRAIN,
    VAL,
    Dataset,
    ImageArrays,
    SkippedImage,
    common_size,
    exact_copies,
    file_digests,
    group_samples,
    has_class,
    infer_channels,
    load_arrays,
    open_dataset,
    split_dataset,
    without_copies_of_train,
)
from edgeinspect.learning.train import architectures, defaults
from edgeinspect.learning.train.data_record import dataset_digest
from edgeinspect.learning.train.encoders import is_encoder
from edgeinspect.learning.train.pairing import check_pair_data, read_pair_split
from edgeinspect.learning.train.plan import (
    TrainingConfig,
    TrainingFacts,
    default_recipe,
    output_stride,
)
from edgeinspect.learning.train.preconditions import check_frame, check_labels
from edgeinspect.learning.train.progress import StageProgress
from edgeinspect.learning.train.recipe import TrainingRecipe
from edgeinspect.learning.train.tasks import GateTask, SegmenterTask, TrainingTask

_MORE_IMAGES_REMEDY = (
    "Give more images, or a split of your own with --split-file (see: edgeinspect data split)"
)


@dataclass(frozen=True, slots=True)
class PreparedTraining:
    """Data, network and recipe of a training."""

    data: Dataset
    digests: Mapping[str, str]
    """Of its image files, by name."""
    images: dict[str, ImageArrays]
    """By split; `val` and `test` without copies of images in `train`."""
    recipe: TrainingRecipe
    net: nn.Module
    task: TrainingTask
    architecture: str
    stride: int
    """Of the class map; 1 for a gate."""
    ignore_black: bool
    """Whether letterboxing adds black borders."""
    left_out: tuple[SkippedImage, ...] = ()
    """Images that are not used, and why."""
    kinds: int = 0
    """Number of kinds of defects that a gate tells apart; 0: defective or good."""

    @property
    def decides(self) -> Decides:
        """`KINDS` for a gate that has learned from no good image."""
        has_good = not self.images[TRAIN].defective.all()
        return Decides.DEFECTS if has_good or not self.kinds else Decides.KINDS


def prepare_training(config: TrainingConfig, on_progress: StageProgress) -> PreparedTraining:
    """Open the data set, split it, decode it, and build the network."""
    data = open_dataset(
        config.data,
        config.layout,
        good_classes=config.good_classes,
        draws_boxes=config.draws_boxes,
    )
    digests = file_digests(data)
    if config.split_file is not None:
        data = read_pair_split(config, config.split_file, data)
    else:
        data = split_dataset(
            group_samples(data, config.groups), config.seed, groups=exact_copies(digests)
        )
    usable = without_copies_of_train(data, digests)
    check_pair_data(config, data, dataset_digest(data))
    check_labels(config, data)
    size = config.size or common_size(data)
    check_frame(config, size)
    channels = config.channels or infer_channels(data)
    images = {
        name: load_arrays(
            data,
            usable.in_splits(name),
            height_px=size[0],
            width_px=size[1],
            channels=channels,
            cache=config.out / "cache",
            progress=lambda done, name=name: on_progress(  # type: ignore[misc]
                f"read {name}", done, len(usable.in_splits(name))
            ),
        )
        for name in (TRAIN, VAL, TEST)
        if usable.in_splits(name)
    }
    left_out = (*usable.skipped, *(one for part in images.values() for one in part.skipped))
    for name in (TRAIN, VAL):
        if name not in images or not len(images[name]):
            copies = "" if not data.in_splits(name) else ": all are broken, or copies of `train`"
            raise DataError(
                f"has no image in split '{name}'{copies}",
                where=str(config.data),
                remedy=_MORE_IMAGES_REMEDY,
            )
    train = images[TRAIN]
    name = config.architecture or defaults.of(config.kind).architecture
    recipe = default_recipe(
        config,
        TrainingFacts(
            size,
            len(train),
            len(images[VAL]),
            has_masks=has_class(train.masks),
            has_good=not bool(train.defective.all()),
            has_encoder=is_encoder(name),
        ),
    )
    torch.manual_seed(config.seed)
    if config.kind == "gate":
        kinds = _count_kinds(config, data, images)
        if not kinds:
            _check_both_labels(config, images)
        ignore_black = _has_black_borders(train.images)
        net = architectures.build_gate(
            name,
            channels=channels,
            weights=config.weights,
            ignore_black=ignore_black,
            kinds=kinds,
        )
        task: TrainingTask = GateTask(train, kinds)
        return PreparedTraining(
            data, digests, images, recipe, net, task, name, 1, ignore_black, left_out, kinds
        )
    _check_masks(config, train)
    stride = output_stride(config, size)
    task = SegmenterTask(train, stride, recipe.loss)
    net = architectures.build_segmenter(
        name, len(data.classes), channels=channels, stride=stride, weights=config.weights
    )
    return PreparedTraining(data, digests, images, recipe, net, task, name, stride, False, left_out)


def _count_kinds(config: TrainingConfig, data: Dataset, images: dict[str, ImageArrays]) -> int:
    """Return how many kinds of defects a gate is to tell apart.

    By default those of a set with several classes and without masks, which a segmenter could
    learn from, and with at most one kind in each image.

    Raises:
        DataError: Kinds are wanted, and the set has none, or none of a class.
    """
    has_masks = any(has_class(part.masks) for part in images.values())
    train = images[TRAIN]
    present = {int(kind) for kind in np.unique(train.kinds) if kind}
    is_natural = len(data.classes) > 1 and len(present) > 1 and not has_masks
    if not (is_natural if config.kinds is None else config.kinds):
        return 0
    missing = [name for index, name in enumerate(data.classes, 1) if index not in present]
    if missing:
        raise DataError(
            f"has no image in split 'train' whose only kind is {', '.join(missing)}",
            where=str(config.data),
            remedy="Give more images of it, or train a gate for good and defective: --no-kinds",
        )
    return len(data.classes)


def _check_both_labels(config: TrainingConfig, images: dict[str, ImageArrays]) -> None:
    """Check that every split has good and defective images, which a gate needs.

    Raises:
        DataError: A split lacks one of them.
    """
    for name, part in images.items():
        for label, exists in (
            ("defective", part.defective.any()),
            ("good", (~part.defective).any()),
        ):
            if len(part) and not exists:
                raise DataError(
                    f"has no {label} image in split '{name}', and a gate needs both",
                    where=str(config.data),
                    remedy=_MORE_IMAGES_REMEDY,
                )


def _check_masks(config: TrainingConfig, train: ImageArrays) -> None:
    """Check that some mask of the training split marks a defect, which a segmenter needs.

    Raises:
        DataError: None does.
    """
    if not has_class(train.masks):
        raise DataError(
            "no mask of split 'train' marks a defect, and a segmenter is trained on masks",
            where=str(config.data),
            remedy="See what the masks hold with: edgeinspect data inspect "
            + shlex.quote(str(config.data)),
        )


def _has_black_borders(images: NDArray[np.uint8]) -> bool:
    """Whether more than one image of a hundred has a black border from letterboxing."""
    count = 0
    for image in images:
        edges = (image[0], image[-1], image[:, 0], image[:, -1])
        count += any(not edge.any() for edge in edges)
    return count > len(images) / 100
