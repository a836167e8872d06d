"""The commands of the command line, for tests that cover each of them, later ones too."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterator

import click

from edgeinspect.cli import _paths as paths
from edgeinspect.cli._command import Command, Example, Group
from edgeinspect.cli.main import cli

EVERY = dict[str, tuple[click.Command, click.Context]]


@functools.cache
def every_command() -> EVERY:
    """Return path, as `ledger verify`, to each command and group; that of the root is empty."""
    root = click.Context(cli, info_name="edgeinspect", **cli.context_settings)
    return dict(_walk("", cli, root))


@functools.cache
def leaf_commands() -> dict[str, Command]:
    """Return path to each command that is not a group."""
    return {
        path: each for path, (each, _ctx) in every_command().items() if isinstance(each, Command)
    }


def examples() -> list[tuple[str, Example]]:
    """Return the path of each command and group with each of its examples."""
    return [
        (path, example)
        for path, (each, _ctx) in every_command().items()
        if isinstance(each, (Command, Group))
        for example in each.examples
    ]


def parse(line: str) -> tuple[click.Command, click.Context]:
    """Parse a whole command line as `main` does; raises what click raises."""
    program, *words = shlex.split(line)
    assert program == "edgeinspect"
    command: click.Command = cli
    ctx = cli.make_context("edgeinspect", list(words), **cli.context_settings)
    while isinstance(command, click.Group):
        rest = [*ctx._protected_args, *ctx.args]  # as Group.invoke
        name, found, rest = command.resolve_command(ctx, rest)
        assert name is not None
        assert found is not None
        command, ctx = found, found.make_context(name, rest, parent=ctx)
    return command, ctx


def _walk(
    path: str, command: click.Command, ctx: click.Context
) -> Iterator[tuple[str, tuple[click.Command, click.Context]]]:
    yield path, (command, ctx)
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            assert child is not None
            yield from _walk(
                f"{path} {name}".strip(), child, click.Context(child, parent=ctx, info_name=name)
            )


GOOD: dict[object, str] = {
    paths.LINE_FILE: "line.yaml",
    paths.HMI_FILE: "hmi.yaml",
    paths.GATEWAY_FILE: "gateway.yaml",
    paths.ARCHIVE_FILE: "archive.yaml",
    paths.LEDGER: "strip.ledger.sqlite",
    paths.LEDGER_BACKUP: "strip.ledger.sqlite",
    paths.SPOOL: "strip.spool",
    paths.RECORDING: "shift.mcap",
    paths.IMAGES: "scratches.png",
    paths.IMAGES_FOLDER: "pictures",
    paths.ARCHIVE: "archive",
    paths.DATASET: "castings",
    paths.SPLIT_FILE: "split.json",
    paths.SHADOW_RESULTS: "strip.shadow.sqlite",
    paths.KEYS_FOLDER: "keys",
    paths.PUBLIC_KEY: "gateway.key",
    paths.ONNX_FILE: "net.onnx",
    paths.WEIGHTS: "checkpoint.pt",
    paths.CORRECTIONS: "labels.csv",
    paths.STORE_FOLDER: "engines",
    paths.NEW_STORE_FOLDER: "engines",
    paths.MODEL: "strip-gate",
    paths.STORED_MODEL: "strip-gate/1",
    paths.DATA: "castings",
    paths.FRAMES: "castings",
    paths.LINE: "line.yaml",
    paths.CHALLENGE_IMAGE: "scratches.png",
    paths.BUILD_TARGET: "line.yaml",
    paths.OUTPUT_FILE: "out.txt",
    paths.NESTED_OUTPUT_FILE: "out.txt",
    paths.OUTPUT_FOLDER: "out",
    paths.OUTPUT_PATH: "out.mcap",
}
"""Type of a parameter to a value that is accepted, among the files of `file_kinds.make_files`."""

_VALUES = {"--kind": "gate", "--name": "x", "--size": "32x32", "--channels": "1", "frame": "1"}


def value_of(parameter: click.Parameter) -> str:
    """Return a value for a parameter."""
    known = GOOD.get(parameter.type) or _VALUES.get(parameter.opts[0])
    assert known is not None, f"{parameter.opts}: give it a type of cli/_paths.py"
    return known


def command_line(path: str, replaced: click.Parameter | None = None, value: str = "") -> list[str]:
    """Return the shortest command line of a command, with one parameter set to a value."""
    words = path.split()
    for each in leaf_commands()[path].params:
        if each is replaced or (each.required and not isinstance(each.default, tuple)):
            shown = value if each is replaced else value_of(each)
            words += [shown] if isinstance(each, click.Argument) else [each.opts[0], shown]
    return words
