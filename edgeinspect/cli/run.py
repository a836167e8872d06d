"""`edgeinspect run FILE`: run a line until it is stopped."""

from __future__ import annotations

import contextlib
import faulthandler
from pathlib import Path

import click

from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_json
from edgeinspect.cli._options import LOG_FORMAT, LOG_LEVEL, OVERRIDES
from edgeinspect.cli._paths import LINE_FILE
from edgeinspect.cli._results.line import RunOutcome
from edgeinspect.cli._terminal import echo
from edgeinspect.pipeline.line import Line
from edgeinspect.services.daemon.service import run_daemon as run_line
from edgeinspect.system import configure


@click.command(
    cls=Command,
    examples=[
        ("Run a line until Ctrl-C", "edgeinspect run line.yaml"),
        ("With another time budget", "edgeinspect run line.yaml --set budget_ms=200"),
    ],
)
@click.argument("file", type=LINE_FILE)
@OVERRIDES
@LOG_FORMAT
@LOG_LEVEL
@json_option("edgeinspect.cli._results.line:RunOutcome")
def run(
    file: Path, overrides: tuple[str, ...], log_format: str, log_level: str, as_json: bool
) -> None:
    """Run the line that FILE describes.

    Ends with 0 when stopped by Ctrl-C or SIGTERM, or after the last image of a folder; with
    75 when a camera is lost and all retries fail. SIGHUP loads the live models again.
    """
    configure(log_format, log_level)
    faulthandler.enable()  # systemd's watchdog sends SIGABRT: log the stack of every thread

    name = ""

    def announce(line: Line) -> None:
        nonlocal name
        name = line.config.line
        with contextlib.suppress(OSError):  # a closed stdout must not stop a line
            echo(
                f"inspecting line {line.config.line}, verdicts at {line.publisher.address}",
                err=as_json,
            )

    counts = run_line(file, overrides, on_started=announce)
    if as_json:
        print_json(
            RunOutcome(
                line=name,
                captured=counts.captured,
                passed=counts.passed,
                reject=counts.reject,
                no_verdict=counts.no_verdict,
                late=counts.late,
                degraded=counts.degraded,
                reasons=counts.reasons,
            )
        )
        return
    echo(
        f"captured {counts.captured} = pass {counts.passed} + reject {counts.reject} "
        f"+ no verdict {counts.no_verdict}"
    )
