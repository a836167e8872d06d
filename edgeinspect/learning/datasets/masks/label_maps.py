"""What a set's own list says of its masks: which stored value is which class, and its name.

- `labelmap.txt` (CVAT, Datumaro): `name:r,g,b:parts:actions`, a colour per class, by id
- `_classes.csv` (Roboflow): `Pixel Value, Class`, a value per class
- `labels.txt`, `class_names.txt`, `classes.txt` (labelme, VOC, anybody): a name a line

In a list of names the ids count from 1; where its first line is `_background_` or `background`
that is 0, and where it is `__ignore__` that is -1: what nobody labelled (255 in a mask).
Ids follow these files and never what happens to occur, so that two exports of one project agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.imaging.mask_file import COLOR
from edgeinspect.learning.datasets.class_names import is_good
from edgeinspect.learning.datasets.files import SPLIT_NAMES, folders_in
from edgeinspect.learning.datasets.masks.masks import MAX_CLASSES, UNLABELLED, describe_value
from edgeinspect.learning.datasets.tables import parse_rows, read_table

LABELMAP, VALUES = "labelmap.txt", "_classes.csv"
LISTS = ("labels.txt", "class_names.txt", "classes.txt")
_MAX_BYTES = 1 << 20
_BACKGROUND = frozenset(("background", "_background_", "__background__", "bg"))
_IGNORED = frozenset(("__ignore__", "_ignore_", "ignore", "ignored", "unlabeled", "unlabelled"))
_NOTHING = frozenset(("none", "nothing", "no defect", "no_defect", "nodefect"))
_NUMBERED = re.compile(r"(?P<value>\d{1,5})\s*(?:[:=,;)\t]|\s)\s*(?P<name>\S.*)")
_VOC_VOID = (224, 224, 192)
_LINE = re.compile(
    r"(?P<name>.+?)\s*:\s*(?P<rgb>\d{1,4}\s*,\s*\d{1,4}\s*,\s*\d{1,4})\s*"
    r"(?::(?P<parts>[^:]*):(?P<actions>[^:]*))?"
)


@dataclass(frozen=True, slots=True)
class Naming:
    """The classes that a set declares."""

    names: tuple[str, ...]
    """Of the classes 1..K."""
    ids: Mapping[int, int]
    """Stored value (as `read_mask_values` gives it) to class id; 0 for background."""
    source: str
    """The file that says so."""
    void: frozenset[int] = field(default=frozenset())
    """Stored values that nobody labelled."""
    colors: bool = False
    """The values are colours: a palette's index says nothing."""
    explicit: bool = False
    """It says the value of each class, and of the background."""


def listed(names: tuple[str, ...], source: str, *, ignores: bool = False) -> Naming:
    """A naming by place: value i is the i-th class."""
    void = frozenset((UNLABELLED,)) if ignores else frozenset[int]()
    return Naming(names, {i: i for i in range(1, len(names) + 1)}, source, void)


def naming_of(root: Path) -> Naming | None:
    """What a set's files say; None if there is none.

    Raises:
        DataError: A file cannot be understood, names a class twice, names more than 64 classes,
            or two files of one kind contradict each other.
    """
    if (root / LABELMAP).exists():
        return parse_labelmap(read_table(root / LABELMAP, _MAX_BYTES), str(root / LABELMAP))
    splits = [folder for folder in folders_in(root) if folder.name.lower() in SPLIT_NAMES]
    tables = [base / VALUES for base in (root, *splits) if (base / VALUES).exists()]
    found = [one for table in tables if (one := _values(table)) is not None]
    if not found:
        lists = [root / name for name in LISTS if (root / name).exists()]
        found = [parse_list(read_table(path, _MAX_BYTES), str(path)) for path in lists]
    found = [one for one in found if one.names]
    for one in found[1:]:
        if (one.names, one.ids) != (found[0].names, found[0].ids):
            raise DataError(
                f"names other classes than {found[0].source}: {', '.join(one.names[:5])} "
                f"against {', '.join(found[0].names[:5])}",
                where=one.source,
                remedy="Keep the one that is true",
            )
    return found[0] if found else None


def named_classes(root: Path) -> tuple[str, ...]:
    """The names of the classes 1..K that a set declares; none if it declares none."""
    naming = naming_of(root)
    return naming.names if naming else ()


def parse_labelmap(text: str, where: str) -> Naming:
    """CVAT's `name:r,g,b:parts:actions`.

    Raises:
        DataError: A line that is none, a colour or a name twice, or too many classes.
    """
    names: list[str] = []
    ids: dict[int, int] = {}
    void: set[int] = set()
    taken: dict[int, str] = {}
    for line, words in _lines(text, where):
        if words.startswith("#"):
            continue
        match = _LINE.fullmatch(words)
        at = f"{where}:{line}"
        if match is None:
            raise DataError(
                f"{words[:40]!r} is no label with its colour",
                where=at,
                remedy="Write name:red,green,blue:: with numbers of 0 to 255",
            )
        name = match["name"].strip()
        rgb = tuple(int(part) for part in match["rgb"].split(","))
        if max(rgb) > 255:
            raise DataError(
                f"a colour has the part {max(rgb)}", where=at, remedy="Each is 0 to 255"
            )
        value = color_value(*rgb)
        if value in taken:
            raise DataError(
                f"{name!r} has the colour of {taken[value]!r}",
                where=at,
                remedy="Give each label a colour of its own",
            )
        taken[value] = name
        if name.casefold() in _BACKGROUND:
            ids[value] = 0
        elif name.casefold() in _IGNORED or (name.casefold() == "void" and rgb == _VOC_VOID):
            void.add(value)
        elif not value:
            raise DataError(
                f"{name!r} is black, as the background is",
                where=at,
                remedy="Give it a colour in the labelling tool",
            )
        else:
            _add(names, name, at)
            ids[value] = len(names)
    return Naming(tuple(names), ids, where, frozenset(void), colors=True, explicit=True)


def color_value(red: int, green: int, blue: int) -> int:
    """A colour as `read_mask_values` stores it: a grey as its level."""
    return red if red == green == blue else COLOR | red << 16 | green << 8 | blue


def parse_list(text: str, where: str) -> Naming:
    """A name a line, from 1; `_background_` first is 0, `__ignore__` before it is -1.

    Raises:
        DataError: A name twice, one of the two words elsewhere, or too many classes.
    """
    lines = list(_lines(text, where))
    if numbered := _numbered(lines, where):
        return _of_values(numbered, where)
    if len(lines) == 1 and len(re.split(r"[,;\t]", lines[0][1])) > 1:
        raise DataError(
            f"has one line: {lines[0][1][:60]!r}", where=where, remedy="Write a name a line"
        )
    ignores = bool(lines) and lines[0][1].casefold() in _IGNORED
    lines = lines[ignores:]
    if lines and lines[0][1].casefold() in _BACKGROUND:
        lines = lines[1:]
    names: list[str] = []
    for line, word in lines:
        if word.casefold() in _BACKGROUND | {"__ignore__", "_ignore_"}:
            raise DataError(
                f"{word!r} stands after a class",
                where=f"{where}:{line}",
                remedy="Ids are counted by the lines: __ignore__ is the first (-1), _background_ "
                "the next (0), then the classes",
            )
        if is_good(word) or word.casefold() in _NOTHING:
            raise DataError(
                f"{word[:40]!r} is the name of no defect, and value {len(names) + 1} by its line",
                where=f"{where}:{line}",
                remedy="Write _background_ for it in the first line if it is value 0; else take it "
                "out, and its value out of the masks",
            )
        _add(names, word, f"{where}:{line}")
    return listed(tuple(names), where, ignores=ignores)


def _values(path: Path) -> Naming | None:
    """Roboflow's table; None for its other one of the same name, of labels of whole pictures."""
    header, rows = parse_rows(read_table(path, _MAX_BYTES), str(path))
    keys = [key.casefold() for key in header]
    if "filename" in keys:
        return None
    if len(keys) < 2 or "class" not in keys[1] or "value" not in keys[0]:
        raise DataError(
            f"begins with {', '.join(header)[:60]!r}",
            where=str(path),
            remedy="Begin it with: Pixel Value, Class",
        )
    told: dict[int, str] = {}
    for line, row in rows:
        _tell(told, row[header[0]], row[header[1]], f"{path}:{line}")
    return _of_values(told, str(path))


def _numbered(lines: list[tuple[int, str]], where: str) -> dict[int, str]:
    """The names of a list whose every line begins with its value; none of any other list."""
    found = [(line, _NUMBERED.fullmatch(words)) for line, words in lines]
    told: dict[int, str] = {}
    if len(found) > 1 and all(match for _line, match in found):
        for line, match in found:
            if match is not None:
                _tell(told, match["value"], match["name"], f"{where}:{line}")
    return told


def _tell(told: dict[int, str], word: str, name: str, at: str) -> None:
    if not (word.isascii() and word.isdecimal() and len(word) <= 5 and int(word) <= 65535):
        raise DataError(f"{word[:20]!r} is no pixel value", where=at, remedy="As 0 to 255")
    if int(word) in told:
        raise DataError(f"value {word} is named twice", where=at)
    if not int(word) and name.casefold() not in _BACKGROUND | _IGNORED | _NOTHING:
        raise DataError(
            f"value 0 is named {name!r}, and 0 is the background in every mask",
            where=at,
            remedy="Write 0, background; where a class was drawn as 0, add 1 to all values",
        )
    told[int(word)] = name


def _of_values(told: Mapping[int, str], where: str) -> Naming:
    void = frozenset(v for v, name in told.items() if v and name.casefold() in _IGNORED)
    ids = {v: 0 for v, name in told.items() if not v or name.casefold() in _BACKGROUND}
    classes = sorted(told.keys() - void - ids.keys())
    names: list[str] = []
    for value in classes:
        # Ids are the values themselves where that leaves no heap of classes that are none.
        while classes[-1] <= MAX_CLASSES and len(names) + 1 < value:
            _add(names, f"class_{len(names) + 1}", where)
        _add(names, told[value], where)
        ids[value] = len(names)
    return Naming(tuple(names), ids, where, void, explicit=True)


def _lines(text: str, where: str) -> Iterator[tuple[int, str]]:
    count = 0
    for line, words in enumerate(text.splitlines(), 1):
        if word := words.strip():
            count += not word.startswith("#")
            if count > MAX_CLASSES + 2:
                raise DataError(f"names more than {MAX_CLASSES} classes", where=where)
            yield line, word


def _add(names: list[str], name: str, where: str) -> None:
    if not name or len(name) > 200:
        raise DataError("a class has no name, or one of more than 200 characters", where=where)
    if name in names:
        raise DataError(f"names {name!r} twice", where=where)
    if len(names) >= MAX_CLASSES:
        raise DataError(f"names more than {MAX_CLASSES} classes", where=where)
    names.append(name)


def says(naming: Naming) -> str:
    """The values that a naming knows, in words."""
    known = sorted(value for value, class_id in naming.ids.items() if class_id)
    return ", ".join(describe_value(value) for value in known[:8]) + (", …" if known[8:] else "")
