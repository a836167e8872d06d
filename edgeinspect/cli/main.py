"""Entry point: finds the subcommand and turns errors into exit codes; only done here."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, TextIO

import click
from click.shell_completion import CompletionItem, shell_complete

from edgeinspect import __version__
from edgeinspect.cli._command import Group
from edgeinspect.cli._exit_codes import EXIT_CODES, EXIT_INTERRUPTED, EXIT_PIPE
from edgeinspect.errors import (
    EXIT_CANTCREAT,
    EXIT_DATAERR,
    EXIT_OK,
    EXIT_SOFTWARE,
    EXIT_TEMPFAIL,
    EXIT_USAGE,
    EdgeInspectError,
    MissingExtraError,
    exit_code_of,
    is_transient,
)
from edgeinspect.registry import EXTRAS

_STARTED_S = time.monotonic()
_STARTUP_S = 10.0
_RETRY_PAUSE_S = 2.0

_SERVICES = (["run"], ["hmi"], ["gateway"], ["archive"], ["record"])
"""Services report by their own errors what a person must fix; any other error is retried."""
_PATH_ERRNOS = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.ENXIO,
        errno.EPERM,
        errno.EROFS,
    }
)
_OUTPUT_ERRNOS = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.EROFS})
"""Of these, what only who writes can meet."""
_MAX_SHOWN_PATH = 200
_STDOUT = "standard output"

COMPLETE_VARIABLE = "_EDGEINSPECT_COMPLETE"
"""Environment variable with which the shell requests completions; the name is click's."""

DEBUG_VARIABLE = "EDGEINSPECT_DEBUG"
"""Environment variable: 1 shows the traceback of an unexpected error."""

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Run a line": {
        "demo": ("edgeinspect.cli.demo:demo", "Run a whole line on synthetic steel strip."),
        "check": ("edgeinspect.cli.check:check", "Check a line's file, models and cameras."),
        "run": ("edgeinspect.cli.run:run", "Run the line that a file describes."),
        "watch": ("edgeinspect.cli.watch:watch", "Show a running line's verdicts."),
        "hmi": ("edgeinspect.cli.hmi:hmi", "Serve the HMI and the metrics of a line."),
        "gateway": ("edgeinspect.cli.gateway:gateway", "Transfer a line's verdicts to a PLC."),
        "challenge": ("edgeinspect.cli.challenge:challenge", "Send a known defect through a line."),
    },
    "Look at what a line did": {
        "ledger": ("edgeinspect.cli.ledger:ledger", "Verify, search, export and back up verdicts."),
        "archive": ("edgeinspect.cli.archive:archive", "Archive, list and export images."),
        "record": ("edgeinspect.cli.record:record", "Record frames and verdicts of a line."),
        "replay": ("edgeinspect.cli.replay:replay", "Inspect a recorded shift again."),
        "rescore": ("edgeinspect.cli.rescore:rescore", "Run another model over an archive."),
    },
    "Make models": {
        "data": ("edgeinspect.cli.data:data", "Check a data set, and split it."),
        "train": ("edgeinspect.cli.train:train", "Train the two models."),
        "evaluate": ("edgeinspect.cli.evaluate:evaluate", "Measure a model on a data set."),
        "compare": ("edgeinspect.cli.compare:compare", "Compare two models on a data set."),
        "explain": ("edgeinspect.cli.explain:explain", "Draw what a model found in images."),
        "calibrate": ("edgeinspect.cli.calibrate:calibrate", "Make and verify an INT8 version."),
        "models": ("edgeinspect.cli.models:models", "Import, build, verify, promote models."),
    },
    "Set up this PC": {
        "doctor": ("edgeinspect.cli.doctor:doctor", "Check this PC, with remedies."),
        "bench": ("edgeinspect.cli.bench:bench", "Measure throughput and latency on this PC."),
        "keys": ("edgeinspect.cli.keys:keys", "Create and list keys of the encrypted wire."),
        "version": ("edgeinspect.cli.version:version", "Show versions and installed plugins."),
        "help": ("edgeinspect.cli.help:help_", "Show the help of a command."),
    },
}
"""Section of the help, subcommand, its target and summary: so that help imports none of them."""

COMMANDS: dict[str, tuple[str, str]] = {
    name: command for section in SECTIONS.values() for name, command in section.items()
}
"""The subcommands of all sections, in order of use."""

VARIABLES: dict[str, str] = {
    "EDGEINSPECT_STORE": "Folder of the models, where --store is not given.",
    DEBUG_VARIABLE: "1 shows the traceback of an unexpected error.",
    "NO_COLOR": "Any value: no colours.",
}
"""Environment variables that the commands read."""


class LazyGroup(Group):
    """A group whose commands are imported when called, not when listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=words)
            for name, (_target, words) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            _write_definitions(
                formatter, title, {name: words for name, (_t, words) in section.items()}
            )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        codes = {str(code): each.meaning for code, each in EXIT_CODES.items()}
        _write_definitions(formatter, "Exit codes", codes)
        _write_definitions(formatter, "Environment variables", VARIABLES)


def _write_definitions(
    formatter: click.HelpFormatter, title: str, definitions: dict[str, str]
) -> None:
    with formatter.section(title):
        formatter.write_dl(list(definitions.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    examples=[
        ("Run a whole line on synthetic steel strip", "edgeinspect demo"),
        ("Check a line of your own", "edgeinspect check line.yaml"),
        ("Run it until Ctrl-C", "edgeinspect run line.yaml"),
        ("In a second terminal: every verdict as it comes", "edgeinspect watch"),
    ],
)
@click.version_option(__version__, message="edgeinspect %(version)s")
def cli() -> None:
    """Inspect surfaces on a production line: frames in, verdicts out.

    FILE is the line's file in every command; for a line of your own, copy example.yaml
    (/etc/edgeinspect on a line PC, examples/service in the source). What is not FILE alone, as
    LEDGER or LINE, is explained in the command's help.
    """
    from edgeinspect.system import log

    log.configure("auto", "warning")  # `run` sets its own


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; errors are printed.

    Args:
        argv: Arguments without the program's name; those of the process when absent.
    """
    _open_standard_streams()
    _prepare_output()
    code = EXIT_OK
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _silence(sys.stdout)
        return EXIT_PIPE
    except OSError as error:
        _silence(sys.stdout)
        # With a code the error was printed already.
        return code or _report_lost_output(error)
    finally:
        # What stderr did not take stays in its buffer, and Python's last flush would exit with 120.
        try:
            sys.stderr.flush()
        except OSError:
            _silence(sys.stderr)


def _open_standard_streams() -> None:
    """Open /dev/null for each of stdin, stdout and stderr that the process lacks.

    Otherwise Python has None there, and the next file opened, perhaps the spool, gets the
    descriptor to which libraries write their warnings. A stdout that was closed stays one that
    cannot be written: whoever closed it would take silence for an empty result.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
        mode = "r" if number == 0 else "w"
        setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


class _StandardOutput(io.FileIO):
    """The file of stdout; the error of a failed write names it."""

    def __init__(self) -> None:
        super().__init__(1, "w", closefd=False)

    def write(self, data: Any, /) -> int:
        """Write bytes.

        Raises:
            OSError: They cannot be written; its `filename` is `_STDOUT`.
        """
        try:
            return super().write(data)
        except OSError as error:
            error.filename = _STDOUT
            raise


def _prepare_output() -> None:
    """Name stdout in its errors; escape characters that a stream's encoding lacks."""
    if isinstance(stdout := sys.stdout, io.TextIOWrapper) and sys.__stdout__ in (stdout, None):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_StandardOutput()),
            stdout.encoding,
            line_buffering=stdout.line_buffering,
            write_through=stdout.write_through,
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run(argv: list[str]) -> int:
    if asked := os.environ.get(COMPLETE_VARIABLE):
        return shell_complete(cli, {}, "edgeinspect", COMPLETE_VARIABLE, asked)
    try:
        # click's main would turn errors into codes 1 and 2 and swallow a broken pipe.
        with cli.make_context("edgeinspect", argv) as ctx:
            return _exit_code(cli.invoke(ctx))
    except EdgeInspectError as error:
        code = exit_code_of(error)
        passing = "" if code == error.exit_code else ". This may be temporary: try again"
        return _report_error(f"{error}{passing}", code)
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        _show_usage(error)
        return EXIT_USAGE
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            return _report_bug(error)
        missing = MissingExtraError(EXTRAS[package], package)
        return _report_error(str(missing), exit_code_of(missing))
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.errno == errno.EPIPE:
            raise BrokenPipeError from error
        if error.filename == _STDOUT:
            return _report_lost_output(error)
        if _is_path_error(error) and argv[:1] not in _SERVICES:
            if os.environ.get(DEBUG_VARIABLE) == "1":
                traceback.print_exception(error)
            code = EXIT_CANTCREAT if error.errno in _OUTPUT_ERRNOS else EXIT_DATAERR
            return _report_error(_describe_path_error(error), code)
        return _report_bug(error)
    except Exception as error:
        return _report_bug(error)


def _is_path_error(error: OSError) -> bool:
    """Return whether the system rejected a path that the user gave, and names it."""
    return error.filename is not None and error.errno in _PATH_ERRNOS and not is_transient(error)


def _describe_path_error(error: OSError) -> str:
    from edgeinspect.system import escape_name  # imported here: help must start fast

    name = escape_name(os.fsdecode(error.filename))
    shown = name if len(name) <= _MAX_SHOWN_PATH else f"{name[:_MAX_SHOWN_PATH]}…"
    return f"{shown}: {error.strerror}. Check the path, and the rights of this user"


def _exit_code(result: Any) -> int:
    """Return a command's exit code; a command may return None."""
    return result if isinstance(result, int) else EXIT_OK


def _show_usage(error: click.ClickException) -> None:
    """Print click's message in our format; help for a call without arguments."""
    if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and later; earlier versions exit
        _write_stderr(error.format_message())
        return
    ctx = getattr(error, "ctx", None)
    if ctx is not None:
        _write_stderr(f"{ctx.get_usage()}\nTry '{ctx.command_path} --help'.")
    _print_error(error.format_message())


def _write_stderr(text: str) -> None:
    from edgeinspect.cli._terminal import echo

    with contextlib.suppress(OSError):  # stderr is closed; the exit code remains
        echo(text, err=True)


def _report_error(message: str, code: int) -> int:
    _print_error(message)
    if code == EXIT_TEMPFAIL:
        _pause_before_retry()
    return code


def _pause_before_retry() -> None:
    """Delay the exit of a service that failed at start for a temporary reason.

    systemd restarts a service after 50 ms, which suits one that was running. One that waits for
    an address or for memory would occupy a processor.
    """
    if "NOTIFY_SOCKET" in os.environ and time.monotonic() - _STARTED_S < _STARTUP_S:
        time.sleep(_RETRY_PAUSE_S)


def _report_lost_output(error: OSError) -> int:
    """Report that stdout does not take what was printed."""
    reason = "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)
    # Results are printed at the end: to repeat a restore or a promotion would be wrong.
    return _report_error(
        f"{_STDOUT}: cannot be written: {reason}. What the command did is done; only what it "
        "prints is lost",
        EXIT_TEMPFAIL if is_transient(error) else EXIT_CANTCREAT,
    )


def _report_bug(error: BaseException) -> int:
    """Report a bug, an unexpected state of the machine, or a shortage of resources."""
    if os.environ.get(DEBUG_VARIABLE) == "1":
        traceback.print_exception(error)
    message = " ".join(str(error).split())
    if is_transient(error):
        short = "there is not enough memory" if isinstance(error, MemoryError) else message
        message = short or type(error).__name__
        return _report_error(f"{message}. This may be temporary: try again", EXIT_TEMPFAIL)
    _print_error(
        f"unexpected {type(error).__name__}: {message or 'no message'}. "
        f"See the traceback with {DEBUG_VARIABLE}=1, and report it"
    )
    return EXIT_SOFTWARE


def _print_error(message: str) -> None:
    """Print `edgeinspect: error: ...` on stderr; control characters are escaped."""
    from edgeinspect.system import escape_lines  # imported here: help must start fast

    prefix, message = "edgeinspect: error: ", escape_lines(message)
    try:
        if sys.stderr.isatty():
            from rich.text import Text

            from edgeinspect.cli._terminal import Console, wrap_lines

            console = Console(stderr=True)
            text = Text(wrap_lines(f"{prefix}{message}", console.width))
            text.stylize("bold red", end=len(prefix))
            console.print(text, soft_wrap=True)
        else:
            print(f"{prefix}{message}", file=sys.stderr, flush=True)
    except OSError:  # stderr is closed; the exit code remains
        pass


def _silence(stream: TextIO) -> None:
    """Redirect stdout or stderr to /dev/null, so that the last flush does not fail again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # it is not a file
        pass
