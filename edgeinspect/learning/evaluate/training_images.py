"""What is known of the images that a model was trained on, and which images of a set they are.

A training writes its split, with a digest of every image file, into its run folder and beside
the graph of the version (`split.json`). A version that is derived from another keeps it. So every
later command uses the training's own split, and a proof on training images is noticed, whatever
their names and folders are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeinspect.domain import ModelSpec, number_of
from edgeinspect.errors import DataError, ModelError
from edgeinspect.learning.datasets import (
    TEST,
    TRAIN,
    Dataset,
    Sample,
    SplitRecord,
    file_digest,
    file_digests,
    load_split,
    names_hash,
    read_split,
)
from edgeinspect.learning.evaluate.open_model import CHECKPOINT_FILE
from edgeinspect.storage.model_store import MANIFEST_FILE, read_manifest
from edgeinspect.system import TEXT_BYTES_MAX, read_regular, sha256_of

SPLIT_FILE_NAME = "split.json"
"""In a training run's folder, and beside the graph of a version: the split of each image."""
_REMEDY = "Measure on images that it has not seen: --split test, or another set"


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """The images of one training."""

    model: str
    """The model's name, for messages."""
    file: Path
    record: SplitRecord

    def find_in(self, data: Dataset) -> Mapping[str, str]:
        """Return the split in the training, by name, of the set's images that were part of it.

        If the names of the set are those of the training, names decide; else the files' content.
        """
        record = self.record
        if record.names_sha256 == names_hash(data):
            return record.splits
        splits = self.split_by_digest()
        if not splits:
            return {}
        return {
            name: splits[digest] for name, digest in file_digests(data).items() if digest in splits
        }

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

    @property
    def notes(self) -> tuple[str, ...]:
        """One line on each model of which nothing is known."""
        return tuple(
            f"nothing is known of the images that {model} was trained on" for model in self.unknown
        )

    def split(self, data: Dataset, split_file: Path | None) -> tuple[Dataset, frozenset[str]]:
        """Return the set with its split, and the names of its training images.

        The split is that of the file, else of the first training that had these images, else the
        set's own. Images that are new since the training keep their own split, or are `test`.

        Raises:
            DataError: `split_file` cannot be read, or lists other images.
        """
        found = [(each, each.find_in(data)) for each in self.known]
        trained = frozenset(
            name for _each, splits in found for name, split in splits.items() if split == TRAIN
        )
        if split_file is not None:
            return read_split(split_file, data), trained
        used = next(((each, splits) for each, splits in found if splits), None)
        if used is not None:
            return _with_training_split(data, *used), trained
        for each in self.known:
            words = "none of these images is one of the training's"
            if not each.record.digests:
                words = "splits other images than these: some of these may have been trained on"
            data = data.with_notes(f"{each.file} {words}")
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
        remedy: str = _REMEDY,
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


def _with_training_split(
    data: Dataset, images: TrainingImages, splits: Mapping[str, str]
) -> Dataset:
    """Return the set with the training's split, and a note that says so."""
    record = images.record
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
    if new := len(data) - sum(sample.name in splits for sample in data.samples):
        note += f"; {number_of(new, 'image is', 'images are')} new since then, and " + (
            "keep their own split" if own_split else "in `test`"
        )
    return data.with_samples(samples).with_notes(note)
