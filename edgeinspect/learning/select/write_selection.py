"""Writes a selection: a table, or a folder with the images and the table."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgeinspect.errors import OutputError
from edgeinspect.learning.datasets import printable_file_name
from edgeinspect.learning.select.select_images import SelectedImage, Selection
from edgeinspect.system import (
    TableWriter,
    claim_folder,
    escape_name,
    is_empty_but_for_claim,
    write_atomic,
)

TABLE_FILE = "selection.csv"
TABLE_SUFFIX = ".csv"


@contextmanager
def claim_selection(out: Path | None) -> Iterator[None]:
    """Keep the folder of a selection to this process, before hours of inspection.

    Args:
        out: As of `write_selection`; for a table, or None, nothing is claimed.

    Raises:
        OutputError: Another process writes into it, or it is not empty.
    """
    if out is None or out.suffix.lower() == TABLE_SUFFIX:
        yield
        return
    with claim_folder(out):
        _check_empty(out)
        yield


def _check_empty(out: Path) -> None:
    if not is_empty_but_for_claim(out):
        raise OutputError("is not empty", where=str(out), remedy="Give a new folder")


def write_selection(selection: Selection, out: Path, models: Sequence[str]) -> dict[str, str]:
    """Write a selection.

    Args:
        selection: The selected images.
        out: A file of suffix `.csv` gets the table; any other path is a folder, new or empty,
            that gets copies of the images and `selection.csv`.
        models: Names of the models, for the columns.

    Returns:
        Name of each image to its copy; empty if only the table is written.

    Raises:
        OutputError: It cannot be written, or the folder is not empty.
    """
    try:
        if out.suffix.lower() == TABLE_SUFFIX:
            write_atomic(out, selection_table(selection, models, {}))
            return {}
        out.mkdir(parents=True, exist_ok=True)
        _check_empty(out)
        copies = _copy_names(selection.selected)
        for one in selection.selected:
            shutil.copyfile(one.image.path, out / copies[one.image.name])
        write_atomic(out / TABLE_FILE, selection_table(selection, models, copies))
        return {name: str(out / copy) for name, copy in copies.items()}
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(out)) from error


def selection_table(
    selection: Selection, models: Sequence[str], copies: Mapping[str, str]
) -> bytes:
    """Return the selection as CSV: a row per image, with a column for each model's words."""
    text = io.StringIO()
    rows = TableWriter(text)
    rows.writerow(["rank", "image", "file", "criterion", "value", "reason", *models])
    for rank, one in enumerate(selection.selected, 1):
        file = copies.get(one.image.name, escape_name(one.image.path))
        rows.writerow(
            [rank, one.image.name, file, one.criterion, one.value, one.reason, *one.opinions]
        )
    return text.getvalue().encode()


def _copy_names(selected: Sequence[SelectedImage]) -> dict[str, str]:
    """Return a file name for each image: its own, with a number if another has it."""
    names: dict[str, str] = {}
    taken: set[str] = {TABLE_FILE}
    for one in selected:
        plain = Path(printable_file_name(one.image.path))
        name, number = plain.name, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain.stem}-{number}{plain.suffix}"
        taken.add(name.casefold())
        names[one.image.name] = name
    return names
