"""`edgeinspect doctor [FILE]`: check whether this PC is set up for a line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
from rich.text import Text

from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._paths import LINE_FILE
from edgeinspect.cli._results.machine import DiagnosticResult, DoctorReport
from edgeinspect.cli._tables import Column, TextTable, format_number_of, print_table, print_text
from edgeinspect.config import load_config
from edgeinspect.domain import SystemClock
from edgeinspect.errors import EXIT_CONFIG, EXIT_OK, EXIT_TEMPFAIL
from edgeinspect.tools.doctor import Diagnostic, DiagnosticSeverity, Host, run_checks

_STYLES = {
    DiagnosticSeverity.OK.value: ("good", "green"),
    DiagnosticSeverity.WARNING.value: ("warn", "yellow"),
    DiagnosticSeverity.ERROR.value: ("BAD", "bold red"),
    DiagnosticSeverity.SKIPPED.value: ("-", "dim"),
}


@click.command(
    cls=Command,
    examples=[
        ("Check this PC", "edgeinspect doctor"),
        ("Check it for one line, and fail on warnings", "edgeinspect doctor line.yaml --strict"),
    ],
)
@click.argument("file", type=LINE_FILE, required=False)
@json_option("edgeinspect.cli._results.machine:DoctorReport")
@click.option("--strict", is_flag=True, help="Treat warnings as errors.")
def doctor(file: Path | None, as_json: bool, strict: bool) -> int:
    """Check this PC, and what the line in FILE requires of it; change nothing.

    Each problem comes with a remedy. Ends with 78 if the PC has errors, with 75 if only a
    camera is unavailable. A running line is not affected.
    """
    loaded = load_config(file) if file is not None else None
    diagnostics = list(run_checks(Host(), SystemClock(), loaded))
    code = _exit_code(diagnostics, strict=strict)
    counts = Counter(diagnostic.state.value for diagnostic in diagnostics)
    report = DoctorReport(
        passed=code == EXIT_OK,
        exit_code=code,
        counts={severity.value: counts[severity.value] for severity in DiagnosticSeverity},
        diagnostics=[
            DiagnosticResult(
                check=each.check, state=each.state.value, found=each.found, remedy=each.remedy
            )
            for each in diagnostics
        ],
    )
    print_result(report, as_json, _show)
    return code


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


def _show(report: DoctorReport) -> None:
    table = TextTable(Column("", fixed=True), Column("check", fixed=True), "found")
    for diagnostic in report.diagnostics:
        word, style = _STYLES[diagnostic.state]
        table.add_row(Text(word, style=style), diagnostic.check, diagnostic.found)
    print_table(table)
    for diagnostic in report.diagnostics:
        if diagnostic.remedy:
            print_text(Text.assemble((diagnostic.check, "bold"), f": {diagnostic.remedy}"))
    errors, warnings = (
        report.counts[severity.value]
        for severity in (DiagnosticSeverity.ERROR, DiagnosticSeverity.WARNING)
    )
    found = f"{format_number_of(errors, 'error')}, {format_number_of(warnings, 'warning')}"
    print_text(Text(found, style="bold green" if report.passed else "bold red"))
