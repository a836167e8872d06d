"""Finds good images whose mask, or whose half-copied label, a layout has passed over.

Where some images have annotations and all have masks, the annotations are read, and the masks of
the other images would be lost. A copy that was broken off leaves `a.png.part` or `.a.png.Xy1b2c`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import IMAGE_SUFFIXES
from edgeinspect.learning.datasets.completeness import mask_paths
from edgeinspect.learning.datasets.dataset import Dataset, Sample
from edgeinspect.learning.datasets.files import images_below
from edgeinspect.learning.datasets.masks.content import read_mask_contents
from edgeinspect.learning.datasets.name_matching import MASK_NAME, mask_stems, normalize_name
from edgeinspect.learning.datasets.vocabulary import is_annotation_folder, is_visualization_folder
from edgeinspect.system import escape_name

_LABEL_SUFFIXES = (".json", ".xml", ".txt")
_PARTIAL = re.compile(r"\.?(?P<whole>.+\.[A-Za-z]{3,4})(?:\.[^.]+|~)")
"""`a.png.part`, `a.png.bak`, `a.json~`, and rsync's `.a.png.Xy1b2c`."""


def with_unread_masks(data: Dataset, root: Path, *, is_layout_given: bool) -> Dataset:
    """Return the set if no good image has a mask with a defect that its layout does not read.

    Args:
        data: As read by a layout whose labels are in files of their own format.
        root: The folder that the user gave, or the file.
        is_layout_given: The user named the layout: such masks are a note then.

    Raises:
        DataError: There is one.
    """
    if not root.is_dir():
        return data
    known = {sample.path for sample in data.samples}
    known.update(path for sample in data.samples for path in mask_paths(sample))
    good = _GoodImages(data)
    masks = {
        path: sample
        for path in images_below(root)
        if path not in known
        and _is_mask_name(path, root)
        and (sample := good.of_label(path, mask_stems(path))) is not None
    }
    contents = read_mask_contents(list(masks))
    found = [path for path in masks if contents[path].has_set_pixels or contents[path].problem]
    if not found:
        return data
    sample = masks[found[0]]
    what = (
        f"{number_of(len(found), 'good image has', 'good images have')} a mask, which layout "
        f"{data.layout} does not read, such as {sample.name}: "
        f"{escape_name(found[0].relative_to(root))}"
    )
    if is_layout_given:
        return data.with_notes(what)
    raise DataError(
        what,
        where=escape_name(root),
        remedy="Keep one kind of labels: move the annotations away to read the masks; "
        f"--layout {data.layout} ignores the masks",
    )


def check_partial_labels(data: Dataset, root: Path) -> None:
    """Check that no good image has a label file that was copied in part.

    Raises:
        DataError: There is one.
    """
    if not root.is_dir():
        return
    good = _GoodImages(data)
    found = [
        (path, sample)
        for path, whole in _partial_files(root)
        if (sample := good.of_label(path, mask_stems(Path(whole)))) is not None
    ]
    if found:
        path, sample = found[0]
        more = f", and {len(found) - 1} more" if found[1:] else ""
        raise DataError(
            f"{escape_name(path.relative_to(root))} may be the label of {sample.name}, copied in "
            f"part{more}: that image would be taken as good",
            where=escape_name(root),
            remedy="Copy it again, or remove it if it is none",
        )


def _is_mask_name(path: Path, root: Path) -> bool:
    """Return whether a file is named as a mask, or is in a folder of masks."""
    folders = path.relative_to(root).parts[:-1]
    if any(map(is_visualization_folder, folders)):
        return False
    return any(map(is_annotation_folder, folders)) or bool(MASK_NAME.fullmatch(path.stem))


def _partial_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield files that seem to be copied in part, and their whole names; also hidden ones.

    Not if the whole file is there too: the other is a backup then.
    """
    for base, _folders, names in os.walk(root):
        there = set(names)
        folders = Path(base).relative_to(root).parts
        is_label_folder = any(map(is_annotation_folder, folders))
        for name in sorted(names):
            found = _PARTIAL.fullmatch(name)
            if found is None or found["whole"] in there:
                continue
            suffix = Path(found["whole"]).suffix.lower()
            is_mask = suffix in IMAGE_SUFFIXES and (
                is_label_folder or MASK_NAME.fullmatch(Path(found["whole"]).stem)
            )
            is_whole_name = Path(name).suffix.lower() in (*IMAGE_SUFFIXES, *_LABEL_SUFFIXES)
            if (suffix in _LABEL_SUFFIXES or is_mask) and not is_whole_name:
                yield Path(base, name), found["whole"]


class _GoodImages:
    """The good images of a set, by the stems that their labels may have."""

    def __init__(self, data: Dataset) -> None:
        self._count = Counter(normalize_name(sample.path.stem) for sample in data.samples)
        self._good: dict[str, list[Sample]] = {}
        for sample in data.samples:
            if not sample.is_defective:
                self._good.setdefault(normalize_name(sample.path.stem), []).append(sample)

    def of_label(self, label: Path, stems: list[str]) -> Sample | None:
        """Return the image of a label file: the only one of its stem, or the one beside it."""
        for stem in stems:
            for sample in self._good.get(stem, ()):
                if self._count[stem] == 1 or sample.path.parent == label.parent:
                    return sample
        return None
