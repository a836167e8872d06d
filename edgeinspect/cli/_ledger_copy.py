"""`edgeinspect ledger backup` and `restore`: copies of a ledger, and continuing from one."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._ledger_files import find_ledger_files, ledger_files_of, load_line
from edgeinspect.cli._paths import LEDGER, LEDGER_BACKUP, LINE_FILE, OUTPUT_PATH
from edgeinspect.cli._ranges import IntRange
from edgeinspect.cli._results.ledger import LedgerCopyResult
from edgeinspect.cli._tables import format_number_of, format_time, print_text
from edgeinspect.cli._terminal import echo
from edgeinspect.domain import SystemClock
from edgeinspect.storage.ledger import LedgerCopy, back_up_ledger, consistent_copy, restore_ledger
from edgeinspect.system import format_utc, user_name

_MAX_AFTER = 1 << 53
"""Up to here every program reads a number of JSON exactly, and the line can count on for ages."""


@click.command(
    cls=Command,
    examples=[
        ("Back up the verdicts of a running line", "edgeinspect ledger backup line.yaml backup/")
    ],
)
@click.argument("file", metavar="LEDGER", type=LEDGER)
@click.argument("target", metavar="TO", type=OUTPUT_PATH)
@json_option("edgeinspect.cli._results.ledger:LedgerCopyResult")
def backup(file: Path, target: Path, as_json: bool) -> None:
    """Copy the ledger while the line runs, and verify the copy.

    LEDGER is the line's file, or its ledger; TO a file or a folder. The copy is one file of one
    instant. An older one of its name is replaced once it is verified. Verdicts that `verify`
    finds wrong are copied as they are, and an older copy without any is kept as TO.consistent.
    Ends with 65 if the file itself is damaged.
    """
    path, _spool = find_ledger_files(file)
    copy = back_up_ledger(path, target / path.name if target.is_dir() else target)
    print_result(_copy_result(copy), as_json, _show_copy)


@click.command(
    cls=Command,
    examples=[
        (
            "Continue on a spare PC",
            "edgeinspect ledger restore line.yaml backup.sqlite",
        ),
        (
            "The same, if the PLC knows the last frame's number",
            "edgeinspect ledger restore line.yaml backup.sqlite --after 20413",
        ),
    ],
)
@click.argument("file", type=LINE_FILE)
@click.argument("source", metavar="FROM", type=LEDGER_BACKUP)
@click.option(
    "--after",
    metavar="N",
    type=IntRange(0, _MAX_AFTER),
    help="The number of the last frame that the line inspected; estimated by default.",
)
@json_option("edgeinspect.cli._results.ledger:LedgerCopyResult")
def restore(file: Path, source: Path, after: int | None, as_json: bool) -> None:
    """Restore a line's ledger from a backup.

    FILE is the line's file, FROM what `backup` wrote. The line must be stopped and have no
    ledger. Its numbers continue after any that it can have used since the backup: for each second
    and for a day more, twice as many as in the busiest one; or up to the number of --after. If
    this PC still has the line's spool, they continue after that.
    """
    config = load_line(file)
    path, spool = ledger_files_of(config, file)
    restored = restore_ledger(
        source,
        path,
        line=config.line,
        spool_path=spool,
        clock=SystemClock(),
        actor=user_name(os.getuid()),
        after=after,
    )
    result = _copy_result(restored.copy)
    result.skipped = restored.skipped
    print_result(result, as_json, _show_copy)


def _copy_result(copy: LedgerCopy) -> LedgerCopyResult:
    at = copy.last_utc_ns
    return LedgerCopyResult(
        path=str(copy.path),
        size_bytes=copy.size_bytes,
        verdicts=copy.verdicts,
        last_seq=copy.last_seq,
        last_at=None if at is None else format_utc(at),
        last_utc_ns=at,
        holds=copy.report.is_consistent,
        problems=copy.report.problems,
    )


def _show_copy(result: LedgerCopyResult) -> None:
    if result.last_utc_ns is None:
        print_text(f"{result.path}: no verdicts")
    else:
        print_text(
            f"{result.path}: {format_number_of(result.verdicts, 'verdict')}, the last "
            f"{result.last_seq} of {format_time(result.last_utc_ns)}, "
            f"{result.size_bytes / 1e6:.1f} MB"
        )
    if result.skipped is not None:
        first, last = result.skipped
        print_text(
            f"ids {first} to {last} are skipped, since the "
            "line may have given them after the backup"
        )
    if not result.holds:
        echo("The ledger itself has problems, which `edgeinspect ledger verify` lists.", err=True)
        if (kept := consistent_copy(Path(result.path))).exists():
            echo(f"The last copy without any is kept: {kept}", err=True)
