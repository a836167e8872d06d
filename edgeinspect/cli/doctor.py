"""`edgeinspect doctor [FILE]`: check whether this PC is set up for a line."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._command import Command
from edgeinspect.cli._paths import LINE_FILE
from edgeinspect.cli._terminal import Console, echo
from edgeinspect.config import load_config
from edgeinspect.domain import SystemClock
from edgeinspect.errors import EXIT_CONFIG, EXIT_OK, EXIT_TEMPFAIL
from edgeinspect.tools.doctor import Diagnostic, DiagnosticSeverity, Host, run_checks

_SEVERITY_STYLES = {
    DiagnosticSeverity.OK: ("good", "green"),
    DiagnosticSeverity.WARNING: ("warn", "yellow"),
    DiagnosticSeverity.ERROR: ("BAD", "bold red"),
    DiagnosticSeverity.SKIPPED: ("-", "dim"),
}


@click.command(
    cls=Command,
    examples=[
        ("Check this PC", "edgeinspect doctor"),
        ("Check it for one line, and fail on warnings", "edgeinspect doctor line.yaml --strict"),
    ],
)
@click.argument("file", type=LINE_FILE, required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for a program.")
@click.option("--strict", is_flag=True, help="Treat warnings as errors.")
def doctor(file: Path | None, as_json: bool, strict: bool) -> int:
    """Check this PC, and what the line in FILE requires of it; change nothing.

    Each problem comes with a remedy. Ends with 78 if the PC has errors, with 75 if only a
    camera is unavailable. A running line is not affected.
    """
    loaded = load_config(file) if file is not None else None
    diagnostics = list(run_checks(Host(), SystemClock(), loaded))
    if as_json:
        echo(msgspec.json.format(msgspec.json.encode(diagnostics), indent=2).decode())
    else:
        console = Console()
        console.print(_table(diagnostics))
        for diagnostic in diagnostics:
            if diagnostic.remedy:
                console.print(Text.assemble((diagnostic.check, "bold"), f": {diagnostic.remedy}"))
    return _exit_code(diagnostics, strict=strict)


def _exit_code(diagnostics: list[Diagnostic], *, strict: bool) -> int:
    failing = (
        {DiagnosticSeverity.ERROR, DiagnosticSeverity.WARNING}
        if strict
        else {DiagnosticSeverity.ERROR}
    )
    checks = [diagnostic.check for diagnostic in diagnostics if diagnostic.state in failing]
    if not checks:
        return EXIT_OK
    return EXIT_TEMPFAIL if all(check.startswith("camera.") for check in checks) else EXIT_CONFIG


def _table(diagnostics: list[Diagnostic]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "found"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for diagnostic in diagnostics:
        words, style = _SEVERITY_STYLES[diagnostic.state]
        table.add_row(Text(words, style=style), diagnostic.check, Text(diagnostic.found))
    return table
