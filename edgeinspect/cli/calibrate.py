"""`edgeinspect calibrate`: an INT8 version of a model, verified against its FP32 parent."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._command import Command, Option
from edgeinspect.cli._evaluation_options import FILE_OF_SPLITS
from edgeinspect.cli._options import SEED, STORE
from edgeinspect.cli._paths import FRAMES, MODEL, OUTPUT_FOLDER
from edgeinspect.cli._progress import stage_bars
from edgeinspect.cli._ranges import FiniteRange, IntRange
from edgeinspect.cli._tables import skipped_image_lines
from edgeinspect.cli._terminal import Console, echo
from edgeinspect.errors import ModelError, UsageError

METHODS = ("best", "minmax", "percentile", "entropy", "mse")
_MAX_SHOWN = 8


@click.command(
    cls=Command,
    examples=[
        (
            "Calibrate with last week's frames, verify on labelled ones",
            "edgeinspect calibrate strip-gate/1 --images pictures --data castings#test",
        ),
        (
            "Keep the most sensitive layers in float if a limit is exceeded",
            "edgeinspect calibrate strip-gate/1 --images strip:21:400 --exclude-sensitive",
        ),
    ],
    renamed={
        "--labels": "--data DATASET",
        "--out": "--store FOLDER",
        "--count": "--frames N",
        "--reports-dir": "--reports FOLDER",
    },
)
@click.argument("model", type=MODEL)
@click.option(
    "--images",
    required=True,
    metavar="IMAGES",
    type=FRAMES,
    help="Frames to calibrate with: a folder, FOLDER#SPLIT of a data set, or strip:SEED:COUNT.",
)
@click.option(
    "--data",
    "labels",
    metavar="DATASET",
    type=FRAMES,
    help="Labelled frames to verify on: FOLDER#SPLIT of a data set, or strip:SEED:COUNT. "
    "Without them FP32 and INT8 must agree on held-out frames.",
)
@FILE_OF_SPLITS
@click.option(
    "--gate", metavar="MODEL", type=MODEL, help="Gate whose score groups a segmenter's frames."
)
@click.option(
    "--method",
    default="best",
    show_default=True,
    type=click.Choice(METHODS),
    help="How clip ranges are chosen; `best` compares all methods on held-out frames.",
)
@click.option(
    "--frames",
    "count",
    default=256,
    show_default=True,
    metavar="N",
    type=IntRange(1, 100_000),
    help="Frames to calibrate with, drawn from the images.",
)
@click.option(
    "--held-out",
    default=64,
    show_default=True,
    metavar="N",
    type=IntRange(1, 10_000),
    help="Frames to compare methods on.",
)
@SEED
@STORE
@click.option(
    "--reports",
    "reports_dir",
    metavar="FOLDER",
    type=OUTPUT_FOLDER,
    help="Folder for range tables and reports; `calibration` beside the store by default.",
)
@click.option(
    "--exclude-sensitive",
    is_flag=True,
    help="If a limit is exceeded, exclude the fewest layers that bring it back.",
)
@click.option(
    "--keep-float", multiple=True, metavar="LAYER", help="Keep a layer in float. Repeatable."
)
@click.option(
    "--max-float-layers",
    default=6,
    show_default=True,
    metavar="N",
    type=IntRange(1, 1000),
    help="Layers that --exclude-sensitive may keep in float.",
)
@click.option(
    "--sensitivity-frames",
    default=8,
    show_default=True,
    metavar="N",
    type=IntRange(0, 1000),
    help="Frames to measure each layer's sensitivity on; 0 skips it.",
)
@click.option(
    "--dice-points",
    cls=Option,
    default=1.0,
    show_default=True,
    unit="points",
    metavar="POINTS",
    type=FiniteRange(0, 100),
    help="Dice points that a class may lose.",
)
@click.option(
    "--backend",
    metavar="NAME",
    default="",
    help="Backend for the verification: ov or ort; ov if installed.",
)
@click.option(
    "--resume", is_flag=True, help="Continue an interrupted calibration with the same settings."
)
@click.option(
    "--work",
    metavar="FOLDER",
    type=OUTPUT_FOLDER,
    help="Folder for checkpoints of unfinished calibrations; "
    "$XDG_CACHE_HOME/edgeinspect/calibrate by default.",
)
def calibrate(
    model: str,
    images: str,
    labels: str | None,
    split_file: Path | None,
    gate: str | None,
    method: str,
    count: int,
    held_out: int,
    seed: int,
    store: Path | None,
    reports_dir: Path | None,
    exclude_sensitive: bool,
    keep_float: tuple[str, ...],
    max_float_layers: int,
    sensitivity_frames: int,
    dice_points: float,
    backend: str,
    resume: bool,
    work: Path | None,
) -> None:
    """Make an INT8 version of MODEL and verify it against MODEL on the same frames.

    MODEL is NAME/VERSION of the store or a folder with a manifest. The new version is a
    candidate: `edgeinspect models promote` makes it live. Exit code 65 if a limit is
    exceeded; a report is written either way.
    """
    from edgeinspect.learning.calibrate import (
        REPORTS_DIR,
        AcceptanceLimits,
        CalibrationConfig,
        render_report,
        write_reports,
        write_version,
    )
    from edgeinspect.learning.calibrate import calibrate as run
    from edgeinspect.learning.evaluate import find_training_split, resolve_model
    from edgeinspect.storage.model_store import ModelStore

    if backend not in ("", "ov", "ort"):
        raise UsageError(f"'{backend}' cannot run an INT8 graph here", remedy="Give ov or ort")
    target_store = ModelStore(store)
    source = target_store if store is not None and target_store.names() else ModelStore()
    model_store, model_ref = resolve_model(model, source)
    parent = model_store.resolve(model_ref)
    gate_spec = None
    if gate is not None:
        gate_store, gate_ref = resolve_model(gate, source)
        gate_spec = gate_store.resolve(gate_ref)
    config = CalibrationConfig(
        parent,
        images,
        labels,
        split_file=split_file,
        training_split=find_training_split(model),
        scoring_gate=gate_spec,
        method=method,
        seed=seed,
        frame_count=count,
        held_out_count=held_out,
        sensitivity_frames=sensitivity_frames,
        exclude_sensitive=exclude_sensitive,
        max_float_layers=max_float_layers,
        float_layers=keep_float,
        limits=replace(AcceptanceLimits(), dice=dice_points / 100),
        backend=backend,
    )
    with stage_bars() as report:
        result = run(config, work or _default_work_folder(), resume=resume, progress=report)
    folder = reports_dir or target_store.root.absolute().parent / REPORTS_DIR
    name = parent.id.name
    if not result.acceptance.is_accepted:
        target = folder / name / f"refused-{result.id}"
        write_reports(result, target, render_report(result))
        result.checkpoint.clear()
        _print_result(result)
        raise ModelError(
            f"INT8 of {parent.id} is rejected: {result.acceptance.reason}",
            where=str(target / "report.html"),
            remedy="Keeping layers in float does not help"
            if exclude_sensitive
            else "The report names sensitive layers; --exclude-sensitive keeps the fewest in float",
        )
    version_folder = write_version(result, target_store)
    write_reports(result, folder / name / version_folder.name, render_report(result))
    result.checkpoint.clear()
    _print_result(result)
    echo(f"{name}/{version_folder.name} is a candidate in {version_folder}")
    echo(f"report: {folder / name / version_folder.name / 'report.html'}")


def _default_work_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "edgeinspect" / "calibrate"


def _print_result(result: object) -> None:
    """Print the limits and the sensitivity of the layers."""
    from edgeinspect.learning.calibrate import UNREADABLE, CalibrationResult

    assert isinstance(result, CalibrationResult)
    console = Console()
    unreadable = [
        (name, "cannot be read")
        for name, digest in zip(result.frames.names, result.frame_metrics.digests, strict=True)
        if digest == UNREADABLE
    ]
    for line in skipped_image_lines(
        [*((one.name, one.reason) for one in result.frames.skipped), *unreadable],
        "edgeinspect data inspect",
    ):
        Console(stderr=True).print(line, style="yellow", highlight=False, markup=False)
    if result.frames.note:
        echo(f"the frames are read as images of {result.frames.note}", err=True)
    for warning in result.drift:
        Console(stderr=True).print(
            f"warning: the sample does not look like the reference: {warning}",
            style="yellow",
            highlight=False,
        )
    table = Table(
        title=f"{result.id}: method {result.method}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for heading in ("limit", "FP32", "INT8", "", "how"):
        table.add_column(heading)
    for check in result.acceptance.checks:
        mark = Text("met", "green") if check.passed else Text("exceeded", "red")
        table.add_row(check.name, f"{check.fp32:.4f}", f"{check.int8:.4f}", mark, check.words)
    console.print(table)
    if result.sensitivity is not None:
        table = Table(title="layer sensitivity", title_justify="left", box=None, pad_edge=False)
        for heading in (
            "layer",
            "signal to noise",
            "error, alone in INT8",
            "gain, alone in float",
        ):
            table.add_column(heading)
        for row in result.sensitivity.rows[:_MAX_SHOWN]:
            table.add_row(
                row.layer,
                f"{row.signal_db:.1f} dB",
                f"{row.distance_int8:.5f}",
                f"{row.distance_recovered:+.5f}",
            )
        console.print(table)
    if result.float_layers:
        console.print(f"kept in float: {', '.join(result.float_layers)}", highlight=False)
