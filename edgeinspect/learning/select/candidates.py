"""The images of an archive, a data set or a plain folder, without those that are labelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelSpec, number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import (
    ReadSettings,
    letterbox_image,
    load_declaration,
    read_image,
    to_color_order,
)
from edgeinspect.learning.datasets import (
    file_digest,
    find_bit_depth,
    images_below,
    is_annotation_folder,
    open_dataset,
)
from edgeinspect.learning.datasets.parallel import map_in_threads
from edgeinspect.learning.evaluate import TrainingKnowledge
from edgeinspect.storage.archive import is_archive
from edgeinspect.system import escape_name


@dataclass(frozen=True, slots=True)
class CandidateImage:
    """An image that may be selected."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """The images that may be selected, and how they are read."""

    where: str
    images: tuple[CandidateImage, ...]
    settings: ReadSettings
    notes: tuple[str, ...] = ()
    labelled: Mapping[str, int] = field(default_factory=dict)
    """Images that are left out because a training knows them, by the model's name."""

    def read(self, image: CandidateImage) -> NDArray[np.uint8]:
        """Return uint8 (h, w, c) as stored, 8 bits.

        Raises:
            DataError: The file cannot be read.
        """
        return read_image(image.path, self.settings)


def to_frame(pixels: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.uint8]:
    """Return an image as a model's frame, uint8 (H, W, C), letterboxed if it has another size."""
    colored = to_color_order(pixels, spec.color)
    if colored.shape[:2] != (spec.shape.height_px, spec.shape.width_px):
        colored = letterbox_image(colored, spec.shape.height_px, spec.shape.width_px)[0]
    return np.ascontiguousarray(colored.reshape(spec.shape.dims))


def open_candidates(source: Path, training: TrainingKnowledge) -> CandidateSet:
    """Open the images of a folder.

    Args:
        source: An archive, a data set of any layout, or a folder of images.
        training: Of the models; their images are labelled already and left out, known by the
            files' content.

    Raises:
        DataError: There is no image, or only such that a training knows.
    """
    images, settings, notes = _list_images(source)
    if not images:
        raise DataError("has no images", where=str(source))
    digests = {
        digest: each.model for each in training.known for digest in each.record.digests.values()
    }
    labelled: dict[str, int] = {}
    if digests:
        kept = []
        files = map_in_threads(file_digest, [image.path for image in images])
        for image, digest in zip(images, files, strict=True):
            if digest in digests:
                labelled[digests[digest]] = labelled.get(digests[digest], 0) + 1
            else:
                kept.append(image)
        if not kept:
            raise DataError(
                f"all {number_of(len(images), 'image')} are labelled: the training of "
                f"{' and '.join(labelled)} knows them",
                where=str(source),
                remedy="Select from images that were not part of a training",
            )
        images = kept
    return CandidateSet(escape_name(source), tuple(images), settings, notes, labelled)


def _list_images(
    source: Path,
) -> tuple[list[CandidateImage], ReadSettings, tuple[str, ...]]:
    """Return images, how they are read, and notes."""
    if not is_archive(source):
        try:
            data = open_dataset(source)
        except DataError:  # a folder of images without labels is no data set
            pass
        else:
            found = [CandidateImage(sample.name, sample.path) for sample in data.samples]
            return found, data.read_settings(), ()
    paths = [
        file
        for file in images_below(source)
        if not any(map(is_annotation_folder, file.relative_to(source).parts[:-1]))
    ]
    if not paths:
        return [], ReadSettings(), ()
    depth = find_bit_depth(paths, load_declaration(source), escape_name(source))
    images = [CandidateImage(escape_name(path.relative_to(source)), path) for path in paths]
    notes = (f"read as images of {depth.note}",) if depth.note else ()
    return images, depth.read_settings(), notes
