"""`--json`: the option, the type of what it prints, and the one function that prints it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from edgeinspect.cli._paths import OUTPUT_FILE
from edgeinspect.cli._terminal import echo_json
from edgeinspect.errors import OutputError
from edgeinspect.system import escape_line, write_atomic

Command = TypeVar("Command", bound=Callable[..., Any])
T = TypeVar("T")

_DOCUMENT_HELP = "Print one JSON document; see docs/reference/json.md."
_LINES_HELP = "Print one JSON object per line; see docs/reference/json.md."


class JsonOption(click.Option):
    """The flag `--json` of a command, with the type of its document.

    Args:
        documents: `module:Name` of each type; strings, so that `--help` imports nothing.
        lines: The command prints any number of such documents, one per line.
    """

    def __init__(self, *args: Any, documents: tuple[str, ...], lines: bool, **options: Any) -> None:
        super().__init__(*args, **options)
        self.documents = documents
        self.lines = lines

    def load_types(self) -> list[Any]:
        """Import and return the types of the documents."""
        names = (document.partition(":") for document in self.documents)
        return [getattr(importlib.import_module(module), name) for module, _, name in names]


def json_option(*documents: str, lines: bool = False) -> Callable[[Command], Command]:
    """Return a decorator that adds `--json` (parameter `as_json`); see `JsonOption`."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        cls=JsonOption,
        documents=documents,
        lines=lines,
        help=_LINES_HELP if lines else _DOCUMENT_HELP,
    )


JSON_FILE = click.option(
    "--json-file",
    "json_path",
    type=OUTPUT_FILE,
    metavar="FILE.json",
    help="Write the document of --json to this file, beside what is printed.",
)


def json_options(command: click.Command, path: str = "") -> Iterator[tuple[str, JsonOption]]:
    """Yield the name and `--json` of every command below a command."""
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            assert child is not None
            yield from json_options(child, f"{path} {name}".strip())
    for option in command.params:
        if isinstance(option, JsonOption):
            yield path, option


def print_result(
    result: T, as_json: bool, show: Callable[[T], None], *, path: Path | None = None
) -> None:
    """Print a command's result: as one JSON document, or for people by `show`.

    Args:
        result: What the command found.
        as_json: `--json` was given.
        show: Prints it for people.
        path: File that receives the JSON document too.

    Raises:
        OutputError: The file cannot be written.
    """
    if path is not None:
        write_json_file(path, result)
    if as_json:
        print_json(result)
    else:
        show(result)


def write_json_file(path: Path, document: Any) -> None:
    """Write one JSON document to a file.

    Raises:
        OutputError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, msgspec.json.format(encode_json(document), indent=2) + b"\n")
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from error


def print_json(document: Any) -> None:
    """Print one JSON document on stdout, indented."""
    echo_json(msgspec.json.format(encode_json(document), indent=2))


def print_json_line(document: Any) -> None:
    """Print one JSON document on stdout, on one line."""
    echo_json(encode_json(document))


def encode_json(document: Any) -> bytes:
    r"""Return JSON in UTF-8: NaN and infinity become null, bytes of file names `\xe4`."""
    try:
        return msgspec.json.encode(document, enc_hook=_to_builtin)
    except UnicodeEncodeError:  # a lone surrogate: a byte of a file name that is not UTF-8
        return msgspec.json.encode(_escape(msgspec.to_builtins(document, enc_hook=_to_builtin)))


def _to_builtin(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "item"):  # a number of numpy
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} in a JSON document")


def _escape(value: Any) -> Any:
    if isinstance(value, str):
        return escape_line(value) if not value.isprintable() else value
    if isinstance(value, dict):
        return {_escape(key): _escape(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escape(each) for each in value]
    return value
