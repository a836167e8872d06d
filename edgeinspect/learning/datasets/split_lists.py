"""Lists of the images of each split, for layouts whose own reading finds no split.

`train.txt`, `val.txt`, `test_list.txt` … in the folder of the set, in `splits/`, `lists/`,
`ImageSets/` or a folder in the latter. A line is a name, with or without folders and suffix, maybe
followed by a mask, a flag or a class. Or a CSV file with a column `split` and one of names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import is_image_name
from edgeinspect.learning.datasets.dataset import SPLITS, TRAIN, Dataset, SkippedImage
from edgeinspect.learning.datasets.files import files_in, subfolders
from edgeinspect.learning.datasets.name_matching import FileNameIndex, are_few, normalize_name
from edgeinspect.learning.datasets.tables import read_header, read_numbered_rows, read_table_text
from edgeinspect.learning.datasets.vocabulary import SPLIT_NAMES, split_words, word_set
from edgeinspect.system import escape_name

_FOLDERS = word_set("splits split lists list imagesets image_sets")
_OTHER_WORDS = word_set("list lists split splits set file files image images names ids autosplit")
"""Words beside that of the split in a list's name: `val_list`, but not `crack_train`."""
_LABEL_SUFFIXES = (".json", ".xml", ".txt")
_TABLE_LAYOUTS = ("indexed", "severstal")
"""Layouts that read the column `split` of their table."""
_NAME_COLUMNS = ("image", "filename", "file_name", "file", "path", "image_path", "name", "image_id")
_SEPARATORS = (",", ";", "\t")
_QUOTES = "\"'"
_BLANK_BYTES_MAX = 1 << 10


@dataclass(slots=True)
class _Lists:
    """What the lists of one folder say."""

    names: list[str] = field(default_factory=list)
    """The lists that name images."""
    splits: dict[str, str] = field(default_factory=dict)
    """Split of each image, by its path below the set's folder."""
    missing: dict[str, str] = field(default_factory=dict)
    """Names without an image, and the line of each."""
    repeated: int = 0
    """Lines that name an image of another split."""
    foreign: list[str] = field(default_factory=list)
    """The lists that name no image of the set, or few beside other words."""


def with_split_lists(data: Dataset, root: Path, *, is_layout_given: bool = False) -> Dataset:
    """Return the set with the splits of its lists if no image has a split.

    Lists that fit the set only in part are not used, and a note says why: its labels are right
    without them. A few images that no list has are left out.

    Args:
        data: As read by its layout.
        root: The folder that the user gave, which may be above the set's own.
        is_layout_given: The user named the layout: an empty list is a note.

    Raises:
        DataError: A list is empty.
    """
    if any(sample.split for sample in data.samples):
        return data
    roots = [folder for folder in dict.fromkeys((root, data.root)) if folder.is_dir()]
    places = [_place(sample.path, data) for sample in data.samples]
    skipped = {normalize_name(PurePosixPath(one.name).stem) for one in data.skipped}
    for folder in _list_folders(roots):
        if empty := _empty_lists(folder, places):
            message = "is empty, and would be the list of a split"
            if not is_layout_given:
                raise DataError(
                    message,
                    where=escape_name(empty[0]),
                    remedy="Write the names of its images, or remove it; "
                    f"--layout {data.layout} reads the set without it",
                )
            data = data.with_notes(f"{escape_name(empty[0].name)} {message}: it is not read")
        try:
            found = _read_lists(folder, places, with_tables=data.layout not in _TABLE_LAYOUTS)
        except DataError as error:
            return data.with_notes(f"the lists of splits are not read: {error.what}")
        if found.foreign:
            verb = "names" if len(found.foreign) == 1 else "name"
            lists = escape_name(", ".join(found.foreign))
            data = data.with_notes(f"{lists} {verb} no images of the set: not read as splits")
        if found.splits:
            return _with_lists(data, found, skipped)
    return data


def _empty_lists(folder: Path, places: Iterable[str]) -> list[Path]:
    """Return the lists of splits without a line; the label of an image may be called `train` too.

    Raises:
        DataError: A file cannot be read.
    """
    stems = {normalize_name(PurePosixPath(place).stem) for place in places}
    return [
        file
        for file in files_in(folder)
        if _split_of(file)
        and normalize_name(file.stem) not in stems
        and not file.stat().st_size > _BLANK_BYTES_MAX
        and not read_table_text(file).strip()
    ]


def _with_lists(data: Dataset, found: _Lists, skipped: set[str]) -> Dataset:
    """Return the set with the splits of lists that name images of it."""
    kinds = set(found.splits.values())
    splits = {sample.name: found.splits.get(_place(sample.path, data)) for sample in data.samples}
    unlisted = [name for name, split in splits.items() if split is None]
    if kinds == {TRAIN} and not unlisted:
        return data  # CVAT and Label Studio list all images as train
    lists = ", ".join(found.names)
    missing = {
        name: line
        for name, line in found.missing.items()
        if normalize_name(PurePosixPath(name.replace("\\", "/")).stem) not in skipped
    }
    if not are_few(len(missing), len(missing) + len(found.splits)):
        name, line = next(iter(missing.items()))
        return data.with_notes(
            f"{lists} name {len(missing)} images that are not in the set, such as "
            f"{escape_name(name[:60])} ({line}): its splits are not read"
        )
    notes = []
    if found.repeated:
        count = number_of(found.repeated, "line names", "lines name")
        notes.append(f"{count} an image of another split again: it stays in the first ({lists})")
    is_whole = are_few(len(unlisted), len(data)) and len(unlisted) < len(found.splits)
    left_out = set(unlisted) if is_whole and kinds != {TRAIN} else set()
    if unlisted:
        count = number_of(len(unlisted), "image is", "images are")
        what = "left out" if left_out else "without a split"
        notes.append(f"{count} in none of {lists}: {what}")
    samples = [
        replace(sample, split=splits[sample.name])
        for sample in data.samples
        if sample.name not in left_out
    ]
    return (
        data.with_samples(samples)
        .with_notes(f"splits are those of {lists}", *notes)
        .with_skipped(
            *(
                SkippedImage(escape_name(_place(sample.path, data)), f"is in none of {lists}", True)
                for sample in data.samples
                if sample.name in left_out
            ),
            *(
                SkippedImage(escape_name(name), f"{line} names it, but the image does not exist")
                for name, line in missing.items()
            ),
        )
    )


def _place(path: Path, data: Dataset) -> str:
    return (path.relative_to(data.root) if path.is_relative_to(data.root) else path).as_posix()


def _list_folders(roots: Sequence[Path]) -> Iterator[Path]:
    """Yield the folders where lists may be: those of the set, then those in them."""
    yield from roots
    for root in roots:
        for folder in subfolders(root):
            if folder.name.lower() in _FOLDERS:
                yield folder
                yield from subfolders(folder)


def _split_of(file: Path) -> str:
    """Return the split that a file lists by its name; empty for `trainval` or `crack_train`."""
    if file.suffix.lower() not in (".txt", ".lst"):
        return ""
    words = split_words(file.stem)
    named = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
    others = [word for word in words if word not in SPLIT_NAMES and word not in _OTHER_WORDS]
    return named[0] if len(named) == 1 and not others else ""


def _read_lists(folder: Path, places: Iterable[str], *, with_tables: bool) -> _Lists:
    """Read the lists of a folder that name images.

    Args:
        folder: Where the lists are.
        places: Paths of the images below the set's folder.
        with_tables: CSV files are read too.

    Raises:
        DataError: A list cannot be read, or a name matches several images.
    """
    found = _Lists()
    places = list(places)
    files = files_in(folder)
    lists = sorted((file for file in files if _split_of(file)), key=_order)
    if with_tables:
        lists += [file for file in files if file.suffix.lower() == ".csv" and _is_table(file)]
    for file in lists:
        index = FileNameIndex(places, str(file))
        named: list[tuple[str, str]] = []
        missing: dict[str, str] = {}
        for line, split, names in _rows_of(file):
            image = next((one for name in names if (one := index.find(name)) is not None), None)
            if image is not None:
                named.append((image, split))
            elif names:
                name = next(filter(is_image_name, names), names[-1])
                missing[name] = f"{file.name}:{line}"
        if not named or (len(missing) > len(named) and not any(map(is_image_name, missing))):
            found.foreign += [file.name] if missing else []  # a log, or names of other images
            continue
        found.names.append(file.name)
        found.missing |= missing
        for image, split in named:
            found.repeated += found.splits.setdefault(image, split) != split
    return found


def _order(file: Path) -> tuple[int, Path]:
    return SPLITS.index(_split_of(file)), file


def _is_table(file: Path) -> bool:
    """Return whether a CSV file has columns of images and of their splits."""
    columns = {name.lower() for name in read_header(file)}
    return "split" in columns and not columns.isdisjoint(_NAME_COLUMNS)


def _rows_of(file: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yield the line, the split and the possible names of the image of each row.

    Raises:
        DataError: The file cannot be read, or a table has another word for a split.
    """
    if split := _split_of(file):
        for line, text in enumerate(read_table_text(file).splitlines(), 1):
            yield line, split, _names_in(text)
        return
    for line, cells in read_numbered_rows(file):
        row = {key.lower(): value for key, value in cells.items()}
        word = row["split"].lower()
        if word and word not in SPLIT_NAMES:
            raise DataError(f"{file.name}:{line} has the split '{word[:20]}'", where=str(file))
        if word:
            yield line, SPLIT_NAMES[word], [row[key] for key in _NAME_COLUMNS if row.get(key)]


def _names_in(text: str) -> list[str]:
    """Return what may be the image of a line: all of it, all but its last word, its first word.

    `part 1.png`, `part 1.png 0`, `1.png masks/1.png`, `1.png,scratch`, `"part 1.png"`.
    """
    text = text.strip()
    if text and text[0] in _QUOTES and text[0] in text[1:]:
        return _names_in(text[1:].partition(text[0])[0])
    cell = text
    for separator in _SEPARATORS:
        cell = cell.split(separator)[0]
    names = [name for each in (text, cell) for name in (each, each.strip().rpartition(" ")[0])]
    names = [name.strip() for name in (*names, *cell.split()[:1])]
    plain = [
        name[: -len(end)] for name in names for end in _LABEL_SUFFIXES if name.lower().endswith(end)
    ]
    return list(dict.fromkeys(name for name in (*names, *plain) if name))
