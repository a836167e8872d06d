"""Types of click's parameters for files and folders that a command writes.

A value is checked when the command line is parsed: what cannot be written is refused before the
command's work, not after it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from edgeinspect.cli._input_path import InputPath, Reference, shown_path
from edgeinspect.errors import OutputError, UsageError
from edgeinspect.system import escape_name, open_regular

_SQLITE = b"SQLite format 3\0"
_OUTPUT_REMEDY = "Check the path, and the rights of this user"


class OutputPath(click.Path):
    """A file or folder that the command writes.

    Args:
        is_folder: It is a folder; otherwise a file. None: either; a folder with a final `/` is
            made.
        makes_folders: The command makes missing folders above it.
        takes_dash: `-` is the standard output.
    """

    def __init__(
        self, *, is_folder: bool | None, makes_folders: bool = False, takes_dash: bool = False
    ) -> None:
        super().__init__(path_type=Path, allow_dash=takes_dash)
        self.is_folder = is_folder
        self.makes_folders = makes_folders
        self.takes_dash = takes_dash

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, after checking that it can be written.

        Raises:
            OutputError: It cannot be written; checked before the command's work, not after.
            UsageError: It is `-`, and the command does not write to the standard output.
        """
        path = Path(value)
        if value == "-" and self.takes_dash:
            return path
        if value == "-":
            raise UsageError(
                "this is not written to the standard output",
                where="-",
                remedy="Give a path; ./- for a file of this name",
            )
        where = shown_path(path)
        try:
            problem = self._problem(path, names_folder=str(value).endswith(os.sep))
        except ValueError as fault:  # a NUL in the path
            raise OutputError(f"is not a path: {fault}", where=shown_path(path)) from fault
        except OSError as fault:
            problem = f"cannot be written: {fault.strerror or fault}"
        if problem:
            raise OutputError(problem, where=where, remedy=_OUTPUT_REMEDY)
        return path

    def _problem(self, path: Path, *, names_folder: bool) -> str:
        if path.is_dir():
            if self.is_folder is False:
                return "is a folder; a file is written here"
            if not os.access(path, os.W_OK | os.X_OK):
                return "cannot be written: no permission"
            return _probe(path)
        if path.is_symlink():  # followed, it could be anybody's file; replaced, it is lost
            hint = "; - is the standard output" if self.takes_dash else ""
            return f"is a link, which a file would replace: name the file itself{hint}"
        if os.path.lexists(path):
            if self.is_folder:
                return "is a file; a folder is written here"
            if not path.is_file():
                hint = "; - is the standard output" if self.takes_dash else ""
                return f"is a device or a pipe, which a file would replace{hint}"
            return "" if os.access(path, os.W_OK) else "cannot be written: no permission"
        if names_folder and self.is_folder is False:
            return "there is no such folder; a file is written here, into a folder that exists"
        parent = path.absolute().parent
        if self.is_folder is not False or self.makes_folders:
            while not os.path.lexists(parent):
                parent = parent.parent
        shown = escape_name(parent)
        if not parent.exists():
            return f"cannot be written: there is no folder {shown}"
        if not parent.is_dir():
            return f"cannot be written: {shown} is not a folder"
        if not os.access(parent, os.W_OK | os.X_OK):
            return f"cannot be written: no permission in {shown}"
        if problem := _probe(parent):
            return problem
        if names_folder and self.is_folder is None:
            path.mkdir()
        return ""


def _probe(folder: Path) -> str:
    """Return why nothing can be made in a folder; empty if something can.

    To root every folder is writable by its mode, one of /proc too: only trying tells. The name
    of the probe is hidden and its own, so that no reader of the folder takes it for a file.
    """
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".edgeinspect-", dir=folder))
    except OSError as fault:
        reason = fault.strerror or fault
        return f"cannot be written: nothing can be made in {escape_name(folder)}: {reason}"
    return ""


def _is_database(path: Path) -> bool:
    """Return whether a file is SQLite's; a ledger may be named by the line's file alone."""
    try:
        with open_regular(path) as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


def refuse_own_input(command: click.Command, ctx: click.Context) -> None:
    """Refuse an output that is a file which the same command reads, or writes for another option.

    Raises:
        UsageError: The command would replace its own input or output.
        OutputError: It would write a file over a database, or into the images that it reads.
    """
    _refuse_within_data(command, ctx)
    files: dict[Path, str] = {}
    for output, written, kind in _paths_of(command, ctx, outputs=True):
        for source, read, _kind in _paths_of(command, ctx, outputs=False):
            if written.is_file() and read.is_file() and written.samefile(read):
                raise UsageError(
                    f"{shown_path(written)} is read as {source} and would be replaced by {output}. "
                    "Give another file"
                )
        if isinstance(kind, OutputPath) and kind.is_folder is False and _is_database(written):
            raise OutputError(
                f"is a database, as ledgers are, which {output} would replace",
                where=shown_path(written),
                remedy="Give another file",
            )
        if written in files:
            raise UsageError(
                f"{shown_path(written)} is given to {files[written]} and to {output}. "
                "Give each a file of its own"
            )
        if written.suffix:  # several may share a folder
            files[written] = output


def _refuse_within_data(command: click.Command, ctx: click.Context) -> None:
    """Refuse an output in a folder of images that the command reads.

    A report's plots, a copy of an image or a sheet would be images of the data set from then on,
    and a training's or a split's JSON could be taken for its labels.

    Raises:
        OutputError: It is such a folder, or is below one.
    """
    paths = [
        (option, path, kind.path if isinstance(kind, Reference) else kind)
        for is_output in (False, True)
        for option, path, kind in _paths_of(command, ctx, outputs=is_output)
    ]
    folders = [
        (option, path)
        for option, path, kind in paths
        if isinstance(kind, InputPath) and kind.holds_data and path.is_dir()
    ]
    for output, written, kind in paths:
        # A store is an input, and is made where it is missing.
        if isinstance(kind, InputPath) and not kind.may_be_missing:
            continue
        for source, folder in folders:
            if written.resolve().is_relative_to(folder.resolve()):
                raise OutputError(
                    f"is in {shown_path(folder)}, which is read as {source}: what is written there "
                    "would be read as data",
                    where=f"{output} {shown_path(written)}",
                    remedy=f"Give {output} a path outside of it",
                )


def refuse_failed_output(error: OSError, command: click.Command, ctx: click.Context) -> None:
    """Refuse an output below which the system did not let the command write.

    Raises:
        OutputError: The error names a path at or below an output of the command, or a missing
            folder above it, which could not be made.
    """
    if not isinstance(error.filename, (str, bytes, os.PathLike)):
        return
    failed = Path(os.fsdecode(error.filename)).absolute()
    for _option, written, _kind in _paths_of(command, ctx, outputs=True):
        written = written.absolute()
        is_above = written.is_relative_to(failed) and not os.path.lexists(failed)
        if failed.is_relative_to(written) or is_above:
            raise OutputError(
                f"cannot be written: {error.strerror or error}",
                where=shown_path(failed),
                remedy=_OUTPUT_REMEDY,
            ) from error


def _paths_of(
    command: click.Command, ctx: click.Context, *, outputs: bool
) -> Iterator[tuple[str, Path, click.ParamType[Any]]]:
    for param in command.params:
        value = ctx.params.get(param.name or "")
        name = param.opts[0] if param.opts[0][0] == "-" else param.make_metavar(ctx).strip("[].")
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(param.type, Reference) and each is not None:
                path = param.type.path_in(each)
            else:
                path = each if isinstance(each, Path) else None
            if path is not None and isinstance(param.type, OutputPath) is outputs:
                yield name, path, param.type
