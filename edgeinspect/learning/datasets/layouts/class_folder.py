"""A folder per class, without masks.

`ok_front/`, `def_front/` (casting), `crazing/`, `inclusion/` … (NEU), optionally below `train/`,
`val/`, `test/`, and with `images/` in between. Folders below one that says only defective are
classes (`NG/dent/`) where their names can be kinds of defects. Three or more folders in a class
are groups, also days and cameras above classes (`day1/OK/`). Folders named as not labelled
(`unlabeled/`, `todo/`) are skipped. Which classes are good is decided by `class_names.py`, or
`--good-class NAME`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.imaging import is_image_name
from edgeinspect.learning.datasets.class_names import (
    check_clear_names,
    find_counterpart,
    is_defect_class,
    is_good_class,
    names_a_kind,
)
from edgeinspect.learning.datasets.dataset import (
    Dataset,
    LayoutHints,
    OnlyGoodError,
    Sample,
    SkippedImage,
)
from edgeinspect.learning.datasets.files import (
    contains_images,
    files_in,
    images_below,
    subfolders,
    unique_names,
)
from edgeinspect.learning.datasets.folder_names import is_origin_folder, is_unlabelled_folder
from edgeinspect.learning.datasets.layouts._kinds import find_kinds
from edgeinspect.learning.datasets.masks.content import check_no_masks_as_images
from edgeinspect.learning.datasets.vocabulary import (
    IMAGE_FOLDER_NAMES,
    SPLIT_NAMES,
    find_split_name,
    is_annotation_folder,
    is_mask_folder,
    is_visualization_folder,
    split_words,
    word_set,
)

NEEDS = (
    "a folder of images per class, at least two (ok/ and defect/, or crazing/ and scratches/), "
    "which may be below train/, val/ and test/"
)
RANK = 60

_MIN_GROUPS = 3
"""Fewer folders in a class are not groups: a class of one group could not be split."""
_UNINFORMATIVE_WORDS = word_set("class label c p n pos neg positive true false yes y t f a b")
_NO_GOOD = "none: no folder is known as good; if one is, name it with --good-class"
_NEUTRAL = SPLIT_NAMES.keys() | IMAGE_FOLDER_NAMES


def recognise(path: Path) -> bool:
    """Return whether a folder has at least two class folders, and no mask folder beside them."""
    return accepts(path) and not has_mask_folder(path)


def accepts(path: Path) -> bool:
    """Return whether a folder has at least two class folders, none of them a set by itself."""
    if not path.is_dir():
        return False
    folders = class_folders(path)
    names = {folder.name for folder in folders}
    return (
        len(names) > 1 and not _differ_by_split_only(names) and all(map(_is_class_folder, folders))
    )


def _differ_by_split_only(names: set[str]) -> bool:
    """Return whether names differ in the split only: `obj_train_data`, `obj_val_data` (YOLO)."""
    words = [split_words(name) for name in names]
    rests = {tuple(word for word in each if word not in SPLIT_NAMES) for each in words}
    return len(rests) == 1 and all(find_split_name(each) for each in words)


def has_mask_folder(path: Path, depth: int = 0) -> bool:
    """Return whether there is a mask folder beside the class folders."""
    for folder in subfolders(path):
        if (
            is_mask_folder(folder.name)
            and not is_visualization_folder(folder.name)
            and contains_images(folder)
        ):
            return True
        if is_neutral_folder(folder.name) and depth < 3 and has_mask_folder(folder, depth + 1):
            return True
    return False


def is_neutral_folder(name: str) -> bool:
    """Return whether a folder name is a split, images, or both (`train_images`), not a class."""
    return name.lower() in _NEUTRAL or (
        bool(words := split_words(name)) and all(word in _NEUTRAL for word in words)
    )


def class_folders(path: Path, depth: int = 0) -> list[Path]:
    """Return the class folders, also those below split and image folders."""
    found: list[Path] = []
    for folder in subfolders(path):
        if is_neutral_folder(folder.name):
            found += class_folders(folder, depth + 1) if depth < 3 else []
        elif not is_annotation_folder(folder.name) and contains_images(folder):
            found.append(folder)
    return found


def _is_class_folder(folder: Path) -> bool:
    """Return whether a folder has images in it or one level below, and no masks or splits."""
    below = subfolders(folder)
    if any(is_annotation_folder(child.name) and contains_images(child) for child in below):
        return False
    return any(
        is_image_name(file.name) for place in (folder, *below) for file in files_in(place)
    ) and not any(subfolders(child) for child in below if child.name.lower() in SPLIT_NAMES)


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read the samples; images outside of class folders are not read.

    Raises:
        DataError: It has one class only, or no one can tell which folders are classes.
    """
    files = images_below(path)
    names = unique_names(path, files)
    placed = place_images(path, files, hints)
    counts = Counter(place[0] for _file, place in placed if place is not None)
    skipped = _skip_unlabelled_folders(path, files)
    good = {name for name in counts if is_good_class(name, hints.good_classes)}
    if hints.good_classes and not good:
        raise DataError(
            f"has no class {' or '.join(hints.good_classes)}",
            where=str(path),
            remedy=f"Its classes are: {', '.join(sorted(counts))}",
        )
    if len(counts) < 2:
        raise DataError(
            f"has one class only ({', '.join(counts) or 'none'})",
            where=str(path),
            remedy="A gate is trained on good and defective images"
            + (f"; {skipped[0].name} {skipped[0].reason}" if skipped else ""),
        )
    if not good and len(counts) == 2 and all(map(_is_uninformative, counts)):
        first, second = sorted(counts)
        raise DataError(
            f"has the classes {first} and {second}, whose names do not tell which is good",
            where=str(path),
            remedy=f"Give --good-class {first} or --good-class {second}",
        )
    if not good and hints.layout is None:
        _check_one_is_good(path, counts.keys())
    classes = tuple(sorted(counts.keys() - good))
    if not classes:
        raise OnlyGoodError(
            f"all classes are good: {', '.join(sorted(good))}",
            where=str(path),
            remedy="Learn from good parts alone with `edgeinspect train anomaly`, or name the good "
            "ones with --good-class",
        )
    check_no_masks_as_images(
        path, [(file, place[0]) for file, place in placed if place is not None], hints
    )
    check_levels(
        path, [place[:2] for _file, place in placed if place is not None], hints, "class_folder"
    )
    kinds, notes = find_kinds([place[:2] for _file, place in placed if place is not None], good)
    found = [
        (file, kinds.get(place[:2], place[0]), place[1], place[2])
        for file, place in placed
        if place is not None
    ]
    classes = tuple(sorted({name for _file, name, *_rest in found} - good))
    inside: dict[str, set[str]] = {name: set() for _file, name, *_rest in found}
    for _file, name, group, _split in found:
        inside[name].add(group)
    samples = []
    for file, name, group, split in found:
        ids = () if name in good else (classes.index(name) + 1,)
        samples.append(
            Sample(
                names[file],
                file,
                bool(ids),
                name,
                group if group and len(inside[name] - {"", name}) >= _MIN_GROUPS else names[file],
                split,
                None,
                ids,
            )
        )
    return Dataset(
        path,
        "class_folder",
        classes,
        tuple(samples),
        False,
        notes=(f"good classes: {', '.join(sorted(good)) or _NO_GOOD}", *notes),
        skipped=tuple(skipped),
    )


def _check_one_is_good(path: Path, names: Iterable[str]) -> None:
    """Reject names of which none is known as good, and one may be: `conformi2/` beside `NG/`.

    Raises:
        DataError: There is one such name.
    """
    names = sorted(names)
    if (pair := find_counterpart(names)) is not None:
        raise DataError(
            f"no folder is known as good: {pair[1]}/ may be the opposite of {pair[0]}/",
            where=str(path),
            remedy=f"If the images of {pair[0]}/ are good, name it with --good-class {pair[0]}; "
            "--layout class_folder reads it as a class of defects",
        )
    others = [name for name in names if not is_defect_class(name)]
    if len(others) != 1 or names_a_kind(others[0]):
        return
    check_clear_names(others, str(path))
    bad = " and ".join(f"{name}/" for name in names[:4] if name != others[0])
    raise DataError(
        f"no folder is known as good: {bad} {'say' if len(names) > 2 else 'says'} defective, "
        f"{others[0]}/ may be either",
        where=str(path),
        remedy=f"If its images are good, name it with --good-class {others[0]}; --layout "
        "class_folder reads it as a class of defects",
    )


def _skip_unlabelled_folders(path: Path, files: list[Path]) -> list[SkippedImage]:
    places = [file.relative_to(path) for file in files]
    why = "is in a folder named as not labelled (rename it if it is a class)"
    return [
        SkippedImage(str(place), why, is_intentional=True)
        for place in places
        if any(map(is_unlabelled_folder, place.parts[:-1]))
    ]


def check_levels(
    path: Path, places: Iterable[tuple[str, str]], hints: LayoutHints, layout: str
) -> None:
    """Check that the upper level of folders names the classes.

    Args:
        path: Folder of the set.
        places: Class and group of each image.
        hints: What the user said; a layout that they named uses the upper level.
        layout: Name of the layout, for error messages.

    Raises:
        DataError: The level below names classes too.
    """
    if hints.layout is not None:
        return
    inside: dict[str, set[str]] = {}
    for name, group in places:
        inside.setdefault(name, set()).update({group} - {""})
    _check_nesting(path, inside, layout)
    good = {name for name in inside if is_good_class(name, hints.good_classes)}
    _check_subfolders(path, inside, good, layout)


def _check_nesting(path: Path, groups_by_class: dict[str, set[str]], layout: str) -> None:
    """Reject `cam1/ok`, `cam1/ng`, `cam2/ok`, `cam2/ng`: either level could be the classes."""
    below = [{group.partition("/")[2] for group in groups} for groups in groups_by_class.values()]
    shared = set.intersection(*below) if below else set()
    if len(shared) > 1 and any(map(is_good_class, shared)):
        first, second = sorted(groups_by_class)[:2]
        raise DataError(
            f"{first}/ and {second}/ both contain {' and '.join(sorted(shared)[:3])}, so either "
            "level could be the classes",
            where=str(path),
            remedy=f"Give one of them, such as {path / first}, or swap the two levels of folders. "
            f"--layout {layout} uses the upper level",
        )


def _check_subfolders(
    path: Path, groups_by_class: dict[str, set[str]], good: set[str], layout: str
) -> None:
    """Reject `good/rejected/`: a folder below a class whose name means the opposite."""
    defects = groups_by_class.keys() - good
    for name, groups in sorted(groups_by_class.items()):
        for word in sorted({part for group in groups for part in group.split("/")[1:]}):
            if name in good:
                against = word in defects or is_defect_class(word)
            else:
                against = word in good or is_good_class(word)
            if against:
                raise DataError(
                    f"has a folder '{word}' below '{name}': its images would be "
                    f"{'good' if name in good else 'defective'}, but its name means the opposite",
                    where=str(path),
                    remedy="Make it a class folder of its own, or rename it. "
                    f"--layout {layout} uses the upper level",
                )


def place_images(
    path: Path, files: Iterable[Path], hints: LayoutHints
) -> list[tuple[Path, tuple[str, str, str | None] | None]]:
    """Return each file with (class, group, split) by its folders; None if they name no class.

    Days, cameras and batches above the classes (`day1/OK`, `day2/OK`) are groups, if one of the
    classes below them is good and another one is not, and the user did not name the layout.
    """
    placed = [(file, class_group_split(file.relative_to(path).parts[:-1])) for file in files]
    groups = {place[1] or place[0] for _file, place in placed if place is not None}
    lifted = {group: _with_class_first(group) for group in groups}
    classes = {new.partition("/")[0] for group, new in lifted.items() if new != group}
    good = {name for name in classes if is_good_class(name, hints.good_classes)}
    if hints.layout is not None or not good or good == classes:
        return placed
    found: list[tuple[Path, tuple[str, str, str | None] | None]] = []
    for file, place in placed:
        if place is not None:
            group = lifted[place[1] or place[0]]
            name, slash, _below = group.partition("/")
            place = (name, group if slash else "", place[2])
        found.append((file, place))
    return found


def _with_class_first(group: str) -> str:
    """Return a path with its days and cameras behind the first other folder, if there is one."""
    names = group.split("/")
    above = list(takewhile(is_origin_folder, names))
    inside = names[len(above) :]
    return "/".join((*inside[:1], *above, *inside[1:]))


def _is_uninformative(name: str) -> bool:
    """Return whether a name is only one side of a decision: `0`, `class_1`, `true`, `P`."""
    return set(split_words(name)) <= _UNINFORMATIVE_WORDS


def class_group_split(parts: tuple[str, ...]) -> tuple[str, str, str | None] | None:
    """Return (class, group, split) of an image by its folders; None if they name no class."""
    informative = [part for part in parts if not is_neutral_folder(part)]
    if not informative or any(is_annotation_folder(p) or is_unlabelled_folder(p) for p in parts):
        return None
    group = "/".join(informative) if len(informative) > 1 else ""
    return (
        informative[0],
        group,
        find_split_name([word for part in parts for word in (part, *split_words(part))]),
    )
