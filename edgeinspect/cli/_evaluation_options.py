"""Shared by evaluate, compare and explain: options, loading models, writing files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeinspect.errors import DataError, UsageError
from edgeinspect.system import write_atomic

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
    help="File that assigns images to splits; a training run's own by default.",
)
GATE = click.option("--gate", metavar="MODEL", help="Gate in front of a segmenter.")
BACKEND = click.option(
    "--backend", metavar="NAME", help="ort (default), ov or trt; with --config the line's own."
)
LAYOUT = click.option(
    "--layout", metavar="NAME", help="Layout of the data set, if it is not recognised."
)
GOOD = click.option(
    "--good-class",
    "good",
    multiple=True,
    metavar="CLASS",
    help="Class of the data set that is good. Repeatable.",
)
SEED = click.option(
    "--seed",
    default=1,
    show_default=True,
    type=click.IntRange(0, 1 << 31),
    help="Seed of every resampling.",
)
REPORT = click.option(
    "--report", type=PATH, metavar="OUT.html", help="Write a self-contained HTML report."
)
JSON = click.option(
    "--json", "json_path", type=PATH, metavar="OUT.json", help="Write all results as JSON."
)


def load_inspector(
    model: str | None, gate: str | None, config: Path | None, backend: str | None
) -> OfflineInspector:
    """Return the inspector that the command line describes.

    Raises:
        UsageError: Neither a model nor a line is given, or a gate with a line's models.
        ModelError: There is no such model.
        ConfigError: The line's configuration is invalid.
    """
    from edgeinspect.learning.evaluate import (
        DEFAULT_BACKEND,
        build_inspector,
        load_engine,
        load_line_inspector,
        with_line_thresholds,
    )

    if model is None:
        if config is None:
            raise UsageError("no model is given", remedy="Give MODEL, or --config LINE.yaml")
        if gate is not None:
            raise UsageError("--gate goes with MODEL", remedy="The line names its own gate")
        return load_line_inspector(config, backend=backend)
    backend_name = backend or DEFAULT_BACKEND
    store = None
    if config is not None:
        from edgeinspect.config import load_config
        from edgeinspect.storage.model_store import ModelStore

        folder = load_config(config).config.store
        store = ModelStore(Path(folder) if folder else None)
    engine: Engine
    if model.endswith(".pt"):
        from edgeinspect.learning.train.torch_engine import load_checkpoint_engine

        engine, backend_name = load_checkpoint_engine(Path(model)), "torch"
    else:
        engine = load_engine(model, backend_name, store=store)
    gate_engine = load_engine(gate, backend or DEFAULT_BACKEND, store=store) if gate else None
    inspector = build_inspector(engine, gate_engine, label=f"{model} ({backend_name})")
    if config is None:
        return inspector
    return with_line_thresholds(inspector, config)


def write_json(path: Path, document: object) -> None:
    """Write a document as JSON.

    Raises:
        DataError: The file cannot be written.
    """
    import msgspec

    encoded = msgspec.json.encode(document)
    write_text(path, msgspec.json.format(encoded, indent=1).decode() + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file atomically.

    Raises:
        DataError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(path)) from error
