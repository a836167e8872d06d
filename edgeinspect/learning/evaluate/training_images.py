"""What is known of the images that a model was trained on, and which images of a set they are.

A training writes its split, with a digest of every image file, into its run folder and beside
the graph of the version (`split.json`). A version that is derived from another keeps it. So every
later command uses the training's own split, and a proof on training images is noticed, whatever
their names and folders are: a file with the content of a training image is one, even if the
training, or its name, has it in another split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeinspect.domain import ModelSpec, number_of
from edgeinspect.errors import DataError, ModelError
from edgeinspect.learning.datasets import (
    TEST,
    TRAIN,
    VAL,
    Dataset,
    Sample,
    SplitRecord,
    file_digest,
    load_split,
    names_hash,
    read_split,
    sample_digests,
)
from edgeinspect.learning.evaluate.open_model import CHECKPOINT_FILE
from edgeinspect.storage.model_store import MANIFEST_FILE, read_manifest
from edgeinspect.system import TEXT_BYTES_MAX, read_regular, sha256_of

SPLIT_FILE_NAME = "split.json"
"""In a training run's folder, and beside the graph of a version: the split of each image."""
_SHOWN = 3
UNSEEN_IMAGES = "Measure on images that it has not seen: --split test, or another set"


class ImageDigests:
    """The digests of image files, each file read once. For one thread."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, samples: Sequence[Sample]) -> Mapping[str, str]:
        """Return name to digest; empty for a file that cannot be read."""
        new = [sample for sample in samples if sample.path not in self._known]
        digests = sample_digests(new)
        self._known.update((sample.path, digests.get(sample.name, "")) for sample in new)
        return {sample.name: self._known[sample.path] for sample in samples}


@dataclass(frozen=True, slots=True)
class FoundImages:
    """The images of a set that were part of a training."""

    splits: Mapping[str, str]
    """Name to the split that it counts as: `train` for the content of a training image."""
    copies: tuple[str, ...] = ()
    """Names that are in `train` for their content alone: the training, or else the set, has them
    in `val` or `test`.
    """

    @property
    def trained(self) -> frozenset[str]:
        """The names of training images."""
        return frozenset(name for name, split in self.splits.items() if split == TRAIN)


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """The images of one training."""

    model: str
    """The model's name, for messages."""
    file: Path
    record: SplitRecord

    def find_in(self, data: Dataset, digests: ImageDigests) -> FoundImages:
        """Return which of the set's images were part of the training.

        If the names of the set are those of the training, an image is in the split of its name,
        unless it has the content of a training image; else its content alone decides.
        """
        by_digest = self.split_by_digest()
        splits: dict[str, str] = {}
        unsure: Sequence[Sample] = data.samples
        if self.record.names_sha256 == names_hash(data):
            splits.update(self.record.splits)
            unsure = [sample for sample in unsure if splits.get(sample.name) != TRAIN]
        if not by_digest:
            return FoundImages(splits)
        copies = []
        contents = digests.of(unsure)
        for sample in unsure:
            split = by_digest.get(contents[sample.name])
            before = splits.get(sample.name, sample.split)
            if split == TRAIN and before in (VAL, TEST):
                copies.append(sample.name)
            if split == TRAIN or (split is not None and sample.name not in splits):
                splits[sample.name] = split
        return FoundImages(splits, tuple(copies))

    def split_by_digest(self) -> dict[str, str]:
        """Return digest to split; of a file that is in two splits `train` counts."""
        splits: dict[str, str] = {}
        for name, digest in self.record.digests.items():
            split = self.record.splits.get(name, TRAIN)
            if splits.get(digest) != TRAIN:
                splits[digest] = split
        return splits


@dataclass(frozen=True, slots=True)
class TrainingKnowledge:
    """The training images of the models of one command."""

    known: tuple[TrainingImages, ...] = ()
    unknown: tuple[str, ...] = ()
    """Models of which nothing is known."""
    digests: ImageDigests = field(default_factory=ImageDigests, compare=False, repr=False)
    """Of the images that were looked for."""

    @property
    def notes(self) -> tuple[str, ...]:
        """One line on each model of which nothing is known."""
        return tuple(
            f"nothing is known of the images that {model} was trained on" for model in self.unknown
        )

    def split(self, data: Dataset, split_file: Path | None) -> tuple[Dataset, frozenset[str]]:
        """Return the set with its split, and the names of its training images.

        The split is that of the file, else of the first training that had these images, else the
        set's own. Images that are new since the training keep their own split, or are `test`. With
        the split of a training, a copy of a training image is in `train`, and a note says so; with
        that of a file it is where the file has it, and `check` refuses it.

        Raises:
            DataError: `split_file` cannot be read, or lists other images.
        """
        found = [(each, each.find_in(data, self.digests)) for each in self.known]
        trained = frozenset(name for _each, images in found for name in images.trained)
        if split_file is not None:
            return read_split(split_file, data), trained
        used = next(((each, images) for each, images in found if images.splits), None)
        if used is not None:
            return _with_training_split(data, *used), trained
        for each in self.known:
            words = "none of these files is one of the training's, byte by byte"
            if not each.record.digests:
                words = "splits other images than these: some of these may have been trained on"
            data = data.with_notes(f"{each.file}: {words}")
        return data, trained

    def count(self, samples: Sequence[Sample], trained: frozenset[str]) -> int | None:
        """Return how many of some images are training images; None if nothing is known."""
        return sum(sample.name in trained for sample in samples) if self.known else None

    def count_files(self, paths: Iterable[Path]) -> int | None:
        """Return how many files are training images, by content; None if nothing is known."""
        return self.count_digests(map(file_digest, paths))

    def count_digests(self, digests: Iterable[str]) -> int | None:
        """Return how many digests are of training images; None if nothing is known."""
        if not any(each.record.digests for each in self.known):
            return None
        trained = {
            digest
            for each in self.known
            for digest, split in each.split_by_digest().items()
            if split == TRAIN
        }
        return sum(digest in trained for digest in digests)

    def check(
        self,
        trained: int | None,
        total: int,
        where: str,
        *,
        is_allowed: bool,
        remedy: str = UNSEEN_IMAGES,
    ) -> None:
        """Refuse a proof on training images.

        Raises:
            DataError: There are some, and `is_allowed` is false.
        """
        if trained and not is_allowed:
            raise DataError(
                f"{trained} of {number_of(total, 'image is', 'images are')} training images of "
                f"{' and '.join(dict.fromkeys(each.model for each in self.known))}",
                where=where,
                remedy=f"{remedy}; --on-training-images allows it, and the result says so",
            )


NOT_ASKED = TrainingKnowledge()
"""Training images do not matter, as in a comparison of numbers."""


def training_note(trained: int | None, total: int) -> tuple[str, ...]:
    """Return the note of a result on training images; empty if there are none."""
    if not trained:
        return ()
    return (
        f"{trained} of {number_of(total, 'image is', 'images are')} training images: "
        "the result does not hold for others",
    )


def find_training_images(spec: ModelSpec) -> TrainingImages | None:
    """Return the training images of a model; None if nothing is known.

    Raises:
        DataError: Its split file cannot be read.
        ModelError: Its split file is not the one that its manifest names.
    """
    folder = spec.path.parent
    for place in (folder, *folder.absolute().parents[:2]):
        file = place / SPLIT_FILE_NAME
        if file.is_file() and (place == folder or (place / CHECKPOINT_FILE).is_file()):
            _check_digest(folder, file)
            return TrainingImages(str(spec.id), file, load_split(file))
    return None


def inherited_files(parent: ModelSpec) -> dict[str, bytes]:
    """Return the files that a version gets from the one it is derived from: its split.

    Raises:
        DataError, ModelError: As `find_training_images`.
    """
    images = find_training_images(parent)
    if images is None:
        return {}
    return {SPLIT_FILE_NAME: read_regular(images.file, TEXT_BYTES_MAX)}


def training_knowledge(specs: Iterable[ModelSpec]) -> TrainingKnowledge:
    """Return what is known of the training images of some models.

    Raises:
        DataError, ModelError: As `find_training_images`.
    """
    known, unknown = [], []
    for spec in specs:
        images = find_training_images(spec)
        if images is not None:
            known.append(images)
        else:
            unknown.append(str(spec.id))
    return TrainingKnowledge(tuple(known), tuple(dict.fromkeys(unknown)))


def _check_digest(folder: Path, file: Path) -> None:
    manifest = folder / MANIFEST_FILE
    if file.parent != folder or not manifest.is_file():
        return
    training = read_manifest(manifest).training
    expected = training.get("split_sha256") if isinstance(training, dict) else None
    if isinstance(expected, str) and sha256_of(file) != expected:
        raise ModelError(
            "is not the split that the model was trained with",
            where=str(file),
            remedy="Copy the version again, with all of its files",
        )


def _with_training_split(data: Dataset, images: TrainingImages, found: FoundImages) -> Dataset:
    """Return the set with the training's split, and notes that say so."""
    record, splits = images.record, found.splits
    is_same_set = record.names_sha256 == names_hash(data)
    own_split = any(sample.split for sample in data.samples)
    samples = [
        replace(
            sample,
            split=splits.get(sample.name, sample.split if own_split else TEST),
            group=record.groups.get(sample.name, sample.group) if is_same_set else sample.group,
        )
        for sample in data.samples
    ]
    note = f"split as in the training of {images.model}"
    if not record.digests:
        note += ", by name alone: it kept no digests, so copies of its images are not noticed"
    if new := len(data) - sum(sample.name in splits for sample in data.samples):
        note += f"; {number_of(new, 'image is', 'images are')} new since then, and " + (
            "keep their own split" if own_split else "in `test`"
        )
    notes = [note]
    if found.copies:
        names = ", ".join(found.copies[:_SHOWN]) + (", …" if found.copies[_SHOWN:] else "")
        notes.append(
            f"{number_of(len(found.copies), 'image')} of `val` and `test` "
            f"{'is a copy' if len(found.copies) == 1 else 'are copies'} of training images, and "
            f"in `train` here: {names}"
        )
    return data.with_samples(samples).with_notes(*notes)
