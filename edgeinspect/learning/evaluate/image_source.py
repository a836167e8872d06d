"""Pictures for an evaluation, a batch at a time, with the model's class ids in their masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import VOID, ImageArrays, has_class


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A split of a data set that can be read as often as wanted."""

    where: str
    """For messages and reports."""
    image_count: int
    classes: tuple[str, ...]
    has_masks: bool
    """False if the set has labels of pictures only."""
    batches: Callable[[], Iterator[ImageArrays]]
    """Starts from the first picture at each call; a batch is valid until the next."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Pictures that could not be used so far, and why; grows as batches are read."""
    notes: tuple[str, ...] = ()
    """What had to be assumed of the set."""


def source_in_memory(pictures: ImageArrays, *, where: str = "pictures") -> ImageSource:
    """A source of pictures that are in memory already."""
    return ImageSource(
        where,
        len(pictures),
        tuple(pictures.classes),
        has_class(pictures.masks),
        lambda: iter((pictures,)),
    )


def with_model_classes(source: ImageSource, model_classes: Sequence[str]) -> ImageSource:
    """The same pictures with the ids of a model's classes in their masks.

    Classes are matched by name. A model with one class takes every class of the data as
    its own.

    Args:
        source: As the data set gives it.
        classes: The segmenter's; none for a gate, which leaves the masks as they are.

    Raises:
        DataError: A class of the data is unknown to the model.
    """
    if not model_classes or tuple(model_classes) == source.classes or not source.has_masks:
        return source
    table = class_id_table(source.classes, model_classes, where=source.where)

    def batches() -> Iterator[ImageArrays]:
        for pictures in source.batches():
            yield replace(pictures, masks=table[pictures.masks], classes=tuple(model_classes))

    return replace(source, classes=tuple(model_classes), batches=batches)


def class_id_table(
    dataset_classes: Sequence[str], model_classes: Sequence[str], *, where: str = ""
) -> NDArray[np.uint8]:
    """(256,) uint8: a data set's class id to the model's; void stays void.

    Raises:
        DataError: As `for_classes`.
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
            f"has the classes {', '.join(dataset_classes)}; the model finds "
            f"{', '.join(model_classes)}",
            where=where,
            remedy="Rename the data set's classes to the model's, or name another model",
        )
    for index, name in enumerate(dataset_classes):
        table[index + 1] = ids[name.casefold()]
    return table
