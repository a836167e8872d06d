"""Label Studio's JSON and JSON-MIN: a list of tasks, beside the images or above them.

Of several annotations of a task, the one marked as ground truth counts, else the last that was
not cancelled. A task without one is not labelled; one with an empty annotation is good. Not
labelled either is a task whose results are all of types that are not read, or whose annotations
contradict each other on whether the part is good. Uploaded images are found with and without the
prefix that Label Studio gives them.

Source: "Export annotations" in the documentation of Label Studio
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import is_image_name
from edgeinspect.learning.datasets.annotations.annotated_set import (
    AnnotatedImage,
    AnnotatedImages,
    dataset_from_annotations,
)
from edgeinspect.learning.datasets.annotations.documents import read_json
from edgeinspect.learning.datasets.annotations.image_files import ImageFiles
from edgeinspect.learning.datasets.annotations.label_files import (
    files_with_suffix,
    has_words,
    label_folders,
    read_ends,
)
from edgeinspect.learning.datasets.annotations.label_studio_regions import (
    KINDS,
    LABEL_KEYS,
    image_size,
    region_shape,
)
from edgeinspect.learning.datasets.annotations.repeated_images import without_repeats
from edgeinspect.learning.datasets.annotations.shapes import LabelledShape
from edgeinspect.learning.datasets.annotations.unlabelled import skip_unlabelled
from edgeinspect.learning.datasets.class_names import is_defect_class, is_good_class
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, SkippedImage
from edgeinspect.learning.datasets.name_matching import check_missing_images
from edgeinspect.learning.datasets.vocabulary import find_split_name, split_words

NEEDS = "Label Studio's JSON or JSON-MIN, and the images that it names"
RANK = 15
_WORDS = (
    (b'"annotations"', b'"data"'),
    (b'"annotator"', b'"annotation_id"'),
    (b'"original_width"',),
)
_CHOICE_KEYS = ("choice", "choices", "class", "label")
_IGNORED_TYPES = frozenset(("relation", "textarea", "rating", "number", "datetime", "pairwise"))
"""Results that say nothing of the pixels or the kind of a defect."""
_MIN_KEYS = frozenset(("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"))
"""Keys of a task of JSON-MIN that Label Studio itself writes."""

_Task = dict[str, Any]
_Found = tuple[list[LabelledShape], list[str], tuple[int, int] | None]
"""Shapes, classes of the whole image, and its size."""


def recognise(path: Path) -> bool:
    """Return whether this is such a file, or a folder with one."""
    return bool(_task_files(path))


def _task_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" and _is_task_file(path) else []
    return [
        file
        for folder in label_folders(path, "annotations", "labels")
        for file in files_with_suffix(folder, ".json")
        if _is_task_file(file)
    ]


def _is_task_file(file: Path) -> bool:
    start = read_ends(file)[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(b"[") and any(has_words(file, words) for words in _WORDS)


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read the tasks of all such files of a folder.

    Raises:
        DataError: A file is malformed, has a region of another size than its image or of an
            unknown kind; or more than a few images are not there.
    """
    labels = _task_files(path)
    root = path if path.is_dir() else path.parent
    files = ImageFiles(root, labels[0])
    read_ones: list[list[AnnotatedImage]] = []
    skipped: list[SkippedImage] = []
    unlabelled: list[Path] = []
    unread: dict[Path, str] = {}
    several = 0
    for file in labels:
        tasks = read_json(file, list[_Task], "Label Studio's JSON")
        missing: dict[str, str] = {}
        read_ones.append([])
        wheres = [f"{file}, task {task.get('id', i)!s:.20}" for i, task in enumerate(tasks, 1)]
        names = [_image_name(task, at) for task, at in zip(tasks, wheres, strict=True)]
        split = find_split_name(split_words(file.stem))
        places = [file.parent, file.parent / "images"]
        places += files.split_folders(split, *places)
        paths = files.find_all([(name, places) for name in names], split)
        for task, where, name, found in zip(tasks, wheres, names, paths, strict=True):
            if found is None:
                missing[name] = where.rpartition(", ")[2]
                continue
            readings = _read_annotations(task, where)
            if not readings:
                unlabelled.append(found)
                continue
            if problem := _why_unlabelled(readings, hints):
                unread[found] = f"{where.removeprefix(f'{file}, ')} of {file.name} {problem}"
                continue
            several += len(task.get("annotations") or ()) > 1
            shapes, tags, size = readings[-1].found
            split = find_split_name(found.relative_to(root).parts[:-1])
            image = AnnotatedImage(found, where, tuple(shapes), tuple(tags), size, split)
            read_ones[-1].append(image)
        check_missing_images(missing, len(tasks), file, root)
        skipped += [
            SkippedImage(name, f"{file.name} names it, but the image does not exist")
            for name in missing
        ]
    images = without_repeats(read_ones)
    skipped += skip_unlabelled(root, unread, len(images) + len(unread))
    named = [*(image.path for image in images), *unlabelled, *unread]
    unlisted, notes = files.unlisted(named, labels[0])
    skipped += [
        SkippedImage(each.relative_to(root).as_posix(), "has no annotation in Label Studio", True)
        for each in unlabelled
    ]
    if unlabelled:
        count = number_of(len(unlabelled), "task has", "tasks have")
        notes.append(f"{count} no annotation yet: skipped")
    if several:
        count = number_of(several, "image has", "images have")
        notes.append(f"{count} several annotations: the last one, or the ground truth, counts")
    found_set = AnnotatedImages(
        root, "label_studio", files, images, notes=notes, skipped=[*skipped, *unlisted]
    )
    return dataset_from_annotations(found_set, hints)


def _image_name(task: _Task, where: str) -> str:
    """Return the path of the image of a task: of an upload, a local file or an address.

    Raises:
        DataError: It has none, or several.
    """
    data = task.get("data", task)
    if not isinstance(data, dict):
        raise DataError("has data that is not a mapping", where=where)
    names = [
        name
        for value in data.values()
        if isinstance(value, str) and is_image_name(Path(name := _path_of(value)).name)
    ]
    if len(names) != 1 and isinstance(data.get("image"), str):
        names = [_path_of(data["image"])]
    if len(names) != 1:
        raise DataError(
            f"names {len(names)} images",
            where=where,
            remedy="A task must have one image, as data.image",
        )
    return names[0]


def _path_of(address: str) -> str:
    try:
        parts = urlsplit(address.replace("\\", "/"))
        local = parse_qs(parts.query).get("d", [])
    except ValueError:
        return address
    return local[0] if local else unquote(parts.path or address)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one annotation of a task says."""

    found: _Found
    unread: str = ""
    """Results that were not read, if no other was; empty if the annotation is a label."""

    def is_defective(self, hints: LayoutHints) -> bool:
        shapes, tags, _size = self.found
        names = (*(shape.class_name for shape in shapes), *tags)
        return any(not is_good_class(name, hints.good_classes) for name in names)


def _read_annotations(task: _Task, where: str) -> list[_Reading]:
    """Return what counts: the ground truth, or all annotations; empty if there is none."""
    if "annotations" not in task and "completions" not in task:
        results = list(_results_of_min(task))
        unread = "" if results else _unread_of_min(task, where)
        return [_Reading(_read_results(results, where), unread)]
    annotations = task.get("annotations") or task.get("completions") or []
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        raise DataError("has annotations that are not a list of mappings", where=where)
    done = [one for one in annotations if not one.get("was_cancelled")]
    chosen = [one for one in done if one.get("ground_truth")][:1] or done
    readings = []
    for each in chosen:
        results = each.get("result") or []
        if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
            raise DataError("has a result that is not a list of mappings", where=where)
        kinds = [str(one.get("type")) for one in results]
        is_unread = bool(kinds) and _IGNORED_TYPES.issuperset(kinds)
        unread = ", ".join(dict.fromkeys(kinds)) if is_unread else ""
        readings.append(_Reading(_read_results(results, where), unread))
    return [one for one in readings if not one.unread] or readings[-1:]


def _why_unlabelled(readings: Sequence[_Reading], hints: LayoutHints) -> str:
    """Return why a task says nothing of its image; empty if it does."""
    if unread := readings[-1].unread:
        return f"has only results that are not read ({unread})"
    if len({one.is_defective(hints) for one in readings}) > 1:
        return "has annotations of which one has a defect, another none, and no ground truth"
    return ""


def _results_of_min(task: _Task) -> Iterator[Mapping[str, Any]]:
    """Yield the results of a task of JSON-MIN, as JSON has them."""
    for key, value in task.items():
        if isinstance(value, list):
            for region in value:
                kinds = [name for name in LABEL_KEYS if isinstance(region, dict) and name in region]
                if kinds:
                    yield {**region, "type": kinds[0], "value": region}
        elif isinstance(value, dict) and "choices" in value:
            yield {"type": "choices", "value": value}
        elif key in _CHOICE_KEYS and isinstance(value, str):
            yield {"type": "choices", "value": {"choices": [value]}}


def _unread_of_min(task: _Task, where: str) -> str:
    """Return the keys of a task of JSON-MIN that look like results which are not read.

    Its other keys are data of the task, such as the number of a camera.

    Raises:
        DataError: A value is a list of lists of names, as a taxonomy has it.
    """
    found = []
    for key, value in task.items():
        if key in _MIN_KEYS or not value:
            continue
        is_list = isinstance(value, list)
        if is_list and any(isinstance(each, list) and _has_text(each) for each in value):
            raise DataError(
                f"has {key[:40]!r}: {str(value)[:60]}, a taxonomy, which is not supported",
                where=where,
                remedy="Label with choices or regions, or remove it from the export",
            )
        is_word = isinstance(value, str) and (is_good_class(value) or is_defect_class(value))
        is_ignored = key.lower() in _IGNORED_TYPES
        if is_word or is_ignored or (is_list and any(isinstance(one, str | dict) for one in value)):
            found.append(key[:40])
    return ", ".join(found)


def _has_text(values: Sequence[Any]) -> bool:
    return any(isinstance(each, str) for each in values)


def _read_results(results: Sequence[Mapping[str, Any]], where: str) -> _Found:
    """Return what the results of one annotation say."""
    shapes: list[LabelledShape] = []
    tags: list[str] = []
    sizes: set[tuple[int, int]] = set()
    labels_by_id = {
        result.get("id"): _names(result.get("value"), "labels", where)
        for result in results
        if result.get("type") == "labels"
    }
    for number, result in enumerate(results, 1):
        at = f"{where}, region {number}"
        kind = result.get("type")
        value = result.get("value")
        if kind == "choices":
            tags += _names(value, "choices", at)
            continue
        if kind == "labels" or kind in _IGNORED_TYPES:
            continue
        shape_kind = LABEL_KEYS.get(kind, kind) if isinstance(kind, str) else ""
        if shape_kind not in KINDS or not isinstance(value, dict):
            raise DataError(
                f"is of the type {kind!s:.40}, which is not supported",
                where=at,
                remedy="Draw it as a rectangle, an ellipse, a polygon or with the brush",
            )
        size = image_size(result, at)
        sizes.add(size)
        key = kind if kind in LABEL_KEYS else None
        names = _names(value, key, at) if key else labels_by_id.get(result.get("id"), [])
        if len(names) != 1:
            raise DataError(
                f"has {len(names)} labels", where=at, remedy="Give each region one label"
            )
        shapes.append(LabelledShape(names[0], region_shape(shape_kind, value, size, at), at))
    if len(sizes) > 1:
        raise DataError("has regions of images of two sizes", where=where)
    return shapes, tags, next(iter(sizes), None)


def _names(value: Any, key: str, where: str) -> list[str]:
    names = value.get(key) if isinstance(value, dict) else None
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"has {key} that are not a list of names", where=where)
    return names
