"""`edgeinspect train`: make the two models."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edgeinspect.cli._skipped_images import skipped_image_lines
from edgeinspect.cli._terminal import Console, echo
from edgeinspect.errors import MissingExtraError, UsageError
from edgeinspect.system import is_short_decimal

Report = Callable[[str, int, int, float], None]

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)
_SEED = click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 1 << 31))
_THREADS = click.option(
    "--threads",
    default=2,
    show_default=True,
    type=click.IntRange(1, 256),
    help="The same count gives the same weights, to the last bit.",
)


def _training_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that both kinds of model have."""
    options = (
        click.option(
            "--data",
            required=True,
            type=click.Path(path_type=Path),
            help="Data set, in any layout that `edgeinspect data inspect` knows.",
        ),
        click.option("--layout", help="Layout of the data set, where it could be read in two."),
        click.option(
            "--good",
            multiple=True,
            metavar="NAME",
            help="A class that is good, where the rule guesses wrongly. Repeatable.",
        ),
        click.option("--out", required=True, type=_FOLDER, help="Run folder to make."),
        click.option("--name", help="The model's name; the run folder's otherwise."),
        click.option(
            "--size",
            metavar="HxW",
            help="Frame size of the model; the pictures' own otherwise. "
            "Pictures of another size are letterboxed.",
        ),
        click.option(
            "--channels",
            type=click.Choice(["1", "3"]),
            help="1 grey, 3 colour; as the pictures are otherwise.",
        ),
        click.option("--arch", metavar="NAME", help="Network; see docs/training.md."),
        click.option("--weights", type=_FILE, help="Pretrained weights (.pth) to begin with."),
        click.option("--steps", type=click.IntRange(1), help="Steps of training."),
        click.option(
            "--split", "split_file", type=_FILE, help="Split file; see `edgeinspect data split`."
        ),
        click.option(
            "--turns",
            is_flag=True,
            help="The part has no direction: pictures may be turned by 90°.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="Another value in the recipe, as batch=8 or augment.noise=3.",
        ),
        click.option("--resume", is_flag=True, help="Go on with the training in --out."),
        _SEED,
        _THREADS,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def train() -> None:
    """Train the gate and the segmenter, export them under the model contract, measure them."""


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

    with _progress() as report:
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
    """Train a gate: is this frame suspect?"""
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
    """Train a segmenter: where, and of which class?"""
    _run("segmenter", {**options, "stride": int(stride) if stride else None})


def _run(kind: str, options: dict[str, Any]) -> None:
    plan = _plan(kind, options)
    _require_torch()
    from edgeinspect.learning.train.training import train_model as train_one

    left_out: list[Any] = []
    try:
        with _progress() as report:
            figures = train_one(plan, report, left_out.extend)
    finally:  # whatever became of it, which pictures it had is known
        told = ((one.name, one.why) for one in left_out)
        for line in skipped_image_lines(told, str(plan.out / "run.json")):
            echo(line, err=True)
    if figures:
        echo(json.dumps(figures, indent=2))
        echo(f"model: {plan.out / plan.name / '1'}", err=True)


def _compare(names: list[str], options: dict[str, Any]) -> None:
    plan = _plan("gate", options)
    _require_torch()
    from edgeinspect.learning.train.compare_architectures import train_and_compare_gates

    with _progress() as report:
        echo(train_and_compare_gates(plan, names, report))


def _plan(kind: str, options: dict[str, Any]) -> Any:
    from edgeinspect.learning.train.plan import TrainingConfig

    size, channels, arch = options.pop("size"), options.pop("channels"), options.pop("arch")
    name = options.pop("name") or options["out"].resolve().name
    return TrainingConfig(
        kind=kind,  # type: ignore[arg-type]
        name=name,
        size=_size(size) if size else None,
        channels=int(channels) if channels else None,
        architecture=arch,
        **options,
    )


def _require_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("train", "torch")


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (
        is_short_decimal(height)
        and is_short_decimal(width)
        and 16 <= int(height) <= 8192
        and 16 <= int(width) <= 16384
    ):
        raise UsageError(
            f"{text!r} is no frame size", where="--size", remedy="Give HEIGHTxWIDTH, as 256x1600"
        )
    return int(height), int(width)


@contextmanager
def _progress() -> Iterator[Report]:
    """A bar per stage, on stderr."""
    columns = (
        TextColumn("{task.description:<11}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def report(stage: str, done: int, total: int, loss: float) -> None:
            if stage not in tasks:
                tasks[stage] = int(bars.add_task(stage, total=total, loss=""))
            note = f"loss {loss:.3f}" if loss else ""
            bars.update(tasks[stage], completed=done, total=total, loss=note)  # type: ignore[arg-type]

        yield report
