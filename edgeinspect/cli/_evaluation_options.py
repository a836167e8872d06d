"""What the commands that judge pictures have in common: options, opening, writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeinspect.cli._terminal import Console
from edgeinspect.errors import DataError, UsageError

if TYPE_CHECKING:
    from edgeinspect.learning.evaluate import OfflineInspector
    from edgeinspect.ports import Engine

PATH = click.Path(path_type=Path)
DATA = click.option(
    "--data",
    required=True,
    metavar="PATH",
    help="Data set's folder, or strip:SEED:COUNT for rendered strip.",
)
SPLIT = click.option("--split", default="test", show_default=True, help="train, val, test or all.")
SPLIT_FILE = click.option(
    "--split-file",
    type=PATH,
    metavar="FILE",
    help="Which picture is in which split; for a run its own.",
)
GATE = click.option("--gate", metavar="MODEL", help="Gate that goes before a segmenter.")
BACKEND = click.option(
    "--backend", metavar="NAME", help="ort (default), ov or trt; with --config the line's own."
)
LAYOUT = click.option(
    "--layout", metavar="NAME", help="Layout of the data set, instead of the recognised one."
)
GOOD = click.option(
    "--good",
    multiple=True,
    metavar="CLASS",
    help="Class of the data set that is good; may be given often.",
)
SEED = click.option(
    "--seed",
    default=1,
    show_default=True,
    type=click.IntRange(0, 1 << 31),
    help="Of every resampling.",
)
REPORT = click.option(
    "--report", type=PATH, metavar="OUT.html", help="Write one self-contained page."
)
JSON = click.option(
    "--json", "json_path", type=PATH, metavar="OUT.json", help="Write every figure."
)


def load_inspector(
    model: str | None, gate: str | None, config: Path | None, backend: str | None
) -> OfflineInspector:
    """A judge from what the command line names.

    Raises:
        UsageError: Neither a model nor a line, or both with another gate.
        ModelError: There is no such model.
        ConfigError: The line has faults.
    """
    from edgeinspect.learning.evaluate import (
        DEFAULT_BACKEND,
        build_inspector,
        load_engine,
        load_line_inspector,
    )

    if model is None:
        if config is None:
            raise UsageError("names no model", remedy="Give MODEL, or --config LINE.yaml")
        if gate is not None:
            raise UsageError("--gate goes with MODEL", remedy="The line names its own gate")
        return load_line_inspector(config, backend=backend)
    named = backend or DEFAULT_BACKEND
    store = None
    if config is not None:
        from edgeinspect.config import load_config
        from edgeinspect.storage.model_store import ModelStore

        folder = load_config(config).config.store
        store = ModelStore(Path(folder) if folder else None)
    engine: Engine
    if model.endswith(".pt"):
        from edgeinspect.learning.train.torch_engine import load_checkpoint_engine

        engine, named = load_checkpoint_engine(Path(model)), "torch"
    else:
        engine = load_engine(model, named, store=store)
    first = load_engine(gate, backend or DEFAULT_BACKEND, store=store) if gate else None
    judge = build_inspector(engine, first, label=f"{model} ({named})")
    if config is None:
        return judge
    from edgeinspect.learning.evaluate import with_line_thresholds

    return with_line_thresholds(judge, config)


def write_json(path: Path, document: object) -> None:
    """Write figures as JSON.

    Raises:
        DataError: The file cannot be written.
    """
    import msgspec

    encoded = msgspec.json.encode(document)
    write_text(path, msgspec.json.format(encoded, indent=1).decode() + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole, or not at all.

    Raises:
        DataError: It cannot be written.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(path)) from error


@contextmanager
def progress(stage: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    columns = (TextColumn(stage), BarColumn(), MofNCompleteColumn(), Left())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(stage, total=total)
        yield lambda done: bars.update(task, completed=done)
