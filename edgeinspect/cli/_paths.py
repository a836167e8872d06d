"""The kinds of file and folder that commands take, as types of click's parameters.

A value is checked when the command line is parsed, before anything is opened or written: a file
of another kind is refused with what it is and what it is for.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import click

from edgeinspect.cli._file_kinds import FileContent, FileKind, identify
from edgeinspect.errors import (
    ConfigFileError,
    DataError,
    EdgeInspectError,
    ModelError,
    OutputError,
    UsageError,
)
from edgeinspect.system import escape_name, is_regular

_YAML_SUFFIXES = (".yaml", ".yml")
_STORE_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[0-9]+)?")
_SYNTHETIC_PREFIX = "strip:"
_NEIGHBOURS_MAX = 1000
_SHOWN_MAX = 200
_OUTPUT_REMEDY = "Check the path, and the rights of this user"

Refusal = Callable[..., EdgeInspectError]


class InputPath(click.Path):
    """A file or folder that the command reads.

    Args:
        what: What is expected, as `a line's file`.
        kinds: Kinds that are accepted.
        error: Error for any other; its exit code is that of the command.
        hint: What to give instead, where the kind of the file says nothing.
        may_be_missing: A path that does not exist is accepted: it will be made.
    """

    def __init__(
        self,
        what: str,
        kinds: Collection[FileKind],
        error: Refusal = DataError,
        *,
        hint: str = "",
        may_be_missing: bool = False,
    ) -> None:
        super().__init__(path_type=Path)
        self.what = what
        self.kinds = frozenset(kinds)
        self.error = error
        self.hint = hint
        self.may_be_missing = may_be_missing

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, after checking what is there.

        Raises:
            EdgeInspectError: It is missing, cannot be read, or is of another kind.
        """
        path = Path(value)
        self.check(path, self.error)
        return path

    def check(self, path: Path, error: Refusal) -> None:
        """Check what is at a path; raises `error`."""
        where = _shown(path)
        try:
            content = identify(path)
        except (FileNotFoundError, NotADirectoryError) as missing:
            if self.may_be_missing:
                return
            raise error(
                "there is no such file or folder", where=where, remedy=_neighbour(path) or self.hint
            ) from missing
        except OSError as fault:
            raise error(
                f"cannot be read: {fault.strerror or fault}",
                where=where,
                remedy="Check the path, and the rights of this user",
            ) from fault
        except ValueError as fault:  # a NUL in the path
            raise error(f"is not a path: {fault}", where=_shown(path)) from fault
        if content.kind not in self.kinds:
            raise error(
                f"is {content}, not {self.what}",
                where=where,
                remedy=self._remedy(content, path),
            )

    def _remedy(self, content: FileContent, path: Path) -> str:
        return content.remedy(Path(escape_name(path))) or self.hint


class Reference(click.types.StringParamType):
    """A name, or a path whose kind is checked.

    Args:
        name: Its name in messages of click.
        path: The type of the path.
        is_path: Whether a value is a path.
        to_path: What of a value is the path.
    """

    def __init__(
        self,
        name: str,
        path: InputPath,
        is_path: Callable[[str], bool],
        to_path: Callable[[str], str] = str,
    ) -> None:
        self.name = name
        self.path = path
        self._is_path = is_path
        self._to_path = to_path

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value unchanged, after checking what is there if it is a path."""
        text = str(value)
        if self._is_path(text):
            self.path.convert(self._to_path(text), param, ctx)
        return text

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Complete paths."""
        return self.path.shell_complete(ctx, param, incomplete)


class LedgerPath(InputPath):
    """A ledger, or the file of the line that keeps it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; a missing YAML file has the exit code of a configuration."""
        path = Path(value)
        is_yaml = path.suffix.lower() in _YAML_SUFFIXES and not path.exists()
        self.check(path, ConfigFileError if is_yaml else DataError)
        return path


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
        if _STORE_REFERENCE.fullmatch(text) or not _exists(path):
            return text
        raise UsageError(
            f"is {identify(path)}, not a model of the store",
            where=_shown(path),
            remedy="Give NAME or NAME/VERSION; `edgeinspect models list` shows them",
        )


class OutputPath(click.Path):
    """A file or folder that the command writes.

    Args:
        is_folder: It is a folder; otherwise a file. None: either; a folder with a final `/` is
            made.
        makes_folders: The command makes missing folders above it.
    """

    def __init__(self, *, is_folder: bool | None, makes_folders: bool = False) -> None:
        super().__init__(path_type=Path, allow_dash=is_folder is False)
        self.is_folder = is_folder
        self.makes_folders = makes_folders

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, after checking that it can be written.

        Raises:
            OutputError: It cannot be written; checked before the command's work, not after.
        """
        path = Path(value)
        if path == Path("-"):
            return path
        where = _shown(path)
        try:
            problem = self._problem(path, names_folder=str(value).endswith(os.sep))
        except ValueError as fault:  # a NUL in the path
            raise OutputError(f"is not a path: {fault}", where=_shown(path)) from fault
        except OSError as fault:
            problem = f"cannot be written: {fault.strerror or fault}"
        if problem:
            raise OutputError(problem, where=where, remedy=_OUTPUT_REMEDY)
        return path

    def _problem(self, path: Path, *, names_folder: bool) -> str:
        if path.is_dir():
            if self.is_folder is False:
                return "is a folder; a file is written here"
            return "" if os.access(path, os.W_OK | os.X_OK) else "cannot be written: no permission"
        if os.path.lexists(path):
            if self.is_folder:
                return "is a file; a folder is written here"
            if path.exists() and not path.is_file():
                return "is a device or a pipe, which a file would replace; - is the standard output"
            is_writable = os.access(path, os.W_OK) or not path.exists()
            return "" if is_writable else "cannot be written: no permission"
        if names_folder and self.is_folder is False:
            return "there is no such folder; a file is written here, into a folder that exists"
        parent = path.absolute().parent
        if self.is_folder is not False or self.makes_folders:
            while not os.path.lexists(parent):
                parent = parent.parent
        shown = escape_name(parent)
        if not parent.exists():
            return f"cannot be written: there is no folder {shown}"
        if not parent.is_dir():
            return f"cannot be written: {shown} is not a folder"
        if not os.access(parent, os.W_OK | os.X_OK):
            return f"cannot be written: no permission in {shown}"
        if names_folder and self.is_folder is None:
            path.mkdir()
        return ""


def refuse_own_input(command: click.Command, ctx: click.Context) -> None:
    """Refuse an output that is a file which the same command reads.

    Raises:
        UsageError: The command would replace its own input.
    """
    for output, written in _paths_of(command, ctx, outputs=True):
        for source, read in _paths_of(command, ctx, outputs=False):
            if written.is_file() and read.is_file() and written.samefile(read):
                raise UsageError(
                    f"{_shown(written)} is read as {source} and would be replaced by {output}. "
                    "Give another file"
                )


def refuse_failed_output(error: OSError, command: click.Command, ctx: click.Context) -> None:
    """Refuse an output below which the system did not let the command write.

    Raises:
        OutputError: The error names a path at or below an output of the command.
    """
    if not isinstance(error.filename, (str, bytes, os.PathLike)):
        return
    failed = Path(os.fsdecode(error.filename)).absolute()
    for _option, written in _paths_of(command, ctx, outputs=True):
        if failed.is_relative_to(written.absolute()):
            raise OutputError(
                f"cannot be written: {error.strerror or error}",
                where=_shown(failed),
                remedy=_OUTPUT_REMEDY,
            ) from error


def _paths_of(
    command: click.Command, ctx: click.Context, *, outputs: bool
) -> Iterator[tuple[str, Path]]:
    for param in command.params:
        value = ctx.params.get(param.name or "")
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Path) and isinstance(param.type, OutputPath) is outputs:
                yield param.opts[0] if param.opts[0][0] == "-" else param.make_metavar(ctx), each


def _shown(path: Path) -> str:
    """Return a path for a message: escaped, and not longer than a message should be."""
    text = escape_name(path)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _neighbour(path: Path) -> str:
    """Return the file beside a missing one that has a similar name, as a question."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_NEIGHBOURS_MAX), strict=False)]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name[:200], names, n=1, cutoff=0.75)
    return f"Did you mean {escape_name(path.with_name(close[0]))}?" if close else ""


def _has_yaml_suffix(text: str) -> bool:
    return text.lower().endswith(_YAML_SUFFIXES)


def _is_line_path(text: str) -> bool:
    if "://" in text:
        return False
    return _has_yaml_suffix(text) or is_regular(text) or ("/" in text and _exists(Path(text)))


def _is_model_path(text: str) -> bool:
    return text.startswith(("/", "./", "../")) or _exists(Path(text)) or text.endswith(".onnx")


_CONFIG = {FileKind.YAML, FileKind.TEXT}
"""A configuration so faulty that it is not recognised: its faults are listed."""

LINE_FILE = InputPath(
    "a line's file",
    {FileKind.LINE, *_CONFIG},
    ConfigFileError,
    hint="Give the line's YAML file, as examples/strip.yaml",
)
HMI_FILE = InputPath(
    "an HMI's file",
    {FileKind.HMI, *_CONFIG},
    ConfigFileError,
    hint="Give the HMI's YAML file, as examples/hmi.yaml",
)
GATEWAY_FILE = InputPath(
    "a gateway's file",
    {FileKind.GATEWAY, *_CONFIG},
    ConfigFileError,
    hint="Give the gateway's YAML file, as examples/gateway.yaml",
)
ARCHIVE_FILE = InputPath(
    "an archive's file",
    {FileKind.ARCHIVER, *_CONFIG},
    ConfigFileError,
    hint="Give the archive's YAML file, as examples/archive.yaml",
)
LEDGER = LedgerPath(
    "a line's file or its ledger",
    {FileKind.LEDGER, FileKind.LINE, FileKind.DATABASE, FileKind.BINARY, *_CONFIG},
    hint="Give the line's YAML file, or LINE.ledger.sqlite",
)
SPOOL = InputPath("a line's spool", {FileKind.SPOOL, FileKind.BINARY}, hint="Give LINE.spool")
RECORDING = InputPath(
    "a recording",
    {FileKind.RECORDING, FileKind.RECORDINGS, FileKind.FOLDER, FileKind.BINARY, FileKind.EMPTY},
    hint="Give NAME.mcap, or a folder of them",
)
IMAGES = InputPath(
    "an image or a folder of images",
    {FileKind.IMAGE, FileKind.BINARY, FileKind.FOLDER, FileKind.ARCHIVE},
    hint="Give an image file, or a folder of images",
)
IMAGES_FOLDER = InputPath(
    "a folder of images", {FileKind.FOLDER, FileKind.ARCHIVE}, hint="Give a folder of images"
)
ARCHIVE = InputPath(
    "an archive of images",
    {FileKind.ARCHIVE, FileKind.FOLDER},
    hint="Give the folder that the archive's file names",
)
DATASET = InputPath(
    "a data set",
    {FileKind.FOLDER, FileKind.ARCHIVE, FileKind.TEXT, FileKind.JSON},
    hint="Give the folder of the data set",
)
SPLIT_FILE = InputPath(
    "a split file",
    {FileKind.SPLIT, FileKind.JSON},
    hint="Write one with: edgeinspect data split DATASET --out FILE.json",
)
SHADOW_RESULTS = InputPath(
    "a file of shadow results",
    {FileKind.SHADOW_RESULTS, FileKind.DATABASE, FileKind.BINARY},
    hint="Give LINE.shadow.sqlite, beside the ledger",
)
KEYS_FOLDER = InputPath(
    "a folder of keys",
    {FileKind.KEYS, FileKind.FOLDER},
    hint="Make one with: edgeinspect keys new FOLDER",
)
PUBLIC_KEY = InputPath(
    "a public key",
    {FileKind.PUBLIC_KEY, FileKind.SECRET_KEY, FileKind.TEXT, FileKind.YAML},
    hint="Give the client's NAME.key",
)
ONNX_FILE = InputPath(
    "an ONNX network",
    # The importer tells what writes a packed file, and how to export a network instead.
    {FileKind.ONNX, FileKind.BINARY, FileKind.PACKED},
    ModelError,
    hint="Give NAME.onnx",
)
WEIGHTS = InputPath(
    "a file of PyTorch weights",
    {FileKind.CHECKPOINT, FileKind.PACKED, FileKind.BINARY},
    ModelError,
    hint="Give NAME.pth",
)
CORRECTIONS = InputPath(
    "a CSV file of corrections",
    {FileKind.TEXT, FileKind.YAML},
    hint="Give the labels.csv that an export wrote, filled in",
)
STORE_FOLDER = InputPath(
    "a folder of models",
    {FileKind.STORE, FileKind.FOLDER},
    ModelError,
    hint="Give the folder that holds NAME/VERSION/",
    may_be_missing=True,
)
_MODEL_PATH = InputPath(
    "a model",
    {
        FileKind.MODEL,
        FileKind.STORE,
        FileKind.RUN,
        FileKind.ONNX,
        FileKind.CHECKPOINT,
        FileKind.PLAN,
        FileKind.FOLDER,
    },
    ModelError,
    hint="Give NAME/VERSION of the store, a model's folder, or an ONNX file",
)
MODEL = Reference("model", _MODEL_PATH, _is_model_path)
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
    InputPath("an image", {FileKind.IMAGE, FileKind.BINARY}, hint="Give FILE, then IMAGE"),
    lambda text: _exists(Path(text)),
)
BUILD_TARGET = Reference(
    "target",
    InputPath(
        "a line's file, a model or a plan",
        {*LINE_FILE.kinds, *_MODEL_PATH.kinds},
        ModelError,
        hint="Give the line's file, NAME/VERSION of the store, or PLAN.plan",
    ),
    lambda text: _is_model_path(text) or text.endswith((*_YAML_SUFFIXES, ".plan")),
)
OUTPUT_FILE = OutputPath(is_folder=False)
NESTED_OUTPUT_FILE = OutputPath(is_folder=False, makes_folders=True)
OUTPUT_FOLDER = NEW_FOLDER = OutputPath(is_folder=True)
OUTPUT_PATH = OutputPath(is_folder=None)
