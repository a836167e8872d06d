"""`edgeinspect data convert`: write a data set in another format."""

from __future__ import annotations

from pathlib import Path

import click

from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._options import BOXES, GOOD_CLASS, LAYOUT, with_options
from edgeinspect.cli._paths import DATASET, OUTPUT_FOLDER
from edgeinspect.cli._progress import QUIET, progress_bar
from edgeinspect.cli._results.learning import DatasetConversion
from edgeinspect.cli._tables import format_number_of
from edgeinspect.cli._terminal import echo

_MAX_SHOWN = 20


@click.command(
    cls=Command,
    examples=[
        (
            "Write a project of CVAT as COCO",
            "edgeinspect data convert castings --to coco --out castings-coco",
        ),
        (
            "Turn boxes into rough masks, in the project's own layout",
            "edgeinspect data convert castings --boxes masks --to edgeinspect --out castings-own",
        ),
    ],
)
@with_options(
    click.argument("path", metavar="DATASET", type=DATASET),
    click.option(
        "--to",
        "target",
        default="edgeinspect",
        show_default=True,
        type=click.Choice(["edgeinspect", "coco"]),
        help="The format: `edgeinspect` is an index.csv with masks as PNG, `coco` has masks as "
        "run lengths and keeps boxes.",
    ),
    click.option(
        "--out",
        required=True,
        metavar="FOLDER",
        type=OUTPUT_FOLDER,
        help="The folder to write, new or empty.",
    ),
    LAYOUT,
    GOOD_CLASS,
    BOXES,
    QUIET,
)
@json_option("edgeinspect.cli._results.learning:DatasetConversion")
def convert(
    path: Path,
    target: str,
    out: Path,
    layout: str | None,
    good_classes: tuple[str, ...],
    draws_boxes: bool,
    as_json: bool,
) -> None:
    """Write DATASET in another format.

    Images are linked or copied, never encoded again; masks are written without loss. Splits,
    groups, names and unlabelled areas are kept.
    """
    from edgeinspect.learning.datasets import convert_dataset, open_dataset

    dataset = open_dataset(path, layout, good_classes=good_classes, draws_boxes=draws_boxes)
    with progress_bar("writing images", len(dataset)) as progress:
        done = convert_dataset(dataset, out, target, progress)
    outcome = DatasetConversion(
        folder=str(out),
        images=done.images,
        notes=[*dataset.notes, *done.notes],
        skipped={one.name: one.reason for one in done.skipped},
    )
    print_result(outcome, as_json, _show)


def _show(outcome: DatasetConversion) -> None:
    for note in outcome.notes:
        echo(f"note  {note}")
    for name, reason in list(outcome.skipped.items())[:_MAX_SHOWN]:
        echo(f"skipped  {name}: {reason}")
    if (more := len(outcome.skipped) - _MAX_SHOWN) > 0:
        echo(f"skipped  {more} more, which --json lists")
    echo(f"{format_number_of(outcome.images, 'image')} in {outcome.folder}")
