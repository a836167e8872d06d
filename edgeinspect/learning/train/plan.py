"""The user's training options, and the default recipe that fits a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from edgeinspect.errors import UsageError
from edgeinspect.learning.datasets import GroupRule
from edgeinspect.learning.train import defaults
from edgeinspect.learning.train.augment import AugmentSettings
from edgeinspect.learning.train.recipe import TrainingRecipe
from edgeinspect.system import DecodeError, decode_json

TrainedKind = Literal["gate", "segmenter"]

_GATE_BATCH_PX = 16 * 400 * 400
"""Pixels of a batch; smaller batches of larger frames take the same time."""

_MIN_STEPS, _MAX_EPOCHS = 100, 60
"""Of a training on a pretrained encoder: few images are learned by heart after more."""

_VALIDATION_SHARE = 0.6
"""Validated images per trained one, so that validation takes about a fifth of the time: one image
is estimated at a third of a trained one."""

_SMALL_FRAME_PX = 400 * 400
"""Up to this size stride 2 is the default of a class map; above it stride 4."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """The options of one training."""

    kind: TrainedKind
    data: Path
    out: Path
    name: str
    size: tuple[int, int] | None = None
    """(height, width) px of the frame; the data set's own when None."""
    channels: int | None = None
    """1 grey, 3 colour; the data set's own when None."""
    architecture: str | None = None
    weights: Path | None = None
    """Pretrained weights to start with; see `encoders.find_pretrained`."""
    kinds: bool | None = None
    """Whether a gate tells kinds of defects apart; by the data set when None."""
    stride: int | None = None
    steps: int | None = None
    seed: int = 1
    threads: int = 2
    split_file: Path | None = None
    groups: GroupRule = field(default_factory=GroupRule)
    """Images that stay in one split, if the training makes the split."""
    resume: bool = False
    pair: Path | None = None
    """Run folder of the other model, with which this one will run on a line."""
    rotation_invariant: bool = False
    """Labels stay true when an image is rotated by 90°: the part has no direction."""
    layout: str | None = None
    """Of the data set, if it is not recognised."""
    good_classes: Sequence[str] = ()
    """Names of the data set's classes that are good."""
    draws_boxes: bool = False
    """Fill annotated boxes as masks."""
    settings: Sequence[str] = field(default_factory=tuple)
    """`KEY=VALUE` of the recipe, as `batch=8` or `augment.noise=3`."""


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What the default recipe depends on besides the options."""

    size: tuple[int, int]
    """(height, width) px of the frame."""
    train: int
    """Training images."""
    validation: int
    """Validation images."""
    has_masks: bool
    """Whether any training image has a mask with a defect."""
    has_good: bool
    """Whether any training image is good."""
    has_encoder: bool
    """Whether the network is built on an encoder."""


def default_recipe(config: TrainingConfig, facts: TrainingFacts) -> TrainingRecipe:
    """Return the default recipe for a data set, with the config's settings applied.

    Raises:
        UsageError: A setting is unknown or has another type.
    """
    if facts.has_encoder:
        return apply_settings(_fine_tuning_recipe(config, facts), config.settings)
    size, has_masks = facts.size, facts.has_masks
    height, width = size
    stride = output_stride(config, size)
    if config.kind == "gate":
        steps = config.steps or defaults.GATE.steps_from_scratch
        augment = AugmentSettings(
            transpose=config.rotation_invariant and height == width,
            contrast=0.4,
            noise=4,
            gamma=0.2,
            gradient=20,
        )
        # A crop shows a small defect large; without masks it is unknown which crop has it.
        # A small frame is used whole: each image is standardised by itself, and a crop's
        # brightness and contrast differ from the whole image's.
        is_small = height * width <= _SMALL_FRAME_PX
        crop = size if is_small else (min(192, height), min(640 if height <= 256 else 256, width))
        base = TrainingRecipe(
            steps,
            crop_height_px=crop[0] if has_masks else None,
            crop_width_px=crop[1] if has_masks else None,
            whole_ratio=0.2 if has_masks and crop != size else 0.0,
            validate_every=max(50, steps // 12),
            seed=config.seed,
            augment=augment,
        )
    else:
        steps = config.steps or defaults.SEGMENTER.steps_from_scratch
        max_crop = (128, 128) if stride == 2 else (256, 416)
        crop = (min(max_crop[0], height), min(max_crop[1], width))
        augment = AugmentSettings(
            transpose=config.rotation_invariant and crop[0] == crop[1],
            contrast=0.35,
            noise=5,
            gamma=0.3,
            gradient=20,
            blur=0.1,
        )
        base = TrainingRecipe(
            steps,
            crop_height_px=crop[0],
            crop_width_px=crop[1],
            # The context of a whole image separates classes; a crop does not show it.
            # On neu_seg: mIoU 0.767 on crops alone, 0.797 with whole images at the end.
            whole_ratio=0.35 if stride == 2 and crop != size else 0.0,
            positive_share=0.7 if facts.has_good else 1.0,
            centred_share=0.6,
            average_decay=0.997,
            validate_every=max(50, steps // 12),
            seed=config.seed,
            augment=augment,
        )
    return apply_settings(base, config.settings)


def _fine_tuning_recipe(config: TrainingConfig, facts: TrainingFacts) -> TrainingRecipe:
    """Return the recipe of a network on a pretrained encoder: whole frames, a lower rate."""
    height, width = facts.size
    area_px = height * width
    batch = int(np.clip(round(_GATE_BATCH_PX / area_px), 4, 16))
    is_gate = config.kind == "gate"
    work_px = (
        1e6
        * defaults.of(config.kind).work_mpx
        * (defaults.MANY_IMAGES_FACTOR if facts.train > defaults.MANY_IMAGES else 1)
    )
    epochs_end = max(_MIN_STEPS, round(_MAX_EPOCHS * facts.train / batch))
    steps = config.steps or max(_MIN_STEPS, min(epochs_end, round(work_px / (batch * area_px))))
    seen = steps * batch
    validations = int(np.clip(_VALIDATION_SHARE * seen / max(1, facts.validation), 3, 12))
    augment = AugmentSettings(
        transpose=config.rotation_invariant and height == width,
        contrast=0.3,
        noise=3 if is_gate else 5,
        gamma=0.2 if is_gate else 0.3,
        gradient=20,
    )
    return TrainingRecipe(
        steps,
        batch=batch,
        learning_rate=1e-3 if is_gate else 2e-3,
        weight_decay=2e-2,
        average_decay=0.98 if is_gate else 0.99,
        positive_share=0.5 if is_gate else (0.7 if facts.has_good else 1.0),
        validate_every=max(25, steps // validations),
        seed=config.seed,
        augment=augment,
    )


def output_stride(config: TrainingConfig, size: tuple[int, int]) -> int:
    """Return the frame pixels per class-map cell."""
    return config.stride or (2 if size[0] * size[1] <= _SMALL_FRAME_PX else 4)


def apply_settings(recipe: TrainingRecipe, settings: Sequence[str]) -> TrainingRecipe:
    """Return the recipe with `KEY=VALUE` settings applied.

    Raises:
        UsageError: Unknown key, or a value of another type.
    """
    document: dict[str, Any] = recipe.to_document()
    for setting in settings:
        key, equals, value = setting.partition("=")
        target = document["augment"] if key.startswith("augment.") else document
        name = key.removeprefix("augment.")
        if not equals or name not in target or isinstance(target[name], dict):
            raise UsageError(
                f"{setting!r} sets nothing",
                where="--set",
                remedy=f"Give KEY=VALUE with one of {', '.join(_setting_names(recipe))}",
            )
        target[name] = _parse_value(value)
    try:
        return msgspec.convert(document, TrainingRecipe, strict=True)
    except msgspec.ValidationError as error:
        raise UsageError(str(error), where="--set") from error


def _parse_value(text: str) -> Any:
    try:
        return decode_json(text.lower())
    except DecodeError:
        return text


def _setting_names(recipe: TrainingRecipe) -> list[str]:
    document = recipe.to_document()
    augment = document.pop("augment")
    return [*document, *(f"augment.{name}" for name in augment)]
