"""Shared by evaluate, compare and explain: options, loading models, writing files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeinspect.cli._options import Command
from edgeinspect.cli._paths import DATA as DATA_TYPE
from edgeinspect.cli._paths import LINE_FILE, MODEL, NESTED_OUTPUT_FILE, SPLIT_FILE
from edgeinspect.errors import OutputError, UsageError
from edgeinspect.system import write_atomic

if TYPE_CHECKING:
    from edgeinspect.learning.evaluate import OfflineInspector
    from edgeinspect.ports import Engine

DATA = click.option(
    "--data",
    required=True,
    metavar="DATASET",
    type=DATA_TYPE,
    help="Data set, or strip:SEED:COUNT for rendered strip.",
)
SPLIT = click.option(
    "--split",
    metavar="SPLIT",
    default="test",
    show_default=True,
    help="Split to use: train, val, test or all.",
)
FILE_OF_SPLITS = click.option(
    "--split-file",
    metavar="SPLIT_FILE",
    type=SPLIT_FILE,
    help="File that assigns images to splits; a training run's own by default.",
)
ON_TRAINING_IMAGES = click.option(
    "--on-training-images",
    is_flag=True,
    help="Allow images that the model was trained on; the result says so.",
)
GATE = click.option("--gate", metavar="MODEL", type=MODEL, help="Gate in front of a segmenter.")
BACKEND = click.option(
    "--backend", metavar="NAME", help="ort (default), ov or trt; with --line the line's own."
)


def line_option(text: str) -> Callable[[Command], Command]:
    """Return the option `--line FILE`."""
    return click.option("--line", "config", type=LINE_FILE, metavar="FILE", help=text)


RENAMED = {"--config": "--line FILE"}
REPORT = click.option(
    "--report",
    type=NESTED_OUTPUT_FILE,
    metavar="FILE.html",
    help="Write a self-contained HTML report.",
)


def load_inspector(
    model: str | None,
    gate: str | None,
    config: Path | None,
    backend: str | None,
    store_folder: Path | None = None,
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
    from edgeinspect.storage.model_store import ModelStore

    if model is None:
        if config is None:
            raise UsageError("no model is given", remedy="Give MODEL, or --line FILE")
        if gate is not None:
            raise UsageError("--gate goes with MODEL", remedy="The line names its own gate")
        if store_folder is not None:
            raise UsageError("--store goes with MODEL", remedy="The line names its own store")
        return load_line_inspector(config, backend=backend)
    backend_name = backend or DEFAULT_BACKEND
    if store_folder is None and config is not None:
        from edgeinspect.config import load_config

        folder = load_config(config).config.store
        store_folder = Path(folder) if folder else None
    store = ModelStore(store_folder) if store_folder is not None else None
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


def write_text(path: Path, text: str) -> None:
    """Write a file atomically.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from error
