"""The kinds of file and folder that commands take, as types of click's parameters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from edgeinspect.cli._file_kinds import FileKind, identify
from edgeinspect.cli._input_path import InputPath, Reference, path_exists, shown_path
from edgeinspect.cli._output_path import OutputPath
from edgeinspect.errors import ConfigFileError, DataError, ModelError, UsageError
from edgeinspect.system import is_regular

_YAML_SUFFIXES = (".yaml", ".yml")
_STORE_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[0-9]+)?")
_SYNTHETIC_PREFIX = "strip:"


class LedgerPath(InputPath):
    """A ledger, or the file of the line that keeps it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; a missing YAML file has the exit code of a configuration."""
        path = Path(value)
        is_yaml = path.suffix.lower() in _YAML_SUFFIXES and not path.exists()
        self.check(path, ConfigFileError if is_yaml else DataError)
        return path


class ModelReference(Reference):
    """A model: NAME or NAME/VERSION of the store, or a path."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value; a folder here is not looked at if `--store` has a model of its name."""
        text = str(value)
        store = ctx.params.get("store") if ctx is not None else None
        if not isinstance(store, Path) or not _STORE_REFERENCE.fullmatch(text):
            return super().convert(value, param, ctx)
        if path_exists(store / text.partition("/")[0]):
            return text
        return super().convert(value, param, ctx)


class StoredModel(click.types.StringParamType):
    """A model of the store: NAME or NAME/VERSION."""

    name = "model"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name.

        Raises:
            UsageError: It is a path.
        """
        text = str(value)
        path = Path(text)
        if _STORE_REFERENCE.fullmatch(text) or not path_exists(path):
            return text
        raise UsageError(
            f"is {identify(path)}, not a model of the store",
            where=shown_path(path),
            remedy="Give NAME or NAME/VERSION; `edgeinspect models list` shows them",
        )


def _has_yaml_suffix(text: str) -> bool:
    return text.lower().endswith(_YAML_SUFFIXES)


def _is_line_path(text: str) -> bool:
    if "://" in text:
        return False
    return _has_yaml_suffix(text) or is_regular(text) or ("/" in text and path_exists(Path(text)))


def _is_model_path(text: str) -> bool:
    is_name = _STORE_REFERENCE.fullmatch(text) is not None and not text.endswith(".onnx")
    return not is_name or path_exists(Path(text))


_CONFIG = (FileKind.YAML, FileKind.TEXT)
"""A configuration so faulty that it is not recognised: its faults are listed."""


def _config_file(kind: FileKind, owner: str, example: str) -> InputPath:
    hint = f"Give {owner} YAML file, as /etc/edgeinspect/{example}"
    return InputPath(kind, *_CONFIG, error=ConfigFileError, hint=hint)


LINE_FILE = _config_file(FileKind.LINE, "the line's", "NAME.yaml")
HMI_FILE = _config_file(FileKind.HMI, "the HMI's", "NAME.hmi.yaml")
GATEWAY_FILE = _config_file(FileKind.GATEWAY, "the gateway's", "NAME.gateway.yaml")
ARCHIVE_FILE = _config_file(FileKind.ARCHIVER, "the archive's", "NAME.archive.yaml")
LEDGER = LedgerPath(
    FileKind.LEDGER,
    FileKind.LINE,
    FileKind.DATABASE,
    FileKind.BINARY,
    *_CONFIG,
    what="a line's file or its ledger",
    hint="Give the line's YAML file, or LINE.ledger.sqlite",
)
LEDGER_BACKUP = InputPath(
    FileKind.LEDGER,
    FileKind.DATABASE,
    FileKind.BINARY,
    what="a backup of a ledger",
    hint="Give the file that `edgeinspect ledger backup` wrote",
    always_hint=True,
)
SPOOL = InputPath(FileKind.SPOOL, FileKind.BINARY, hint="Give LINE.spool")
RECORDING = InputPath(
    FileKind.RECORDING,
    FileKind.RECORDINGS,
    FileKind.FOLDER,
    FileKind.BINARY,
    FileKind.EMPTY,
    hint="Give NAME.mcap, or a folder of them",
)
IMAGES = InputPath(
    FileKind.IMAGE,
    FileKind.BINARY,
    FileKind.FOLDER,
    FileKind.ARCHIVE,
    what="an image or a folder of images",
    hint="Give an image file, or a folder of images",
    holds_data=True,
)
IMAGES_FOLDER = InputPath(
    FileKind.FOLDER,
    FileKind.ARCHIVE,
    what="a folder of images",
    hint="Give a folder of images",
    holds_data=True,
)
ARCHIVE = InputPath(
    FileKind.ARCHIVE,
    FileKind.FOLDER,
    hint="Give the folder that the archive's file names",
    holds_data=True,
)
DATASET = InputPath(
    FileKind.FOLDER,
    FileKind.ARCHIVE,
    FileKind.TEXT,
    FileKind.JSON,
    FileKind.YAML,
    what="a data set",
    hint="Give the folder of the data set",
    holds_data=True,
)
SPLIT_FILE = InputPath(
    FileKind.SPLIT,
    FileKind.JSON,
    hint="Write one with: edgeinspect data split DATASET --out FILE.json",
)
TRAINING_RUN = InputPath(
    FileKind.RUN,
    what="a training run's folder",
    hint="Give the --out of a training",
    always_hint=True,
)
SHADOW_RESULTS = InputPath(
    FileKind.SHADOW_RESULTS,
    FileKind.DATABASE,
    FileKind.BINARY,
    hint="Give LINE.shadow.sqlite, beside the ledger",
)
KEYS_FOLDER = InputPath(FileKind.KEYS, hint="Make one with: edgeinspect keys new FOLDER")
PUBLIC_KEY = InputPath(
    FileKind.PUBLIC_KEY,
    FileKind.SECRET_KEY,
    FileKind.TEXT,
    FileKind.YAML,
    hint="Give the client's NAME.key",
)
# The importer tells what writes a packed file, and how to export a network instead.
ONNX_FILE = InputPath(
    FileKind.ONNX, FileKind.BINARY, FileKind.PACKED, error=ModelError, hint="Give NAME.onnx"
)
WEIGHTS = InputPath(
    FileKind.CHECKPOINT,
    FileKind.PACKED,
    FileKind.BINARY,
    what="a file of PyTorch weights",
    error=ModelError,
    hint="Give NAME.pth, none, or cached",
    words=("none", "cached"),
)
CORRECTIONS = InputPath(
    FileKind.TEXT,
    FileKind.YAML,
    what="a CSV file of corrections",
    hint="Give the labels.csv that an export wrote, filled in",
)
STORE_FOLDER, NEW_STORE_FOLDER = (
    InputPath(
        FileKind.STORE,
        FileKind.FOLDER,
        error=ModelError,
        hint="Give the folder that holds NAME/VERSION/",
        may_be_missing=is_made,
    )
    for is_made in (False, True)
)
_MODEL_PATH = InputPath(
    FileKind.MODEL,
    FileKind.STORE,
    FileKind.RUN,
    FileKind.ONNX,
    FileKind.CHECKPOINT,
    FileKind.PLAN,
    FileKind.FOLDER,
    what="a model",
    error=ModelError,
    hint="Give NAME/VERSION of the store, a model's folder, or an ONNX file",
)
MODEL = ModelReference("model", _MODEL_PATH, _is_model_path)
STORED_MODEL = StoredModel()
DATA = Reference("data set", DATASET, lambda text: not text.startswith(_SYNTHETIC_PREFIX))
FRAMES = Reference(
    "frames",
    DATASET,
    lambda text: not text.startswith(_SYNTHETIC_PREFIX),
    lambda text: text.partition("#")[0],
)
LINE = Reference("line", LINE_FILE, _is_line_path)
CHALLENGE_IMAGE = Reference(
    "image",
    InputPath(FileKind.IMAGE, FileKind.BINARY, hint="Give FILE, then IMAGE"),
    lambda text: path_exists(Path(text)),
)
BUILD_TARGET = Reference(
    "target",
    InputPath(
        *LINE_FILE.kinds,
        *_MODEL_PATH.kinds,
        what="a line's file, a model or a plan",
        error=ModelError,
        hint="Give the line's file, NAME/VERSION of the store, or PLAN.plan",
    ),
    lambda text: _is_model_path(text) or text.endswith((*_YAML_SUFFIXES, ".plan")),
)
OUTPUT_FILE = OutputPath(is_folder=False)
OUTPUT_FILE_OR_STDOUT = OutputPath(is_folder=False, takes_dash=True)
NESTED_OUTPUT_FILE = OutputPath(is_folder=False, makes_folders=True)
OUTPUT_FOLDER = OutputPath(is_folder=True)
OUTPUT_PATH = OutputPath(is_folder=None)
