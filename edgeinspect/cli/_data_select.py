"""`edgeinspect data select`: the images of an archive that are most worth labelling."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click
from rich.text import Text

from edgeinspect.cli._command import Command
from edgeinspect.cli._evaluation_options import BACKEND
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._options import STORE
from edgeinspect.cli._paths import IMAGES_FOLDER, MODEL, OUTPUT_FILE, OUTPUT_PATH
from edgeinspect.cli._progress import QUIET, progress_bar
from edgeinspect.cli._ranges import IntRange
from edgeinspect.cli._results.learning import ImageSelection, SelectedImageResult
from edgeinspect.cli._tables import (
    Column,
    TextTable,
    format_count,
    format_number_of,
    number,
    print_table,
    print_text,
    skipped_image_lines,
)

_CRITERIA = ("disagree", "uncertain", "unlike")


@click.command(
    cls=Command,
    examples=[
        (
            "Copy the 50 images of an archive that are most worth labelling",
            "edgeinspect data select archive --model strip-gate --out to-label --sheet sheet.png",
        ),
        (
            "List images on which two versions disagree",
            "edgeinspect data select archive --model strip-gate/1 --model strip-gate/2 "
            "--by disagree --out images.csv",
        ),
    ],
)
@click.argument("source", metavar="FOLDER", type=IMAGES_FOLDER)
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="MODEL",
    type=MODEL,
    help="Model whose opinion counts, as for `evaluate`. Repeatable.",
)
@click.option(
    "--count",
    default=50,
    show_default=True,
    metavar="N",
    type=IntRange(1, 10_000),
    help="Images to select, at most.",
)
@click.option(
    "--by",
    "criteria",
    multiple=True,
    type=click.Choice(_CRITERIA),
    help="Why images are selected; by default all, in turn. Repeatable.",
)
@click.option(
    "--labelled",
    metavar="DATASET",
    type=IMAGES_FOLDER,
    help="Images that are labelled already: unlike ones are far from these too.",
)
@click.option(
    "--out",
    metavar="FOLDER_OR_FILE.csv",
    type=OUTPUT_PATH,
    help="Copy the images and the table into a new folder, or write the table alone.",
)
@click.option(
    "--sheet",
    metavar="FILE.png",
    type=OUTPUT_FILE,
    help="Draw the selected images with their reasons into this PNG file.",
)
@BACKEND
@STORE
@QUIET
@json_option("edgeinspect.cli._results.learning:ImageSelection")
def select(
    source: Path,
    models: tuple[str, ...],
    count: int,
    criteria: tuple[str, ...],
    labelled: Path | None,
    out: Path | None,
    sheet: Path | None,
    backend: str | None,
    store: Path | None,
    as_json: bool,
) -> None:
    """Select the images of FOLDER that are most worth labelling.

    FOLDER is an archive, a data set or a folder of images. Images are selected because a model
    is uncertain (its score is near the threshold), because they are unlike the others, or
    because two models disagree. Near duplicates are selected once; images that the models were
    trained on are left out.
    """
    from edgeinspect.cli._evaluation_options import load_inspector
    from edgeinspect.learning.evaluate import NOT_ASKED, training_knowledge
    from edgeinspect.learning.select import (
        claim_selection,
        open_candidates,
        select_images,
        write_selection,
        write_selection_sheet,
    )

    with contextlib.ExitStack() as stack:
        stack.enter_context(claim_selection(out))
        inspectors = []
        for model in models:
            inspectors.append(load_inspector(model, None, None, backend, store))
            stack.callback(inspectors[-1].close)
        names = [str(one.spec.id) for one in inspectors]
        knowledge = training_knowledge(spec for one in inspectors for spec in one.specs)
        candidates = open_candidates(source, knowledge)
        known = open_candidates(labelled, NOT_ASKED) if labelled is not None else None
        with progress_bar("inspecting", len(candidates.images)) as progress:
            selection = select_images(candidates, inspectors, count, criteria, known, progress)
        if sheet is not None:
            write_selection_sheet(sheet, selection, candidates, inspectors)
        copies = write_selection(selection, out, names) if out is not None else {}
    notes = [*candidates.notes]
    notes += [
        f"{format_number_of(left_out, 'image')} of the training of {model} left out"
        for model, left_out in candidates.labelled.items()
    ]
    if selection.duplicates:
        notes.append(f"{format_number_of(selection.duplicates, 'near duplicate')} passed over")
    result = ImageSelection(
        source=str(source),
        models=names,
        considered=selection.considered,
        selected=[
            SelectedImageResult(
                name=one.image.name,
                path=str(one.image.path),
                copy=copies.get(one.image.name),
                criterion=one.criterion,
                value=one.value,
                reason=one.reason,
                opinions=list(one.opinions),
            )
            for one in selection.selected
        ],
        described_by=selection.described_by,
        duplicates=selection.duplicates,
        labelled=dict(candidates.labelled),
        unreadable=selection.unreadable,
        notes=notes,
        out=None if out is None else str(out),
        sheet=None if sheet is None else str(sheet),
    )
    print_result(result, as_json, _show)


def _show(result: ImageSelection) -> None:
    table = TextTable(
        number("rank"),
        Column("image", is_path=True),
        Column("because", fixed=True),
        "reason",
        title=f"{format_number_of(len(result.selected), 'image')} to label, of "
        f"{format_count(result.considered)}",
    )
    for rank, one in enumerate(result.selected, 1):
        opinions = [words for words in dict.fromkeys(one.opinions) if words != one.reason]
        table.add_row(rank, one.name, one.criterion, "; ".join([one.reason, *opinions]))
    print_table(table)
    for note in result.notes:
        print_text(Text(f"note: {note}", style="yellow"))
    for line in skipped_image_lines(result.unreadable.items(), "--json"):
        print_text(Text(line, style="yellow"))
    for path in (result.out, result.sheet):
        if path is not None:
            print_text(f"written to {path}")
