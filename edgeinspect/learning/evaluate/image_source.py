"""Images for an evaluation, a batch at a time, with the model's class ids in their masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import VOID, ImageArrays, has_class


@dataclass(frozen=True, slots=True)
class ImageTruth:
    """What the data set knows of an image beside its mask."""

    split: str = ""
    """`train`, `val`, `test`, or empty."""
    classes: tuple[str, ...] = ()
    """Names of the defect classes in it, by its folder or table."""


NO_TRUTH = ImageTruth()


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A split of a data set that can be read repeatedly."""

    where: str
    """Name in messages and reports."""
    image_count: int
    classes: tuple[str, ...]
    has_masks: bool
    """False if the data set labels whole images only."""
    batches: Callable[[], Iterator[ImageArrays]]
    """Starts with the first image at each call; a batch is valid until the next."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Unusable images so far, and why; grows while batches are read."""
    notes: tuple[str, ...] = ()
    """Assumptions made about the data set."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Name to group, of images that belong together: intervals respect them."""
    training_images: int | None = None
    """How many of the images the model was trained on; None if that is not known."""
    truth: Mapping[str, ImageTruth] = field(default_factory=dict)
    """By image name; may lack any."""


def source_in_memory(images: ImageArrays, *, where: str = "images") -> ImageSource:
    """Return a source of images that are in memory."""
    return ImageSource(
        where,
        len(images),
        tuple(images.classes),
        has_class(images.masks),
        lambda: iter((images,)),
    )


def with_model_classes(source: ImageSource, model_classes: Sequence[str]) -> ImageSource:
    """Return the source with the ids of a model's classes in its masks.

    Classes are matched by name. A model with one class takes every class of the data set as
    its own.

    Args:
        source: As the data set provides it.
        model_classes: The segmenter's; empty for a gate, which leaves the masks unchanged.

    Raises:
        DataError: The model does not have a class of the data set.
    """
    if not model_classes or tuple(model_classes) == source.classes or not source.has_masks:
        return source
    table = class_id_table(source.classes, model_classes, where=source.where)

    def batches() -> Iterator[ImageArrays]:
        for images in source.batches():
            yield replace(images, masks=table[images.masks], classes=tuple(model_classes))

    return replace(source, classes=tuple(model_classes), batches=batches)


def kind_ids(source: ImageSource, kinds: Sequence[str]) -> dict[str, int]:
    """Return the id of a gate's kind, from 1, for each class name of a data set.

    Returns:
        Empty if the data set does not tell kinds apart, or names none of the gate's.

    Raises:
        DataError: The gate has some of the data set's classes, but not all.
    """
    names = dict.fromkeys(name for one in source.truth.values() for name in one.classes)
    names |= dict.fromkeys(source.classes if source.has_masks else ())
    ids = {kind.casefold(): index for index, kind in enumerate(kinds, start=1)}
    known = [name for name in names if name.casefold() in ids]
    if not known:
        return {}
    table = class_id_table(tuple(names), kinds, where=source.where)
    return {name: int(table[index]) for index, name in enumerate(names, start=1)}


def class_id_table(
    dataset_classes: Sequence[str], model_classes: Sequence[str], *, where: str = ""
) -> NDArray[np.uint8]:
    """Return (256,) uint8 that maps a data set's class id to the model's; void stays void.

    Raises:
        DataError: As `with_model_classes`.
    """
    table = np.zeros(256, np.uint8)
    table[VOID] = VOID
    if len(model_classes) == 1:
        table[1 : len(dataset_classes) + 1] = 1
        return table
    ids = {name.casefold(): index + 1 for index, name in enumerate(model_classes)}
    unknown = [name for name in dataset_classes if name.casefold() not in ids]
    if unknown:
        raise DataError(
            f"has the classes {', '.join(dataset_classes)}; "
            f"the model has {', '.join(model_classes)}",
            where=where,
            remedy="Rename the data set's classes to the model's, or name another model",
        )
    for index, name in enumerate(dataset_classes):
        table[index + 1] = ids[name.casefold()]
    return table
