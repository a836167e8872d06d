"""The entry: finds the subcommand, and alone turns errors into exit codes."""

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
from typing import Any

import click
from click.shell_completion import CompletionItem, shell_complete

from edgeinspect import __version__
from edgeinspect.errors import (
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
from edgeinspect.system import escape_lines, escape_name

EXIT_INTERRUPTED = 130
_STARTED_S = time.monotonic()
_STARTUP_S = 10.0
_RETRY_PAUSE_S = 2.0
EXIT_PIPE = 141

_SERVICES = (["run"], ["page"], ["gateway"], ["archive"], ["record"])
"""They say themselves what a person must mend; all else is worth another start."""
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
_MAX_SHOWN_PATH = 200

COMPLETE_VARIABLE = "_EDGEINSPECT_COMPLETE"
"""Environment variable by which the shell asks for completions; the name is click's."""

DEBUG_VARIABLE = "EDGEINSPECT_DEBUG"
"""Environment variable: 1 shows the traceback of an unforeseen error."""

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("edgeinspect.cli.demo:demo", "Run a whole line on synthetic steel strip."),
    "run": ("edgeinspect.cli.run:run", "Run the line that a configuration describes."),
    "check": ("edgeinspect.cli.check:check", "Check a configuration, its models and cameras."),
    "watch": ("edgeinspect.cli.watch:watch", "Show a running line's verdicts as they come."),
    "ledger": ("edgeinspect.cli.ledger:ledger", "Prove, search and export what was decided."),
    "record": ("edgeinspect.cli.record:record", "Keep a running line's frames and verdicts."),
    "replay": ("edgeinspect.cli.replay:replay", "Judge a recorded shift again."),
    "challenge": ("edgeinspect.cli.challenge:challenge", "Prove that the line sees a defect."),
    "keys": ("edgeinspect.cli.keys:keys", "Make and list the keys of the encrypted wire."),
    "data": ("edgeinspect.cli.data:data", "Look at a data set, and split it."),
    "train": ("edgeinspect.cli.train:train", "Train the two models."),
    "evaluate": ("edgeinspect.cli.evaluate:evaluate", "Judge a data set and sum up how well."),
    "compare": ("edgeinspect.cli.compare:compare", "Judge a data set with two models, paired."),
    "explain": ("edgeinspect.cli.explain:explain", "Draw why pictures were judged so."),
    "models": ("edgeinspect.cli.models:models", "Bring models from elsewhere into the store."),
    "build": ("edgeinspect.cli.build:build", "Build TensorRT plans, and FP16 versions."),
    "engines": ("edgeinspect.cli.engines:engines", "Keep the models' versions: promote, go back."),
    "calibrate": ("edgeinspect.cli.calibrate:calibrate", "Make and prove an INT8 version."),
    "archive": ("edgeinspect.cli.archive:archive", "Keep pictures worth keeping, and export them."),
    "rescore": ("edgeinspect.cli.rescore:rescore", "Judge an archive with another engine."),
    "gateway": ("edgeinspect.cli.gateway:gateway", "Carry a line's verdicts to a PLC."),
    "bench": ("edgeinspect.cli.bench:bench", "Measure what this PC and line can do."),
    "page": ("edgeinspect.cli.hmi:page", "Show a line to people, and its metrics."),
    "doctor": ("edgeinspect.cli.doctor:doctor", "Check this PC, and name what to put right."),
    "version": ("edgeinspect.cli.version:version", "Show versions, and what is installed."),
}
"""Subcommand to where it is and what it does, so that help imports none of them."""


class LazyGroup(click.Group):
    """A group whose commands are imported when called, not to be listed."""

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
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_target, words) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 64 wrong use, 65 model or data refused, 69 extra not installed, "
    "75 camera lost, 78 wrong configuration.",
)
@click.version_option(__version__, message="edgeinspect %(version)s")
def cli() -> None:
    """Inspect surfaces on a production line: frames in, verdicts out.

    Start with `edgeinspect demo`; for a line of your own, copy examples/folder.yaml, then
    `edgeinspect check FILE` and `edgeinspect run FILE`.
    """
    from edgeinspect.system import log

    log.configure("auto", "warning")  # `run` sets its own


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, and prints what went wrong.

    Args:
        argv: Arguments without the program's name; those of the process when absent.
    """
    _open_standard_streams()
    _escape_unencodable_output()
    code = EXIT_OK
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_PIPE
    except OSError as error:
        _silence_stdout()
        return code or _report_bug(error)  # else it was said


def _open_standard_streams() -> None:
    """Give a process that was started without stdin, stdout or stderr an empty one.

    Else Python has None there, and the next file that is opened, maybe the spool, has the
    number to which libraries write their warnings.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
        empty = open(os.devnull, "r" if number == 0 else "w", encoding="utf-8")  # noqa: SIM115
        setattr(sys, name, empty)


def _escape_unencodable_output() -> None:
    """A name that the terminal's encoding has no characters for ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run(argv: list[str]) -> int:
    if asked := os.environ.get(COMPLETE_VARIABLE):
        return shell_complete(cli, {}, "edgeinspect", COMPLETE_VARIABLE, asked)
    try:
        # Its own main would turn errors into codes 1 and 2 and swallow a broken pipe.
        with cli.make_context("edgeinspect", argv) as ctx:
            return _exit_code(cli.invoke(ctx))
    except EdgeInspectError as error:
        code = exit_code_of(error)
        passing = "" if code == error.exit_code else ". This may pass by itself: try again"
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
        if _is_path_error(error) and argv[:1] not in _SERVICES:
            if os.environ.get(DEBUG_VARIABLE) == "1":
                traceback.print_exception(error)
            return _report_error(_describe_path_error(error), EXIT_DATAERR)
        return _report_bug(error)
    except Exception as error:
        return _report_bug(error)


def _is_path_error(error: OSError) -> bool:
    """Whether the system refused a name that somebody gave, and says which."""
    return error.filename is not None and error.errno in _PATH_ERRNOS and not is_transient(error)


def _describe_path_error(error: OSError) -> str:
    name = escape_name(os.fsdecode(error.filename))
    shown = name if len(name) <= _MAX_SHOWN_PATH else f"{name[:_MAX_SHOWN_PATH]}…"
    return f"{shown}: {error.strerror}. Check the path, and the rights of this user"


def _exit_code(result: Any) -> int:
    """A command returns its exit code, or nothing."""
    return result if isinstance(result, int) else EXIT_OK


def _show_usage(error: click.ClickException) -> None:
    """Click's message in our words; help for a call without any argument."""
    if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and later; before, it exits
        _write_stderr(error.format_message())
        return
    ctx = getattr(error, "ctx", None)
    if ctx is not None:
        _write_stderr(f"{ctx.get_usage()}\nTry '{ctx.command_path} --help'.")
    _print_error(error.format_message())


def _write_stderr(text: str) -> None:
    from edgeinspect.cli._terminal import echo

    with contextlib.suppress(OSError):  # nobody reads stderr; the exit code still tells
        echo(text, err=True)


def _report_error(message: str, code: int) -> int:
    _print_error(message)
    if code == EXIT_TEMPFAIL:
        _pause_before_retry()
    return code


def _pause_before_retry() -> None:
    """A service that could not start for something that may pass lets some time pass.

    The unit starts a service that died again after 50 ms, which is right for one that ran. One
    that waits for an address or for memory would take a processor from its neighbours.
    """
    if "NOTIFY_SOCKET" in os.environ and time.monotonic() - _STARTED_S < _STARTUP_S:
        time.sleep(_RETRY_PAUSE_S)


def _report_bug(error: BaseException) -> int:
    """A bug, a machine in a state nobody thought of, or one that is short of something."""
    if os.environ.get(DEBUG_VARIABLE) == "1":
        traceback.print_exception(error)
    words = " ".join(str(error).split())
    if is_transient(error):
        short = "there is not enough memory" if isinstance(error, MemoryError) else words
        words = short or type(error).__name__
        return _report_error(f"{words}. This may pass by itself: try again", EXIT_TEMPFAIL)
    _print_error(
        f"unforeseen {type(error).__name__}: {words or 'no message'}. "
        f"See the traceback with {DEBUG_VARIABLE}=1, and report it"
    )
    return EXIT_SOFTWARE


def _print_error(message: str) -> None:
    """`edgeinspect: error: ...` on stderr, in colour on a terminal; never a control character."""
    message = escape_lines(message)
    try:
        if sys.stderr.isatty():
            from rich.text import Text

            from edgeinspect.cli._terminal import Console

            text = Text.assemble(("edgeinspect: error: ", "bold red"), message)
            Console(stderr=True).print(text, soft_wrap=True)
        else:
            print(f"edgeinspect: error: {message}", file=sys.stderr, flush=True)
    except OSError:  # nobody reads stderr; the exit code still tells
        pass


def _silence_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of into the broken pipe."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is not a file
        pass
