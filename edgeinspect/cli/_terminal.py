"""Output of commands. Everything printed goes through here; untrusted text is escaped."""

from __future__ import annotations

import errno
import os
import sys
import textwrap
from collections.abc import Iterable
from typing import Any

import click
import rich.console
from rich.cells import cell_len
from rich.segment import Segment

from edgeinspect.system import escape_json, escape_lines

THOUSANDS = "\N{NARROW NO-BREAK SPACE}"
"""Stands between thousands of a number on a terminal."""


class Console(rich.console.Console):
    """Rich's console without markup, and with control characters escaped.

    Colours come only from `Text` and `style`; the content of a text may be untrusted.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def on_broken_pipe(self) -> None:
        """Handle a closed pipe; `main` chooses the exit code.

        Raises:
            BrokenPipeError: On stdout. Output on stderr is dropped, and the command continues.
        """
        self.quiet = True
        if not self.stderr:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def render(
        self, renderable: Any, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render with the text of each segment escaped."""
        for segment in super().render(renderable, options):
            # To Python a separator of thousands is as unprintable as an escape sequence.
            if segment.control or segment.text.replace(THOUSANDS, "").isprintable():
                yield segment
            else:
                yield Segment(escape_lines(segment.text), segment.style)


def echo(message: str = "", *, err: bool = False) -> None:
    """Print one or more lines on stdout or stderr; on a terminal they are wrapped between words."""
    text = escape_lines(message)
    if (sys.stderr if err else sys.stdout).isatty():
        text = wrap_lines(text, Console(stderr=err).width)
    click.echo(text, err=err)


def echo_command(line: str) -> None:
    """Print a line of a shell command on stdout, never wrapped: it is pasted."""
    click.echo(escape_lines(line))


def wrap_lines(text: str, width: int) -> str:
    """Wrap each line between words, with its own indent; a longer word, as a path, stays whole."""
    return "\n".join(_wrap_line(line, width) for line in text.split("\n"))


def _wrap_line(line: str, width: int) -> str:
    if cell_len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip(" ")))
    return textwrap.fill(
        line,
        width,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def echo_json(body: bytes) -> None:
    """Print published JSON: unchanged in a pipe, escaped on a terminal."""
    if sys.stdout.isatty():
        click.echo(escape_json(body.decode("utf-8", "replace")))
    else:
        click.echo(body)
