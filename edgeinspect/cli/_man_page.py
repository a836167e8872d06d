"""The man page and the shell completion, generated from the commands.

Source: man-pages(7), groff_man(7); click's own completion script.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.shell_completion import BashComplete

from edgeinspect import __version__
from edgeinspect.cli._command import Command, Group
from edgeinspect.cli._exit_codes import EXIT_CODES
from edgeinspect.cli.main import COMMANDS, COMPLETE_VARIABLE, VARIABLES, cli

_FILES = (
    ("/etc/edgeinspect/NAME.yaml", "The line NAME, run by edgeinspect@NAME.service."),
    ("/etc/edgeinspect/keys", "Keys of the encrypted wire."),
    ("/var/lib/edgeinspect/engines", "The models."),
    ("/var/lib/edgeinspect/ledger", "Every verdict, one file per line."),
    ("/run/edgeinspect/NAME", "Spool and ring of the running line."),
    ("/usr/share/edgeinspect", "Examples, and drop-ins for the units."),
)


def bash_completion() -> str:
    """Return the bash completion script, which queries `edgeinspect` for the candidates."""
    completion = BashComplete(cli, {}, "edgeinspect", COMPLETE_VARIABLE)
    return completion.source_template % completion.source_vars()


def man_page() -> str:
    """Return the man page edgeinspect(1) in roff."""
    return "\n".join(_page_lines()) + "\n"


def _page_lines() -> Iterator[str]:
    yield f'.TH EDGEINSPECT 1 "" "edgeinspect {__version__}" "User Commands"'
    yield ".SH NAME"
    yield "edgeinspect \\- inspect surfaces on a production line: frames in, verdicts out"
    yield ".SH SYNOPSIS"
    yield ".B edgeinspect\n.I COMMAND\n[options]"
    yield ".SH DESCRIPTION"
    yield from _paragraph_lines(cli.help or "")
    yield ".SH COMMANDS"
    context = click.Context(cli, info_name="edgeinspect")
    for name, (_target, summary) in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        yield from _command_lines(command, f"edgeinspect {name}", summary)
    yield ".SH EXIT STATUS"
    for code, (meaning, _remedy) in EXIT_CODES.items():
        yield from _entry_lines(str(code), f"{meaning[0].upper()}{meaning[1:]}.")
    yield ".SH ENVIRONMENT"
    for name, summary in VARIABLES.items():
        yield from _entry_lines(name, summary)
    yield ".SH FILES"
    for name, summary in _FILES:
        yield from _entry_lines(name, summary)
    yield ".SH SEE ALSO"
    yield ".BR journalctl (1),\n.BR systemctl (1)"


def _command_lines(command: click.Command, name: str, summary: str = "") -> Iterator[str]:
    """Yield the section of a command and of its subcommands."""
    yield f".SS {_escape(name)}"
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".B {_escape(name)}\n{_escape(usage)}\n.PP"
    yield from _paragraph_lines(command.help or summary)
    for option in command.get_params(context):
        help_record = option.get_help_record(context)
        if help_record is not None and "--help" not in option.opts:
            yield from _entry_lines(help_record[0], help_record[1])
    if isinstance(command, (Command, Group)) and command.examples:
        yield ".PP\nExamples:"
        for purpose, line in command.examples:
            yield f".PP\n{_escape(purpose)}:\n.RS 4\n.nf\n{_escape(line)}\n.fi\n.RE"
    if isinstance(command, click.Group):
        for subcommand_name in command.list_commands(context):
            subcommand = command.get_command(context, subcommand_name)
            if subcommand is not None and not subcommand.hidden:
                yield from _command_lines(subcommand, f"{name} {subcommand_name}")


def _paragraph_lines(text: str) -> Iterator[str]:
    """Yield paragraphs; those that click must not wrap keep their lines."""
    for paragraph in text.strip().split("\n\n"):
        lines = [line.strip() for line in paragraph.splitlines()]
        if lines and lines[0] == "\b":
            yield ".nf"
            yield from (_escape(line) for line in lines[1:])
            yield ".fi"
        else:
            yield _escape(" ".join(lines))
        yield ".PP"


def _entry_lines(name: str, summary: str) -> Iterator[str]:
    yield ".TP"
    yield f".B {_escape(name)}"
    yield _escape(summary) or "\\&"


def _escape(text: str) -> str:
    """Return text without roff requests or escapes."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
