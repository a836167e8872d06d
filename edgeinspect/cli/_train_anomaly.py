"""`edgeinspect train anomaly`: a model of good parts alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from rich.text import Text

from edgeinspect.cli._accuracy_facts import accuracy_facts
from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._next_commands import after_good_parts, print_commands
from edgeinspect.cli._options import GOOD_CLASS, LAYOUT, SEED, parse_size
from edgeinspect.cli._paths import DATASET, OUTPUT_FOLDER, SPLIT_FILE, WEIGHTS
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
from edgeinspect.errors import MissingExtraError, UsageError
from edgeinspect.registry import is_installed

_MAX_RATE = 0.5


class RateOption(click.ParamType):  # type: ignore[type-arg]
    """A rate: `1%`, or `0.01`."""

    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            rate = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            rate = -1.0
        if not 0 < rate <= _MAX_RATE:
            self.fail(f"{value!r:.40} is no rate above 0 up to 50%; write 1% or 0.01.", param, ctx)
        return rate


@click.command(
    cls=Command,
    examples=[
        (
            "Learn from a folder of images of good parts",
            "edgeinspect train anomaly --data castings --out runs/unknown",
        ),
        (
            "Reject at most one good part in 200",
            "edgeinspect train anomaly --data castings --out runs/unknown --false-rejects 0.5%",
        ),
    ],
)
@click.option(
    "--data",
    required=True,
    metavar="DATASET",
    type=DATASET,
    help="Folder of images of good parts, or a data set in any layout; its defective images "
    "are not learned: they set the threshold and measure the result.",
)
@LAYOUT
@GOOD_CLASS
@click.option(
    "--out", required=True, metavar="FOLDER", type=OUTPUT_FOLDER, help="Run folder to create."
)
@click.option("--name", metavar="NAME", help="The model's name; the run folder's by default.")
@click.option(
    "--size",
    metavar="HxW",
    help="Frame size of the model; that of the images by default, at most 640,000 pixels.",
)
@click.option(
    "--channels",
    type=click.Choice(["1", "3"]),
    help="1 grey, 3 colour; as the images are by default.",
)
@click.option(
    "--arch",
    default="lite0",
    show_default=True,
    metavar="NAME",
    help="Encoder whose features are compared; see docs/howto/training.md.",
)
@click.option(
    "--weights",
    metavar="FILE.pth|none|cached",
    type=WEIGHTS,
    help="The encoder's pretrained weights; those that are packaged for it by default.",
)
@click.option(
    "--entries",
    default=8000,
    show_default=True,
    metavar="N",
    type=IntRange(16, 50_000),
    help="Entries of the memory bank; more find smaller differences and take more time.",
)
@click.option(
    "--false-rejects",
    default="1%",
    show_default=True,
    metavar="RATE",
    type=RateOption(),
    help="Wanted rate of good parts that are rejected.",
)
@click.option(
    "--class-name",
    default="unknown",
    show_default=True,
    metavar="NAME",
    help="Name of the model's one class.",
)
@click.option(
    "--turned/--not-turned",
    default=None,
    help="Whether good parts lie in any orientation; measured by default.",
)
@click.option(
    "--split-file",
    metavar="SPLIT_FILE",
    type=SPLIT_FILE,
    help="File that assigns images to splits, by `edgeinspect data split`.",
)
@SEED
@click.option(
    "--threads",
    default=2,
    show_default=True,
    metavar="N",
    type=IntRange(1, 256),
    help="Processor threads; the same number gives the same model, to the last bit.",
)
@QUIET
@json_option("edgeinspect.cli._results.learning:TrainingOutcome")
def anomaly(as_json: bool, **options: Any) -> None:
    """Learn from images of good parts alone what no good part has.

    It takes a minute of processor time, and a quarter of a second for each image of 512x512. The
    threshold comes from good images that the bank has not seen, each in its turn. Defects need not
    be shown; a few defective images in the data set raise the threshold to what finds them.
    """
    for package in ("torch", "onnx", "onnxscript", "onnxruntime"):
        if not is_installed(package):
            raise MissingExtraError("train", package)
    from edgeinspect.learning.train.anomaly import AnomalyConfig, train_good_parts

    size, channels, name = options.pop("size"), options.pop("channels"), options.pop("name")
    if not options["class_name"].strip():
        raise UsageError("is empty", where="--class-name")
    config = AnomalyConfig(
        name=name or options["out"].resolve().name,
        size=parse_size(size, "--size", min_px=32, max_height_px=8192, max_width_px=16384)
        if size
        else None,
        channels=int(channels) if channels else None,
        encoder=options.pop("arch"),
        **options,
    )
    skipped: list[Any] = []
    notes: list[str] = []
    try:
        with stage_bars() as report:
            trained = train_good_parts(config, report, skipped.extend, notes.extend)
    finally:  # notes and skipped images are listed on errors too
        for note in notes:
            echo(f"note: {note}", err=True)
        entries = ((image.name, image.reason) for image in skipped)
        for line in skipped_image_lines(entries, str(config.out / "run.json")):
            echo(line, err=True)
    outcome = TrainingOutcome(
        models=[
            TrainedModel(
                name=config.name,
                folder=str(config.out / config.name / "1"),
                accuracy=trained.accuracy,
            )
        ],
        skipped={image.name: image.reason for image in skipped},
        line=str(trained.line),
        next=list(after_good_parts(config, trained.line, trained.accuracy)),
    )
    print_result(outcome, as_json, _show)


def _show(outcome: TrainingOutcome) -> None:
    model = outcome.models[0]
    rates = model.accuracy["false_rejects"]
    print_text(Text(f"{model.name}, on good images that the bank had not seen", style="bold"))
    table = TextTable(
        number("wanted false rejects"), number("defect_prob"), number("rejected"), "95 % interval"
    )
    for row in rates["thresholds"]:
        low, high = row["interval"]
        table.add_row(
            _percent(row["rate"]),
            f"{row['defect_prob']:.4f}" + (" *" if row["extrapolated"] else ""),
            f"{row['rejected']} of {rates['held_out_good']}",
            f"{_percent(low)} to {_percent(high)}",
        )
    print_table(table)
    if any(row["extrapolated"] for row in rates["thresholds"]):
        print_text(
            f"* beyond all {rates['held_out_good']} images: so few show no rate below "
            f"{_percent(rates['lowest_rate_shown'])}"
        )
    method = model.accuracy.get("method", {})
    if "auc" in method:
        print_text(
            f"method: {method['used']}, the best on {method['defective']} defective images: AUC "
            + ", ".join(f"{name} {auc:.3f}" for name, auc in method["auc"].items())
        )
    print_text(f"threshold: defect_prob 0.5, for {_percent(rates['wanted_rate'])}")
    if rates["raised_by_defective"]:
        print_text(f"raised by {rates['raised_by_defective']} defective images, none of them lost")
    if "test" in model.accuracy:
        print_text(Text("on the test split", style="bold"))
        print_facts(accuracy_facts(model.accuracy["test"]))
        if advice := _advice(model.accuracy["test"]):
            print_text(advice)
    print_text(f"model: {model.folder}")
    print_text(f"line: {outcome.line}")
    print_commands(outcome.next)


def _advice(test: Mapping[str, Any]) -> str:
    """Return what helps a model that finds less than half of the defective images of `test`."""
    if 2 * test["found"] >= test["defective"]:
        return ""
    return (
        f"warning: it finds {test['found']} of {test['defective']} defective images. More good "
        "images, a larger --size, or a higher rate of --false-rejects find more; what differs "
        "little from good parts needs a gate or a segmenter, trained on defects"
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"
