"""The files of a YOLO data set beside its labels: names of classes, and the images of each split.

- `data.yaml` of Ultralytics and Roboflow: `names` (a list, or a mapping from ids), `path`, and
  `train`, `val`, `test`: folders or lists, relative to `path`, to the file, or of another machine
- `obj.data`, `obj.names`, `train.txt` of Darknet and CVAT; `_darknet.labels` of Roboflow
- `classes.txt` of Label Studio and LabelImg, also beside the labels: one name per line, from id 0

Source: "Datasets" in the documentation of Ultralytics; "YOLO" in that of CVAT
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from edgeinspect.errors import DataError
from edgeinspect.imaging import is_image_name
from edgeinspect.learning.datasets.annotations.broken_files import find_problem
from edgeinspect.learning.datasets.annotations.image_files import ImageFiles
from edgeinspect.learning.datasets.annotations.label_files import (
    files_with_suffix,
    read_ends,
    set_folders,
)
from edgeinspect.learning.datasets.dataset import SPLITS
from edgeinspect.learning.datasets.files import entries_in, images_below, subfolders
from edgeinspect.learning.datasets.name_matching import check_missing_images
from edgeinspect.learning.datasets.tables import read_table_text
from edgeinspect.learning.datasets.vocabulary import SPLIT_NAMES, find_split_name, split_words
from edgeinspect.system import DecodeError, decode_yaml_text

NAME_LISTS = (
    "obj.names",
    "_darknet.labels",
    "classes.names",
    "classes.txt",
    "predefined_classes.txt",
)
_EXAMPLE_LIST = "predefined_classes.txt"
_YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_YAML_KEYS = (b"names", b"nc", b"train", b"val", b"test", b"path")
_MAX_ID_DIGITS = 5
_YAML_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class YoloFiles:
    """What a set declares beside its labels."""

    names: Mapping[int, str] = field(default_factory=dict)
    """Empty if there is no list."""
    source: str = ""
    """The file that has the names, or should; empty if there is none."""
    splits: Mapping[Path, str | None] = field(default_factory=dict)
    """Every image; empty if no file lists them."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Images that a list names but that are not there, and the line of each."""
    notes: tuple[str, ...] = ()
    has_keypoints: bool = False
    """Numbers after a box are key points."""


def find_yaml(root: Path) -> Path | None:
    """Return the YAML file of a folder that declares a YOLO set."""
    for file in files_with_suffix(root, ".yaml", ".yml"):
        text = b"\n" + read_ends(file)
        keys = [word for word in _YAML_KEYS if b"\n" + word in text]
        is_named = b"names" in keys and file.name.lower() in _YAML_NAMES
        if is_named or ({b"names", b"nc"} & set(keys) and len(keys) > 1):
            return file
    return None


def read_yolo_files(root: Path, declaration: Path | None, files: ImageFiles) -> YoloFiles:
    """Read the names and splits that a set declares.

    Raises:
        DataError: A file is malformed, or lists images or folders that are not there.
    """
    lists = list(_read_name_lists(root))
    if declaration is not None:
        declared = _read_yaml(root, declaration, files)
        _check_alike([(declaration, declared.names), *lists])
        if declared.names or not lists:
            return declared
        return replace(declared, names=lists[0][1], source=str(lists[0][0]))
    for name in _YAML_NAMES:
        if os.path.lexists(root / name):
            problem = find_problem(root / name)
            raise DataError(
                problem or "names no classes: it has neither `names` nor `nc`",
                where=str(root / name),
                remedy="Restore it, or write names: [pit, scratch]",
            )
    _check_alike(lists)
    splits, missing = _read_lists(root, files)
    if not lists:
        return YoloFiles(splits=splits, missing=missing)
    path, names = lists[0]
    return YoloFiles(names, str(path), splits, missing)


def _read_name_lists(root: Path) -> Iterator[tuple[Path, Mapping[int, str]]]:
    """Yield each list of names, and its name of each id.

    LabelImg's own list of examples counts only if there is no other.

    Raises:
        DataError: A list cannot be read, or has a name twice or a line without one.
    """
    entries = [
        entry
        for named in dict.fromkeys((root, *set_folders(root, "labels", "label")))
        for folder in (named, *(subfolders(named) if named != root else []))
        for entry in entries_in(folder)
    ]
    paths = [entry for name in NAME_LISTS for entry in entries if entry.name.lower() == name]
    for path in paths[:1] + [path for path in paths[1:] if path.name.lower() != _EXAMPLE_LIST]:
        if problem := find_problem(path):
            raise DataError(problem, where=str(path), remedy="Restore or remove it")
        lines = read_table_text(path).splitlines()
        while lines and not lines[-1].strip():
            lines.pop()
        names = {index: line.strip() for index, line in enumerate(lines)}
        yield path, _checked(names, str(path))


def _check_alike(lists: Sequence[tuple[Path, Mapping[int, str]]]) -> None:
    """Check that all lists that name a class name the same ones.

    Raises:
        DataError: Two differ.
    """
    named = [(path, names) for path, names in lists if names]
    for path, names in named[1:]:
        first, expected = named[0]
        if names != expected:
            raise DataError(
                f"names other classes than {first.name}: {', '.join(list(names.values())[:5])} "
                f"instead of {', '.join(list(expected.values())[:5])}",
                where=str(path),
                remedy="Keep the correct one",
            )


def _checked(names: Mapping[int, str], source: str) -> Mapping[int, str]:
    """Check that names are unique and not empty."""
    seen: set[str] = set()
    for index, name in names.items():
        if not name or name in seen:
            raise DataError(
                f"class {index} is {name!r}, " + ("twice" if name else "without a name"),
                where=source,
                remedy="Give each class one name",
            )
        seen.add(name)
    return names


def _read_yaml(root: Path, path: Path, files: ImageFiles) -> YoloFiles:
    document = _load_yaml(path)
    names = _checked(_names_of(document, path), str(path))
    count = str(document.get("nc", ""))
    if names and count.isdecimal() and len(count) <= _MAX_ID_DIGITS and int(count) != len(names):
        raise DataError(
            f"has {len(names)} names, but `nc` is {count}",
            where=str(path),
            remedy="Name every class, and write their number as `nc`",
        )
    splits: dict[Path, str | None] = {}
    missing: dict[str, str] = {}
    notes = []
    base = document.get("path")
    for key, split in SPLIT_NAMES.items():
        repeated = 0
        for entry in _entries(document.get(key), key, path):
            if split != SPLITS[0] and _resolve(entry, root, path, base) is None and splits:
                notes.append(f"{path.name} names {entry} for {key}, which does not exist")
                continue
            for image in _images_of(entry, root, path, base, files, missing):
                repeated += splits.setdefault(image, split) != split
        if repeated:
            notes.append(f"{key} lists {repeated} images of another split again: they stay there")
    check_missing_images(missing, len(splits) + len(missing), path, root)
    return YoloFiles(
        names,
        "" if document.get("names") is None else str(path),
        splits,
        missing,
        tuple(notes),
        document.get("kpt_shape") is not None,
    )


def _load_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML mapping with all scalars as text; only two levels of it are read."""
    try:
        document = decode_yaml_text(read_table_text(path, _YAML_BYTES_MAX))
    except DecodeError as error:
        raise DataError(str(error), where=str(path), remedy="Export it again") from error
    if not isinstance(document, dict):
        raise DataError("is not a YAML mapping", where=str(path))
    return {key: value for key, value in document.items() if isinstance(key, str)}


def _names_of(document: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Return the name of each id; Ultralytics calls the classes class_0 … if only `nc` is given."""
    value, count = document.get("names"), str(document.get("nc", ""))
    if value is None and count.isdecimal() and len(count) <= _MAX_ID_DIGITS:
        return {}
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {index: str(name) for index, name in enumerate(value)}
    if isinstance(value, dict) and all(
        isinstance(key, str) and key.isdecimal() and len(key) <= _MAX_ID_DIGITS for key in value
    ):
        return {int(key): str(name) for key, name in value.items()}
    raise DataError(
        "has names that are neither a list nor a mapping from ids",
        where=str(path),
        remedy="Write names: [pit, scratch] or names: {0: pit, 1: scratch}",
    )


def _entries(value: Any, key: str, path: Path) -> list[str]:
    entries = value if isinstance(value, list) else [value] if value else []
    if not all(isinstance(each, str) for each in entries):
        raise DataError(f"{key} is not a path", where=str(path))
    return [each for each in entries if each.strip()]


def _images_of(
    entry: str, root: Path, declaration: Path, base: Any, files: ImageFiles, missing: dict[str, str]
) -> Iterator[Path]:
    """Yield the images of a folder, or of a list of images."""
    place = _resolve(entry, root, declaration, base)
    if place is None:
        raise DataError(
            f"names {entry[:80]!r}, which is not in the data set",
            where=str(declaration),
            remedy="Write the path relative to this file, or copy the images there",
        )
    if place.is_dir():
        known = set(files.paths)
        yield from (image for image in images_below(place) if image in known)
    else:
        yield from _listed_images(place, files, missing)


def _resolve(entry: str, root: Path, declaration: Path, base: Any) -> Path | None:
    """Return a path below the set's folder: as written, or without its first folders.

    Roboflow writes `../train/images` for `train/images`; others write paths of their machine.
    """
    parts = [
        part for part in PurePosixPath(entry.replace("\\", "/")).parts if part not in ("/", ".")
    ]
    folders = [declaration.parent]
    if isinstance(base, str):
        folders.insert(0, declaration.parent / base.replace("\\", "/"))
    for folder in folders:
        found = (folder / "/".join(parts)).resolve()
        if found.exists() and found.is_relative_to(root.resolve()):
            return root / found.relative_to(root.resolve())
    while parts:
        if ".." not in parts and (root / "/".join(parts)).exists():
            return root / "/".join(parts)
        parts = parts[1:]
    return None


def _listed_images(path: Path, files: ImageFiles, missing: dict[str, str]) -> Iterator[Path]:
    lines = enumerate(read_table_text(path).splitlines(), 1)
    named = [(line, name) for line, text in lines if (name := text.strip())]
    listed = [(name, (path.parent, files.root)) for _line, name in named]
    for (line, name), found in zip(named, files.find_all(listed), strict=True):
        if found is None:
            missing[name] = f"{path.name}:{line}"
        else:
            yield found


def _read_lists(root: Path, files: ImageFiles) -> tuple[dict[Path, str | None], dict[str, str]]:
    """Return the images of `train.txt`, `valid.txt` … beside `obj.data`, if they list images."""
    splits: dict[Path, str | None] = {}
    missing: dict[str, str] = {}
    named = [
        entry
        for entry in entries_in(root)
        if entry.suffix.lower() == ".txt" and find_split_name(split_words(entry.stem)) is not None
    ]
    for entry in named:
        if problem := find_problem(entry):
            raise DataError(problem, where=str(entry), remedy="Restore or remove it")
    lists = [file for file in named if _lists_images(read_ends(file).decode("utf-8", "replace"))]
    for file in sorted(lists, key=lambda file: SPLITS.index(_split_of(file))):
        for image in _listed_images(file, files, missing):
            splits.setdefault(image, _split_of(file))
        check_missing_images(missing, len(splits) + len(missing), file, root)
    if set(splits.values()) == {"train"} and len(lists) == 1:
        splits = dict.fromkeys(splits)  # CVAT and Label Studio list all images as train
    return splits, missing


def _split_of(file: Path) -> str:
    return find_split_name(split_words(file.stem)) or SPLITS[0]


def _lists_images(text: str) -> bool:
    lines = [line.strip() for line in text.splitlines()[:8] if line.strip()]
    return bool(lines) and all(is_image_name(PurePosixPath(line).name) for line in lines)
