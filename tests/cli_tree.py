"""The commands of the command line, for tests that cover each of them, later ones too."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click

from edgeinspect.cli._command import Command, Example, Group
from edgeinspect.cli.main import cli

EVERY = dict[str, tuple[click.Command, click.Context]]


def every_command() -> EVERY:
    """Return path, as `ledger verify`, to each command and group; that of the root is empty."""
    root = click.Context(cli, info_name="edgeinspect", **cli.context_settings)
    return dict(_walk("", cli, root))


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
