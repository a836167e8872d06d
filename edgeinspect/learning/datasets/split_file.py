"""Split files: which image is in which split, in which group, and what its file contains."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError, OutputError
from edgeinspect.learning.datasets.dataset import SPLITS, Dataset, Sample
from edgeinspect.learning.datasets.parallel import map_in_threads
from edgeinspect.learning.datasets.split import DEFAULT_SHARES
from edgeinspect.system import (
    TEXT_BYTES_MAX,
    decode_json_names,
    read_regular,
    sha256_of,
    write_atomic,
)

DIGEST_CHARS = 16
"""Of the SHA-256 of an image file: 64 bits, so that 100 000 images take 2 MB."""
_SCHEMA = "edgeinspect.split/1"
_SHOWN = 3
_REMEDY = "Write it with: edgeinspect data split DATASET --out FILE"


@dataclass(frozen=True, slots=True)
class SplitRecord:
    """The content of a split file."""

    splits: Mapping[str, str]
    """Name of an image to its split."""
    names_sha256: str
    groups: Mapping[str, str] = field(default_factory=dict)
    """Name to group, of images that share one."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Name to the digest of the image file; empty unless a training wrote the file."""

    def in_split(self, *splits: str) -> frozenset[str]:
        """Return the names in some splits."""
        return frozenset(name for name, split in self.splits.items() if split in splits)


def names_hash(data: Dataset) -> str:
    """Return the SHA-256 of the sorted names of a set's images."""
    text = "\n".join(sorted(sample.name for sample in data.samples))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def file_digest(path: Path) -> str:
    """Return the digest of an image file; empty if it cannot be read."""
    try:
        return sha256_of(path)[:DIGEST_CHARS]
    except OSError:
        return ""


def file_digests(data: Dataset) -> dict[str, str]:
    """Return name to digest of a set's image files; those that cannot be read are left out."""
    return sample_digests(data.samples)


def sample_digests(samples: Sequence[Sample]) -> dict[str, str]:
    """Return name to digest of some image files; those that cannot be read are left out."""
    digests = map_in_threads(file_digest, [sample.path for sample in samples])
    pairs = zip((sample.name for sample in samples), digests, strict=True)
    return {name: digest for name, digest in pairs if digest}


def split_document(
    data: Dataset,
    seed: int,
    shares: tuple[float, float, float] = DEFAULT_SHARES,
    digests: Mapping[str, str] | None = None,
) -> bytes:
    """Return the content of a split file.

    Args:
        data: The set, split.
        seed: With which it was split.
        shares: Of the splits.
        digests: Of the image files, by name, if a training writes the file.

    Raises:
        DataError: A sample has no split.
    """
    if not data.has_splits:
        raise DataError("is not split", where=str(data.root), remedy="Call `split_dataset` first")
    document: dict[str, Any] = {
        "schema": _SCHEMA,
        "seed": seed,
        "shares": list(shares),
        "names_sha256": names_hash(data),
        "notes": list(data.notes),
        "splits": {name: [sample.name for sample in data.in_splits(name)] for name in SPLITS},
    }
    sizes = Counter(sample.group for sample in data.samples)
    if groups := {
        sample.name: sample.group
        for sample in data.samples
        if sample.group and sizes[sample.group] > 1
    }:
        document["groups"] = groups
    if digests:
        document["digests"] = dict(digests)
    return (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode()


def write_split(
    path: Path,
    data: Dataset,
    seed: int,
    shares: tuple[float, float, float] = DEFAULT_SHARES,
    *,
    replaces: bool = False,
    digests: Mapping[str, str] | None = None,
) -> None:
    """Write which image is in which split, as JSON.

    Args:
        path: The file.
        data: The set, split.
        seed: With which it was split.
        shares: Of the splits.
        replaces: A file of other content is replaced.
        digests: As `split_document`.

    Raises:
        DataError: A sample has no split.
        OutputError: The file cannot be written, or is there with other content: a split that
            is lost no longer proves what a model has not seen.
    """
    content = split_document(data, seed, shares, digests)
    try:
        if not replaces and path.exists() and read_regular(path, TEXT_BYTES_MAX) != content:
            raise OutputError(
                "is there already, and is not this split",
                where=str(path),
                remedy="Give another name, or remove it first",
            )
        write_atomic(path, content)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from error


def load_split(path: Path) -> SplitRecord:
    """Return the content of a split file.

    Raises:
        DataError: It cannot be read, is of another form, or names an image twice.
    """
    try:
        document = decode_json_names(read_regular(path, TEXT_BYTES_MAX))
        pairs = [(name, split) for split in SPLITS for name in document["splits"].get(split, [])]
        record = SplitRecord(
            dict(pairs),
            document["names_sha256"],
            _texts(document, "groups"),
            _texts(document, "digests"),
        )
    except KeyError as error:
        raise DataError(
            f"is not a split file: it has no key {error}", where=str(path), remedy=_REMEDY
        ) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"is not a split file: {error}", where=str(path), remedy=_REMEDY) from error
    if len(record.splits) < len(pairs):
        count = Counter(name for name, _split in pairs)
        repeated = [name for name, times in count.items() if times > 1]
        raise DataError(
            f"names {number_of(len(repeated), 'image')} more than once: "
            f"{', '.join(map(str, repeated[:3]))}",
            where=str(path),
            remedy="An image is in one split: remove it from the others",
        )
    return record


def _texts(document: Any, key: str) -> dict[str, str]:
    """Return a mapping of texts; raises `ValueError` for another."""
    values = document.get(key, {})
    if not isinstance(values, dict) or not all(isinstance(each, str) for each in values.values()):
        raise ValueError(f"`{key}` does not map names to texts")
    return values


def read_split(path: Path, data: Dataset) -> Dataset:
    """Return the set with the splits of a file, and its groups if it has some.

    Raises:
        DataError: Unreadable, or a split of other images.
    """
    record = load_split(path)
    names = {sample.name for sample in data.samples}
    if record.names_sha256 != names_hash(data) or record.splits.keys() != names:
        raise DataError(
            f"splits other images: it names {len(record.splits)}, the set has {len(names)}, "
            f"{len(names & record.splits.keys())} in common",
            where=str(path),
            remedy=_REMEDY,
        )
    return apply_record(record, data)


def describe_change(record: SplitRecord, data: Dataset) -> str:
    """Return how a set differs from the one that a split file was written for.

    Args:
        record: Of the file.
        data: The set, split.
    """
    splits = {sample.name: sample.split for sample in data.samples}
    gone = sorted(record.splits.keys() - splits.keys())
    new = sorted(splits.keys() - record.splits.keys())
    moved: list[str] = []
    parts = []
    if not (gone or new):  # other images are split in another way, which says nothing
        moved = [name for name in splits if record.splits[name] != splits[name]]
    else:
        parts.append(f"there were {number_of(len(record.splits), 'image')}, now {len(splits)}")
    for names, one, several in (
        (gone, "is gone", "are gone"),
        (new, "is new", "are new"),
        (moved, "is in another split", "are in another split"),
    ):
        if names:
            listed = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
            parts.append(f"{len(names)} {one if len(names) == 1 else several} ({listed})")
    return "; ".join(parts) or "the label of at least one image changed, good or defective"


def apply_record(record: SplitRecord, data: Dataset) -> Dataset:
    """Return the set with the splits and groups of a record; images it lacks keep their own."""
    return data.with_samples(
        [
            replace(
                sample,
                split=record.splits.get(sample.name, sample.split),
                group=record.groups.get(sample.name, sample.group),
            )
            for sample in data.samples
        ]
    )
