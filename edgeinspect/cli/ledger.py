"""`edgeinspect ledger`: verify, search, export, back up and restore verdicts."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from edgeinspect.cli._command import Group
from edgeinspect.cli._json_output import json_option, print_json_line, print_result
from edgeinspect.cli._options import LIMIT, SINCE, UNTIL, with_options
from edgeinspect.cli._paths import LEDGER, LINE_FILE, OUTPUT_FILE, OUTPUT_PATH, SPOOL
from edgeinspect.cli._progress import QUIET, progress_bar
from edgeinspect.cli._ranges import IntRange
from edgeinspect.cli._results.ledger import (
    EpochResult,
    LedgerCopyResult,
    LedgerEvent,
    LedgerExport,
    LedgerRow,
    LedgerVerification,
)
from edgeinspect.cli._tables import (
    Cell,
    Column,
    TextTable,
    format_number_of,
    format_time,
    number,
    print_table,
    print_text,
)
from edgeinspect.cli._terminal import echo, echo_json
from edgeinspect.domain import Decision, Reason, SystemClock
from edgeinspect.errors import EXIT_DATAERR, EXIT_OK, UsageError
from edgeinspect.storage.ledger import (
    COLUMNS,
    EpochCheck,
    LedgerCopy,
    VerdictFilter,
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

if TYPE_CHECKING:
    from edgeinspect.config import LineConfig
from edgeinspect.system import DecodeError, decode_json, format_utc, user_name

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
@QUIET
@json_option("edgeinspect.cli._results.ledger:LedgerVerification")
def verify(file: Path, spool: Path | None, as_json: bool) -> int:
    """Check that every frame has exactly one verdict.

    FILE is the line's file, whose spool is checked too, or its ledger. Prints a line per
    epoch (a run of the daemon). Ends with 65 on any gap or damage. The line may be running.
    """
    path, its_spool = _find_files(file)
    spool = spool or its_spool
    if spool is None:
        echo("Without --spool only the ledger is checked.", err=True)
    with progress_bar("verifying") as progress:
        report = verify_ledger(path, spool, progress)
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
@json_option("edgeinspect.cli._results.ledger:LedgerRow", "edgeinspect.domain:Verdict", lines=True)
@click.option("--whole", is_flag=True, help="The complete JSON of each verdict, as published.")
def query_(file: Path, limit: int, as_json: bool, whole: bool, **filters: Any) -> None:
    """List verdicts, the newest first.

    FILE is the line's file, or its ledger.
    """
    wanted = _parse_filter(filters, limit)
    table = TextTable(
        number("seq"),
        Column("captured", fixed=True),
        Column("decision", fixed=True),
        Column("reason: classes"),
        number("p", optional=True),
        number("ms", optional=True),
        Column("part", optional=True),
        Column("image", optional=True, is_path=True),
        Column("camera", optional=True),
    )
    with closing(open_ledger(_find_files(file)[0])) as database:
        for row in find_verdicts(database, wanted):
            value = dict(zip(COLUMNS, row, strict=True))
            if whole:
                echo_json(read_body(database, value["seq"]) or b"")
            elif as_json:
                print_json_line(_ledger_row(value))
            else:
                table.add_row(*_cells(value))
    if not (whole or as_json):
        print_table(table, empty=_describe_no_verdicts(wanted))
        if len(table) == limit:
            echo(f"These are the newest {limit}: --limit shows more.", err=True)


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
@QUIET
@json_option("edgeinspect.cli._results.ledger:LedgerExport")
def export(
    file: Path, csv_path: Path | None, parquet_path: Path | None, as_json: bool, **filters: Any
) -> None:
    """Write verdicts to a CSV or Parquet file, the newest first.

    FILE is the line's file, or its ledger.
    """
    if (csv_path is None) == (parquet_path is None):
        raise UsageError("give one of --csv and --parquet")
    wanted = _parse_filter(filters, None)
    with (
        closing(open_ledger(_find_files(file)[0])) as database,
        progress_bar("exporting") as progress,
    ):
        if csv_path is not None:
            count = export_csv(database, wanted, csv_path, progress)
        else:
            assert parquet_path is not None
            count = export_parquet(database, wanted, parquet_path, progress)
    result = LedgerExport(
        verdicts=count,
        file=str(csv_path or parquet_path),
        format="csv" if csv_path is not None else "parquet",
    )
    print_result(
        result,
        as_json,
        lambda it: print_text(f"{format_number_of(it.verdicts, 'verdict')} in {it.file}"),
    )


@ledger.command(
    "events",
    examples=[("List the latest ten events", "edgeinspect ledger events line.yaml --limit 10")],
)
@click.argument("file", type=LEDGER)
@LIMIT
@json_option("edgeinspect.cli._results.ledger:LedgerEvent", lines=True)
def events_(file: Path, limit: int, as_json: bool) -> None:
    """List a line's events other than verdicts, the newest first.

    FILE is the line's file, or its ledger.
    """
    table = TextTable(
        Column("at", fixed=True),
        number("epoch"),
        Column("what", fixed=True),
        Column("by", optional=True),
        "detail",
    )
    with closing(open_ledger(_find_files(file)[0])) as database:
        for event in read_events(database, limit):
            if as_json:
                print_json_line(
                    LedgerEvent(
                        at=format_utc(event.at_utc_ns),
                        at_utc_ns=event.at_utc_ns,
                        epoch=event.epoch,
                        kind=event.kind,
                        actor=event.actor,
                        detail=_detail(event.detail),
                    )
                )
            else:
                columns = (str(event.epoch), event.kind, event.actor, event.detail)
                table.add_row(format_time(event.at_utc_ns), *columns)
    if not as_json:
        print_table(table, empty="no events")


@ledger.command(
    examples=[
        ("Back up the verdicts of a running line", "edgeinspect ledger backup line.yaml backup/")
    ],
)
@click.argument("file", type=LEDGER)
@click.argument("target", metavar="TO", type=OUTPUT_PATH)
@json_option("edgeinspect.cli._results.ledger:LedgerCopyResult")
def backup(file: Path, target: Path, as_json: bool) -> None:
    """Copy the ledger while the line runs, and verify the copy.

    FILE is the line's file, or its ledger; TO a file or a folder. The copy is one file of one
    instant. An older one of its name is replaced once it is verified. Ends with 65 if the ledger
    is damaged.
    """
    path, _spool = _find_files(file)
    copy = back_up_ledger(path, target / path.name if target.is_dir() else target)
    print_result(_copy_result(copy), as_json, _show_copy)


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
@json_option("edgeinspect.cli._results.ledger:LedgerCopyResult")
def restore(file: Path, source: Path, after: int | None, as_json: bool) -> None:
    """Restore a line's ledger from a backup.

    FILE is the line's file, FROM what `backup` wrote. The line must be stopped and have no
    ledger. Its numbers continue after any that it can have used since the backup: for each second
    twice as many as in the busiest one, or up to the number of --after. If this PC still has
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
    result = _copy_result(restored.copy)
    result.path = str(path)
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
    return VerdictFilter(limit=limit, **filters)


def _describe_no_verdicts(wanted: VerdictFilter) -> str:
    """Return a sentence about an empty result, with the period and whether it was filtered."""
    since, until = wanted.since_utc_ns, wanted.until_utc_ns
    if since is not None and until is not None:
        period = f" between {format_time(since)} and {format_time(until)}"
    elif since is not None:
        period = f" since {format_time(since)}"
    else:
        period = "" if until is None else f" before {format_time(until)}"
    others = (
        wanted.decision,
        wanted.reason,
        wanted.class_name,
        wanted.camera,
        wanted.part_id,
        wanted.seq,
    )
    filtered = " with these properties" if any(each is not None for each in others) else ""
    return f"no verdicts{filtered}{period}"


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


def _cells(value: dict[str, Any]) -> tuple[Cell, ...]:
    prob = value["defect_prob"]
    return (
        str(value["seq"]),
        format_time(value["captured_at_utc_ns"]),
        value["decision"],
        f"{value['reason']}: {value['classes']}" if value["classes"] else value["reason"],
        "" if prob is None else f"{prob:.2f}",
        f"{value['total_us'] / 1000:.1f}",
        value["part_id"],
        value["label"],
        value["camera"],
    )


def _ledger_row(value: dict[str, Any]) -> LedgerRow:
    flags = {name: bool(value[name]) for name in ("degraded", "simulated")}
    at = format_utc(value["captured_at_utc_ns"])
    return LedgerRow(**{**value, **flags, "captured_at": at})


def _detail(text: str) -> Any:
    """Return an event's detail; the text itself if it is not JSON."""
    try:
        return decode_json(text)
    except DecodeError:
        return text


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
