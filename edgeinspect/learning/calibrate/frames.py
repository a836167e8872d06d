"""Frames for calibration and verification: folders, data sets, or rendered strip."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelKind, ModelSpec, Pixels
from edgeinspect.errors import DataError, UsageError
from edgeinspect.imaging import (
    ReadSettings,
    letterbox_image,
    load_declaration,
    read_image,
    read_verified_bytes,
    synthetic_strip,
)
from edgeinspect.learning.datasets import (
    Dataset,
    ImageArrays,
    SkippedImage,
    find_bit_depth,
    images_below,
    is_annotation_folder,
    load_arrays,
    open_dataset,
)
from edgeinspect.learning.datasets.split_file import DIGEST_CHARS
from edgeinspect.learning.evaluate import (
    NOT_ASKED,
    ImageSource,
    ImageTruth,
    TrainingKnowledge,
    class_id_table,
    sample_truth,
)
from edgeinspect.system import escape_name

_STRIP = re.compile(r"strip:(\d{1,9}):(\d{1,7})(?:@(\d{1,7}))?")
_BATCH = 8


@dataclass(frozen=True, slots=True)
class FrameLabel:
    """The label of one frame."""

    is_defective: bool
    mask: NDArray[np.uint8] | None
    """uint8 (H, W), ids of `FrameSet.classes`; None if only `is_defective` is known."""


@dataclass(frozen=True, slots=True)
class FrameSet:
    """Frames of a model's size by number, read on demand."""

    where: str
    names: Sequence[str]
    read: Callable[[int], Pixels]
    """uint8 (H, W, C), C-contiguous, freshly allocated."""
    digest: Callable[[int], str]
    """SHA-256 of the image file, or of the pixels if there is no file."""
    read_label: Callable[[int], FrameLabel] | None = None
    """None for unlabelled frames."""
    classes: tuple[str, ...] = ()
    """Of the masks; empty without any."""
    truth: Mapping[str, ImageTruth] = field(default_factory=dict)
    """What labels tell of an image beside its mask, by name."""
    skipped: tuple[SkippedImage, ...] = ()
    """Images of the data set that are not used."""
    note: str = ""
    """What was inferred about them, such as the bit depth, to be shown to the user."""
    trained: frozenset[str] | None = None
    """Names of the images of the data set that the model was trained on; None for a folder that
    is not a data set."""

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Sequence[int]) -> FrameSet:
        """Return some of the frames, in the given order."""
        index = [int(each) for each in indices]
        read_label = self.read_label
        return FrameSet(
            self.where,
            [self.names[each] for each in index],
            lambda number: self.read(index[number]),
            lambda number: self.digest(index[number]),
            None if read_label is None else lambda number: read_label(index[number]),
            self.classes,
            trained=self.trained,
            truth=self.truth,
        )

    def batch_source(self) -> ImageSource:
        """Return the frames in batches for `evaluate`; good and without masks if unlabelled."""
        has_masks = self.read_label is not None and bool(self.classes)
        return ImageSource(
            self.where, len(self), self.classes, has_masks, self._batches, truth=self.truth
        )

    def _batches(self) -> Iterator[ImageArrays]:
        for start in range(0, len(self), _BATCH):
            numbers = range(start, min(start + _BATCH, len(self)))
            images = np.stack([self.read(number) for number in numbers])
            masks = np.zeros(images.shape[:3], np.uint8)
            defective = np.zeros(len(images), np.bool_)
            for row, number in enumerate(numbers):
                if self.read_label is not None:
                    known = self.read_label(number)
                    defective[row] = known.is_defective
                    if known.mask is not None:
                        masks[row] = known.mask
            names = [self.names[number] for number in numbers]
            yield ImageArrays(images, masks, defective, names, self.classes)


def open_frames(
    text: str,
    spec: ModelSpec,
    *,
    labelled: bool = False,
    split_file: Path | None = None,
    training: TrainingKnowledge = NOT_ASKED,
    training_parts: Sequence[str] = (),
) -> FrameSet:
    """Open the frames that the user names, converted to a model's size and colours.

    Args:
        text: `strip:SEED:COUNT[@FIRST]` renders the synthetic strip; else a folder, or
            `FOLDER#SPLIT` for one split of a data set. A folder that is not a data set is
            searched for images.
        spec: The model.
        labelled: Labels are required: the folder must be a data set with the model's classes.
        split_file: Says which images are in SPLIT, instead of the data set's own split.
        training: The training images of the model: its split is used for the set it was trained
            with.
        training_parts: Splits that are used of that set if SPLIT is not given.

    Raises:
        DataError: The folder does not exist, or has no images or no labels.
        UsageError: `text` is malformed.
    """
    if text.startswith("strip:"):
        return _strip_frames(text, spec)
    name, _, split = text.partition("#")
    path = Path(name)
    if not path.is_dir():
        raise DataError("folder does not exist", where=name)
    try:
        data = open_dataset(path)
    except DataError:
        if labelled or split:
            raise
        return _folder_frames(path, spec)
    trained: frozenset[str] = frozenset()
    own_notes = len(data.notes)
    if split or training.known:
        data, trained = training.split(data, split_file if split else None)
    parts: Sequence[str] = [split] if split else []
    if not split and trained:
        parts = [part for part in training_parts if data.in_splits(part)]
    why = data.notes[own_notes:]
    frames = _dataset_frames(data, parts, spec, labelled=labelled, why=why)
    return replace(frames, trained=trained)


def count_training_images(frames: FrameSet, training: TrainingKnowledge) -> int | None:
    """Return how many frames the model was trained on, by name or content; None if not known."""
    if not training.known or frames.where.startswith("strip:"):
        return None
    if frames.trained is not None:
        return sum(name in frames.trained for name in frames.names)
    digests = (frames.digest(number)[:DIGEST_CHARS] for number in range(len(frames)))
    return training.count_digests(digests)


def _strip_frames(text: str, spec: ModelSpec) -> FrameSet:
    match = _STRIP.fullmatch(text)
    if match is None or int(match[2]) < 1:
        raise UsageError(f"'{text}' is malformed", remedy="Write strip:SEED:COUNT")
    if spec.shape.channels != 1:
        raise UsageError(f"strip is grey; {spec.id} takes {spec.shape.channels} channels")
    seed, count, first = int(match[1]), int(match[2]), int(match[3] or 0)
    size = (spec.shape.height_px, spec.shape.width_px)

    @functools.lru_cache(maxsize=1)
    def render(number: int) -> synthetic_strip.StripImage:
        return synthetic_strip.render_strip(seed, first + number, *size)

    def pixels(number: int) -> Pixels:
        return render(number).image[:, :, None].copy()

    def read_label(number: int) -> FrameLabel:
        image = render(number)
        return FrameLabel(image.has_defect, image.mask)

    names = [f"strip-{seed}-{first + number}" for number in range(count)]
    return FrameSet(
        text,
        names,
        pixels,
        lambda n: _sha256(pixels(n).tobytes()),
        read_label,
        synthetic_strip.CLASS_NAMES,
    )


def _folder_frames(path: Path, spec: ModelSpec) -> FrameSet:
    paths = [
        file
        for file in images_below(path)
        if not any(map(is_annotation_folder, file.relative_to(path).parts[:-1]))
    ]
    if not paths:
        raise DataError("has no images", where=str(path))

    depth = find_bit_depth(paths, load_declaration(path), escape_name(path))

    def one(number: int) -> Pixels:
        return read_letterboxed(paths[number], spec, depth.read_settings(spec.color))

    return FrameSet(
        escape_name(path),
        [escape_name(each.relative_to(path)) for each in paths],
        one,
        lambda number: _sha256(read_verified_bytes(paths[number]).tobytes()),
        note=depth.note,
    )


def read_letterboxed(path: Path, spec: ModelSpec, settings: ReadSettings) -> Pixels:
    """Read one image file at a model's size, letterboxed if it has another.

    Raises:
        DataError: The file cannot be read.
    """
    image = read_image(path, settings)
    if image.shape[:2] != (spec.shape.height_px, spec.shape.width_px):
        image = letterbox_image(image, spec.shape.height_px, spec.shape.width_px)[0]
    return np.ascontiguousarray(image.reshape(spec.shape.dims))


def _dataset_frames(
    data: Dataset, parts: Sequence[str], spec: ModelSpec, *, labelled: bool, why: Sequence[str]
) -> FrameSet:
    """Return the frames of some splits, or all of a set.

    `why` says how the images got their splits.
    """
    samples = data.in_splits(*parts) if parts else data.samples
    split = "+".join(parts)
    if not samples:
        held = ", ".join(sorted({each.split for each in data.samples if each.split}))
        raise DataError(
            "; ".join((f"has no images in split '{split}'", *why)),
            where=str(data.root),
            remedy=f"Its splits are: {held}"
            if held
            else "It has no split of its own: give --split-file FILE (of `edgeinspect data split`)",
        )
    # A good-parts model is verified by good and defective; masks are a bonus.
    segmenting = spec.kind is ModelKind.SEGMENTER and (data.has_masks or not spec.is_good_parts)
    if labelled and segmenting and not data.has_masks:
        raise DataError("has no masks to verify a segmenter with", where=str(data.root))
    table = None
    if labelled and segmenting:
        table = class_id_table(data.classes, spec.classes, where=str(data.root))

    def one(number: int) -> ImageArrays:
        return load_arrays(
            data,
            [samples[number]],
            height_px=spec.shape.height_px,
            width_px=spec.shape.width_px,
            channels=spec.shape.channels,
        )

    def pixels(number: int) -> Pixels:
        image = one(number).images[0]
        return np.ascontiguousarray(image[..., ::-1] if spec.color == "rgb" else image)

    def read_label(number: int) -> FrameLabel:
        arrays = one(number)
        mask = None if table is None else table[arrays.masks[0]]
        return FrameLabel(bool(arrays.defective[0]), mask)

    return FrameSet(
        f"{escape_name(data.root)}#{split}" if split else escape_name(data.root),
        [sample.name for sample in samples],
        pixels,
        lambda number: _sha256(read_verified_bytes(samples[number].path).tobytes()),
        read_label if labelled else None,
        spec.classes if segmenting else (),
        {each.name: sample_truth(each, data.classes) for each in samples} if labelled else {},
        data.skipped,
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
