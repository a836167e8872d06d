"""`edgeinspect data`: check a data set, split it, and convert it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from edgeinspect.cli._command import Group
from edgeinspect.cli._data_convert import convert
from edgeinspect.cli._data_example import example
from edgeinspect.cli._data_select import select
from edgeinspect.cli._group_options import GROUPS, group_result, group_rule, print_groups
from edgeinspect.cli._json_output import json_option, print_json
from edgeinspect.cli._options import BOXES, GOOD_CLASS, LAYOUT, SEED, with_options
from edgeinspect.cli._paths import DATASET, OUTPUT_FILE, SPLIT_FILE
from edgeinspect.cli._progress import QUIET, progress_bar
from edgeinspect.cli._results.learning import (
    DatasetFindingResult,
    DatasetInspection,
    DatasetSplit,
    DuplicatePair,
    ImageSizeCount,
    NamedReason,
)
from edgeinspect.cli._tables import (
    Cell,
    Column,
    TextTable,
    format_count,
    format_number_of,
    number,
    print_facts,
    print_table,
    print_text,
)
from edgeinspect.errors import EXIT_DATAERR, EXIT_OK

if TYPE_CHECKING:
    from edgeinspect.learning.datasets import Dataset, DatasetFinding, DatasetScan, Sample

_MAX_SHOWN = 20
_LEVELS = {
    "error": ("ERROR", "bold red"),
    "warning": ("warning", "yellow"),
    "note": ("note", "dim"),
}
_GOOD_ROW = "(good)"


@click.group(
    cls=Group,
    examples=[
        ("See what is in a folder of images", "edgeinspect data inspect castings"),
        ("Split it into train, val and test", "edgeinspect data split castings --out split.json"),
    ],
)
def data() -> None:
    """Check a data set of images, split it, or convert it.

    DATASET is the set's folder, in any layout of docs/reference/data.md; the layout is recognised.
    """


data.add_command(example)
data.add_command(convert)
data.add_command(select)

_dataset_options = with_options(
    click.argument("path", metavar="DATASET", type=DATASET),
    LAYOUT,
    GOOD_CLASS,
    BOXES,
)


@data.command(
    examples=[
        ("See what is in a folder of images", "edgeinspect data inspect castings"),
        (
            "Also draw a contact sheet, and fail on warnings",
            "edgeinspect data inspect castings --sheet sheet.png --strict",
        ),
    ],
    renamed={"--split": "--split-file FILE"},
)
@_dataset_options
@QUIET
@json_option("edgeinspect.cli._results.learning:DatasetInspection")
@click.option(
    "--sheet",
    metavar="FILE.png",
    type=OUTPUT_FILE,
    help="Draw a contact sheet into this PNG file.",
)
@click.option(
    "--split-file",
    metavar="SPLIT_FILE",
    type=SPLIT_FILE,
    help="Check the split in this file instead of the set's own.",
)
@click.option(
    "--duplicates/--no-duplicates",
    default=True,
    help="Search for duplicates, or not.",
    show_default=True,
)
@click.option("--strict", is_flag=True, help="End with 65 on warnings too.")
def inspect(
    path: Path,
    layout: str | None,
    good_classes: tuple[str, ...],
    draws_boxes: bool,
    as_json: bool,
    sheet: Path | None,
    split_file: Path | None,
    duplicates: bool,
    strict: bool,
) -> int:
    """Read every image and mask of DATASET, and report problems.

    Shows counts per class and split, sizes, unreadable files, masks that do not fit, and
    duplicates: identical, rotated, mirrored, or of another exposure. Ends with 65 if the set
    cannot be used for training as it is.
    """
    from edgeinspect.learning.datasets import (
        check_dataset,
        open_dataset,
        read_split,
        scan_dataset,
        write_contact_sheet,
    )

    dataset = open_dataset(path, layout, good_classes=good_classes, draws_boxes=draws_boxes)
    if split_file is not None:
        dataset = read_split(split_file, dataset)
    with progress_bar("reading images", len(dataset)) as progress:
        scan = scan_dataset(dataset, with_duplicates=duplicates, progress=progress)
    findings = check_dataset(scan)
    if sheet is not None:
        write_contact_sheet(sheet, scan)
    if as_json:
        print_json(_inspection(scan, findings))
    else:
        _print_scan(scan, findings)
        if sheet is not None:
            print_text(f"contact sheet: {sheet}")
    failing_levels = {"error", "warning"} if strict else {"error"}
    return EXIT_DATAERR if any(finding.level in failing_levels for finding in findings) else EXIT_OK


@data.command(
    "split",
    examples=[
        ("Split by the usual ratios", "edgeinspect data split castings --out split.json"),
        (
            "By other ratios, duplicates in one split",
            "edgeinspect data split castings --out split.json --shares 0.8 0.1 0.1 "
            "--group-duplicates",
        ),
    ],
)
@_dataset_options
@click.option(
    "--out",
    required=True,
    metavar="FILE.json",
    type=OUTPUT_FILE,
    help="The file to write, JSON.",
)
@SEED
@click.option(
    "--shares",
    metavar="TRAIN VAL TEST",
    default=(0.7, 0.15, 0.15),
    show_default=True,
    type=(float, float, float),
    help="Ratios of train, val and test.",
)
@click.option("--resplit", is_flag=True, help="Ignore the set's own split.")
@click.option(
    "--group-duplicates", is_flag=True, help="Keep duplicates and near duplicates in one split."
)
@GROUPS
@QUIET
@json_option("edgeinspect.cli._results.learning:DatasetSplit")
def split_(
    path: Path,
    layout: str | None,
    good_classes: tuple[str, ...],
    draws_boxes: bool,
    out: Path,
    seed: int,
    shares: tuple[float, float, float],
    resplit: bool,
    group_duplicates: bool,
    group_pattern: str | None,
    group_folder: bool,
    group_gap: float | None,
    as_json: bool,
) -> None:
    """Split DATASET into train, val and test, and write it to a file.

    Splits by group, balanced by class, reproducibly for a seed. Groups are those of the set, or
    given by --group-pattern, --group-folder or --group-gap; files with the same content are in
    one. A split that the set contains is
    kept, and only completed, without --resplit.
    """
    from edgeinspect.learning.datasets import (
        exact_copies,
        file_digests,
        group_samples,
        groups_across_splits,
        open_dataset,
        scan_dataset,
        split_dataset,
        write_split,
    )

    dataset = open_dataset(path, layout, good_classes=good_classes, draws_boxes=draws_boxes)
    dataset = group_samples(dataset, group_rule(group_pattern, group_folder, group_gap))
    if group_duplicates:
        with progress_bar("reading images", len(dataset)) as progress:
            groups = scan_dataset(dataset, progress=progress).duplicate_groups()
    else:
        groups = exact_copies(file_digests(dataset))  # as a training that splits the set itself
    split_data = split_dataset(dataset, seed, shares, ignore_existing=resplit, groups=groups)
    if across := groups_across_splits(split_data):
        split_data = split_data.with_notes(
            f"the set's own split is kept, and {format_number_of(len(across), 'group')} of images "
            f"are in two of its splits, as '{across[0]}': --resplit ignores it"
        )
    write_split(out, split_data, seed, shares)
    grouped = group_result(split_data)
    if as_json:
        counts = _counts_by_split(split_data)
        print_json(
            DatasetSplit(file=str(out), images=len(split_data), counts=counts, groups=grouped)
        )
        return
    print_table(_class_table(split_data, None))
    if grouped is not None:
        print_groups(grouped)
    if group_duplicates or groups:
        images = format_number_of(sum(map(len, groups)), "image")
        print_text(f"{images} in {format_number_of(len(groups), 'group')} of duplicates")
    for note in split_data.notes:
        print_text(Text(f"note  {note}", style="dim"))
    print_text(f"written to {out}")


def _print_scan(scan: DatasetScan, findings: list[DatasetFinding]) -> None:
    dataset = scan.data
    sizes = [f"{height} x {width} px ({count})" for (height, width), count in scan.sizes[:4]]
    more = len(scan.sizes) - len(sizes)
    print_facts(
        (
            ("data set", str(dataset.root)),
            ("layout", dataset.layout),
            ("images", f"{format_count(len(dataset))}, {_bit_depth_text(scan)}"),
            ("sizes", ", ".join(sizes) + (f" and {more} more" if more > 0 else "")),
            ("masks", "yes" if dataset.has_masks else "no"),
        )
    )
    print_table(_class_table(dataset, scan))
    problems = [f"{scan.sample.name}: {scan.problem}" for scan in scan.broken]
    problems += [f"{finding.name}: {finding.reason}" for finding in dataset.skipped]
    for problem in problems[:_MAX_SHOWN]:
        print_text(Text(f"  {problem}", style="red"))
    if (more := len(problems) - _MAX_SHOWN) > 0:
        print_text(Text(f"  ... and {more} more, see --json", style="red"))
    lines = TextTable(Column("", fixed=True), "")
    for finding in findings:
        word, style = _LEVELS[finding.level]
        lines.add_row(Text(word, style=style), finding.message)
        if finding.remedy:
            lines.add_row("", Text(f"-> {finding.remedy}", style="dim"))
    if all(finding.level == "note" for finding in findings):
        lines.add_row(Text("ok", style="green"), "no problem was found")
    print_table(lines)


def _bit_depth_text(scan: DatasetScan) -> str:
    bits = f"{scan.data.bit_depth} bits"
    return f"{bits}, in colour" if any(scan.is_colored for scan in scan.images) else f"{bits}, grey"


def _class_table(dataset: Dataset, scan: DatasetScan | None) -> TextTable:
    """Return a table of images per class and split; with a scan, of pixels per class too."""
    splits = [
        name
        for name in ("train", "val", "test", None)
        if any(record.split == name for record in dataset.samples)
    ]
    pixels = scan is not None and dataset.has_masks
    table = TextTable(
        "class",
        *(number(name or "no split") for name in splits),
        *([number("all")] if len(splits) > 1 else []),
        *(
            number(name, optional=True)
            for name in ("pixels", "% of pixels", "smallest px", "largest px")
            if pixels
        ),
    )
    for class_id, name in [*enumerate(dataset.classes, 1), (0, _GOOD_ROW)]:
        records = [record for record in dataset.samples if _belongs_to(record, class_id)]
        count = Counter(record.split for record in records)
        cells: list[Cell] = [count[split] for split in splits]
        cells += [len(records)] if len(splits) > 1 else []
        if pixels and scan is not None:
            cells += _pixel_cells(scan, class_id)
        table.add_row(f"{class_id} {name}" if class_id else name, *cells)
    total = Counter(record.split for record in dataset.samples)
    sums = [*(total[split] for split in splits), *([len(dataset)] if len(splits) > 1 else [])]
    table.add_row(Text("images", style="bold"), *(Text(str(each), style="bold") for each in sums))
    return table


def _belongs_to(record: Sample, class_id: int) -> bool:
    return class_id in record.class_ids if class_id else not record.is_defective


def _pixel_cells(scan: DatasetScan, class_id: int) -> list[Cell]:
    areas = [scan.class_px[class_id] for scan in scan.images if scan.class_px]
    total = sum(sum(scan.class_px) for scan in scan.images)
    nonzero = [area for area in areas if area]
    if not class_id or not nonzero or not total:
        return ["", "", "", ""]
    share = f"{100 * sum(nonzero) / total:.3f}"
    return [sum(nonzero), share, min(nonzero), max(nonzero)]


def _inspection(scan: DatasetScan, findings: list[DatasetFinding]) -> DatasetInspection:
    dataset = scan.data

    def pair(first: int, second: int) -> list[str]:
        return [scan.images[first].sample.name, scan.images[second].sample.name]

    return DatasetInspection(
        path=str(dataset.root),
        layout=dataset.layout,
        images=len(dataset),
        bits=dataset.bit_depth,
        colored=sum(scan.is_colored for scan in scan.images),
        has_masks=dataset.has_masks,
        classes=list(dataset.classes),
        counts=_counts_by_split(dataset),
        pixels={
            name: sum(scan.class_px[i] for scan in scan.images if scan.class_px)
            for i, name in enumerate(dataset.classes, 1)
        },
        sizes=[ImageSizeCount(height_px=h, width_px=w, count=n) for (h, w), n in scan.sizes],
        unusable=[NamedReason(name=s.sample.name, why=s.problem) for s in scan.broken],
        left_out=[NamedReason(name=each.name, why=each.reason) for each in dataset.skipped],
        empty_masks=[
            s.sample.name
            for s in scan.images
            if dataset.has_masks and s.class_px and s.sample.is_defective and not s.defect_px
        ],
        duplicates=[
            DuplicatePair(
                names=pair(duplicate.first, duplicate.second),
                exact=duplicate.is_exact,
                correlation=round(duplicate.correlation, 4),
            )
            for duplicate in scan.duplicates
        ],
        across_splits=[pair(duplicate.first, duplicate.second) for duplicate in scan.leaks()],
        findings=[
            DatasetFindingResult(level=each.level, what=each.message, remedy=each.remedy)
            for each in findings
        ],
    )


def _counts_by_split(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Return class to split to number of images; `good` is one of the classes."""
    out = {}
    for class_id, name in [(0, "good"), *enumerate(dataset.classes, 1)]:
        counts = Counter(r.split or "none" for r in dataset.samples if _belongs_to(r, class_id))
        out[name] = dict(sorted(counts.items()))
    return out
