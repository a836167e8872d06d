"""Checks of a set that was read by its folders: are they classes, and does a table agree?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.label_files import files_below
from edgeinspect.learning.datasets.class_names import (
    is_defect_class,
    is_good_class,
    says_only_defective,
)
from edgeinspect.learning.datasets.dataset import Dataset, Sample
from edgeinspect.learning.datasets.folder_names import (
    is_code,
    is_origin_folder,
    is_set_aside_folder,
    is_unlabelled_folder,
)
from edgeinspect.learning.datasets.name_matching import normalize_name, split_suffix
from edgeinspect.learning.datasets.tables import parse_rows, read_table_text
from edgeinspect.learning.datasets.vocabulary import split_words, word_set
from edgeinspect.system import escape_name

_TABLE_BYTES_MAX = 32 << 20
_TABLE_COUNT_MAX = 16
_TABLE_DEPTH = 2
_MIN_NAMED_RATIO = 0.5
"""A column of names has an image in at least this part of its rows."""
_LABEL_WORDS = word_set(
    "label labels class classes classname category defect defective anomaly verdict target "
    "result status quality klasse"
)
_CLASS_WORDS = word_set("label labels class classes classname klasse")
_NO_LABELS = word_set("unknown none null nan na other misc background")
_FLAG_WORDS = word_set("defect defective anomaly anomalous ng")
"""In a column named so, 1 is defective and 0 is good."""
_OTHER_WORDS = word_set("pred predicted prediction predictions model old previous score count")

_Row = tuple[Sample, dict[str, str]]


def check_class_names(data: Dataset) -> None:
    """Check that no folder of a day, a camera or old images was read as a class of defects.

    Raises:
        DataError: There is one: `2024-01-03/`, `cam2/`, `backup/`.
    """
    names = {name.partition("/")[0] for name in data.classes}
    is_whole = any(map(says_only_defective, names)) and not all(
        sample.is_defective for sample in data.samples
    )
    for name in sorted(names):
        if is_origin_folder(name) or (is_whole and is_code(name)):
            meaning = "a day, a camera, a batch or a part"
        elif is_set_aside_folder(name) and len(names) > 1:
            meaning = "images that were put away"
        else:
            continue
        raise DataError(
            f"has a folder '{name}': its images would be defects of this class, but its name may "
            f"mean {meaning}",
            where=str(data.root),
            remedy="Sort its images into the folders of their classes, or move it away. "
            f"--layout {data.layout} reads it as a class of defects, --good-class {name} as good",
        )


def with_unread_tables(data: Dataset, root: Path, *, is_layout_given: bool) -> Dataset:
    """Return a set that was read by its folders or masks with a note on tables of its images.

    Args:
        data: The set. If it has masks, only tables that contradict them are told.
        root: The folder that the user gave.
        is_layout_given: The user named the layout: what a table says to the contrary is a note.

    Raises:
        DataError: A CSV file says good of an image with a defect, or the contrary.
    """
    notes = []
    for path in files_below(root, ".csv", _TABLE_DEPTH)[:_TABLE_COUNT_MAX]:
        rows = _rows_of_images(path, data)
        if not rows:
            continue
        name = escape_name(path.relative_to(root))
        found = list(_contradictions(rows, data))
        if not found and data.has_masks:
            continue
        if not found:
            count = number_of(len(rows), "image")
            notes.append(f"{name} has rows of {count} that layout {data.layout} does not read")
            continue
        sample, value = found[0]
        count = number_of(len(found), "image has", "images have")
        what = (
            f"{count} another label in {name} than by the folder"
            f"{' or mask' * data.has_masks}, such as {sample.name}: '{escape_name(value)}', "
            f"{_describe_label(sample)}"
        )
        if not is_layout_given:
            raise DataError(
                what,
                where=escape_name(root),
                remedy="Move the images into the folders of their labels, or the table away if "
                f"it is wrong; --layout {data.layout} reads the folders"
                + " and masks"
                * data.has_masks,
            )
        notes.append(what)
    return data.with_notes(*notes)


def _describe_label(sample: Sample) -> str:
    name = sample.class_name
    if name and set(name.split("/")) <= set(sample.path.parts):
        return f"in the folder of {name}"
    return f"but its mask has {'a' if sample.is_defective else 'no'} defect"


def _rows_of_images(path: Path, data: Dataset) -> list[_Row]:
    """Return the rows of a table that name an image, and the image; empty if it is of others."""
    try:
        text = read_table_text(path, _TABLE_BYTES_MAX)
        header, rows = parse_rows(text, str(path), allow_short_rows=True)
    except DataError:
        return []
    by_stem: dict[str, list[tuple[list[str], Sample]]] = defaultdict(list)
    for sample in data.samples:
        place = sample.path.relative_to(data.root).as_posix()
        parts = split_suffix(place)[0].split("/")
        by_stem[parts[-1]].append((parts, sample))
    for column in header:
        found = [(_find_sample(row[column], by_stem), row) for _line, row in rows]
        named = [(sample, row) for sample, row in found if sample is not None]
        if named and len(named) >= _MIN_NAMED_RATIO * len(rows):
            return named
    return []


def _find_sample(
    cell: str, by_stem: Mapping[str, Sequence[tuple[list[str], Sample]]]
) -> Sample | None:
    """Return the only image of a name; a number alone names none."""
    stem, suffix = split_suffix(cell)
    parts = stem.split("/")
    found = [
        sample
        for path, sample in by_stem.get(parts[-1], ())
        if path[-len(parts) :] == parts[-len(path) :]
    ]
    return found[0] if len(found) == 1 and (suffix or not stem.isdecimal()) else None


def _contradictions(rows: Sequence[_Row], data: Dataset) -> Iterator[tuple[Sample, str]]:
    """Yield the images of which a column of labels says something else than their folder."""
    good = {normalize_name(s.class_name or "") for s in data.samples if not s.is_defective}
    bad = {normalize_name(name.rpartition("/")[2]): name for name in data.classes}
    for column in rows[0][1]:
        words = set(split_words(column))
        values = {row[column] for _sample, row in rows} - {""}
        if not words & _LABEL_WORDS or words & _OTHER_WORDS or len(values) < 2:
            continue
        is_flag = values <= {"0", "1"} and bool(words & _FLAG_WORDS)
        goods = {each for each in values if normalize_name(each) in good or is_good_class(each)}
        bads = {each for each in values if normalize_name(each) in bad or is_defect_class(each)}
        if is_flag:
            goods, bads = {"0"}, {"1"}
        elif goods and words & _CLASS_WORDS:  # the others name kinds of defects
            bads |= {each for each in values if each.isidentifier() and not _says_nothing(each)}
        bads -= goods
        if data.has_masks and not (goods and bads):
            continue  # the state of the work: 'ok' for all that was done
        for sample, row in rows:
            value, own = row[column], sample.class_name or ""
            kind = bad.get(normalize_name(value), own)
            is_other_kind = kind != own and not any(map(says_only_defective, (own, kind)))
            if (value in goods or is_other_kind) if sample.is_defective else value in bads:
                yield sample, value


def _says_nothing(value: str) -> bool:
    return is_unlabelled_folder(value) or value.casefold() in _NO_LABELS
