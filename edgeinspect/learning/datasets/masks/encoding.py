"""What the values stored in a set's masks mean: decided over the whole set, or refused.

A value has no meaning alone: 1 may be a defect or the first of many classes, 255 a defect or
what nobody labelled. Where the set names its classes (`naming.py`), the names decide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.imaging.mask_file import COLOR
from edgeinspect.learning.datasets.masks.label_maps import Naming, says
from edgeinspect.learning.datasets.masks.masks import (
    BINARY,
    MAX_CLASSES,
    UNLABELLED,
    Meaning,
    describe_value,
    has_border,
)
from edgeinspect.learning.datasets.masks.stored_values import NEAR, Found, Values

_MAX_GREYS = 16
"""More greys than this that are no ids 1..K are soft edges, not classes."""
_EDGES_MIN = 3
_SHOWN = 3
_OBJECTS_MIN = 16
"""Fewer values that are in one mask each may be classes of a small set."""
_MOST_RATIO = 0.9
_FEW_MASKS = 3
_PICTURE_RATIO = 0.5
"""A file with more pixels between black and white than this is a picture, not a mask."""
_VOID_NOTE = "mask value 255 is taken as unlabelled: no class, and no background"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a set's masks are drawn."""

    meaning: Meaning
    classes: tuple[str, ...]
    """Names of the classes 1..K."""
    note: str = ""

    @property
    def is_binary(self) -> bool:
        """One class: where folders are classes, the folder says which."""
        return len(self.classes) == 1


def encoding_of(found: Found, naming: Naming | None, root: Path) -> Encoding:
    """What the values of a set's masks mean. docs/data.md has the table.

    Raises:
        DataError: Masks drawn in two ways, values that the set's list does not name, or values
            that cannot be classes; files are named.
    """
    check_masks(found, root)
    values: set[int] = set().union(*(one.values for one in found.values()))
    if naming is None or not naming.explicit:
        _check_background(found, root)
    if naming is not None and naming.names:
        return _named(values, found, naming, root)
    _check_blended(found, root)
    _check_objects(values, found, root)
    if not values:
        return Encoding(BINARY, ("defect",), "no mask has a defect pixel")
    if max(values) >= COLOR:
        return _of_colors(values, found, root)
    if max(values) <= UNLABELLED and values <= {*range(1, MAX_CLASSES + 1), UNLABELLED}:
        return _of_ids(values, found, root)
    if len(values) == 1:
        return Encoding(Meaning({min(values): 1}), ("defect",))
    if max(values) <= UNLABELLED and _is_soft(values, found):
        _check_soft(found, root)
        return Encoding(
            Meaning({}, soft=True), ("defect",), "masks have soft edges; they are cut at 128"
        )
    _check_edges(values, found, root)
    if {frozenset((1,)), frozenset((max(values),))} >= {one.values for one in _drawn(found)}:
        _mixed(found, lambda one: one.values == {1}, "1", describe_value(max(values)), root)
    return _each(values, "grey_{}")


def binary_encoding(found: Found, root: Path) -> None:
    """Check masks of one class each, as files per class are: any value is set.

    Raises:
        DataError: Some hold an id with 255 as its void border, others 255 as the defect; or one
            holds several ids.
    """
    check_masks(found, root)
    _check_background(found, root)
    several = [path for path, one in found.items() if one.has_ids]
    if several:
        raise DataError(
            f"{len(several)} masks of one class hold several values ({_listing(several, root)})",
            where=str(root),
            remedy="Draw one value besides 0 in a file of one class; name files "
            "that hold all classes as their pictures: NAME_mask.png",
        )
    if any(has_border(one.values) for one in found.values()):
        _mixed(found, lambda one: one.values == {UNLABELLED}, "255 alone", "255 beside an id", root)


def check_masks(found: Found, root: Path) -> None:
    """Refuse pictures in the place of masks.

    Raises:
        DataError: Most of the files hold what pictures hold.
    """
    alike = [path for path, one in found.items() if one.between_ratio > _PICTURE_RATIO]
    if alike and 2 * len(alike) >= len(found):
        raise DataError(
            f"{_listing(alike, root)}: taken for masks, but they look like pictures",
            where=str(root),
            remedy="A mask has a value or a colour per class. Rename the files, "
            "or move one of the two kinds away",
        )


# -- sets that name their classes -------------------------------------------------------------


def _named(values: set[int], found: Found, naming: Naming, root: Path) -> Encoding:
    ids = {value: class_id for value, class_id in naming.ids.items() if value or class_id}
    names, void = naming.names, set(naming.void)
    bare = values - void - ids.keys()
    note = "" if values else "no mask has a defect pixel"
    if values and values <= void:
        raise DataError(
            f"masks hold {', '.join(map(describe_value, sorted(values)))} only, which "
            f"{Path(naming.source).name} calls unlabelled",
            where=str(root),
            remedy="If it is the defect, take __ignore__ out of that file and name one class",
        )
    if not bare:
        note = note or (_VOID_NOTE if void & values else "")
        return Encoding(Meaning(ids, void=frozenset(void), colors=naming.colors), names, note)
    if naming.colors:
        _unnamed(bare, found, naming, root)
    if bare == {UNLABELLED} and values != bare:
        _check_void(found, root)
        return Encoding(Meaning(ids, void=frozenset((UNLABELLED,))), names, _VOID_NOTE)
    if len(names) == 1 and len(values) == 1 and max(values) < COLOR:
        return Encoding(Meaning({min(values): 1}), names)
    grey = max(values) <= UNLABELLED
    strong = any(one.strong for one in found.values())
    if len(names) == 1 and grey and strong and _is_soft(values, found):
        _check_soft(found, root)
        return Encoding(Meaning({}, soft=True), names, "masks have soft edges; they are cut at 128")
    if grey and len(values) == len(names) and not values & ids.keys():
        ordered = sorted(values)
        told = ", ".join(f"{value} is {name}" for value, name in zip(ordered, names, strict=True))
        meaning = Meaning({value: i for i, value in enumerate(ordered, 1)})
        return Encoding(meaning, names, f"mask values are classes in ascending order: {told}")
    return _unnamed(bare, found, naming, root)


def _unnamed(bare: set[int], found: Found, naming: Naming, root: Path) -> Encoding:
    files = [path for path, one in found.items() if one.values & bare]
    some = ", ".join(describe_value(value) for value in sorted(bare)[:5])
    more = f" and {len(bare) - 5} more values" if len(bare) > 5 else ""
    which = "colours" if max(bare) >= COLOR else "values"
    remedy = f"It knows {says(naming)}: correct it, or the masks"
    if max(bare) >= COLOR and not naming.colors:
        remedy = "Say the colour of each class: labelmap.txt with a line name:red,green,blue:: each"
    elif bare == {UNLABELLED}:
        remedy = "Which class is white? Save masks with a value per class, or name one class only"
    raise DataError(
        f"{len(files)} masks hold {which} that {Path(naming.source).name} does not name: {some}"
        f"{more} (in {_listing(files, root)})",
        where=str(root),
        remedy=remedy,
    )


# -- sets that do not -------------------------------------------------------------------------


def _of_ids(values: set[int], found: Found, root: Path) -> Encoding:
    """Values of 1 to 64, and perhaps 255."""
    ids = values - {UNLABELLED}
    if not ids:
        return Encoding(BINARY, ("defect",))
    if UNLABELLED in values:
        _check_void(found, root)
    void = frozenset((UNLABELLED,)) & values
    note = _VOID_NOTE if void else ""
    if ids == {1}:
        return Encoding(Meaning({1: 1}, void=void), ("defect",), note)
    if len(values) == 1 and min(values) > _MAX_GREYS:  # a grey that somebody painted with
        return Encoding(Meaning({min(values): 1}), ("defect",))
    top = max(ids)
    names = tuple(f"class_{i}" for i in range(1, top + 1))
    return Encoding(Meaning({i: i for i in range(1, top + 1)}, void=void), names, note)


def _of_colors(values: set[int], found: Found, root: Path) -> Encoding:
    _check_edges(values, found, root)

    def small(one: Values) -> bool:
        return bool(one.values) and max(one.values) <= MAX_CLASSES

    _mixed(found, small, "ids", "colours", root)
    return _each(values, "rgb_{}", "; labelmap.txt (name:red,green,blue::) would name them")


def _each(values: set[int], pattern: str, more: str = "") -> Encoding:
    """A class per value, named by it: so that a class is the same in every set."""
    ordered = sorted(values)
    colors = pattern.startswith("rgb")
    names = tuple(pattern.format(_hex(value) if colors else value) for value in ordered)
    shown = ", ".join(names[:8]) + (", …" if names[8:] else "")
    return Encoding(
        Meaning({value: i for i, value in enumerate(ordered, 1)}),
        names,
        f"nothing names the mask values, so each is a class by its own name: {shown}{more}",
    )


def _hex(value: int) -> str:
    return f"{value & 0xFFFFFF if value >= COLOR else value * 0x010101:06x}"


# -- what is refused --------------------------------------------------------------------------


def _check_background(found: Found, root: Path) -> None:
    """One value that covers most of nearly every mask is the background, and no class."""
    count = Counter(one.most for one in found.values() if not one.problem)
    value, masks = max(count.items(), key=lambda each: each[1], default=(0, 0))
    if value > 0 and masks >= max(_FEW_MASKS, _MOST_RATIO * count.total()):
        raise DataError(
            f"{describe_value(value)} covers most of {masks} of {count.total()} masks: it is the "
            "background, or the masks are inverted",
            where=str(root),
            remedy="Save masks with 0 for the background, or say which value it is: labelmap.txt "
            "(name:red,green,blue::) or _classes.csv (Pixel Value, Class)",
        )


def _check_objects(values: set[int], found: Found, root: Path) -> None:
    """Refuse numbers of single objects (instance masks): a number says nothing of its kind."""
    drawn = _drawn(found)
    once = [value for value in values if sum(value in one.values for one in drawn) == 1]
    unique = len(values) >= _OBJECTS_MIN and len(once) >= _MOST_RATIO * len(values)
    counts = {len(one.values) for one in drawn}
    several = [one for one in drawn if len(one.values) > 1]
    counted = (
        len(several) >= _FEW_MASKS
        and len(counts) > 1
        and max(counts) > 2
        and all(one.values == set(range(1, len(one.values) + 1)) for one in drawn)
        and all(one.in_one_piece for one in several)
    )
    if (unique and len(drawn) >= _FEW_MASKS) or counted:
        files = [path for path, one in found.items() if len(one.values) > 1]
        raise DataError(
            "the masks number single objects, and do not say their class "
            f"({_listing(files, root)})",
            where=str(root),
            remedy="Export semantic masks, a value per class. If the values are "
            "classes, name them in classes.txt, one a line from 1",
        )


def _check_void(found: Found, root: Path) -> None:
    """255 beside ids is void only if no mask holds it alone: that is how another tool draws."""
    _mixed(found, lambda one: one.values == {UNLABELLED}, "255 alone", "ids", root)


def _check_soft(found: Found, root: Path) -> None:
    """A mask in a soft set that nowhere reaches the threshold would be taken for clean."""
    _mixed(
        found,
        lambda one: bool(one.values) and not one.strong,
        "small values only",
        "black and white with soft edges",
        root,
    )


def _mixed(
    found: Found, is_first: Callable[[Values], bool], first: str, second: str, root: Path
) -> None:
    one = [path for path, values in found.items() if is_first(values)]
    other = [path for path, values in found.items() if values.values and not is_first(values)]
    if one and other:
        raise DataError(
            f"masks are drawn in two ways: {len(one)} hold {first} ({_listing(one, root)}), "
            f"{len(other)} hold {second} ({_listing(other, root)})",
            where=str(root),
            remedy="Bring all to one way: 0 and 255, or a value per class. If 255 means "
            "unlabelled, say so: labels.txt beginning with __ignore__, _background_",
        )


def _check_edges(values: set[int], found: Found, root: Path) -> None:
    """Values that are too many to be classes, or mostly the mixture of others."""
    if len(values) > MAX_CLASSES:
        raise DataError(
            f"the masks hold {len(values)} values, which cannot be classes",
            where=str(root),
            remedy="Save masks as PNG (JPEG blurs values), one value or colour per class",
        )
    edges = _edges(values, found)
    if len(edges) >= _EDGES_MIN and 2 * len(edges) > len(values):
        raise DataError(
            f"of the masks' {len(values)} values, {len(edges)} stand only at the edges of others, "
            "as in masks that were blurred or resized",
            where=str(root),
            remedy="Draw or resize masks without smoothing (nearest neighbour)",
        )


def _check_blended(found: Found, root: Path) -> None:
    """Refuse ids that smoothing mixed: a 3 that was resized has 2 and 1 along its edges."""
    ids = {path: one.values - {UNLABELLED} for path, one in found.items() if one.has_ids}
    several = list(ids)
    blended = [path for path in several if ids[path] - found[path].rims == {max(ids[path])}]
    if len(blended) >= _FEW_MASKS and 2 * len(blended) >= len(several):
        raise DataError(
            f"in {len(blended)} of {len(several)} masks of several ids the lower ones stand only "
            "at the edges of the highest, as in masks that were blurred or resized "
            f"({_listing(blended, root)})",
            where=str(root),
            remedy="Resize masks without smoothing (nearest neighbour). If the values are "
            "classes, name them in classes.txt, one a line from 1",
        )


def _listing(files: Sequence[Path], root: Path) -> str:
    some = [str(path.relative_to(root) if path.is_relative_to(root) else path) for path in files]
    return ", ".join(some[:_SHOWN]) + (", …" if len(some) > _SHOWN else "")


def _drawn(found: Found) -> list[Values]:
    return [one for one in found.values() if one.values]


def _is_soft(values: set[int], found: Found) -> bool:
    """True if greys are the soft edges of white: a binary mask that was blurred or resized."""
    if len(values) > _MAX_GREYS or _two_heaps(values):
        return True
    edges = _edges(values, found)
    return len(edges) >= _EDGES_MIN and values - edges == {UNLABELLED}


def _edges(values: set[int], found: Found) -> set[int]:
    """The values that stand beside others in every mask."""
    return values.difference(*(one.alone for one in found.values()))


def _two_heaps(values: set[int]) -> bool:
    """True if all greys are near black or near white, as after a JPEG: a binary mask."""
    return all(value < NEAR or value > UNLABELLED - NEAR for value in values)
