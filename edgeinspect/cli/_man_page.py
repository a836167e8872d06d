"""The manual page and the shell's completion, made from the command line itself.

Source: man-pages(7), groff_man(7); click's own completion script.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.shell_completion import BashComplete

from edgeinspect import __version__, errors
from edgeinspect.cli.main import COMMANDS, COMPLETE, cli

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
    ("EDGEINSPECT_DEBUG", "1 shows the traceback of an unforeseen error."),
)
_EXITS = {
    errors.EXIT_OK: "Done.",
    errors.EXIT_USAGE: "The command was called wrongly.",
    errors.EXIT_REFUSED: "A model, data or records were refused.",
    errors.EXIT_MISSING: "An optional library is missing.",
    errors.EXIT_INTERNAL: "Unforeseen: a bug.",
    errors.EXIT_LOST: "A camera or peer stayed away through all retries.",
    errors.EXIT_CONFIG: "The configuration has faults; all are listed.",
}


def completion() -> str:
    """The script for bash; it asks `edgeinspect` itself what is possible."""
    made = BashComplete(cli, {}, "edgeinspect", COMPLETE)
    return made.source_template % made.source_vars()


def manual() -> str:
    """edgeinspect(1) in roff."""
    return "\n".join(_manual()) + "\n"


def _manual() -> Iterator[str]:
    yield f'.TH EDGEINSPECT 1 "" "edgeinspect {__version__}" "User Commands"'
    yield ".SH NAME"
    yield "edgeinspect \\- inspect surfaces on a production line: frames in, verdicts out"
    yield ".SH SYNOPSIS"
    yield ".B edgeinspect\n.I COMMAND\n[options]"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(cli.help or "")
    yield ".SH COMMANDS"
    context = click.Context(cli, info_name="edgeinspect")
    for name, (_target, words) in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        yield from _command(command, f"edgeinspect {name}", words)
    yield ".SH EXIT STATUS"
    for code, words in _EXITS.items():
        yield from _entry(str(code), words)
    yield ".SH ENVIRONMENT"
    for name, words in _VARIABLES:
        yield from _entry(name, words)
    yield ".SH FILES"
    for name, words in _FILES:
        yield from _entry(name, words)
    yield ".SH SEE ALSO"
    yield ".BR journalctl (1),\n.BR systemctl (1)"


def _command(command: click.Command, name: str, words: str = "") -> Iterator[str]:
    """One command, and those below it."""
    yield f".SS {_safe(name)}"
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".B {_safe(name)}\n{_safe(usage)}\n.PP"
    yield from _paragraphs(command.help or words)
    for option in command.get_params(context):
        record = option.get_help_record(context)
        if record is not None and "--help" not in option.opts:
            yield from _entry(record[0], record[1])
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            one = command.get_command(context, below)
            if one is not None and not one.hidden:
                yield from _command(one, f"{name} {below}")


def _paragraphs(text: str) -> Iterator[str]:
    """Prose; what click must not wrap keeps its lines."""
    for paragraph in text.strip().split("\n\n"):
        lines = [line.strip() for line in paragraph.splitlines()]
        if lines and lines[0] == "\b":
            yield ".nf"
            yield from (_safe(line) for line in lines[1:])
            yield ".fi"
        else:
            yield _safe(" ".join(lines))
        yield ".PP"


def _entry(name: str, words: str) -> Iterator[str]:
    yield ".TP"
    yield f".B {_safe(name)}"
    yield _safe(words) or "\\&"


def _safe(text: str) -> str:
    """Words that roff does not take for requests or escapes."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
