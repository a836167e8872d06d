"""`edgeinspect train`: train the gate and the segmenter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.text import Text

from edgeinspect.cli._accuracy_facts import accuracy_facts
from edgeinspect.cli._command import Group
from edgeinspect.cli._group_options import GROUPS, group_rule
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._next_commands import after_training, print_commands
from edgeinspect.cli._options import BOXES, GOOD_CLASS, LAYOUT, SEED, parse_size, with_options
from edgeinspect.cli._paths import (
    DATASET,
    NEW_STORE_FOLDER,
    OUTPUT_FOLDER,
    SPLIT_FILE,
    TRAINING_RUN,
    WEIGHTS,
)
from edgeinspect.cli._progress import QUIET, stage_bars
from edgeinspect.cli._ranges import IntRange
from edgeinspect.cli._results.learning import TrainedModel, TrainingOutcome
from edgeinspect.cli._tables import (
    TextTable,
    number,
    print_facts,
    print_table,
    print_text,
    skipped_image_lines,
)
from edgeinspect.cli._terminal import echo
from edgeinspect.cli._train_anomaly import anomaly
from edgeinspect.errors import MissingExtraError, UsageError
from edgeinspect.learning.train.defaults import GATE, SEGMENTER, TrainingDefaults
from edgeinspect.registry import is_installed

if TYPE_CHECKING:
    from edgeinspect.learning.train.architecture_comparison import ArchitectureComparison

_KINDS_ONLY = (
    "It has learned from no good image: it tells kinds of defects apart, and cannot decide "
    "whether a part is good. For that, name the class of good images with --good-class, or add "
    "good images, and train again."
)

_THREADS = click.option(
    "--threads",
    default=2,
    show_default=True,
    metavar="N",
    type=IntRange(1, 256),
    help="Processor threads; the same number gives bit-identical weights.",
)


_training_options = with_options(
    click.option(
        "--data",
        required=True,
        metavar="DATASET",
        type=DATASET,
        help="Data set, in any layout that `edgeinspect data inspect` knows.",
    ),
    LAYOUT,
    GOOD_CLASS,
    BOXES,
    click.option(
        "--out", required=True, metavar="FOLDER", type=OUTPUT_FOLDER, help="Run folder to create."
    ),
    click.option("--name", metavar="NAME", help="The model's name; the run folder's by default."),
    click.option(
        "--size",
        metavar="HxW",
        help="Frame size of the model; that of the images by default. "
        "Images of another size are letterboxed.",
    ),
    click.option(
        "--channels",
        type=click.Choice(["1", "3"]),
        help="1 grey, 3 colour; as the images are by default.",
    ),
    click.option(
        "--arch", metavar="NAME", help="Network; lite0 by default. See docs/howto/training.md."
    ),
    click.option(
        "--weights",
        metavar="FILE.pth|none|cached",
        type=WEIGHTS,
        help="Pretrained weights to start from, none, or those in torch's cache; those that are "
        "packaged for the network by default.",
    ),
    click.option(
        "--split-file",
        metavar="SPLIT_FILE",
        type=SPLIT_FILE,
        help="File that assigns images to splits, by `edgeinspect data split`.",
    ),
    GROUPS,
    click.option(
        "--rotation-invariant",
        is_flag=True,
        help="The part has no direction: augment by rotations of 90°.",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Replace a value of the recipe, as batch=8 or augment.noise=3. Repeatable.",
    ),
    click.option(
        "--pair",
        metavar="RUN",
        type=TRAINING_RUN,
        help="Run folder of the other model of the line, gate or segmenter, trained on the same "
        "data: frame and split are taken from it, thresholds are chosen for both.",
    ),
    click.option("--resume", is_flag=True, help="Continue the training in --out."),
    SEED,
    _THREADS,
)


def _steps_help(kind: TrainingDefaults) -> str:
    return f"Number of training steps: {kind.describe()}"


_gate_options, _segmenter_options = (
    with_options(click.option("--steps", metavar="N", type=IntRange(1), help=_steps_help(defaults)))
    for defaults in (GATE, SEGMENTER)
)


@click.group(
    cls=Group,
    examples=[
        (
            "Train the classifier that sees every frame",
            "edgeinspect train gate --data castings --out runs/gate",
        ),
        (
            "Train the network that finds the defects",
            "edgeinspect train segmenter --data castings --out runs/segmenter",
        ),
    ],
)
def train() -> None:
    """Train a gate or a segmenter, export it under the model contract, evaluate it."""


train.add_command(anomaly)


@train.command(
    examples=[
        ("Train on a folder of images", "edgeinspect train gate --data castings --out runs/gate"),
        (
            "Continue after an interruption",
            "edgeinspect train gate --data castings --out runs/gate --resume",
        ),
    ],
    renamed={"--split": "--split-file SPLIT_FILE"},
)
@_training_options
@_gate_options
@click.option(
    "--kinds/--no-kinds",
    default=None,
    help="Tell kinds of defects apart; by default if the set has several and no masks.",
)
@click.option(
    "--compare",
    metavar="NAME,NAME,...",
    help="Train each of these networks and write the comparison.",
)
@QUIET
@json_option("edgeinspect.cli._results.learning:TrainingOutcome")
def gate(compare: str | None, as_json: bool, **options: Any) -> None:
    """Train a gate: a classifier of whole frames, good or suspect."""
    if compare is not None:
        _compare([name.strip() for name in compare.split(",") if name.strip()], options, as_json)
    else:
        _run("gate", options, as_json)


@train.command(
    examples=[
        (
            "Train on a folder of images and masks",
            "edgeinspect train segmenter --data castings --out runs/segmenter",
        ),
    ],
    renamed={"--split": "--split-file SPLIT_FILE"},
)
@_training_options
@_segmenter_options
@click.option(
    "--stride",
    type=click.Choice(["2", "4"]),
    help="Frame pixels per class-map pixel; 2 if the frame is small.",
)
@QUIET
@json_option("edgeinspect.cli._results.learning:TrainingOutcome")
def segmenter(stride: str | None, as_json: bool, **options: Any) -> None:
    """Train a segmenter: a class for each pixel."""
    _run("segmenter", {**options, "stride": int(stride) if stride else None}, as_json)


@train.command(
    examples=[("Train both again into a new folder", "edgeinspect train strip --store engines")],
    renamed={
        "--out": "--store FOLDER",
        "--pictures": "--frames N",
        "--test-pictures": "--test-frames N",
    },
)
@click.option(
    "--store",
    "out",
    required=True,
    metavar="FOLDER",
    type=NEW_STORE_FOLDER,
    help="Folder of models to write into: FOLDER/NAME/VERSION/.",
)
@click.option(
    "--steps",
    default=1300,
    show_default=True,
    metavar="N",
    type=IntRange(1),
    help="Number of training steps.",
)
@click.option(
    "--frames",
    "pictures",
    default=5000,
    show_default=True,
    metavar="N",
    type=IntRange(16),
    help="Rendered frames to train on.",
)
@click.option(
    "--test-frames",
    "test_pictures",
    default=3000,
    show_default=True,
    metavar="N",
    type=IntRange(16),
    help="Rendered frames to measure on.",
)
@click.option(
    "--version",
    default=1,
    show_default=True,
    metavar="N",
    type=IntRange(1),
    help="Version number.",
)
@SEED
@_THREADS
@QUIET
@json_option("edgeinspect.cli._results.learning:TrainingOutcome")
def strip(as_json: bool, **options: Any) -> None:
    """Train both shipped models on the synthetic strip.

    It takes about half an hour on two cores.
    """
    _require_packages()
    from edgeinspect.learning.train.shipped_models import train_shipped_models

    with stage_bars() as report:
        figures = train_shipped_models(on_progress=report, **options)
    version = options["version"]
    models = [
        TrainedModel(
            name=name,
            folder=str(options["out"] / name / str(version)),
            accuracy={**figures[role], "line": figures["line"]},
        )
        for role, name in (("gate", "strip-gate"), ("segmenter", "strip-segmenter"))
    ]
    print_result(TrainingOutcome(models=models, skipped={}), as_json, _show)


def _run(kind: str, options: dict[str, Any], as_json: bool) -> None:
    config = _plan(kind, options)
    _require_packages(config.architecture)
    from edgeinspect.learning.train.training import train_model

    skipped: list[Any] = []
    try:
        with stage_bars() as report:
            result = train_model(config, report, skipped.extend)
    finally:  # skipped images are listed on errors too
        entries = ((image.name, image.reason) for image in skipped)
        for line in skipped_image_lines(entries, str(config.out / "run.json")):
            echo(line, err=True)
    if result is None:  # another process of torchrun prints it
        return
    folder = str(config.out / config.name / "1")
    outcome = TrainingOutcome(
        models=[
            TrainedModel(
                name=config.name,
                folder=folder,
                accuracy=result.accuracy,
                note="" if result.line is not None else _KINDS_ONLY,
            )
        ],
        skipped={image.name: image.reason for image in skipped},
        line=str(result.line) if result.line is not None else None,
        next=list(
            after_training(
                config, result.line, has_masks=result.has_masks, has_test=result.has_test
            )
        ),
    )
    print_result(outcome, as_json, _show)


def _show(outcome: TrainingOutcome) -> None:
    for model in outcome.models:
        if model.accuracy:
            print_text(Text(f"{model.name}, on the test split", style="bold"))
            print_facts(accuracy_facts(model.accuracy))
        print_text(f"model: {model.folder}")
        if model.note:
            print_text(model.note)
    if outcome.line is not None:
        print_text(f"line: {outcome.line}")
        if Path(outcome.line).name != "line.yaml":
            print_text("line.yaml was edited and is kept; compare the two")
    print_commands(outcome.next)


def _compare(names: list[str], options: dict[str, Any], as_json: bool) -> None:
    if not names:
        raise UsageError("names no architecture", where="--compare", remedy="As in small,lite0")
    config = _plan("gate", options)
    _require_packages(*names)
    from edgeinspect.learning.train.architecture_comparison import train_and_compare_gates

    with stage_bars() as report:
        comparison = train_and_compare_gates(config, names, report)
    outcome = TrainingOutcome(
        models=[
            TrainedModel(
                name=row.name,
                folder=str(config.out / row.name / row.name / "1"),
                accuracy=msgspec.to_builtins(row),
            )
            for row in comparison.rows
        ],
        skipped={},
        comparison=str(config.out / "comparison.json"),
    )
    print_result(outcome, as_json, lambda _outcome: _show_comparison(comparison, config.out))


def _show_comparison(comparison: ArchitectureComparison, out: Path) -> None:
    table = TextTable(
        "network",
        number("escape"),
        number("overkill"),
        number("accuracy"),
        number("AUC"),
        number("FP32 ms"),
        number("INT8 ms"),
        number("INT8 accuracy", optional=True),
        number("parameters", optional=True),
        number("GMAC", optional=True),
    )
    for row in comparison.rows:
        fp32, int8 = row.fp32, row.int8
        table.add_row(
            row.name,
            *(str(each).partition(" (")[0] for each in (fp32.escape, fp32.overkill, fp32.accuracy)),
            f"{fp32.auc:.4f}",
            f"{fp32.latency_ms:.2f}",
            f"{int8.latency_ms:.2f}" if int8 else "-",
            str(int8.accuracy).partition(" (")[0] if int8 else "-",
            f"{row.parameters / 1e6:.2f} M",
            f"{row.gmac:.2f}",
        )
    print_table(table)
    print_text(comparison.conditions)
    for row in comparison.rows:
        if row.note:
            print_text(f"{row.name}: no INT8: {row.note}")
    print_text(f"with intervals: {out / 'comparison.md'}")


def _plan(kind: str, options: dict[str, Any]) -> Any:
    from edgeinspect.learning.train.plan import TrainingConfig

    size, channels, arch = options.pop("size"), options.pop("channels"), options.pop("arch")
    name = options.pop("name") or options["out"].resolve().name
    groups = group_rule(*(options.pop(f"group_{key}") for key in ("pattern", "folder", "gap")))
    if groups and options["split_file"] is not None:
        raise UsageError(
            "--split-file says which images stay together",
            remedy="Group them when it is written: edgeinspect data split",
        )
    return TrainingConfig(
        kind=kind,  # type: ignore[arg-type]
        name=name,
        size=parse_size(size, "--size", min_px=16, max_height_px=8192, max_width_px=16384)
        if size
        else None,
        channels=int(channels) if channels else None,
        architecture=arch,
        groups=groups,
        **options,
    )


def _require_packages(*architectures: str | None) -> None:
    """Find missing packages now, not at the export after hours of training."""
    for package in ("torch", "onnx", "onnxscript"):
        if not is_installed(package):
            raise MissingExtraError("train", package)
    from edgeinspect.learning.train.pretrained import require_packages

    for architecture in architectures:
        if architecture is not None:
            require_packages(architecture)
