"""`edgeinspect data example`: a labelled data set to learn with."""

from __future__ import annotations

from pathlib import Path

import click

from edgeinspect.cli._command import Command
from edgeinspect.cli._options import SEED
from edgeinspect.cli._paths import OUTPUT_FOLDER
from edgeinspect.cli._progress import progress_bar
from edgeinspect.cli._ranges import IntRange
from edgeinspect.cli._terminal import echo


@click.command(
    cls=Command,
    examples=[
        ("Write the data set of the tutorial", "edgeinspect data example washers"),
        (
            "Write other parts, which no model has seen",
            "edgeinspect data example tomorrow --count 40 --seed 2",
        ),
    ],
    renamed={"--images": "--count N"},
)
@click.argument("folder", metavar="FOLDER", type=OUTPUT_FOLDER)
@click.option(
    "--count",
    metavar="N",
    default=200,
    show_default=True,
    type=IntRange(10, 100_000),
    help="Number of images.",
)
@SEED
def example(folder: Path, count: int, seed: int) -> None:
    """Write a labelled data set of washers into FOLDER.

    Good ones, and three kinds of defects, rendered; the same images for the same seed. For the
    tutorial, and for trials without images of one's own.
    """
    from edgeinspect.learning.datasets import write_example_set

    with progress_bar("rendering images", count) as progress:
        counts = write_example_set(folder, count, seed, progress)
    parts = ", ".join(f"{number} {name}" for name, number in counts.items())
    echo(f"{sum(counts.values())} images in {folder}: {parts}")
