"""`edgeinspect train`: train the gate and the segmenter."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import click

from edgeinspect.cli._options import parse_size, with_options
from edgeinspect.cli._progress import stage_bars
from edgeinspect.cli._tables import skipped_image_lines
from edgeinspect.cli._terminal import echo
from edgeinspect.errors import MissingExtraError

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)
_SEED = click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 1 << 31))
_THREADS = click.option(
    "--threads",
    default=2,
    show_default=True,
    type=click.IntRange(1, 256),
    help="The same count gives bit-identical weights.",
)


_training_options = with_options(
    click.option(
        "--data",
        required=True,
        type=click.Path(path_type=Path),
        help="Data set, in any layout that `edgeinspect data inspect` knows.",
    ),
    click.option("--layout", help="Layout of the data set, if it is ambiguous."),
    click.option(
        "--good-class",
        "good_classes",
        multiple=True,
        metavar="NAME",
        help="A class that is good, if it is not recognised as such. Repeatable.",
    ),
    click.option("--out", required=True, type=_FOLDER, help="Run folder to create."),
    click.option("--name", help="The model's name; the run folder's by default."),
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
    click.option("--arch", metavar="NAME", help="Network; see docs/howto/training.md."),
    click.option("--weights", type=_FILE, help="Pretrained weights (.pth) to start from."),
    click.option("--steps", type=click.IntRange(1), help="Number of training steps."),
    click.option(
        "--split", "split_file", type=_FILE, help="Split file; see `edgeinspect data split`."
    ),
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
    click.option("--resume", is_flag=True, help="Continue the training in --out."),
    _SEED,
    _THREADS,
)


@click.group()
def train() -> None:
    """Train a gate or a segmenter, export it under the model contract, evaluate it."""


@train.command()
@click.option(
    "--out", required=True, type=_FOLDER, help="Model store to write into: <out>/<name>/<version>/."
)
@click.option("--steps", default=1300, show_default=True, type=click.IntRange(1))
@click.option("--pictures", default=5000, show_default=True, type=click.IntRange(16))
@click.option("--test-pictures", default=3000, show_default=True, type=click.IntRange(16))
@click.option("--version", default=1, show_default=True, type=click.IntRange(1))
@_SEED
@_THREADS
def strip(**options: Any) -> None:
    """Train both shipped models on the synthetic strip (about half an hour on two cores)."""
    _require_torch()
    from edgeinspect.learning.train.shipped_models import train_shipped_models

    with stage_bars() as report:
        figures = train_shipped_models(on_progress=report, **options)
    echo(json.dumps(figures, indent=2))


@train.command()
@_training_options
@click.option(
    "--compare",
    metavar="NAME,NAME,...",
    help="Train each of these networks and write the comparison.",
)
def gate(compare: str | None, **options: Any) -> None:
    """Train a gate: a classifier of whole frames, good or suspect."""
    if compare:
        _compare([name.strip() for name in compare.split(",") if name.strip()], options)
    else:
        _run("gate", options)


@train.command()
@_training_options
@click.option(
    "--stride",
    type=click.Choice(["2", "4"]),
    help="Frame pixels per class-map pixel; 2 if the frame is small.",
)
def segmenter(stride: str | None, **options: Any) -> None:
    """Train a segmenter: a class for each pixel."""
    _run("segmenter", {**options, "stride": int(stride) if stride else None})


def _run(kind: str, options: dict[str, Any]) -> None:
    config = _plan(kind, options)
    _require_torch()
    from edgeinspect.learning.train.training import train_model

    skipped: list[Any] = []
    try:
        with stage_bars() as report:
            figures = train_model(config, report, skipped.extend)
    finally:  # skipped images are listed on errors too
        entries = ((image.name, image.reason) for image in skipped)
        for line in skipped_image_lines(entries, str(config.out / "run.json")):
            echo(line, err=True)
    if figures:
        echo(json.dumps(figures, indent=2))
        echo(f"model: {config.out / config.name / '1'}", err=True)


def _compare(names: list[str], options: dict[str, Any]) -> None:
    config = _plan("gate", options)
    _require_torch()
    from edgeinspect.learning.train.architecture_comparison import train_and_compare_gates

    with stage_bars() as report:
        echo(train_and_compare_gates(config, names, report))


def _plan(kind: str, options: dict[str, Any]) -> Any:
    from edgeinspect.learning.train.plan import TrainingConfig

    size, channels, arch = options.pop("size"), options.pop("channels"), options.pop("arch")
    name = options.pop("name") or options["out"].resolve().name
    return TrainingConfig(
        kind=kind,  # type: ignore[arg-type]
        name=name,
        size=parse_size(size, "--size", min_px=16, max_height_px=8192, max_width_px=16384)
        if size
        else None,
        channels=int(channels) if channels else None,
        architecture=arch,
        **options,
    )


def _require_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("train", "torch")
