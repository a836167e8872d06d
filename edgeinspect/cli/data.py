"""`edgeinspect data`: look at a data set, and split it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._terminal import Console, echo
from edgeinspect.errors import EXIT_DATAERR, EXIT_OK, DataError
from edgeinspect.system import escape_line

if TYPE_CHECKING:
    from edgeinspect.learning.datasets import Dataset, DatasetScan, Finding, Sample

_PIPE_WIDTH = 120
_MAX_SHOWN = 20
_LEVELS = {
    "error": ("ERROR", "bold red"),
    "warning": ("warning", "yellow"),
    "note": ("note", "dim"),
}
_GOOD_ROW = "(good)"
Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def data() -> None:
    """Look at a data set of pictures, and split it.

    PATH is the set's folder, in any layout of docs/data.md; it is recognised by itself.
    """


def _dataset_options(command: Command) -> Command:
    """The options by which a set is read."""
    for option in (
        click.option(
            "--good",
            multiple=True,
            metavar="NAME",
            help="A class that is good, where the rule guesses wrongly. Repeatable.",
        ),
        click.option("--layout", help="Read it in this layout, without recognising it."),
        click.argument("path", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


@data.command()
@_dataset_options
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
@click.option(
    "--sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw a contact sheet into this PNG file.",
)
@click.option(
    "--split",
    "split_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Look at the split of this file instead of the set's own.",
)
@click.option("--twins/--no-twins", default=True, help="Look for duplicates (default), or not.")
@click.option("--strict", is_flag=True, help="End with 65 on warnings too.")
def inspect(
    path: Path,
    layout: str | None,
    good: tuple[str, ...],
    as_json: bool,
    sheet: Path | None,
    split_file: Path | None,
    twins: bool,
    strict: bool,
) -> int:
    """Look at every picture and mask of PATH, and say what is wrong with the set.

    Counts per class and split, sizes, what cannot be read, masks that do not fit, and pictures
    that are there twice: the same, or turned, mirrored, under another exposure. Ends with 65 if
    the set cannot be trained on as it is.
    """
    from edgeinspect.learning.datasets import (
        check_dataset,
        open_dataset,
        read_split,
        scan_dataset,
        write_contact_sheet,
    )

    if sheet is not None and not sheet.absolute().parent.is_dir():
        raise DataError("there is no such folder", where=str(sheet.parent))
    found = open_dataset(path, layout, good_classes=good)
    if split_file is not None:
        found = read_split(split_file, found)
    with _progress(len(found)) as progress:
        seen = scan_dataset(found, with_duplicates=twins, progress=progress)
    told = check_dataset(seen)
    if sheet is not None:
        write_contact_sheet(sheet, seen)
    if as_json:
        echo(json.dumps(_as_dict(seen, told), indent=2))
    else:
        _print_scan(seen, told)
        if sheet is not None:
            _console().print(f"contact sheet: {sheet}", soft_wrap=True, highlight=False)
    grave = {"error", "warning"} if strict else {"error"}
    return EXIT_DATAERR if any(one.level in grave for one in told) else EXIT_OK


@data.command("split")
@_dataset_options
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write, JSON.",
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0))
@click.option(
    "--shares",
    default=(0.7, 0.15, 0.15),
    show_default=True,
    type=(float, float, float),
    help="Of train, val and test.",
)
@click.option("--anew", is_flag=True, help="Ignore the set's own split.")
@click.option("--together", is_flag=True, help="Keep duplicates, near ones too, in one split.")
def split_(
    path: Path,
    layout: str | None,
    good: tuple[str, ...],
    out: Path,
    seed: int,
    shares: tuple[float, float, float],
    anew: bool,
    together: bool,
) -> None:
    """Split PATH into train, val and test, and write it to a file.

    By group, balanced by class, the same for the same seed. A split that the set brings is
    kept, and only completed, without --anew.
    """
    from edgeinspect.learning.datasets import open_dataset, scan_dataset, split_dataset, write_split

    found = open_dataset(path, layout, good_classes=good)
    families: list[list[str]] = []
    if together:
        with _progress(len(found)) as progress:
            families = scan_dataset(found, progress=progress).duplicate_groups()
    done = split_dataset(found, seed, shares, ignore_existing=anew, groups=families)
    write_split(out, done, seed, shares)
    console = _console()
    console.print(_class_table(done, None))
    if together:
        tied = sum(map(len, families))
        console.print(f"{tied} pictures in {len(families)} families of duplicates", highlight=False)
    for note in done.notes:
        console.print(Text(_printable(f"note  {note}"), style="dim"))
    console.print(f"written to {out}", soft_wrap=True, highlight=False)


# -- words out --------------------------------------------------------------------------


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where a person sees it."""
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("looking at pictures", total=total)
        yield lambda done: bar.update(task, completed=done)


def _print_scan(survey: DatasetScan, told: list[Finding]) -> None:
    console = _console()
    found = survey.data
    sizes = [f"{height} x {width} px ({count})" for (height, width), count in survey.sizes[:4]]
    more = len(survey.sizes) - len(sizes)
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("data set", str(found.root)),
        ("layout", found.layout),
        ("pictures", f"{len(found)}, {_bit_depth_text(survey)}"),
        ("sizes", ", ".join(sizes) + (f" and {more} more" if more > 0 else "")),
        ("masks", "yes" if found.has_masks else "no"),
    ):
        facts.add_row(Text(name, style="bold"), Text(_printable(value)))
    console.print(facts)
    console.print(_class_table(found, survey))
    problems = [f"{seen.sample.name}: {seen.problem}" for seen in survey.broken]
    problems += [f"{one.name}: {one.reason}" for one in found.skipped]
    for problem in problems[:_MAX_SHOWN]:
        console.print(Text(_printable(f"  {problem}"), style="red"))
    if (more := len(problems) - _MAX_SHOWN) > 0:
        console.print(Text(f"  ... and {more} more, see --json", style="red"))
    lines = Table.grid(padding=(0, 2))
    for finding in told:
        word, style = _LEVELS[finding.level]
        lines.add_row(Text(word, style=style), Text(_printable(finding.message)))
        if finding.remedy:
            lines.add_row("", Text(_printable(f"-> {finding.remedy}"), style="dim"))
    if all(finding.level == "note" for finding in told):
        lines.add_row(Text("ok", style="green"), "nothing is wrong with it")
    console.print(lines)


def _printable(text: str) -> str:
    """File names as they can be printed anywhere: no control characters, no broken UTF-8."""
    return (
        escape_line(text)
        .encode(sys.stdout.encoding or "ascii", "backslashreplace")
        .decode(sys.stdout.encoding or "ascii")
    )


def _bit_depth_text(survey: DatasetScan) -> str:
    bits = f"{survey.data.bit_depth} bits"
    return (
        f"{bits}, in colour" if any(seen.is_colored for seen in survey.images) else f"{bits}, grey"
    )


def _class_table(found: Dataset, survey: DatasetScan | None) -> Table:
    """Pictures per class and split; with a survey, pixels per class too."""
    splits = [
        name
        for name in ("train", "val", "test", None)
        if any(record.split == name for record in found.samples)
    ]
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column("class")
    named = [name or "no split" for name in splits]
    pixels = survey is not None and found.has_masks
    for name in [
        *named,
        *(["all"] if len(splits) > 1 else []),
        *(["pixels", "% of pixels", "smallest px", "largest px"] if pixels else []),
    ]:
        table.add_column(name, justify="right")
    for class_id, name in [*enumerate(found.classes, 1), (0, _GOOD_ROW)]:
        records = [record for record in found.samples if _belongs_to(record, class_id)]
        count = Counter(record.split for record in records)
        cells = [str(count[split]) for split in splits]
        cells += [str(len(records))] if len(splits) > 1 else []
        if pixels and survey is not None:
            cells += _pixel_cells(survey, class_id)
        table.add_row(Text(_printable(f"{class_id} {name}") if class_id else name), *cells)
    total = Counter(record.split for record in found.samples)
    cells = [str(total[split]) for split in splits]
    table.add_row("pictures", *cells, *([str(len(found))] if len(splits) > 1 else []), style="bold")
    return table


def _belongs_to(record: Sample, class_id: int) -> bool:
    return class_id in record.class_ids if class_id else not record.is_defective


def _pixel_cells(survey: DatasetScan, class_id: int) -> list[str]:
    areas = [seen.class_px[class_id] for seen in survey.images if seen.class_px]
    whole = sum(sum(seen.class_px) for seen in survey.images)
    some = [area for area in areas if area]
    if not class_id or not some or not whole:
        return ["", "", "", ""]
    share = f"{100 * sum(some) / whole:.3f}"
    return [str(sum(some)), share, str(min(some)), str(max(some))]


def _as_dict(survey: DatasetScan, told: list[Finding]) -> dict[str, Any]:
    found = survey.data

    def pair(first: int, second: int) -> list[str]:
        return [survey.images[first].sample.name, survey.images[second].sample.name]

    return {
        "schema": "edgeinspect.data/1",
        "path": str(found.root),
        "layout": found.layout,
        "pictures": len(found),
        "bits": found.bit_depth,
        "colored": sum(seen.is_colored for seen in survey.images),
        "has_masks": found.has_masks,
        "classes": list(found.classes),
        "counts": _counts_by_split(found),
        "pixels": {
            name: sum(seen.class_px[i] for seen in survey.images if seen.class_px)
            for i, name in enumerate(found.classes, 1)
        },
        "sizes": [{"height_px": h, "width_px": w, "count": n} for (h, w), n in survey.sizes],
        "unusable": [{"name": s.sample.name, "why": s.problem} for s in survey.broken],
        "left_out": [{"name": one.name, "why": one.reason} for one in found.skipped],
        "empty_masks": [
            s.sample.name
            for s in survey.images
            if found.has_masks and s.class_px and s.sample.is_defective and not s.defect_px
        ],
        "duplicates": [
            {
                "names": pair(twins.first, twins.second),
                "exact": twins.is_exact,
                "correlation": round(twins.correlation, 4),
            }
            for twins in survey.duplicates
        ],
        "across_splits": [pair(twins.first, twins.second) for twins in survey.leaks()],
        "findings": [
            {"level": one.level, "what": one.message, "remedy": one.remedy} for one in told
        ],
    }


def _counts_by_split(found: Dataset) -> dict[str, dict[str, int]]:
    """Class to split to pictures; `good` beside the classes."""
    out = {}
    for class_id, name in [(0, "good"), *enumerate(found.classes, 1)]:
        of = Counter(r.split or "none" for r in found.samples if _belongs_to(r, class_id))
        out[name] = dict(sorted(of.items()))
    return out
