"""Frames to calibrate with or to prove by: folders, data sets, rendered strip; one at a time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeinspect.datasets.files import pictures_below
from edgeinspect.datasets.pictures import Pictures, folder_classes, load_folder
from edgeinspect.domain.frame import Pixels
from edgeinspect.domain.tensor import ModelSpec
from edgeinspect.errors import DataError, UsageError
from edgeinspect.evaluate.source import Source
from edgeinspect.imaging import strip
from edgeinspect.imaging.letterbox import letterbox
from edgeinspect.imaging.picture_file import read_picture, read_whole

_STRIP = re.compile(r"strip:(\d{1,9}):(\d{1,7})(?:@(\d{1,7}))?")
_BATCH = 8


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of one frame."""

    defective: bool
    mask: NDArray[np.uint8] | None
    """uint8 (H, W), ids of `FrameSet.classes`; None where only the label is known."""


@dataclass(frozen=True, slots=True)
class FrameSet:
    """Frames of a model's size by number. Nothing is read before it is asked for."""

    where: str
    names: Sequence[str]
    read: Callable[[int], Pixels]
    """uint8 (H, W, C), C-contiguous, freshly allocated."""
    digest: Callable[[int], str]
    """SHA-256 of the picture file, or of the pixels where there is no file."""
    truth: Callable[[int], Truth] | None = None
    """None if nothing is known of the frames."""
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def part(self, chosen: Sequence[int]) -> FrameSet:
        """Some of the frames, in the given order."""
        index = [int(each) for each in chosen]
        truth = self.truth
        return FrameSet(
            self.where,
            [self.names[each] for each in index],
            lambda number: self.read(index[number]),
            lambda number: self.digest(index[number]),
            None if truth is None else lambda number: truth(index[number]),
            self.classes,
        )

    def source(self) -> Source:
        """The frames as `evaluate` reads them; sound and without masks if nothing is known."""
        has_masks = self.truth is not None and bool(self.classes)
        return Source(self.where, len(self), self.classes, has_masks, self._batches)

    def _batches(self) -> Iterator[Pictures]:
        for start in range(0, len(self), _BATCH):
            numbers = range(start, min(start + _BATCH, len(self)))
            images = np.stack([self.read(number) for number in numbers])
            masks = np.zeros(images.shape[:3], np.uint8)
            defective = np.zeros(len(images), np.bool_)
            for row, number in enumerate(numbers):
                if self.truth is not None:
                    known = self.truth(number)
                    defective[row] = known.defective
                    if known.mask is not None:
                        masks[row] = known.mask
            names = [self.names[number] for number in numbers]
            yield Pictures(images, masks, defective, names, self.classes)


def open_frames(text: str, spec: ModelSpec) -> FrameSet:
    """The frames that a person names, brought to a model's size and colours.

    Args:
        text: `strip:SEED:COUNT[@FIRST]` renders the synthetic strip; `FOLDER#SPLIT` or a folder
            with an index.csv is a labelled set; any other folder is searched for pictures.
        spec: Of the model that shall take them.

    Raises:
        DataError: There is no such folder, or no picture in it.
        UsageError: The words cannot be understood.
    """
    if text.startswith("strip:"):
        return _strip_frames(text, spec)
    name, _, split = text.partition("#")
    path = Path(name)
    if not path.is_dir():
        raise DataError("there is no such folder", where=name)
    if (path / "index.csv").is_file():
        return _indexed_frames(path, split or "val", spec)
    if split:
        raise UsageError(f"has no index.csv and so no split '{split}'", where=name)
    return _folder_frames(path, spec)


def _strip_frames(text: str, spec: ModelSpec) -> FrameSet:
    match = _STRIP.fullmatch(text)
    if match is None or int(match[2]) < 1:
        raise UsageError(f"'{text}' is not understood", remedy="Write strip:SEED:COUNT")
    if spec.shape.channels != 1:
        raise UsageError(f"strip is grey; {spec.id} takes {spec.shape.channels} channels")
    seed, count, first = int(match[1]), int(match[2]), int(match[3] or 0)
    size = (spec.shape.height_px, spec.shape.width_px)

    def read(number: int) -> Pixels:
        return np.ascontiguousarray(strip.render(seed, first + number, *size).image[:, :, None])

    def truth(number: int) -> Truth:
        picture = strip.render(seed, first + number, *size)
        return Truth(picture.defective, picture.mask)

    names = [f"strip-{seed}-{first + number}" for number in range(count)]
    return FrameSet(text, names, read, lambda n: _hash(read(n).tobytes()), truth, strip.CLASS_NAMES)


def _folder_frames(path: Path, spec: ModelSpec) -> FrameSet:
    paths = pictures_below(path)
    if not paths:
        raise DataError("holds no picture", where=str(path))

    def read(number: int) -> Pixels:
        return read_fitted(paths[number], spec)

    return FrameSet(
        str(path),
        [str(each.relative_to(path)) for each in paths],
        read,
        lambda number: _hash(read_whole(paths[number]).tobytes()),
    )


def read_fitted(path: Path, spec: ModelSpec) -> Pixels:
    """One picture file at a model's size, letterboxed if it has another.

    Raises:
        DataError: It cannot be read or is no picture.
    """
    try:
        picture = read_picture(path, spec.color)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if picture is None:
        raise DataError("is not a picture", where=str(path))
    if picture.shape[:2] != (spec.shape.height_px, spec.shape.width_px):
        picture = letterbox(picture, spec.shape.height_px, spec.shape.width_px)[0]
    return np.ascontiguousarray(picture.reshape(spec.shape.dims))


def _indexed_frames(path: Path, split: str, spec: ModelSpec) -> FrameSet:
    classes = folder_classes(path)
    loaded = load_folder(
        path, split, classes, height_px=spec.shape.height_px, width_px=spec.shape.width_px
    )

    def truth(number: int) -> Truth:
        return Truth(bool(loaded.defective[number]), loaded.masks[number])

    return FrameSet(
        f"{path}#{split}",
        list(loaded.names),
        lambda number: loaded.images[number].copy(),
        lambda number: _hash(read_whole(path / "images" / loaded.names[number]).tobytes()),
        truth,
        tuple(classes),
    )


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
