"""`edgeinspect calibrate`: an INT8 version of a model, verified against its FP32 parent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from edgeinspect.cli._command import Command, Option
from edgeinspect.cli._evaluation_options import FILE_OF_SPLITS, ON_TRAINING_IMAGES
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._next_commands import after_calibration, print_commands
from edgeinspect.cli._options import NEW_STORE, SEED
from edgeinspect.cli._paths import FRAMES, MODEL, OUTPUT_FOLDER
from edgeinspect.cli._progress import QUIET, stage_bars
from edgeinspect.cli._ranges import FiniteRange, IntRange
from edgeinspect.cli._results.models import (
    AcceptanceResultRow,
    CalibrationOutcome,
    LayerSensitivity,
)
from edgeinspect.cli._tables import (
    Column,
    TextTable,
    number,
    print_table,
    print_text,
    skipped_image_lines,
)
from edgeinspect.cli._terminal import echo
from edgeinspect.errors import ModelError, UsageError

if TYPE_CHECKING:
    from edgeinspect.learning.calibrate import CalibrationResult

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
@ON_TRAINING_IMAGES
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
@NEW_STORE
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
@QUIET
@json_option("edgeinspect.cli._results.models:CalibrationOutcome")
def calibrate(
    model: str,
    images: str,
    labels: str | None,
    split_file: Path | None,
    on_training_images: bool,
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
    as_json: bool,
) -> None:
    """Make an INT8 version of MODEL and verify it against MODEL on the same frames.

    MODEL is NAME/VERSION of the store or a folder with a manifest. The new version is a
    candidate, or live if it is the first of its name: `edgeinspect models promote` makes a
    candidate live. Exit code 65 if a limit is exceeded; a report is written either way.
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
    from edgeinspect.learning.evaluate import resolve_model
    from edgeinspect.storage.model_store import ModelStore

    if backend not in ("", "ov", "ort"):
        raise UsageError(f"'{backend}' cannot run an INT8 graph here", remedy="Give ov or ort")
    target_store = ModelStore(store)
    source = target_store if store is not None and target_store.names() else ModelStore()
    model_store, model_ref = resolve_model(model, source, store_first=source is target_store)
    parent = model_store.resolve(model_ref)
    gate_spec = None
    if gate is not None:
        gate_store, gate_ref = resolve_model(gate, source, store_first=source is target_store)
        gate_spec = gate_store.resolve(gate_ref)
    config = CalibrationConfig(
        parent,
        images,
        labels,
        split_file=split_file,
        on_training_images=on_training_images,
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
        _print_warnings(result)
        print_result(_outcome(result, target, None), as_json, _show)
        raise ModelError(
            f"INT8 of {parent.id} is rejected: {result.acceptance.reason}",
            where=str(target / "report.html"),
            remedy=result.acceptance.remedy or _float_remedy(tried=exclude_sensitive),
        )
    version_folder = write_version(result, target_store)
    write_reports(result, folder / name / version_folder.name, render_report(result))
    result.checkpoint.clear()
    _print_warnings(result)
    outcome = _outcome(result, folder / name / version_folder.name, version_folder)
    print_result(outcome, as_json, _show)


def _float_remedy(*, tried: bool) -> str:
    if tried:
        return "Keeping layers in float does not help"
    return "The report names sensitive layers; --exclude-sensitive keeps the fewest in float"


def _default_work_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "edgeinspect" / "calibrate"


def _outcome(
    result: CalibrationResult, reports: Path, version_folder: Path | None
) -> CalibrationOutcome:
    """Return the result for people and programs; a refused one has no version."""
    from edgeinspect.learning.calibrate import score_section, threshold_section

    parent = result.config.parent.id
    return CalibrationOutcome(
        id=result.id,
        parent=str(parent),
        accepted=result.acceptance.is_accepted,
        reason=result.acceptance.reason,
        model=None if version_folder is None else f"{parent.name}/{version_folder.name}",
        folder=None if version_folder is None else str(version_folder),
        report=str(reports / "report.html"),
        method=result.method,
        checks=[
            AcceptanceResultRow(
                name=check.name,
                before=check.fp32,
                after=check.int8,
                passed=check.passed,
                text=check.words,
            )
            for check in result.acceptance.checks
        ],
        scores=score_section(result.acceptance),
        thresholds=threshold_section(result),
        layers=[
            LayerSensitivity(
                layer=row.layer,
                signal_db=row.signal_db,
                distance_int8=row.distance_int8,
                distance_recovered=row.distance_recovered,
            )
            for row in (result.sensitivity.rows if result.sensitivity is not None else ())
        ],
        float_layers=list(result.float_layers),
        drift=list(result.drift),
        skipped=dict(_skipped_images(result)),
    )


def _skipped_images(result: CalibrationResult) -> Iterator[tuple[str, str]]:
    from edgeinspect.learning.calibrate import UNREADABLE

    yield from ((one.name, one.reason) for one in result.frames.skipped)
    for name, digest in zip(result.frames.names, result.frame_metrics.digests, strict=True):
        if digest == UNREADABLE:
            yield name, "cannot be read"


def _print_warnings(result: CalibrationResult) -> None:
    """Print on stderr which images are skipped, and how the sample differs."""
    for line in skipped_image_lines(_skipped_images(result), "edgeinspect data inspect"):
        echo(line, err=True)
    for note in result.notes:
        echo(f"note: {note}", err=True)
    if result.frames.note:
        echo(f"the frames are read as images of {result.frames.note}", err=True)
    for warning in result.drift:
        echo(f"warning: the sample does not look like the reference: {warning}", err=True)


def _show_thresholds(outcome: CalibrationOutcome) -> None:
    """Print the scores, and what both models reject at old and new thresholds."""
    for name, score in outcome.scores.items():
        words = {"auc": "AUC", "mean_iou": "mean IoU"}[name]
        print_text(f"{words}: FP32 {score['fp32']:.4f}, INT8 {score['int8']:.4f}")
    found = outcome.thresholds
    if found is None or not found["rejects"]:
        return
    table = TextTable(
        "of the frames", number("FP32"), number("INT8, FP32's"), number("INT8, its own")
    )
    for name, shares in found["rejects"].items():
        for key, words in (("recall", "recall"), ("false_rejects", "false rejects")):
            cells = (
                "-" if value is None else f"{100 * value:.1f} %" for value in shares[key].values()
            )
            table.add_row(f"{words} at `{name}`", *cells)
    print_table(table)
    if found["chosen_on"]:
        moved = [name for name in found["int8"] if found["int8"][name] != found["fp32"][name]]
        changes = ", ".join(
            f"{name} {_limit(found['fp32'][name])} to {_limit(found['int8'][name])}"
            for name in moved
        )
        chosen = f"on the {found['frames']} images of {found['chosen_on']}"
        print_text(f"thresholds of INT8, chosen {chosen}: {changes or 'as FP32'}")
        if moved:
            print_text("a line's file states its own: change `decide` there with the version")
    else:
        print_text(f"thresholds of INT8: as FP32, {found['note']}")


def _limit(value: Any) -> str:
    return f"{value['score'] if isinstance(value, dict) else value:g}"


def _show(outcome: CalibrationOutcome) -> None:
    """Print the limits and the sensitivity of the layers."""
    table = TextTable(
        "limit",
        number("FP32"),
        number("INT8"),
        Column("", fixed=True),
        "how",
        title=f"{outcome.id}: method {outcome.method}",
    )
    for check in outcome.checks:
        mark = Text("met", "green") if check.passed else Text("exceeded", "red")
        table.add_row(check.name, f"{check.before:.4f}", f"{check.after:.4f}", mark, check.text)
    print_table(table)
    _show_thresholds(outcome)
    if outcome.layers:
        table = TextTable(
            "sensitive layers",
            number("signal to noise, dB"),
            number("error, alone in INT8"),
            number("gain, alone in float"),
        )
        for row in outcome.layers[:_MAX_SHOWN]:
            table.add_row(
                row.layer,
                f"{row.signal_db:.1f}",
                f"{row.distance_int8:.5f}",
                f"{row.distance_recovered:+.5f}",
            )
        print_table(table)
    if outcome.float_layers:
        print_text(f"kept in float: {', '.join(outcome.float_layers)}")
    if outcome.model is not None:
        version = Path(str(outcome.folder))
        is_live = _is_live(version)
        # Live without a promotion is only the first version of a name.
        state = "is live, as the first version of its name," if is_live else "is a candidate"
        print_text(f"{outcome.model} {state} in {version}")
        print_text(f"report: {outcome.report}")
        if not is_live:
            print_commands(list(after_calibration(str(outcome.model), version.parents[1])))


def _is_live(version: Path) -> bool:
    from edgeinspect.storage.model_store import ModelStage, ModelStore

    store = ModelStore(version.parents[1])
    return store.stage_of(version.parent.name, int(version.name)) is ModelStage.LIVE
