"""Types of click's parameters for files and folders that a command reads.

A value is checked when the command line is parsed, before anything is opened or written: a file
of another kind is refused with what it is and what it is for.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgeinspect.cli._file_kinds import FileContent, FileKind, identify
from edgeinspect.errors import DataError, EdgeInspectError
from edgeinspect.system import escape_name

_NEIGHBOURS_MAX = 1000
_SHOWN_MAX = 200

Refusal = Callable[..., EdgeInspectError]


class InputPath(click.Path):
    """A file or folder that the command reads.

    Args:
        kinds: Kinds that are accepted, the expected one first.
        what: What is expected, where the first kind does not say it.
        error: Error for any other; its exit code is that of the command.
        hint: What to give instead, where the kind of the file says nothing.
        always_hint: What the file is for is no help here; the hint is.
        may_be_missing: A path that does not exist is accepted: it will be made.
        words: Values that are no path; `./WORD` is the file of that name.
        holds_data: A folder here is read with all that is below it: nothing is written there.
    """

    def __init__(
        self,
        *kinds: FileKind,
        what: str = "",
        error: Refusal = DataError,
        hint: str = "",
        always_hint: bool = False,
        may_be_missing: bool = False,
        words: tuple[str, ...] = (),
        holds_data: bool = False,
    ) -> None:
        super().__init__(path_type=Path)
        self.words = words
        self.what = what or kinds[0].value
        self.kinds = frozenset(kinds)
        self.error = error
        self.hint = hint
        self.always_hint = always_hint
        self.may_be_missing = may_be_missing
        self.holds_data = holds_data

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, after checking what is there.

        Raises:
            EdgeInspectError: It is missing, cannot be read, or is of another kind.
        """
        path = Path(value)
        if str(value) in self.words:
            return path
        # Path("./none") == Path("none"): a file of a word's name needs its whole path.
        path = path.resolve() if str(path) in self.words else path
        self.check(path, self.error)
        return path

    def check(self, path: Path, error: Refusal) -> None:
        """Check what is at a path; raises `error`."""
        where = shown_path(path)
        try:
            content = identify(path)
        except (FileNotFoundError, NotADirectoryError) as missing:
            if self.may_be_missing:
                return
            if path.is_symlink():
                raise error(
                    "is a link to something that does not exist", where=where, remedy=self.hint
                ) from missing
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
            raise error(f"is not a path: {fault}", where=shown_path(path)) from fault
        if content.kind not in self.kinds:
            raise error(
                f"is {content}, not {self.what}",
                where=where,
                remedy=self._remedy(content, path),
            )

    def _remedy(self, content: FileContent, path: Path) -> str:
        use = "" if self.always_hint else content.remedy(Path(escape_name(path)))
        return use or self.hint


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
        path = self.path_in(text)
        if path is not None:
            self.path.convert(path, param, ctx)
        return text

    def path_in(self, text: str) -> Path | None:
        """Return the path that a value is; None for a name."""
        return Path(self._to_path(text)) if self._is_path(text) else None

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Complete paths."""
        return self.path.shell_complete(ctx, param, incomplete)


def shown_path(path: Path) -> str:
    """Return a path for a message: escaped, and not longer than a message should be."""
    text = escape_name(path)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def path_exists(path: Path) -> bool:
    """Return whether there is something at a path; False for what is no path."""
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
