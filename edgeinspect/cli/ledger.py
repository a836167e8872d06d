"""`edgeinspect ledger`: verify, search, export, back up and restore verdicts."""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from edgeinspect.cli._command import Group
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._ledger_copy import backup, restore
from edgeinspect.cli._ledger_files import find_ledger_files
from edgeinspect.cli._ledger_query import events_, export, query_
from edgeinspect.cli._paths import LEDGER, SPOOL
from edgeinspect.cli._progress import QUIET, progress_bar
from edgeinspect.cli._results.ledger import EpochResult, LedgerVerification
from edgeinspect.cli._tables import Column, TextTable, format_time, number, print_table, print_text
from edgeinspect.cli._terminal import echo
from edgeinspect.errors import EXIT_DATAERR, EXIT_OK
from edgeinspect.storage.ledger import EpochCheck, verify_ledger
from edgeinspect.system import format_utc

_MAX_SHOWN_PROBLEMS = 50


@click.group(
    cls=Group,
    examples=[
        ("Prove that every frame has one verdict", "edgeinspect ledger verify line.yaml"),
        (
            "List the rejects of the last two hours",
            "edgeinspect ledger query line.yaml --since 2h --decision REJECT",
        ),
        ("Back up the verdicts of a running line", "edgeinspect ledger backup line.yaml backup/"),
    ],
)
def ledger() -> None:
    """Verify, search, export, back up and restore the verdicts of a line.

    LEDGER is the line's file, or its ledger (`LINE.ledger.sqlite`).
    """


@ledger.command(
    examples=[
        ("Verify the ledger and the spool of a line", "edgeinspect ledger verify line.yaml"),
        (
            "Verify a copy on another PC",
            "edgeinspect ledger verify strip.ledger.sqlite",
        ),
    ],
)
@click.argument("file", metavar="LEDGER", type=LEDGER)
@click.option(
    "--spool",
    metavar="SPOOL_FILE",
    type=SPOOL,
    help="Check this spool too: it has the newest frames.",
)
@QUIET
@json_option("edgeinspect.cli._results.ledger:LedgerVerification")
def verify(file: Path, spool: Path | None, as_json: bool) -> int:
    """Check that every frame has exactly one verdict.

    LEDGER is the line's file, whose spool is checked too, or its ledger. Prints a line per
    epoch (a run of the daemon). Ends with 65 on any gap or damage. The line may be running.
    """
    path, its_spool = find_ledger_files(file)
    spool = spool or its_spool
    with progress_bar("verifying") as progress:
        report = verify_ledger(path, spool, progress)
    if spool is None:
        echo("Without a spool only the ledger is checked.", err=True)
    result = LedgerVerification(
        holds=report.is_consistent,
        ledger=str(path),
        spool=None if spool is None else str(spool),
        epochs=[_epoch_result(epoch) for epoch in report.epochs],
        problems=report.problems,
        notes=report.notes,
        skipped=report.skipped,
        removed=report.removed,
    )
    print_result(result, as_json, _show_verification)
    return EXIT_OK if report.is_consistent else EXIT_DATAERR


def _show_verification(result: LedgerVerification) -> None:
    table = TextTable(
        number("epoch", optional=True),
        Column("started", fixed=True),
        Column("ended", fixed=True, optional=True),
        number("captured"),
        number("pass"),
        number("reject"),
        number("no verdict"),
        number("late", optional=True),
        number("gaps", optional=True),
        number("damaged", optional=True),
        Column("frames", fixed=True, optional=True),
        Column("", fixed=True),
    )
    newest = max((epoch.epoch for epoch in result.epochs), default=0)
    for epoch in result.epochs:
        open_end = "running, or was killed" if epoch.epoch == newest else "was killed"
        table.add_row(
            str(epoch.epoch),
            format_time(epoch.started_at_utc_ns),
            format_time(epoch.ended_at_utc_ns) if epoch.ended_at_utc_ns else open_end,
            epoch.captured,
            epoch.passed,
            epoch.reject,
            epoch.no_verdict,
            epoch.late,
            epoch.gaps,
            epoch.damaged,
            f"{epoch.first_seq}..{epoch.last_seq}" if epoch.last_seq else "-",
            Text("holds", "green") if epoch.holds else Text("BROKEN", "bold red"),
        )
    print_table(table, empty="the line has not run yet: no epochs")
    for note in result.notes[:_MAX_SHOWN_PROBLEMS]:
        print_text(Text(note, style="yellow"))
    for problem in result.problems[:_MAX_SHOWN_PROBLEMS]:
        print_text(Text(problem, style="red"))
    if (more := len(result.problems) - _MAX_SHOWN_PROBLEMS) > 0:
        print_text(Text(f"and {more} more; --json lists all", style="red"))


def _epoch_result(epoch: EpochCheck) -> EpochResult:
    started, ended = epoch.started_at_utc_ns, epoch.ended_at_utc_ns
    return EpochResult(
        epoch=epoch.epoch,
        started_at=None if started is None else format_utc(started),
        started_at_utc_ns=started,
        ended_at=None if ended is None else format_utc(ended),
        ended_at_utc_ns=ended,
        first_seq=epoch.first_seq,
        last_seq=epoch.last_seq,
        captured=epoch.captured,
        passed=epoch.passed,
        reject=epoch.reject,
        no_verdict=epoch.no_verdict,
        late=epoch.late,
        gaps=epoch.gaps,
        damaged=epoch.damaged,
        holds=epoch.is_consistent,
    )


for _command in (query_, export, events_, backup, restore):
    ledger.add_command(_command)
