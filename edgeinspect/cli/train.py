"""`edgeinspect train`: make the two models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edgeinspect.errors import UsageError

_OUT = click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
                    help="Model store to write into: <out>/<name>/<version>/.")  # fmt: skip
_DATA = click.option("--data", required=True, type=click.Path(file_okay=False, path_type=Path),
                     help="Folder with images/, masks/ and index.csv.")  # fmt: skip
_SIZE = click.option("--size", required=True, metavar="HxW",
                     help="Frame size of the model; other pictures are letterboxed.")  # fmt: skip
_SEED = click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 1 << 31))
_THREADS = click.option("--threads", default=2, show_default=True, type=click.IntRange(1, 256),
                        help="The same count gives the same weights, to the last bit.")  # fmt: skip


@click.group()
def train() -> None:
    """Train the gate and the segmenter, export them under the model contract, measure them."""


@train.command()
@_OUT
@click.option("--steps", default=1300, show_default=True, type=click.IntRange(1))
@click.option("--pictures", default=5000, show_default=True, type=click.IntRange(16))
@click.option("--test-pictures", default=3000, show_default=True, type=click.IntRange(16))
@click.option("--version", default=1, show_default=True, type=click.IntRange(1))
@_SEED
@_THREADS
def strip(
    out: Path, steps: int, pictures: int, test_pictures: int, version: int, seed: int, threads: int
) -> None:
    """Train both shipped models on the synthetic strip (about half an hour on two cores)."""
    from edgeinspect.train.recipes import train_strip

    with _progress() as report:
        figures = train_strip(
            out,
            steps=steps,
            pictures=pictures,
            test_pictures=test_pictures,
            seed=seed,
            version=version,
            threads=threads,
            report=report,
        )
    click.echo(json.dumps(figures, indent=2))


@train.command()
@_DATA
@_OUT
@click.option("--name", required=True, help="The model's name in the store.")
@_SIZE
@click.option("--steps", default=1500, show_default=True, type=click.IntRange(1))
@_SEED
@_THREADS
def gate(data: Path, out: Path, name: str, size: str, steps: int, seed: int, threads: int) -> None:
    """Train a gate: is this frame suspect?"""
    from edgeinspect.train.recipes import train_folder_gate

    with _progress() as report:
        figures = train_folder_gate(
            data, out, name=name, size=_size(size), steps=steps, seed=seed, threads=threads,
            report=report,
        )  # fmt: skip
    click.echo(json.dumps(figures, indent=2))


@train.command()
@_DATA
@_OUT
@click.option("--name", required=True, help="The model's name in the store.")
@_SIZE
@click.option("--steps", default=1500, show_default=True, type=click.IntRange(1))
@click.option("--stride", default="2", show_default=True, type=click.Choice(["2", "4"]),
              help="Frame pixels per class-map pixel.")  # fmt: skip
@_SEED
@_THREADS
def segmenter(
    data: Path, out: Path, name: str, size: str, steps: int, stride: str, seed: int, threads: int
) -> None:
    """Train a segmenter: where, and of which class?"""
    from edgeinspect.train.recipes import train_folder_segmenter

    with _progress() as report:
        figures = train_folder_segmenter(
            data, out, name=name, size=_size(size), steps=steps, stride=int(stride), seed=seed,
            threads=threads, report=report,
        )  # fmt: skip
    click.echo(json.dumps(figures, indent=2))


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and 16 <= int(height) <= 8192
            and 16 <= int(width) <= 16384):  # fmt: skip
        raise UsageError(
            f"{text!r} is no frame size", where="--size", remedy="Give HEIGHTxWIDTH, as 256x1600"
        )
    return int(height), int(width)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int, float], None]]:
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
