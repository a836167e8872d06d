"""`edgeinspect doctor [FILE]`: is this PC set up for a line?"""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._terminal import Console, echo
from edgeinspect.config import load_config
from edgeinspect.domain import SystemClock
from edgeinspect.errors import EXIT_CONFIG, EXIT_OK, EXIT_TEMPFAIL
from edgeinspect.tools.doctor import Diagnostic, Host, Severity, run_checks

_SEVERITY_STYLES = {
    Severity.OK: ("good", "green"),
    Severity.WARNING: ("warn", "yellow"),
    Severity.ERROR: ("BAD", "bold red"),
    Severity.SKIPPED: ("-", "dim"),
}


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for a program.")
@click.option("--strict", is_flag=True, help="Count warnings as bad.")
def doctor(file: Path | None, as_json: bool, strict: bool) -> int:
    """Check this PC, and what the line in FILE wants of it; change nothing.

    Each finding comes with its remedy. Ends with 78 if something of the PC must be put
    right, with 75 if only a camera is away. A running line is not disturbed.
    """
    loaded = load_config(file) if file is not None else None
    findings = list(run_checks(Host(), SystemClock(), loaded))
    if as_json:
        echo(msgspec.json.format(msgspec.json.encode(findings), indent=2).decode())
    else:
        console = Console()
        console.print(_table(findings))
        for finding in findings:
            if finding.remedy:
                console.print(Text.assemble((finding.check, "bold"), f": {finding.remedy}"))
    return _exit_code(findings, strict=strict)


def _exit_code(findings: list[Diagnostic], *, strict: bool) -> int:
    counted = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
    checks = [finding.check for finding in findings if finding.state in counted]
    if not checks:
        return EXIT_OK
    return EXIT_TEMPFAIL if all(check.startswith("camera.") for check in checks) else EXIT_CONFIG


def _table(findings: list[Diagnostic]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "found"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for finding in findings:
        words, style = _SEVERITY_STYLES[finding.state]
        table.add_row(Text(words, style=style), finding.check, Text(finding.found))
    return table
