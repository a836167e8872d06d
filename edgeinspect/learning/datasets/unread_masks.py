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
from edgeinspect.learning.datasets.files import images_below, unsupported_below
from edgeinspect.learning.datasets.masks.content import read_mask_contents
from edgeinspect.learning.datasets.name_matching import MASK_NAME, mask_stems, normalize_name
from edgeinspect.learning.datasets.unread_labels import label_place
from edgeinspect.learning.datasets.vocabulary import (
    SPLIT_NAMES,
    has_mask_word,
    is_annotation_folder,
    is_visualization_folder,
)
from edgeinspect.system import escape_name

_LABEL_SUFFIXES = (".json", ".xml", ".txt")
_PARTIAL = re.compile(r"\.?(?:syncthing\.|~)?(?P<whole>.+\.[A-Za-z]{3,4})(?:\.[^.]+|~)")
"""`a.png.part`, `a.png.bak`, `a.json~`, rsync's `.a.png.Xy1b2c`, `.syncthing.a.png.tmp`."""


def with_unread_masks(data: Dataset, root: Path, *, is_layout_given: bool) -> Dataset:
    """Return the set if no good image has a mask with a defect that its layout does not read.

    Args:
        data: As read by its layout; the masks that it lists as skipped are known.
        root: The folder that the user gave, or the file.
        is_layout_given: The user named the layout: such masks are a note then.

    Raises:
        DataError: There is one.
    """
    if not root.is_dir():
        return data
    known = {sample.path for sample in data.samples}
    known.update(path for sample in data.samples for path in mask_paths(sample))
    known.update(data.root / one.name for one in data.skipped)
    good = _GoodImages(data, root)
    masks = {
        path: sample
        for path in (*images_below(root), *unsupported_below(root))
        if path not in known
        and _is_mask_name(path, root)
        and (sample := good.of_mask(path)) is not None
        # labelme2voc writes each mask as PNG and as .npy.
        and (sample.mask is None or path.suffix.lower() in IMAGE_SUFFIXES)
    }
    readable = [path for path in masks if path.suffix.lower() in IMAGE_SUFFIXES]
    contents = read_mask_contents(readable)
    found = [
        path
        for path in masks
        if path not in contents or contents[path].has_set_pixels or contents[path].problem
    ]
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
        remedy="Keep one kind of labels, in one place: move the others away; "
        f"--layout {data.layout} ignores such masks",
    )


def check_partial_labels(data: Dataset, root: Path) -> None:
    """Check that no good image has a label file that was copied in part.

    Raises:
        DataError: There is one.
    """
    if not root.is_dir():
        return
    good = _GoodImages(data, root)
    found = [
        (path, sample)
        for path, whole in _partial_files(root)
        if (sample := good.of_mask(path.with_name(whole))) is not None
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
    if any(map(is_visualization_folder, (*folders, path.stem))):
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

    def __init__(self, data: Dataset, root: Path) -> None:
        self._root = root
        self._count = Counter(normalize_name(sample.path.stem) for sample in data.samples)
        self._good: dict[str, list[Sample]] = {}
        for sample in data.samples:
            if not sample.is_defective:
                self._good.setdefault(normalize_name(sample.path.stem), []).append(sample)

    def of_mask(self, mask: Path) -> Sample | None:
        """Return the image that a mask, or another label file, belongs to by name and place."""
        for stem in self._image_stems(mask):
            good = self._good.get(stem, ())
            if self._count[stem] == 1 and good:
                return good[0]
            for place_of in (label_place, _place_without_splits):
                place = place_of(mask, self._root)
                for sample in good:
                    if self._is_below(sample) and place_of(sample.path, self._root) == place:
                        return sample
        return None

    def _is_below(self, sample: Sample) -> bool:
        return sample.path.is_relative_to(self._root)

    def _image_stems(self, mask: Path) -> list[str]:
        """Return the stems of images whose mask it may be, the likeliest first.

        `a_mask`, also `mask_a`, `a_0` or `a_pit` of one class, and any name in a folder `a/`.
        None of them if it is the name of an image: `a_0` is the mask of that first.
        """
        stems = mask_stems(mask)
        if any(stem in self._count for stem in stems):
            return stems
        stem = normalize_name(mask.stem)
        cuts = [match.start() for match in re.finditer(r"[_\-. ]", stem)]
        parts = [stem[:cut] for cut in reversed(cuts)]
        parts += [stem[cut + 1 :] for cut in cuts if has_mask_word(stem[:cut])]
        return [*stems, *parts, normalize_name(mask.parent.name)]


def _place_without_splits(path: Path, root: Path) -> list[str]:
    return [part for part in label_place(path, root) if part not in SPLIT_NAMES]
