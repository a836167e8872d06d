"""`edgeinspect ledger`: verify, search, export, back up and restore verdicts."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from edgeinspect.cli._command import Group
from edgeinspect.cli._options import LIMIT, SINCE, UNTIL, parse_timestamp, with_options
from edgeinspect.cli._paths import LEDGER, LINE_FILE, OUTPUT_FILE, SPOOL
from edgeinspect.cli._ranges import IntRange
from edgeinspect.cli._tables import format_utc, plain_table, plain_text, wide_console
from edgeinspect.cli._terminal import echo, echo_json
from edgeinspect.domain import Decision, Reason, SystemClock
from edgeinspect.errors import EXIT_DATAERR, EXIT_OK, UsageError
from edgeinspect.storage.ledger import (
    COLUMNS,
    EpochCheck,
    LedgerCopy,
    VerdictFilter,
    VerificationReport,
    back_up_ledger,
    export_csv,
    export_parquet,
    find_verdicts,
    open_ledger,
    read_body,
    read_events,
    restore_ledger,
)
from edgeinspect.storage.ledger import verify_ledger as verify_ledger
from edgeinspect.system import DecodeError, decode_json, user_name

if TYPE_CHECKING:
    from edgeinspect.config import LineConfig

_MAX_SHOWN_PROBLEMS = 50
_MAX_SEQ = (1 << 63) - 1


@click.group(
    cls=Group,
    examples=[
        ("Prove that every frame has one verdict", "edgeinspect ledger verify line.yaml"),
        (
            "List the rejects of the last two hours",
            "edgeinspect ledger query line.yaml --since -2h --decision REJECT",
        ),
        ("Back up the verdicts of a running line", "edgeinspect ledger backup line.yaml backup/"),
    ],
)
def ledger() -> None:
    """Verify, search, export, back up and restore the verdicts of a line.

    FILE is the line's file, or its ledger (`LINE.ledger.sqlite`).
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
@click.argument("file", type=LEDGER)
@click.option(
    "--spool",
    metavar="SPOOL_FILE",
    type=SPOOL,
    help="Check this spool too: it has the newest frames.",
)
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
def verify(file: Path, spool: Path | None, as_json: bool) -> int:
    """Check that every frame has exactly one verdict.

    FILE is the line's file, whose spool is checked too, or its ledger. Prints a line per
    epoch (a run of the daemon). Ends with 65 on any gap or damage. The line may be running.
    """
    path, its_spool = _find_files(file)
    spool = spool or its_spool
    if spool is None:
        echo("Without --spool only the ledger is checked.", err=True)
    report = verify_ledger(path, spool)
    if as_json:
        epochs = [_epoch_dict(epoch) for epoch in report.epochs]
        document = {
            "holds": report.is_consistent,
            "problems": report.problems,
            "notes": report.notes,
            "removed": report.removed,
            "epochs": epochs,
        }
        echo(json.dumps(document, indent=2))
    else:
        _print_report(report)
    return EXIT_OK if report.is_consistent else EXIT_DATAERR


_filter_options = with_options(
    SINCE,
    UNTIL,
    click.option(
        "--decision", type=click.Choice([d.value for d in Decision]), help="With this decision."
    ),
    click.option(
        "--reason",
        metavar="REASON",
        type=click.Choice([r.value for r in Reason]),
        help="With this reason, as defect or deadline.",
    ),
    click.option(
        "--class", "class_name", metavar="NAME", help="With a fatal region of this class."
    ),
    click.option("--camera", metavar="NAME", help="Of this camera."),
    click.option("--part", "part_id", metavar="ID", help="Of this part."),
    click.option(
        "--seq", metavar="N", type=IntRange(1, _MAX_SEQ), help="The frame of this number."
    ),
)


@ledger.command(
    "query",
    examples=[
        (
            "List the rejects of the last two hours",
            "edgeinspect ledger query line.yaml --since -2h --decision REJECT",
        ),
        (
            "Show what happened to one part, as published",
            "edgeinspect ledger query line.yaml --part A1234 --whole",
        ),
    ],
)
@click.argument("file", type=LEDGER)
@_filter_options
@LIMIT
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--whole", is_flag=True, help="The complete JSON of each verdict, as published.")
def query_(file: Path, limit: int, as_json: bool, whole: bool, **filters: Any) -> None:
    """List verdicts, the newest first.

    FILE is the line's file, or its ledger.
    """
    wanted = _parse_filter(filters, limit)
    table = plain_table(
        "seq", "captured", "camera", "decision", "reason", "classes", "part", "p", "ms", "image"
    )
    with closing(open_ledger(_find_files(file)[0])) as database:
        for row in find_verdicts(database, wanted):
            value = dict(zip(COLUMNS, row, strict=True))
            if whole:
                echo_json(read_body(database, value["seq"]) or b"")
            elif as_json:
                echo(json.dumps(value))
            else:
                table.add_row(*_cells(value))
    if not (whole or as_json):
        wide_console().print(table)


@ledger.command(
    examples=[
        (
            "Write last week's verdicts for a spreadsheet",
            "edgeinspect ledger export line.yaml --since -7d --csv week.csv",
        ),
        (
            "Write all verdicts for pandas",
            "edgeinspect ledger export line.yaml --parquet verdicts.parquet",
        ),
    ],
)
@click.argument("file", type=LEDGER)
@_filter_options
@click.option(
    "--csv",
    "csv_path",
    metavar="FILE.csv",
    type=OUTPUT_FILE,
    help="Write a CSV file, without formulas.",
)
@click.option(
    "--parquet",
    "parquet_path",
    metavar="FILE.parquet",
    type=OUTPUT_FILE,
    help="Write a Parquet file.",
)
def export(file: Path, csv_path: Path | None, parquet_path: Path | None, **filters: Any) -> None:
    """Write verdicts to a CSV or Parquet file, the newest first.

    FILE is the line's file, or its ledger.
    """
    if (csv_path is None) == (parquet_path is None):
        raise UsageError("give one of --csv and --parquet")
    wanted = _parse_filter(filters, None)
    with closing(open_ledger(_find_files(file)[0])) as database:
        if csv_path is not None:
            count = export_csv(database, wanted, csv_path)
        else:
            assert parquet_path is not None
            count = export_parquet(database, wanted, parquet_path)
    echo(f"{count} verdicts")


@ledger.command(
    "events",
    examples=[("List the latest ten events", "edgeinspect ledger events line.yaml --limit 10")],
)
@click.argument("file", type=LEDGER)
@LIMIT
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def events_(file: Path, limit: int, as_json: bool) -> None:
    """List a line's events other than verdicts, the newest first.

    FILE is the line's file, or its ledger.
    """
    table = plain_table("at", "epoch", "what", "by", "detail")
    with closing(open_ledger(_find_files(file)[0])) as database:
        for event in read_events(database, limit):
            if as_json:
                fields = ("at_utc_ns", "epoch", "kind", "actor")
                document = {name: getattr(event, name) for name in fields}
                echo(json.dumps({**document, "detail": _detail(event.detail)}))
            else:
                columns = (str(event.epoch), event.kind, event.actor, event.detail)
                table.add_row(format_utc(event.at_utc_ns), *map(plain_text, columns))
    if not as_json:
        wide_console().print(table)


@ledger.command(
    examples=[
        ("Back up the verdicts of a running line", "edgeinspect ledger backup line.yaml backup/")
    ],
)
@click.argument("file", type=LEDGER)
@click.argument("target", metavar="TO", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def backup(file: Path, target: Path, as_json: bool) -> None:
    """Copy the ledger while the line runs, and verify the copy.

    FILE is the line's file, or its ledger; TO a file or a folder. The copy is one file of one
    instant. An older one of its name is replaced once it is verified. Ends with 65 if the ledger
    is damaged.
    """
    path, _spool = _find_files(file)
    copy = back_up_ledger(path, target / path.name if target.is_dir() else target)
    if as_json:
        echo(json.dumps(_copy_dict(copy)))
        return
    echo(f"{copy.path}: {_copy_words(copy)}")
    _print_copied_problems(copy)


@ledger.command(
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
@click.argument("source", metavar="FROM", type=LEDGER)
@click.option(
    "--after",
    metavar="N",
    type=IntRange(0, _MAX_SEQ),
    help="The number of the last frame that the line inspected; estimated by default.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def restore(file: Path, source: Path, after: int | None, as_json: bool) -> None:
    """Restore a line's ledger from a backup.

    FILE is the line's file, FROM what `backup` wrote. The line must be stopped and have no
    ledger. Its numbers continue after any that it can have used since the backup: for each second
    as many as in the busiest one, or up to the number given with --after. If this PC still has
    the line's spool, they continue after that.
    """
    config = _load_line(file)
    path, spool = _line_files(config, file)
    restored = restore_ledger(
        source,
        path,
        line=config.line,
        spool_path=spool,
        clock=SystemClock(),
        actor=user_name(os.getuid()),
        after=after,
    )
    skipped = restored.skipped
    if as_json:
        echo(json.dumps({**_copy_dict(restored.copy), "skipped": skipped}))
        return
    echo(f"{path}: {_copy_words(restored.copy)}")
    if skipped is not None:
        echo(
            f"ids {skipped[0]} to {skipped[1]} are skipped, since the line may have given them "
            "after the backup"
        )
    _print_copied_problems(restored.copy)


def _copy_dict(copy: LedgerCopy) -> dict[str, Any]:
    return {
        "path": str(copy.path),
        "size_bytes": copy.size_bytes,
        "verdicts": copy.verdicts,
        "last_seq": copy.last_seq,
        "last_utc_ns": copy.last_utc_ns,
        "holds": copy.report.is_consistent,
        "problems": copy.report.problems,
    }


def _copy_words(copy: LedgerCopy) -> str:
    if copy.last_utc_ns is None:
        return "no verdicts"
    return (
        f"{copy.verdicts} verdicts, the last {copy.last_seq} of {format_utc(copy.last_utc_ns)}, "
        f"{copy.size_bytes / 1e6:.1f} MB"
    )


def _print_copied_problems(copy: LedgerCopy) -> None:
    if not copy.report.is_consistent:
        echo("The ledger itself has problems, which `edgeinspect ledger verify` lists.", err=True)


def _find_files(file: Path) -> tuple[Path, Path | None]:
    """Return the ledger, and the spool if FILE is a configuration."""
    if file.suffix not in {".yaml", ".yml"}:
        return file, None
    config = _load_line(file)
    path, spool = _line_files(config, file)
    unnamed = config.spool.folder is None and not spool.exists()  # it is where the unit keeps it
    return path, None if unnamed else spool


def _load_line(file: Path) -> LineConfig:
    from edgeinspect.config import load_config

    return load_config(file).config


def _line_files(config: LineConfig, file: Path) -> tuple[Path, Path]:
    """Return a line's ledger, and its spool, which may not exist."""
    from edgeinspect.storage.paths import find_shared_memory_folder

    if config.ledger is None:
        raise UsageError("this line keeps no ledger", where=str(file), remedy="Add `ledger: {}`")
    path = Path(config.ledger.folder) / f"{config.line}.ledger.sqlite"
    return path, find_shared_memory_folder(config) / f"{config.line}.spool"


def _parse_filter(filters: dict[str, Any], limit: int | None) -> VerdictFilter:
    for word in filters.values():
        if isinstance(word, str) and not word.isprintable():
            raise UsageError(f"{word!r} has unprintable characters, which no name in a ledger has")
    return VerdictFilter(
        since_utc_ns=parse_timestamp(filters.pop("since")),
        until_utc_ns=parse_timestamp(filters.pop("until")),
        limit=limit,
        **filters,
    )


def _print_report(report: VerificationReport) -> None:
    table = plain_table(
        "epoch",
        "started",
        "ended",
        "frames",
        "captured",
        "pass",
        "reject",
        "no verdict",
        "late",
        "gaps",
        "damaged",
        "",
    )
    newest = max((epoch.epoch for epoch in report.epochs), default=0)
    for epoch in report.epochs:
        open_end = "running, or was killed" if epoch.epoch == newest else "was killed"
        table.add_row(
            str(epoch.epoch),
            format_utc(epoch.started_at_utc_ns),
            format_utc(epoch.ended_at_utc_ns) if epoch.ended_at_utc_ns else open_end,
            f"{epoch.first_seq}..{epoch.last_seq}" if epoch.last_seq else "-",
            str(epoch.captured),
            str(epoch.passed),
            str(epoch.reject),
            str(epoch.no_verdict),
            str(epoch.late),
            str(epoch.gaps),
            str(epoch.damaged),
            Text("holds", "green") if epoch.is_consistent else Text("BROKEN", "bold red"),
        )
    console = wide_console()
    console.print(table)
    for filters in report.notes[:_MAX_SHOWN_PROBLEMS]:
        console.print(Text(filters, style="yellow"))
    for problem in report.problems[:_MAX_SHOWN_PROBLEMS]:
        console.print(Text(problem, style="red"))
    if (more := len(report.problems) - _MAX_SHOWN_PROBLEMS) > 0:
        console.print(Text(f"and {more} more", style="red"))


def _cells(value: dict[str, Any]) -> tuple[str | Text, ...]:
    prob = value["defect_prob"]
    return (
        str(value["seq"]),
        format_utc(value["captured_at_utc_ns"]),
        plain_text(value["camera"]),
        value["decision"],
        value["reason"],
        plain_text(value["classes"]),
        plain_text(value["part_id"] or ""),
        "" if prob is None else f"{prob:.2f}",
        f"{value['total_us'] / 1000:.1f}",
        plain_text(value["label"] or ""),
    )


def _detail(text: str) -> Any:
    """Return an event's detail; the text itself if it is not JSON."""
    try:
        return decode_json(text)
    except DecodeError:
        return text


def _epoch_dict(epoch: EpochCheck) -> dict[str, Any]:
    fields = (
        "epoch",
        "started_at_utc_ns",
        "ended_at_utc_ns",
        "first_seq",
        "last_seq",
        "captured",
        "passed",
        "reject",
        "no_verdict",
        "late",
        "gaps",
        "damaged",
    )
    return {name: getattr(epoch, name) for name in fields} | {"holds": epoch.is_consistent}
