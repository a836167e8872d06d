"""`edgeinspect ledger query`, `export` and `events`: what a ledger holds."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_json_line, print_result
from edgeinspect.cli._ledger_files import find_ledger_files
from edgeinspect.cli._options import LIMIT, SINCE, UNTIL, with_options
from edgeinspect.cli._paths import LEDGER, OUTPUT_FILE
from edgeinspect.cli._progress import QUIET, progress_bar
from edgeinspect.cli._ranges import INT64_MAX, IntRange
from edgeinspect.cli._results.ledger import LedgerEvent, LedgerExport, LedgerRow
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
from edgeinspect.domain import Decision, Reason
from edgeinspect.errors import UsageError
from edgeinspect.storage.ledger import (
    COLUMNS,
    VerdictFilter,
    export_csv,
    export_parquet,
    find_verdicts,
    open_ledger,
    read_body,
    read_events,
)
from edgeinspect.system import DecodeError, decode_json, format_utc

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
        "--seq", metavar="N", type=IntRange(1, INT64_MAX), help="The frame of this number."
    ),
)


@click.command(
    "query",
    cls=Command,
    examples=[
        (
            "List the rejects of the last two hours",
            "edgeinspect ledger query line.yaml --since 2h --decision REJECT",
        ),
        (
            "Show what happened to one part, as published",
            "edgeinspect ledger query line.yaml --part A1234 --whole",
        ),
    ],
)
@click.argument("file", metavar="LEDGER", type=LEDGER)
@_filter_options
@LIMIT
@json_option("edgeinspect.cli._results.ledger:LedgerRow", "edgeinspect.domain:Verdict", lines=True)
@click.option("--whole", is_flag=True, help="The complete JSON of each verdict, as published.")
def query_(file: Path, limit: int, as_json: bool, whole: bool, **filters: Any) -> None:
    """List verdicts, the newest first.

    LEDGER is the line's file, or its ledger.
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
    with closing(open_ledger(find_ledger_files(file)[0])) as database:
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


@click.command(
    cls=Command,
    examples=[
        (
            "Write last week's verdicts for a spreadsheet",
            "edgeinspect ledger export line.yaml --since 7d --csv week.csv",
        ),
        (
            "Write all verdicts for pandas",
            "edgeinspect ledger export line.yaml --parquet verdicts.parquet",
        ),
    ],
)
@click.argument("file", metavar="LEDGER", type=LEDGER)
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

    LEDGER is the line's file, or its ledger.
    """
    if (csv_path is None) == (parquet_path is None):
        raise UsageError("give one of --csv and --parquet")
    wanted = _parse_filter(filters, None)
    with (
        closing(open_ledger(find_ledger_files(file)[0])) as database,
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


@click.command(
    "events",
    cls=Command,
    examples=[
        ("List the latest ten events", "edgeinspect ledger events line.yaml --limit 10"),
        ("List what happened this week", "edgeinspect ledger events line.yaml --since 7d"),
    ],
)
@click.argument("file", metavar="LEDGER", type=LEDGER)
@SINCE
@UNTIL
@LIMIT
@json_option("edgeinspect.cli._results.ledger:LedgerEvent", lines=True)
def events_(
    file: Path,
    since_utc_ns: int | None,
    until_utc_ns: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """List a line's events other than verdicts, the newest first.

    LEDGER is the line's file, or its ledger.
    """
    table = TextTable(
        Column("at", fixed=True),
        Column("what", fixed=True),
        Column("by", optional=True),
        "detail",
        number("epoch", optional=True),
    )
    with closing(open_ledger(find_ledger_files(file)[0])) as database:
        for event in read_events(
            database, limit, since_utc_ns=since_utc_ns, until_utc_ns=until_utc_ns
        ):
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
                detail = "" if event.detail == "{}" else event.detail
                columns = (event.kind, event.actor, detail, str(event.epoch))
                table.add_row(format_time(event.at_utc_ns), *columns)
    if not as_json:
        print_table(table, empty=f"no events{_describe_period(since_utc_ns, until_utc_ns)}")
        if len(table) == limit:
            echo(f"These are the newest {limit}: --limit shows more.", err=True)


def _parse_filter(filters: dict[str, Any], limit: int | None) -> VerdictFilter:
    for word in filters.values():
        if isinstance(word, str) and not word.isprintable():
            raise UsageError(f"{word!r} has unprintable characters, which no name in a ledger has")
    return VerdictFilter(limit=limit, **filters)


def _describe_no_verdicts(wanted: VerdictFilter) -> str:
    """Return a sentence about an empty result, with the period and whether it was filtered."""
    others = (
        wanted.decision,
        wanted.reason,
        wanted.class_name,
        wanted.camera,
        wanted.part_id,
        wanted.seq,
    )
    filtered = " with these properties" if any(each is not None for each in others) else ""
    return f"no verdicts{filtered}{_describe_period(wanted.since_utc_ns, wanted.until_utc_ns)}"


def _describe_period(since_utc_ns: int | None, until_utc_ns: int | None) -> str:
    if since_utc_ns is not None and until_utc_ns is not None:
        return f" between {format_time(since_utc_ns)} and {format_time(until_utc_ns)}"
    if since_utc_ns is not None:
        return f" since {format_time(since_utc_ns)}"
    return "" if until_utc_ns is None else f" before {format_time(until_utc_ns)}"


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
