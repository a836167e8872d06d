"""Infers what the values stored in a set's masks mean, over the whole set, or rejects them.

A single value is ambiguous: 1 may be a defect or the first of many classes, 255 a defect or
unlabelled. If the set has a label map (`label_maps.py`), that decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import COLOR_FLAG
from edgeinspect.learning.datasets.masks.content import NEAR_LEVELS, MaskContent, MaskContents
from edgeinspect.learning.datasets.masks.first_names import with_background_line
from edgeinspect.learning.datasets.masks.label_maps import LabelMap, describe_values
from edgeinspect.learning.datasets.masks.sources import (
    BINARY_ENCODING,
    MAX_CLASSES,
    UNLABELLED,
    MaskEncoding,
    describe_value,
    has_void_border,
)

_MAX_GREYS = 16
"""More grey values that are not ids 1..K are soft edges, not classes."""
_MIN_EDGE_VALUES = 3
_MAX_NAMES = 3
_MIN_OBJECTS = 16
"""Fewer values that occur in one mask each may be classes of a small set."""
_MAJORITY_RATIO = 0.9
_MIN_MASKS = 3
_MAX_MIDTONE_RATIO = 0.5
"""A file with a higher ratio of midtone pixels is an image, not a mask."""
_VOID_NOTE = "mask value 255 is taken as unlabelled"


@dataclass(frozen=True, slots=True)
class InferredEncoding:
    """The encoding of a set's masks and its classes."""

    encoding: MaskEncoding
    classes: tuple[str, ...]
    """Names of the classes 1..K."""
    note: str = ""

    @property
    def is_binary(self) -> bool:
        """Whether masks have one class; if folders are classes, the folder gives its name."""
        return len(self.classes) == 1


def infer_encoding(
    contents: MaskContents, label_map: LabelMap | None, root: Path
) -> InferredEncoding:
    """Infer the encoding of a set's masks, by the table in docs/reference/data.md.

    Raises:
        DataError: Masks in two encodings, values that the label map does not name, or values
            that cannot be classes; files are named.
    """
    check_not_images(contents, root)
    values: set[int] = set().union(*(one.values for one in contents.values()))
    if label_map is None or not label_map.is_explicit:
        _check_background(contents, root)
    if label_map is not None and label_map.names:
        label_map = with_background_line(label_map, values)
        found = _from_label_map(values, contents, label_map, root)
        return replace(found, note="; ".join(filter(None, (label_map.note, found.note))))
    _check_blended(contents, root)
    _check_not_instances(values, contents, root)
    if not values:
        return InferredEncoding(BINARY_ENCODING, ("defect",), "no mask has a defect pixel")
    if max(values) >= COLOR_FLAG:
        return _from_colors(values, contents, root)
    if max(values) <= UNLABELLED and values <= {*range(1, MAX_CLASSES + 1), UNLABELLED}:
        return _from_ids(values, contents, root)
    if len(values) == 1:
        return InferredEncoding(MaskEncoding({min(values): 1}), ("defect",))
    if max(values) <= UNLABELLED and _is_soft(values, contents):
        _check_soft(contents, root)
        return InferredEncoding(
            MaskEncoding({}, is_soft=True),
            ("defect",),
            "masks have soft edges; they are thresholded at 128",
        )
    _check_edges(values, contents, root)
    if {frozenset((1,)), frozenset((max(values),))} >= {one.values for one in _nonempty(contents)}:
        _check_uniform(
            contents, lambda one: one.values == {1}, "1", describe_value(max(values)), root
        )
    return _class_per_value(values, "grey_{}")


def check_binary_masks(contents: MaskContents, root: Path) -> None:
    """Check masks of one class each, in which every value but 0 counts.

    Raises:
        DataError: Some have an id with 255 as its void border, others 255 as the defect; or one
            has several ids.
    """
    check_not_images(contents, root)
    _check_background(contents, root)
    several = [path for path, one in contents.items() if one.has_several_ids]
    if several:
        raise DataError(
            f"{number_of(len(several), 'mask of one class has', 'masks of one class have')} "
            f"several values ({_list_paths(several, root)})",
            where=str(root),
            remedy="Use one value besides 0 in a file of one class; name files "
            "with all classes after their images: NAME_mask.png",
        )
    if any(has_void_border(one.values) for one in contents.values()):
        _check_uniform(
            contents, lambda one: one.values == {UNLABELLED}, "255 alone", "255 beside an id", root
        )


def check_not_images(contents: MaskContents, root: Path) -> None:
    """Check that mask files are not images.

    Raises:
        DataError: Most of the files look like images.
    """
    alike = [path for path, one in contents.items() if one.midtone_ratio > _MAX_MIDTONE_RATIO]
    if alike and 2 * len(alike) >= len(contents):
        raise DataError(
            f"{_list_paths(alike, root)}: expected masks, but these look like images",
            where=str(root),
            remedy="A mask has one value or colour per class. Rename the files, "
            "or move one of the two kinds away",
        )


# -- sets with a label map --------------------------------------------------------------------


def _from_label_map(
    values: set[int], contents: MaskContents, label_map: LabelMap, root: Path
) -> InferredEncoding:
    ids = {value: class_id for value, class_id in label_map.ids.items() if value or class_id}
    names, void = label_map.names, set(label_map.void)
    bare = values - void - ids.keys()
    note = "" if values else "no mask has a defect pixel"
    if values and values <= void:
        raise DataError(
            f"masks hold {', '.join(map(describe_value, sorted(values)))} only, which "
            f"{Path(label_map.source).name} calls unlabelled",
            where=str(root),
            remedy="If it is the defect, remove __ignore__ from that file and name one class",
        )
    if not bare:
        note = note or (_VOID_NOTE if void & values else "")
        return InferredEncoding(
            MaskEncoding(ids, void=frozenset(void), uses_colors=label_map.uses_colors), names, note
        )
    if label_map.uses_colors:
        _refuse_unnamed(bare, contents, label_map, root)
    if bare == {UNLABELLED} and values != bare:
        _check_void(contents, root)
        return InferredEncoding(MaskEncoding(ids, void=frozenset((UNLABELLED,))), names, _VOID_NOTE)
    if len(names) == 1 and len(values) == 1 and max(values) < COLOR_FLAG:
        return InferredEncoding(MaskEncoding({min(values): 1}), names)
    grey = max(values) <= UNLABELLED
    strong = any(one.reaches_threshold for one in contents.values())
    if len(names) == 1 and grey and strong and _is_soft(values, contents):
        _check_soft(contents, root)
        return InferredEncoding(
            MaskEncoding({}, is_soft=True),
            names,
            "masks have soft edges; they are thresholded at 128",
        )
    if grey and len(values) == len(names) and not values & ids.keys():
        ordered = sorted(values)
        listing = ", ".join(
            f"{value} is {name}" for value, name in zip(ordered, names, strict=True)
        )
        encoding = MaskEncoding({value: i for i, value in enumerate(ordered, 1)})
        return InferredEncoding(
            encoding, names, f"mask values are classes in ascending order: {listing}"
        )
    return _refuse_unnamed(bare, contents, label_map, root)


def _refuse_unnamed(
    unnamed: set[int], contents: MaskContents, label_map: LabelMap, root: Path
) -> InferredEncoding:
    files = [path for path, one in contents.items() if one.values & unnamed]
    some = ", ".join(describe_value(value) for value in sorted(unnamed)[:5])
    more = f" and {len(unnamed) - 5} more values" if len(unnamed) > 5 else ""
    which = "colours" if max(unnamed) >= COLOR_FLAG else "values"
    remedy = f"It knows {describe_values(label_map)}: correct it, or the masks"
    if max(unnamed) >= COLOR_FLAG and not label_map.uses_colors:
        remedy = "Add a labelmap.txt with a line name:red,green,blue:: for each class"
    elif unnamed == {UNLABELLED}:
        remedy = "Which class is white? Save masks with one value per class, or name one class only"
    raise DataError(
        f"{number_of(len(files), 'mask holds', 'masks hold')} {which} that "
        f"{Path(label_map.source).name} does not name: {some}"
        f"{more} (in {_list_paths(files, root)})",
        where=str(root),
        remedy=remedy,
    )


# -- sets without a label map -----------------------------------------------------------------


def _from_ids(values: set[int], contents: MaskContents, root: Path) -> InferredEncoding:
    """Return the encoding for ids 1 to 64, with or without 255."""
    ids = values - {UNLABELLED}
    if not ids:
        return InferredEncoding(BINARY_ENCODING, ("defect",))
    if UNLABELLED in values:
        _check_void(contents, root)
    void = frozenset((UNLABELLED,)) & values
    note = _VOID_NOTE if void else ""
    if ids == {1}:
        return InferredEncoding(MaskEncoding({1: 1}, void=void), ("defect",), note)
    if len(values) == 1 and min(values) > _MAX_GREYS:  # an arbitrary grey
        return InferredEncoding(MaskEncoding({min(values): 1}), ("defect",))
    top = max(ids)
    names = tuple(f"class_{i}" for i in range(1, top + 1))
    return InferredEncoding(MaskEncoding({i: i for i in range(1, top + 1)}, void=void), names, note)


def _from_colors(values: set[int], contents: MaskContents, root: Path) -> InferredEncoding:
    _check_edges(values, contents, root)

    def small(one: MaskContent) -> bool:
        return bool(one.values) and max(one.values) <= MAX_CLASSES

    _check_uniform(contents, small, "ids", "colours", root)
    return _class_per_value(
        values, "rgb_{}", "; a labelmap.txt (name:red,green,blue::) can name them"
    )


def _class_per_value(values: set[int], pattern: str, more: str = "") -> InferredEncoding:
    """Return one class per value, named after it so that it is the same in every set."""
    ordered = sorted(values)
    colors = pattern.startswith("rgb")
    names = tuple(pattern.format(_hex(value) if colors else value) for value in ordered)
    listed = ", ".join(names[:8]) + (", …" if names[8:] else "")
    return InferredEncoding(
        MaskEncoding({value: i for i, value in enumerate(ordered, 1)}),
        names,
        f"there is no label map, so each mask value is a class: {listed}{more}",
    )


def _hex(value: int) -> str:
    return f"{value & 0xFFFFFF if value >= COLOR_FLAG else value * 0x010101:06x}"


# -- checks -----------------------------------------------------------------------------------


def _check_background(contents: MaskContents, root: Path) -> None:
    """Check that no value covers most of nearly every mask: that is a background, not a class."""
    count = Counter(one.majority_value for one in contents.values() if not one.problem)
    value, masks = max(count.items(), key=lambda each: each[1], default=(0, 0))
    if value > 0 and masks >= max(_MIN_MASKS, _MAJORITY_RATIO * count.total()):
        raise DataError(
            f"{describe_value(value)} covers most of {masks} of {count.total()} masks: it is the "
            "background, or the masks are inverted",
            where=str(root),
            remedy="Save masks with 0 as the background, or declare its value in labelmap.txt "
            "(name:red,green,blue::) or _classes.csv (Pixel Value, Class)",
        )


def _check_not_instances(values: set[int], contents: MaskContents, root: Path) -> None:
    """Check that values are not instance ids, which do not give the class."""
    drawn = _nonempty(contents)
    once = [value for value in values if sum(value in one.values for one in drawn) == 1]
    unique = len(values) >= _MIN_OBJECTS and len(once) >= _MAJORITY_RATIO * len(values)
    counts = {len(one.values) for one in drawn}
    several = [one for one in drawn if len(one.values) > 1]
    counted = (
        len(several) >= _MIN_MASKS
        and len(counts) > 1
        and max(counts) > 2
        and all(one.values == set(range(1, len(one.values) + 1)) for one in drawn)
        and all(one.is_connected for one in several)
    )
    if (unique and len(drawn) >= _MIN_MASKS) or counted:
        files = [path for path, one in contents.items() if len(one.values) > 1]
        raise DataError(
            f"masks have instance ids, which do not give the class ({_list_paths(files, root)})",
            where=str(root),
            remedy="Export semantic masks, one value per class. If the values are "
            "classes, name them in classes.txt, one per line from 1",
        )


def _check_void(contents: MaskContents, root: Path) -> None:
    """Check that no mask has 255 alone: only then is 255 beside ids void."""
    _check_uniform(contents, lambda one: one.values == {UNLABELLED}, "255 alone", "ids", root)


def _check_soft(contents: MaskContents, root: Path) -> None:
    """Check that every soft mask reaches the threshold; it would be empty otherwise."""
    _check_uniform(
        contents,
        lambda one: bool(one.values) and not one.reaches_threshold,
        "small values only",
        "black and white with soft edges",
        root,
    )


def _check_uniform(
    contents: MaskContents,
    is_first: Callable[[MaskContent], bool],
    first: str,
    second: str,
    root: Path,
) -> None:
    one = [path for path, values in contents.items() if is_first(values)]
    other = [path for path, values in contents.items() if values.values and not is_first(values)]
    if one and other:
        raise DataError(
            f"masks have two encodings: {len(one)} have {first} ({_list_paths(one, root)}), "
            f"{len(other)} have {second} ({_list_paths(other, root)})",
            where=str(root),
            remedy="Convert all to one: 0 and 255, or one value per class. If 255 means "
            "unlabelled, add a labels.txt that starts with __ignore__, _background_",
        )


def _check_edges(values: set[int], contents: MaskContents, root: Path) -> None:
    """Check that values are not too many, nor mostly mixtures of others along edges."""
    if len(values) > MAX_CLASSES:
        raise DataError(
            f"masks have {len(values)} values, which cannot be classes",
            where=str(root),
            remedy="Save masks as PNG (JPEG blurs values), one value or colour per class",
        )
    edges = _edge_values(values, contents)
    if len(edges) >= _MIN_EDGE_VALUES and 2 * len(edges) > len(values):
        raise DataError(
            f"{len(edges)} of the masks' {len(values)} values occur only at the edges of others, "
            "as in masks that were blurred or resized",
            where=str(root),
            remedy="Draw and resize masks without smoothing (nearest neighbour)",
        )


def _check_blended(contents: MaskContents, root: Path) -> None:
    """Check that ids are not smoothed: a resized 3 has 2 and 1 along its edges."""
    ids = {path: one.values - {UNLABELLED} for path, one in contents.items() if one.has_several_ids}
    several = list(ids)
    blended = [
        path for path in several if ids[path] - contents[path].rim_values == {max(ids[path])}
    ]
    if len(blended) >= _MIN_MASKS and 2 * len(blended) >= len(several):
        raise DataError(
            f"in {len(blended)} of {len(several)} masks of several ids, the lower ones occur only "
            "at the edges of the highest, as in masks that were blurred or resized "
            f"({_list_paths(blended, root)})",
            where=str(root),
            remedy="Resize masks without smoothing (nearest neighbour). If the values are "
            "classes, name them in classes.txt, one per line from 1",
        )


def _list_paths(files: Sequence[Path], root: Path) -> str:
    some = [str(path.relative_to(root) if path.is_relative_to(root) else path) for path in files]
    return ", ".join(some[:_MAX_NAMES]) + (", …" if len(some) > _MAX_NAMES else "")


def _nonempty(contents: MaskContents) -> list[MaskContent]:
    return [one for one in contents.values() if one.values]


def _is_soft(values: set[int], contents: MaskContents) -> bool:
    """Return whether greys are soft edges of white: a blurred or resized binary mask."""
    if len(values) > _MAX_GREYS or _is_bimodal(values):
        return True
    edges = _edge_values(values, contents)
    return len(edges) >= _MIN_EDGE_VALUES and values - edges == {UNLABELLED}


def _edge_values(values: set[int], contents: MaskContents) -> set[int]:
    """Return the values that are always beside others."""
    return values.difference(*(one.isolated for one in contents.values()))


def _is_bimodal(values: set[int]) -> bool:
    """Return whether all greys are near black or white, like a binary mask after JPEG."""
    return all(value < NEAR_LEVELS or value > UNLABELLED - NEAR_LEVELS for value in values)
