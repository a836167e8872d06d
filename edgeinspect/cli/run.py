"""`edgeinspect run FILE`: run a line until it is told to stop."""

from __future__ import annotations

import contextlib
import faulthandler
from pathlib import Path

import click

from edgeinspect.cli._terminal import echo
from edgeinspect.pipeline.line import Line
from edgeinspect.services.daemon.service import run_daemon as run_line
from edgeinspect.system import configure


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace one value, as cameras.top.path=/data; may be given often.",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "console", "json", "journal"]),
    default="auto",
    show_default=True,
    help="How the log is written.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def run(file: Path, overrides: tuple[str, ...], log_format: str, log_level: str) -> None:
    """Run the line described in FILE.

    Ends with 0 when stopped by SIGTERM or Ctrl-C, or after a folder's last picture; with 75
    when a camera stays lost through all its retries.
    """
    configure(log_format, log_level)
    faulthandler.enable()  # systemd's watchdog ends us by SIGABRT: where every thread stood

    def announce(line: Line) -> None:
        with contextlib.suppress(OSError):  # nobody reads it: no reason to stop a line
            echo(f"inspecting line {line.config.line}, verdicts at {line.publisher.address}")

    counts = run_line(file, overrides, on_started=announce)
    echo(
        f"captured {counts.captured} = pass {counts.passed} + reject {counts.reject} "
        f"+ no verdict {counts.no_verdict}"
    )
