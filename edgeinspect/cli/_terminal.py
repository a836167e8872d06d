"""What commands print: the one way to a terminal, on which nothing from elsewhere arrives raw."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from typing import Any

import click
import rich.console
from rich.segment import Segment

from edgeinspect.system import escape_json, escape_lines


class Console(rich.console.Console):
    """Rich's, that takes no text for markup and writes control characters out.

    Colour comes from `Text` and `style`, which are ours; what is in a text is not.
    """

    def __init__(self, **words: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **words})

    def on_broken_pipe(self) -> None:
        """Nobody reads; `main` knows the exit code.

        Raises:
            BrokenPipeError: On stdout. Remarks on stderr are dropped, and the work goes on.
        """
        self.quiet = True
        if not self.stderr:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def render(
        self, renderable: Any, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As rich does, with the text of each piece made harmless."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(escape_lines(segment.text), segment.style)


def echo(message: str = "", *, err: bool = False) -> None:
    """One line, or a few, on stdout or stderr."""
    click.echo(escape_lines(message), err=err)


def echo_json(body: bytes) -> None:
    """JSON as it was published: byte for byte into a pipe, on a terminal with the same meaning."""
    if sys.stdout.isatty():
        click.echo(escape_json(body.decode("utf-8", "replace")))
    else:
        click.echo(body)
