"""What to train, and the recipe that fits the images, unless it is said otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgeinspect.errors import UsageError
from edgeinspect.learning.train.augment import AugmentSettings
from edgeinspect.learning.train.recipe import Recipe
from edgeinspect.system import DecodeError, decode_json

TrainedKind = Literal["gate", "segmenter"]

_SMALL_FRAME_PX = 400 * 400
"""Up to this size a class map at stride 2 costs little; above it stride 4 is taken."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """One training as its user asks for it."""

    kind: TrainedKind
    data: Path
    out: Path
    name: str
    size: tuple[int, int] | None = None
    """(height, width) px of the frame; the set's own where None."""
    channels: int | None = None
    """1 grey, 3 colour; the set's own where None."""
    architecture: str | None = None
    weights: Path | None = None
    """Pretrained weights to begin with."""
    stride: int | None = None
    steps: int | None = None
    seed: int = 1
    threads: int = 2
    split_file: Path | None = None
    resume: bool = False
    turns: bool = False
    """The part has no direction: turning an image by 90° leaves its label true."""
    layout: str | None = None
    """Of the data set, where it could be read in more than one."""
    good: Sequence[str] = ()
    """Names of its classes that are good, where the rule guesses wrongly."""
    settings: Sequence[str] = field(default_factory=tuple)
    """`KEY=VALUE` of the recipe, as `batch=8` or `augment.noise=3`."""


def default_recipe(
    config: TrainingConfig, size: tuple[int, int], *, has_masks: bool, has_good: bool, stride: int
) -> Recipe:
    """The default recipe for a set, with the plan's own settings over it.

    Raises:
        UsageError: A setting is unknown or has another type.
    """
    height, width = size
    if config.kind == "gate":
        steps = config.steps or 1500
        augment = AugmentSettings(
            transpose=config.turns and height == width,
            contrast=0.4,
            noise=4,
            gamma=0.2,
            gradient=20,
        )
        # Crops show a small defect large; without masks nobody knows which crop has it.
        # A small frame is taken whole: each image is standardised by itself, and a crop's
        # own light and contrast are not the whole image's.
        small = height * width <= _SMALL_FRAME_PX
        crop = size if small else (min(192, height), min(640 if height <= 256 else 256, width))
        whole = 0.2 if has_masks and crop != size else 0.0
        base = Recipe(
            steps,
            crop_height_px=crop[0] if has_masks else None,
            crop_width_px=crop[1] if has_masks else None,
            whole_ratio=whole,
            validate_every=max(50, steps // 12),
            seed=config.seed,
            augment=augment,
        )
    else:
        steps = config.steps or 3000
        crop = (
            (min(128, height), min(128, width))
            if stride == 2
            else (min(256, height), min(416, width))
        )
        augment = AugmentSettings(
            transpose=config.turns and crop[0] == crop[1],
            contrast=0.35,
            noise=5,
            gamma=0.3,
            gradient=20,
            blur=0.1,
        )
        base = Recipe(
            steps,
            crop_height_px=crop[0],
            crop_width_px=crop[1],
            # What is whole in the image tells classes apart; a crop does not show it.
            # On neu_seg: mIoU 0.767 on crops alone, 0.797 with whole images at the end.
            whole_ratio=0.35 if stride == 2 and crop != size else 0.0,
            positive_share=0.7 if has_good else 1.0,
            centred_share=0.6,
            average_decay=0.997,
            validate_every=max(50, steps // 12),
            seed=config.seed,
            augment=augment,
        )
    return apply_settings(base, config.settings)


def output_stride(config: TrainingConfig, size: tuple[int, int]) -> int:
    """Frame pixels per class-map pixel."""
    return config.stride or (2 if size[0] * size[1] <= _SMALL_FRAME_PX else 4)


def apply_settings(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with `KEY=VALUE` put over it.

    Raises:
        UsageError: Unknown key, or a value of another type.
    """
    document: dict[str, Any] = recipe.to_document()
    for setting in settings:
        key, found, value = setting.partition("=")
        target = document["augment"] if key.startswith("augment.") else document
        name = key.removeprefix("augment.")
        if not found or name not in target or isinstance(target[name], dict):
            raise UsageError(
                f"{setting!r} sets nothing",
                where="--set",
                remedy=f"Give KEY=VALUE with one of {', '.join(_setting_names(recipe))}",
            )
        target[name] = _parse_value(value)
    try:
        return msgspec.convert(document, Recipe, strict=True)
    except msgspec.ValidationError as error:
        raise UsageError(str(error), where="--set") from error


def _parse_value(text: str) -> Any:
    try:
        return decode_json(text.lower())
    except DecodeError:
        return text


def _setting_names(recipe: Recipe) -> list[str]:
    document = recipe.to_document()
    inner = document.pop("augment")
    return [*document, *(f"augment.{name}" for name in inner)]
