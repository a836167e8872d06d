"""Recognises annotation formats that are not supported, with a way to convert them.

Only the start and the end of a file are searched for keywords; nothing is parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.imaging import is_image_name
from edgeinspect.learning.datasets.annotations.label_files import files_with_suffix, read_ends
from edgeinspect.learning.datasets.files import contains_images, files_in, subfolders

_FOLDERS = 24
_FILES = 24
_DEPTH = 2
_SUPPORTED = "COCO, YOLO, Pascal VOC, or masks"


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
        files = files_with_suffix(folder, suffix)[:_FILES]
        return any(all(word in read_ends(file) for word in keywords) for file in files)

    return test


def _is_label_studio(folder: Path) -> bool:
    return any(
        is_image_name(file.name) and file.name.startswith("task-") and "-annotation-" in file.name
        for file in files_in(folder)[:_FILES]
    )


def _is_roboflow(folder: Path) -> bool:
    return any(
        file.name in ("_classes.csv", "_annotations.csv")
        and read_ends(file).lower().startswith(b"filename")
        for file in files_in(folder)
    )


_FORMATS: tuple[tuple[str, str, Callable[[Path], bool]], ...] = (
    (
        "Label Studio's PNG masks",
        "They are named after tasks, not images: export 'JSON' or 'COCO' instead",
        _is_label_studio,
    ),
    (
        "VGG Image Annotator's JSON",
        "Export it from there as COCO",
        _has_file(".json", b'"regions"', b'"shape_attributes"'),
    ),
    (
        "CreateML's JSON",
        f"Export {_SUPPORTED}",
        _has_file(".json", b'"annotations"', b'"coordinates"', b'"image"'),
    ),
    (
        "Datumaro's own JSON",
        "Convert it: datum convert -f coco_instances",
        _has_file(".json", b'"dm_format_version"'),
    ),
    (
        "CVAT's XML for videos",
        "Export the task again as 'CVAT for images 1.1' or 'COCO 1.0'",
        _has_file(".xml", b"<annotations", b"<track "),
    ),
    (
        "TFRecord files",
        f"Export {_SUPPORTED}",
        lambda folder: any(".tfrecord" in file.name for file in files_in(folder)[:_FILES]),
    ),
    (
        "Roboflow's table of labels",
        f"Export {_SUPPORTED}, a folder per class, or 'Semantic Segmentation Masks'",
        _is_roboflow,
    ),
)


def note_unsupported_labels(root: Path) -> str:
    """Return a note if a folder also has labels in an unsupported format; else an empty string."""
    found = detect_unsupported_format(root)
    return (
        f"it also has {found.name}: not a supported format"
        if found and contains_images(root)
        else ""
    )
