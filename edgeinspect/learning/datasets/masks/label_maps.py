"""Label maps: files of a data set that map stored mask values to class ids and names.

- `labelmap.txt` (CVAT, Datumaro): `name:r,g,b:parts:actions`, one colour per class, by id
- `_classes.csv` (Roboflow): `Pixel Value, Class`, one value per class
- `labels.txt`, `class_names.txt`, `classes.txt` (labelme, VOC, own): one name per line

In a list of names, ids start at 1. A first line `_background_` or `background`, also in other
languages, is 0, and a first line `__ignore__` is -1: unlabelled (255 in a mask). Ids follow these
files, not the values that happen to occur, so that two exports of one project agree.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.imaging import COLOR_FLAG
from edgeinspect.learning.datasets.class_names import is_good_class
from edgeinspect.learning.datasets.files import subfolders
from edgeinspect.learning.datasets.foreign_content import START_BYTES, describe_foreign_content
from edgeinspect.learning.datasets.masks.sources import MAX_CLASSES, UNLABELLED, describe_value
from edgeinspect.learning.datasets.tables import parse_rows, read_table_text
from edgeinspect.learning.datasets.vocabulary import SPLIT_NAMES, word_set

LABELMAP, VALUE_TABLE = "labelmap.txt", "_classes.csv"
CLASS_LISTS = ("labels.txt", "class_names.txt", "classes.txt")
_MAX_BYTES = 1 << 20
_FOREIGN_BACKGROUND = word_set(
    """
    hintergrund fond arrière-plan fondo sfondo fundo fundal achtergrond bakgrund bakgrunn baggrund
    tausta tło tlo pozadí pozadi pozadie pozadina háttér ozadje arkaplan фон 背景 배경
    """
)
BACKGROUND_NAMES = _FOREIGN_BACKGROUND | {"background", "_background_", "__background__", "bg"}
IGNORED_NAMES = frozenset(
    ("__ignore__", "_ignore_", "ignore", "ignored", "unlabeled", "unlabelled")
)
_NO_DEFECT = frozenset(("none", "nothing", "no defect", "no_defect", "nodefect"))
_NUMBERED = re.compile(r"(?P<value>\d{1,5})\s*(?:[:=,;)\t]|\s)\s*(?P<name>\S.*)")
_VOC_VOID = (224, 224, 192)
_LABELMAP_LINE = re.compile(
    r"(?P<name>.+?)\s*:\s*(?P<rgb>\d{1,4}\s*,\s*\d{1,4}\s*,\s*\d{1,4})\s*"
    r"(?::(?P<parts>[^:]*):(?P<actions>[^:]*))?"
)
_UNCOLORED_LINE = re.compile(r"(?P<name>[^:]*[^:\s])\s*::[^:]*:[^:]*")


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The classes that a set declares, by stored mask value."""

    names: tuple[str, ...]
    """Names of the classes 1..K."""
    ids: Mapping[int, int]
    """Stored value (as `read_mask_values` gives it) to class id; 0 for background."""
    source: str
    """The file that declares it."""
    void: frozenset[int] = field(default=frozenset())
    """Stored values of unlabelled pixels."""
    uses_colors: bool = False
    """Values are colours: palette indices are ignored."""
    is_explicit: bool = False
    """It gives the value of each class and of the background."""
    is_bare_list: bool = False
    """A list of names without values, and without a line for the background."""
    note: str = ""


def label_map_in_order(
    names: tuple[str, ...], source: str, *, has_ignored: bool = False
) -> LabelMap:
    """Return the label map in which value i is the i-th class."""
    void = frozenset((UNLABELLED,)) if has_ignored else frozenset[int]()
    return LabelMap(names, {i: i for i in range(1, len(names) + 1)}, source, void)


def read_label_map(root: Path, *, may_be_empty: bool = False) -> LabelMap | None:
    """Read the label map of a data set; None if it has none.

    Args:
        root: Folder of the set.
        may_be_empty: The set has no label at all, so a list without a name is no contradiction.

    Raises:
        DataError: A file is malformed or empty, names a class twice or more than 64 classes, or
            two files of one kind differ.
    """
    for path in (root / LABELMAP, *(root / name for name in CLASS_LISTS)):
        if path.exists():
            _check_not_empty(path, may_be_empty=may_be_empty)
    if (root / LABELMAP).exists():
        return parse_labelmap(read_table_text(root / LABELMAP, _MAX_BYTES), str(root / LABELMAP))
    splits = [folder for folder in subfolders(root) if folder.name.lower() in SPLIT_NAMES]
    tables = [base / VALUE_TABLE for base in (root, *splits) if (base / VALUE_TABLE).exists()]
    label_maps = [one for table in tables if (one := _read_value_table(table)) is not None]
    if not label_maps:
        lists = [root / name for name in CLASS_LISTS if (root / name).exists()]
        label_maps = [
            parse_class_list(read_table_text(path, _MAX_BYTES), str(path)) for path in lists
        ]
    label_maps = [one for one in label_maps if one.names]
    for one in label_maps[1:]:
        if (one.names, one.ids) != (label_maps[0].names, label_maps[0].ids):
            raise DataError(
                f"names other classes than {label_maps[0].source}: {', '.join(one.names[:5])} "
                f"instead of {', '.join(label_maps[0].names[:5])}",
                where=one.source,
                remedy="Keep the correct one",
            )
    return label_maps[0] if label_maps else None


def _check_not_empty(path: Path, *, may_be_empty: bool) -> None:
    text = read_table_text(path, _MAX_BYTES)
    lines = [line.strip() for line in text.splitlines()]
    names = [line for line in lines if line and not (path.name == LABELMAP and line[0] == "#")]
    problem = describe_foreign_content(text[:START_BYTES].encode())
    if not problem and not names and not may_be_empty:
        problem = "names no class"
    if problem:
        raise DataError(problem, where=str(path), remedy="Restore or remove it")


def read_class_names(root: Path, *, may_be_empty: bool = False) -> tuple[str, ...]:
    """Return the names of classes 1..K that a set declares; see `read_label_map`."""
    label_map = read_label_map(root, may_be_empty=may_be_empty)
    return label_map.names if label_map else ()


def parse_labelmap(text: str, where: str) -> LabelMap:
    """Parse CVAT's `name:r,g,b:parts:actions`.

    Raises:
        DataError: A malformed line, a duplicate colour or name, or too many classes.
    """
    names: list[str] = []
    ids: dict[int, int] = {}
    void: set[int] = set()
    names_by_color: dict[int, str] = {}
    for line, words in _with_voc_colors(list(_numbered_lines(text, where))):
        if words.startswith("#"):
            continue
        match = _LABELMAP_LINE.fullmatch(words)
        at = f"{where}:{line}"
        if match is None:
            raise DataError(
                f"{words[:40]!r} is not a label with a colour",
                where=at,
                remedy="Write name:red,green,blue:: with numbers from 0 to 255",
            )
        name = match["name"].strip()
        rgb = tuple(int(part) for part in match["rgb"].split(","))
        if max(rgb) > 255:
            raise DataError(
                f"colour component {max(rgb)} is above 255", where=at, remedy="Use 0 to 255"
            )
        value = color_value(*rgb)
        if value in names_by_color:
            raise DataError(
                f"{name!r} has the colour of {names_by_color[value]!r}",
                where=at,
                remedy="Give each label its own colour",
            )
        names_by_color[value] = name
        if name.casefold() in BACKGROUND_NAMES:
            ids[value] = 0
        elif name.casefold() in IGNORED_NAMES or (name.casefold() == "void" and rgb == _VOC_VOID):
            void.add(value)
        elif not value:
            raise DataError(
                f"{name!r} is black like the background",
                where=at,
                remedy="Give it a colour in the labelling tool",
            )
        else:
            _add_name(names, name, at)
            ids[value] = len(names)
    return LabelMap(tuple(names), ids, where, frozenset(void), uses_colors=True, is_explicit=True)


def _with_voc_colors(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return the lines with VOC's colours by their order, if no line has a colour.

    Datumaro writes `background:::`, `pit:::` if a set has no colours, and draws VOC's.
    """
    matches = [
        (line, _UNCOLORED_LINE.fullmatch(words))
        for line, words in lines
        if not words.startswith("#")
    ]
    if not all(match for _line, match in matches):
        return lines
    return [
        (line, f"{match['name']}:{','.join(map(str, voc_color(index)))}::")
        for index, (line, match) in enumerate(matches)
        if match
    ]


def voc_color(index: int) -> tuple[int, int, int]:
    """Return (red, green, blue) of a class id in Pascal VOC's palette."""
    red = green = blue = 0
    for shift in range(7, -1, -1):
        red |= (index & 1) << shift
        green |= (index >> 1 & 1) << shift
        blue |= (index >> 2 & 1) << shift
        index >>= 3
    return red, green, blue


def color_value(red: int, green: int, blue: int) -> int:
    """Return a colour as `read_mask_values` stores it; a grey as its level."""
    return red if red == green == blue else COLOR_FLAG | red << 16 | green << 8 | blue


def parse_class_list(text: str, where: str) -> LabelMap:
    """Parse one name per line, from 1; `_background_` first is 0, `__ignore__` before it is -1.

    Raises:
        DataError: A duplicate name, one of the two keywords elsewhere, or too many classes.
    """
    lines = list(_numbered_lines(text, where))
    if numbered := _parse_numbered(lines, where):
        return _label_map_of_values(numbered, where)
    if len(lines) == 1 and len(re.split(r"[,;\t]", lines[0][1])) > 1:
        raise DataError(
            f"has one line: {lines[0][1][:60]!r}", where=where, remedy="Write one name per line"
        )
    ignores = bool(lines) and lines[0][1].casefold() in IGNORED_NAMES
    lines = lines[ignores:]
    note, has_background = "", bool(lines) and _is_background(lines[0][1])
    if has_background:
        if _fold(lines[0][1]) in _FOREIGN_BACKGROUND:
            note = f"{lines[0][1]!r}, the first name in {Path(where).name}, is the background"
        lines = lines[1:]
    names: list[str] = []
    for line, word in lines:
        if _is_background(word) or word.casefold() in ("__ignore__", "_ignore_"):
            raise DataError(
                f"{word!r} is after a class",
                where=f"{where}:{line}",
                remedy="Ids follow the lines: __ignore__ first (-1), then _background_ (0), "
                "then the classes",
            )
        if is_good_class(word) or word.casefold() in _NO_DEFECT:
            raise DataError(
                f"{word[:40]!r} means no defect, but its line gives it value {len(names) + 1}",
                where=f"{where}:{line}",
                remedy="Write it as _background_ in the first line if it is value 0; else remove "
                "it, and its value from the masks",
            )
        _add_name(names, word, f"{where}:{line}")
    label_map = label_map_in_order(tuple(names), where, has_ignored=ignores)
    return replace(label_map, is_bare_list=not has_background, note=note)


def _is_background(name: str) -> bool:
    return _fold(name) in BACKGROUND_NAMES


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _read_value_table(path: Path) -> LabelMap | None:
    """Read Roboflow's table; None for its table of image labels of the same file name."""
    header, rows = parse_rows(read_table_text(path, _MAX_BYTES), str(path))
    keys = [key.casefold() for key in header]
    if "filename" in keys:
        return None
    if len(keys) < 2 or "class" not in keys[1] or "value" not in keys[0]:
        raise DataError(
            f"starts with {', '.join(header)[:60]!r}",
            where=str(path),
            remedy="Write Pixel Value, Class as its first line",
        )
    names_by_value: dict[int, str] = {}
    for line, row in rows:
        _add_value(names_by_value, row[header[0]], row[header[1]], f"{path}:{line}")
    return _label_map_of_values(names_by_value, str(path))


def _parse_numbered(lines: list[tuple[int, str]], where: str) -> dict[int, str]:
    """Return names by value if every line starts with its value; else an empty dict."""
    found = [(line, _NUMBERED.fullmatch(words)) for line, words in lines]
    names_by_value: dict[int, str] = {}
    if len(found) > 1 and all(match for _line, match in found):
        for line, match in found:
            if match is not None:
                _add_value(names_by_value, match["value"], match["name"], f"{where}:{line}")
    return names_by_value


def _add_value(names: dict[int, str], word: str, name: str, at: str) -> None:
    if not (word.isascii() and word.isdecimal() and len(word) <= 5 and int(word) <= 65535):
        raise DataError(f"{word[:20]!r} is not a pixel value", where=at, remedy="Use 0 to 255")
    if int(word) in names:
        raise DataError(f"value {word} is named twice", where=at)
    if not int(word) and name.casefold() not in BACKGROUND_NAMES | IGNORED_NAMES | _NO_DEFECT:
        raise DataError(
            f"value 0 is named {name!r}, but 0 is the background in every mask",
            where=at,
            remedy="Write 0, background; if a class was drawn as 0, add 1 to all values",
        )
    names[int(word)] = name


def _label_map_of_values(names_by_value: Mapping[int, str], where: str) -> LabelMap:
    void = frozenset(
        v for v, name in names_by_value.items() if v and name.casefold() in IGNORED_NAMES
    )
    ids = {
        v: 0 for v, name in names_by_value.items() if not v or name.casefold() in BACKGROUND_NAMES
    }
    classes = sorted(names_by_value.keys() - void - ids.keys())
    names: list[str] = []
    for value in classes:
        # Ids equal the values, with unnamed classes in between, if these fit.
        while classes[-1] <= MAX_CLASSES and len(names) + 1 < value:
            _add_name(names, f"class_{len(names) + 1}", where)
        _add_name(names, names_by_value[value], where)
        ids[value] = len(names)
    return LabelMap(tuple(names), ids, where, void, is_explicit=True)


def _numbered_lines(text: str, where: str) -> Iterator[tuple[int, str]]:
    count = 0
    for line, words in enumerate(text.splitlines(), 1):
        if word := words.strip():
            count += not word.startswith("#")
            if count > MAX_CLASSES + 2:
                raise DataError(f"names more than {MAX_CLASSES} classes", where=where)
            yield line, word


def _add_name(names: list[str], name: str, where: str) -> None:
    if not name or len(name) > 200:
        raise DataError("a class name is empty, or longer than 200 characters", where=where)
    if name in names:
        raise DataError(f"names {name!r} twice", where=where)
    if len(names) >= MAX_CLASSES:
        raise DataError(f"names more than {MAX_CLASSES} classes", where=where)
    names.append(name)


def describe_values(label_map: LabelMap) -> str:
    """Return a description of the values of a label map."""
    known = sorted(value for value, class_id in label_map.ids.items() if class_id)
    return ", ".join(describe_value(value) for value in known[:8]) + (", …" if known[8:] else "")
