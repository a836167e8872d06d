"""`edgeinspect calibrate`: an INT8 version of a model, proved against its FP32 parent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._number_types import FiniteRange
from edgeinspect.cli._skipped_images import skipped_image_lines
from edgeinspect.cli._terminal import Console, echo
from edgeinspect.errors import ModelError, UsageError

METHODS = ("best", "minmax", "percentile", "entropy", "mse")
_MAX_SHOWN = 8


@click.command()
@click.argument("model")
@click.option(
    "--images",
    required=True,
    help="Frames to calibrate with: a folder, FOLDER#SPLIT of a data set, or strip:SEED:COUNT.",
)
@click.option(
    "--labels",
    "--data",
    "labels",
    help="Labelled frames to prove by: FOLDER#SPLIT of a data set, or strip:SEED:COUNT. "
    "Without them FP32 and INT8 must agree on held-out frames.",
)
@click.option("--gate", help="Gate whose score sorts a segmenter's frames into kinds.")
@click.option(
    "--method",
    default="best",
    show_default=True,
    type=click.Choice(METHODS),
    help="How ranges are found; `best` compares all on held-out frames.",
)
@click.option(
    "--count",
    default=256,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Frames to calibrate with, drawn from the images.",
)
@click.option(
    "--held-out",
    default=64,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Frames to compare methods on.",
)
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0, 2**31), help="Of the drawing."
)
@click.option(
    "--out",
    "--store",
    "out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Store that gets the version; the machine's own when absent.",
)
@click.option(
    "--papers",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for range tables and reports; `calibration` beside the store.",
)
@click.option(
    "--recover",
    is_flag=True,
    help="If a bound is passed, leave the fewest layers in float that mend it.",
)
@click.option("--keep-float", multiple=True, metavar="LAYER", help="Leave a layer in float.")
@click.option(
    "--most-float",
    default=6,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Layers that --recover may leave in float.",
)
@click.option(
    "--blame",
    "blame_frames",
    default=8,
    show_default=True,
    type=click.IntRange(0, 1000),
    help="Frames to find out with what each layer costs; 0 leaves it out.",
)
@click.option(
    "--dice-points",
    default=1.0,
    show_default=True,
    type=FiniteRange(0, 100),
    help="Points of Dice that a class may lose.",
)
@click.option("--backend", default="", help="Runs the proofs: ov or ort; ov where installed.")
@click.option("--resume", is_flag=True, help="Go on where the same calibration was ended.")
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the state of unfinished calibrations.",
)
@click.pass_context
def calibrate(
    ctx: click.Context,
    model: str,
    images: str,
    labels: str | None,
    gate: str | None,
    method: str,
    count: int,
    held_out: int,
    seed: int,
    out: Path | None,
    papers: Path | None,
    recover: bool,
    keep_float: tuple[str, ...],
    most_float: int,
    blame_frames: int,
    dice_points: float,
    backend: str,
    resume: bool,
    work: Path | None,
) -> None:
    """Make an INT8 version of MODEL and prove it against MODEL on the same frames.

    MODEL is NAME/VERSION of the store or a folder with a manifest. The new version is a
    candidate: `edgeinspect engines promote` makes it live. Exit code 65 if a bound is
    passed; the report says why either way.
    """
    from edgeinspect.learning.calibrate.acceptance import AcceptanceLimits
    from edgeinspect.learning.calibrate.calibration import CalibrationConfig
    from edgeinspect.learning.calibrate.calibration import calibrate as run
    from edgeinspect.learning.calibrate.report import render_report
    from edgeinspect.learning.calibrate.write_version import (
        REPORTS_DIR,
        write_reports,
        write_version,
    )
    from edgeinspect.learning.evaluate import resolve_model
    from edgeinspect.storage.model_store import ModelStore

    if backend not in ("", "ov", "ort"):
        raise UsageError(f"'{backend}' runs no INT8 graph here", remedy="Give ov or ort")
    store = ModelStore(out)
    source = store if out is not None and store.names() else ModelStore()
    found, ref = resolve_model(model, source)
    parent = found.resolve(ref)
    scoring = None
    if gate is not None:
        holder, named = resolve_model(gate, source)
        scoring = holder.resolve(named)
    request = CalibrationConfig(
        parent,
        images,
        labels,
        scoring,
        method,
        seed,
        count,
        held_out,
        blame_frames,
        recover,
        most_float,
        keep_float,
        replace(AcceptanceLimits(), dice=dice_points / 100),
        backend,
    )
    with _progress() as report:
        outcome = run(request, work or _default_work_folder(), resume=resume, progress=report)
    folder = papers or store.root.absolute().parent / REPORTS_DIR
    name = parent.id.name
    if not outcome.acceptance.is_accepted:
        target = folder / name / f"refused-{outcome.id}"
        write_reports(outcome, target, render_report(outcome))
        outcome.checkpoint.clear()
        _print_result(outcome)
        raise ModelError(
            f"INT8 of {parent.id} is refused: {outcome.acceptance.reason}",
            where=str(target / "report.html"),
            remedy="Blame names the layers; --recover leaves the fewest in float"
            if not recover
            else "Not even leaving layers in float mends it",
        )
    made = write_version(outcome, store)
    write_reports(outcome, folder / name / made.name, render_report(outcome))
    outcome.checkpoint.clear()
    _print_result(outcome)
    echo(f"{name}/{made.name} is a candidate in {made}")
    echo(f"report: {folder / name / made.name / 'report.html'}")


def _default_work_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "edgeinspect" / "calibrate"


def _print_result(outcome: object) -> None:
    """Bounds and blame on the terminal."""
    from edgeinspect.learning.calibrate.calibration import CalibrationResult
    from edgeinspect.learning.calibrate.sampling import UNREADABLE

    assert isinstance(outcome, CalibrationResult)
    console = Console()
    broken = [
        (name, "cannot be read")
        for name, digest in zip(outcome.frames.names, outcome.frame_metrics.digests, strict=True)
        if digest == UNREADABLE
    ]
    for line in skipped_image_lines(
        [*((one.name, one.reason) for one in outcome.frames.skipped), *broken],
        "edgeinspect data inspect",
    ):
        Console(stderr=True).print(line, style="yellow", highlight=False, markup=False)
    if outcome.frames.note:
        echo(f"the frames are read as pictures of {outcome.frames.note}", err=True)
    for words in outcome.drift:
        Console(stderr=True).print(
            f"warning: the sample does not look like the reference: {words}",
            style="yellow",
            highlight=False,
        )
    table = Table(
        title=f"{outcome.id}: method {outcome.method}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for heading in ("bound", "FP32", "INT8", "", "how"):
        table.add_column(heading)
    for check in outcome.acceptance.checks:
        mark = Text("holds", "green") if check.passed else Text("passed over", "red")
        table.add_row(check.name, f"{check.fp32:.4f}", f"{check.int8:.4f}", mark, check.words)
    console.print(table)
    if outcome.sensitivity is not None:
        table = Table(title="blame", title_justify="left", box=None, pad_edge=False)
        for heading in (
            "layer",
            "signal to noise",
            "strays, alone in int8",
            "restores, alone in float",
        ):
            table.add_column(heading)
        for row in outcome.sensitivity.rows[:_MAX_SHOWN]:
            table.add_row(
                row.layer, f"{row.signal_db:.1f} dB", f"{row.strays:.5f}", f"{row.restores:+.5f}"
            )
        console.print(table)
    if outcome.float_layers:
        console.print(f"left in float: {', '.join(outcome.float_layers)}", highlight=False)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar per stage, on stderr."""
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = int(bars.add_task(stage, total=total))
            bars.update(tasks[stage], completed=done, total=total)  # type: ignore[arg-type]

        yield report
