"""Recognises annotation formats that are not supported, with a way to convert them.

Only the start and the end of a file are searched for keywords; nothing is parsed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.imaging import is_image_name
from edgeinspect.learning.datasets.files import contains_images, files_in, subfolders
from edgeinspect.system import is_regular, open_regular

_PEEK_BYTES = 1 << 16
_FOLDERS = 24
_FILES = 24
_DEPTH = 2
_MASKS = "Where the tool can, export masks: CVAT's 'Segmentation mask 1.1', labelme's labelme2voc"


@dataclass(frozen=True, slots=True)
class UnsupportedFormat:
    """A format that was recognised but is not supported."""

    name: str
    remedy: str


def detect_unsupported_format(root: Path) -> UnsupportedFormat | None:
    """Return the unsupported format of a folder; None if none is recognised."""
    folders = list(_folders(root))
    for name, remedy, is_format in _FORMATS:
        if any(map(is_format, folders)):
            return UnsupportedFormat(name, remedy)
    return None


def _folders(root: Path, depth: int = 0) -> Iterable[Path]:
    yield root
    if depth < _DEPTH:
        for folder in subfolders(root)[:_FOLDERS]:
            yield from _folders(folder, depth + 1)


def _has_file(suffix: str, *keywords: bytes) -> Callable[[Path], bool]:
    """Return a test whether a folder has a file of this suffix with all keywords."""

    def test(folder: Path) -> bool:
        files = _files_with_suffix(folder, suffix)
        return any(all(word in _read_ends(file) for word in keywords) for file in files)

    return test


def _is_label_studio(folder: Path) -> bool:
    return any(
        is_image_name(file.name) and file.name.startswith("task-") and "-annotation-" in file.name
        for file in files_in(folder)[:_FILES]
    ) or _has_file(".json", b'"annotations"', b'"from_name"')(folder)


def _is_yolo(folder: Path) -> bool:
    texts = _files_with_suffix(folder, ".txt")
    if folder.name.lower() not in ("labels", "label") and folder.parent.name.lower() != "labels":
        if any(_has_file(suffix, b"names:", b"train:")(folder) for suffix in (".yaml", ".yml")):
            return True
        stems = {file.stem for file in files_in(folder) if is_image_name(file.name)}
        texts = [file for file in texts if file.stem in stems]
    return any(map(_contains_boxes, texts))


def _is_roboflow(folder: Path) -> bool:
    return any(
        file.name == "_classes.csv" and _read_ends(file).lower().startswith(b"filename")
        for file in files_in(folder)
    )


_FORMATS: tuple[tuple[str, str, Callable[[Path], bool]], ...] = (
    (
        "Label Studio's export",
        "Its masks are named after tasks, not images: rename each after "
        "its image, masks/<class>/NAME.png (its JSON maps tasks to images)",
        _is_label_studio,
    ),
    (
        "labelme's JSON files",
        "Convert them with labelme's examples/semantic_segmentation/"
        "labelme2voc.py --labels labels.txt; its output is supported",
        _has_file(".json", b'"shapes"', b'"imagePath"'),
    ),
    (
        "COCO's JSON",
        "Draw its polygons into masks (pycocotools: COCO.annToMask), one value per "
        f"category, with classes.txt. {_MASKS}",
        _has_file(".json", b'"annotations"', b'"categories"', b'"images"'),
    ),
    (
        "Supervisely's JSON files",
        f"{_MASKS}; Supervisely: 'Export as masks'",
        _has_file(".json", b'"objects"', b'"classTitle"'),
    ),
    (
        "VGG Image Annotator's JSON",
        _MASKS,
        _has_file(".json", b'"regions"', b'"shape_attributes"'),
    ),
    (
        "CVAT's XML",
        "Export the task again as 'Segmentation mask 1.1'",
        _has_file(".xml", b"<annotations", b"<image "),
    ),
    (
        "Pascal VOC's XML of boxes",
        f"Boxes are not masks: a gate can be trained on a folder per class. {_MASKS}",
        _has_file(".xml", b"<annotation", b"<object"),
    ),
    (
        "YOLO's text files",
        "Boxes are not masks, and polygons must be rendered: a gate can be trained "
        f"on a folder per class. {_MASKS}",
        _is_yolo,
    ),
    (
        "Roboflow's table of labels",
        "Export it as a folder per class, or as 'Semantic Segmentation Masks'",
        _is_roboflow,
    ),
)


def _files_with_suffix(folder: Path, suffix: str) -> list[Path]:
    return [file for file in files_in(folder) if file.suffix.lower() == suffix][:_FILES]


def _contains_boxes(file: Path) -> bool:
    """Return whether lines have a class number and four or more numbers of 0 to 1."""
    lines = [line.split() for line in _read_ends(file).splitlines()[:4] if line.strip()]
    try:
        return bool(lines) and all(
            len(line) >= 5
            and int(line[0][:8]) >= 0
            and all(0 <= float(w[:32]) <= 1 for w in line[1:5])
            for line in lines
        )
    except ValueError:
        return False


def _read_ends(file: Path) -> bytes:
    """Return the start and the end of a regular file; empty for any other."""
    try:
        if not is_regular(file):
            return b""
        with open_regular(file) as opened:
            head = opened.read(_PEEK_BYTES)
            size = os.fstat(opened.fileno()).st_size
            if size <= _PEEK_BYTES:
                return head
            opened.seek(max(_PEEK_BYTES, size - _PEEK_BYTES))
            return head + b"\n" + opened.read(_PEEK_BYTES)
    except OSError:
        return b""


def note_unsupported_labels(root: Path) -> str:
    """Return a note if a folder also has labels in an unsupported format; else an empty string."""
    found = detect_unsupported_format(root)
    return (
        f"it also has {found.name}: not a supported format"
        if found and contains_images(root)
        else ""
    )
