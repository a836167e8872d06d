"""`edgeinspect help COMMAND`: the same as `edgeinspect COMMAND --help`."""

from __future__ import annotations

import click

from edgeinspect.cli._command import Command
from edgeinspect.cli._terminal import echo


@click.command(
    "help",
    cls=Command,
    examples=[
        ("Show the help of a command", "edgeinspect help run"),
        ("Show the help of a subcommand", "edgeinspect help ledger verify"),
    ],
)
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of COMMAND: the same as `edgeinspect COMMAND --help`."""
    asked = ctx.find_root()
    for word in words:
        group = asked.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"{asked.command_path} has no commands", asked)
        _name, command, _rest = group.resolve_command(asked, [word])
        assert command is not None
        asked = click.Context(command, parent=asked, info_name=word)
    echo(asked.get_help())
