"""The manual page and the shell's completion, made from the command line itself.

Source: man-pages(7), groff_man(7); click's own completion script.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.shell_completion import BashComplete

from edgeinspect import __version__, errors
from edgeinspect.cli.main import COMMANDS, COMPLETE_VARIABLE, cli

_FILES = (
    ("/etc/edgeinspect/NAME.yaml", "The line NAME, run by edgeinspect@NAME.service."),
    ("/etc/edgeinspect/keys", "Keys of the encrypted wire."),
    ("/var/lib/edgeinspect/engines", "The models."),
    ("/var/lib/edgeinspect/ledger", "Every verdict, one file per line."),
    ("/run/edgeinspect/NAME", "Spool and ring of the running line."),
    ("/usr/share/edgeinspect", "Examples, and drop-ins for the units."),
)
_VARIABLES = (
    ("EDGEINSPECT_STORE", "Folder of the models, in place of /var/lib/edgeinspect/engines."),
    ("EDGEINSPECT_DEBUG", "1 shows the traceback of an unexpected error."),
)
_EXIT_CODES = {
    errors.EXIT_OK: "Done.",
    errors.EXIT_USAGE: "The command was called wrongly.",
    errors.EXIT_DATAERR: "A model, data or records were refused.",
    errors.EXIT_UNAVAILABLE: "An optional library is missing.",
    errors.EXIT_SOFTWARE: "Unforeseen: a bug.",
    errors.EXIT_TEMPFAIL: "A camera or peer stayed away through all retries.",
    errors.EXIT_CONFIG: "The configuration has faults; all are listed.",
}


def bash_completion() -> str:
    """The script for bash; it asks `edgeinspect` itself what is possible."""
    made = BashComplete(cli, {}, "edgeinspect", COMPLETE_VARIABLE)
    return made.source_template % made.source_vars()


def man_page() -> str:
    """edgeinspect(1) in roff."""
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
    for name, (_target, words) in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        yield from _command_lines(command, f"edgeinspect {name}", words)
    yield ".SH EXIT STATUS"
    for code, words in _EXIT_CODES.items():
        yield from _entry_lines(str(code), words)
    yield ".SH ENVIRONMENT"
    for name, words in _VARIABLES:
        yield from _entry_lines(name, words)
    yield ".SH FILES"
    for name, words in _FILES:
        yield from _entry_lines(name, words)
    yield ".SH SEE ALSO"
    yield ".BR journalctl (1),\n.BR systemctl (1)"


def _command_lines(command: click.Command, name: str, words: str = "") -> Iterator[str]:
    """One command, and those below it."""
    yield f".SS {_escape(name)}"
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".B {_escape(name)}\n{_escape(usage)}\n.PP"
    yield from _paragraph_lines(command.help or words)
    for option in command.get_params(context):
        record = option.get_help_record(context)
        if record is not None and "--help" not in option.opts:
            yield from _entry_lines(record[0], record[1])
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            one = command.get_command(context, below)
            if one is not None and not one.hidden:
                yield from _command_lines(one, f"{name} {below}")


def _paragraph_lines(text: str) -> Iterator[str]:
    """Prose; what click must not wrap keeps its lines."""
    for paragraph in text.strip().split("\n\n"):
        lines = [line.strip() for line in paragraph.splitlines()]
        if lines and lines[0] == "\b":
            yield ".nf"
            yield from (_escape(line) for line in lines[1:])
            yield ".fi"
        else:
            yield _escape(" ".join(lines))
        yield ".PP"


def _entry_lines(name: str, words: str) -> Iterator[str]:
    yield ".TP"
    yield f".B {_escape(name)}"
    yield _escape(words) or "\\&"


def _escape(text: str) -> str:
    """Words that roff does not take for requests or escapes."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
