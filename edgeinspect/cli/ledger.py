"""`edgeinspect ledger`: prove, search and export what was decided."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._terminal import Console, echo, echo_json
from edgeinspect.cli._timestamps import parse_timestamp
from edgeinspect.domain import Decision, Reason
from edgeinspect.errors import EXIT_DATAERR, EXIT_OK, UsageError
from edgeinspect.storage.ledger import (
    COLUMNS,
    EpochCheck,
    VerdictFilter,
    VerificationReport,
    export_csv,
    export_parquet,
    find_verdicts,
    open_ledger,
    read_body,
    read_events,
)
from edgeinspect.storage.ledger import verify_ledger as verify_ledger
from edgeinspect.system import DecodeError, decode_json, escape_line

_PATH = click.Path(path_type=Path, dir_okay=False)
_PIPE_WIDTH = 240
"""Where nobody looks at a terminal, no column is cut."""
_MAX_SHOWN_PROBLEMS = 50
_MAX_SEQ = (1 << 63) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def ledger() -> None:
    """Prove, search and export the verdicts of a line.

    FILE is a line's ledger (`LINE.ledger.sqlite`), or the line's configuration, which says
    where the ledger is.
    """


@ledger.command()
@click.argument("file", type=_PATH)
@click.option("--spool", type=_PATH, help="Check this spool too: the newest frames are there.")
@click.option("--json", "as_json", is_flag=True)
def verify(file: Path, spool: Path | None, as_json: bool) -> int:
    """Check that every frame in FILE has exactly one verdict.

    One line per epoch (a run of the daemon). Given the line's configuration, its spool is
    checked with it. Ends with 65 on any gap or damage. The daemon may be running.
    """
    path, its_spool = _find_files(file)
    spool = spool or its_spool
    if spool is None:
        echo("Without --spool, only what the ledger holds is looked at.", err=True)
    account = verify_ledger(path, spool)
    if as_json:
        epochs = [_epoch_dict(epoch) for epoch in account.epochs]
        told = {
            "holds": account.is_consistent,
            "problems": account.problems,
            "notes": account.notes,
            "removed": account.removed,
            "epochs": epochs,
        }
        echo(json.dumps(told, indent=2))
    else:
        _print_report(account)
    return EXIT_OK if account.is_consistent else EXIT_DATAERR


def _filter_options(command: Command) -> Command:
    """The options by which verdicts are chosen."""
    for option in reversed(
        (
            click.option("--since", help="From this time on: 2026-01-31T06:00 (UTC), or -2h."),
            click.option("--until", help="Before this time."),
            click.option("--decision", type=click.Choice([d.value for d in Decision])),
            click.option("--reason", type=click.Choice([r.value for r in Reason])),
            click.option("--class", "class_name", help="With a fatal region of this class."),
            click.option("--camera"),
            click.option("--part", "part_id", help="Of this part."),
            click.option("--seq", type=click.IntRange(1, _MAX_SEQ), help="This one frame."),
        )
    ):
        command = option(command)
    return command


@ledger.command("query")
@click.argument("file", type=_PATH)
@_filter_options
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, _MAX_SEQ))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--whole", is_flag=True, help="The verdicts' whole JSON, as it was published.")
def query_(file: Path, limit: int, as_json: bool, whole: bool, **words: Any) -> None:
    """List verdicts of FILE, the newest first."""
    wanted = _parse_filter(words, limit)
    table = _table(
        "seq", "captured", "camera", "decision", "reason", "classes", "part", "p", "ms", "picture"
    )
    with closing(open_ledger(_find_files(file)[0])) as base:
        for row in find_verdicts(base, wanted):
            value = dict(zip(COLUMNS, row, strict=True))
            if whole:
                echo_json(read_body(base, value["seq"]) or b"")
            elif as_json:
                echo(json.dumps(value))
            else:
                table.add_row(*_cells(value))
    if not (whole or as_json):
        _console().print(table)


@ledger.command()
@click.argument("file", type=_PATH)
@_filter_options
@click.option("--csv", "csv_path", type=_PATH, help="Write a CSV file, without formulas.")
@click.option("--parquet", "parquet_path", type=_PATH, help="Write a Parquet file.")
def export(file: Path, csv_path: Path | None, parquet_path: Path | None, **words: Any) -> None:
    """Write verdicts of FILE to another file, the newest first."""
    if (csv_path is None) == (parquet_path is None):
        raise UsageError("give one of --csv and --parquet")
    wanted = _parse_filter(words, None)
    with closing(open_ledger(_find_files(file)[0])) as base:
        if csv_path is not None:
            count = export_csv(base, wanted, csv_path)
        else:
            assert parquet_path is not None
            count = export_parquet(base, wanted, parquet_path)
    echo(f"{count} verdicts")


@ledger.command("events")
@click.argument("file", type=_PATH)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, _MAX_SEQ))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def events_(file: Path, limit: int, as_json: bool) -> None:
    """List what happened to the line beside its verdicts, the newest first."""
    table = _table("at", "epoch", "what", "by", "detail")
    with closing(open_ledger(_find_files(file)[0])) as base:
        for event in read_events(base, limit):
            if as_json:
                names = ("at_utc_ns", "epoch", "kind", "actor")
                told = {name: getattr(event, name) for name in names}
                echo(json.dumps({**told, "detail": _detail(event.detail)}))
            else:
                words = (str(event.epoch), event.kind, event.actor, event.detail)
                table.add_row(_format_time(event.at_utc_ns), *map(_plain_text, words))
    if not as_json:
        _console().print(table)


# -- words in ---------------------------------------------------------------------------


def _find_files(file: Path) -> tuple[Path, Path | None]:
    """The ledger, and the spool where a configuration tells it."""
    if file.suffix not in {".yaml", ".yml"}:
        return file, None
    from edgeinspect.config import load_config
    from edgeinspect.storage.paths import find_shared_memory_folder

    config = load_config(file).config
    if config.ledger is None:
        raise UsageError("this line keeps no ledger", where=str(file), remedy="Add `ledger: {}`")
    path = Path(config.ledger.folder) / f"{config.line}.ledger.sqlite"
    spool = find_shared_memory_folder(config) / f"{config.line}.spool"
    unnamed = config.spool.folder is None and not spool.exists()  # it is where the unit has it
    return path, None if unnamed else spool


def _parse_filter(words: dict[str, Any], limit: int | None) -> VerdictFilter:
    for word in words.values():
        if isinstance(word, str) and not word.isprintable():
            raise UsageError(f"{word!r} has characters that no name in a ledger has")
    return VerdictFilter(
        since_utc_ns=parse_timestamp(words.pop("since")),
        until_utc_ns=parse_timestamp(words.pop("until")),
        limit=limit,
        **words,
    )


# -- words out --------------------------------------------------------------------------


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def _table(*heads: str) -> Table:
    return Table(*heads, box=None, pad_edge=False)


def _plain_text(text: str) -> Text:
    """What came from outside, without markup or control characters for the terminal."""
    return Text(escape_line(text))


def _print_report(account: VerificationReport) -> None:
    table = _table(
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
    newest = max((epoch.epoch for epoch in account.epochs), default=0)
    for epoch in account.epochs:
        open_end = "runs, or was killed" if epoch.epoch == newest else "was killed"
        table.add_row(
            str(epoch.epoch),
            _format_time(epoch.started_at_utc_ns),
            _format_time(epoch.ended_at_utc_ns) if epoch.ended_at_utc_ns else open_end,
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
    console = _console()
    console.print(table)
    for words in account.notes[:_MAX_SHOWN_PROBLEMS]:
        console.print(Text(words, style="yellow"))
    for problem in account.problems[:_MAX_SHOWN_PROBLEMS]:
        console.print(Text(problem, style="red"))
    if (more := len(account.problems) - _MAX_SHOWN_PROBLEMS) > 0:
        console.print(Text(f"and {more} more", style="red"))


def _cells(value: dict[str, Any]) -> tuple[str | Text, ...]:
    prob = value["defect_prob"]
    return (
        str(value["seq"]),
        _format_time(value["captured_at_utc_ns"]),
        _plain_text(value["camera"]),
        value["decision"],
        value["reason"],
        _plain_text(value["classes"]),
        _plain_text(value["part_id"] or ""),
        "" if prob is None else f"{prob:.2f}",
        f"{value['total_us'] / 1000:.1f}",
        _plain_text(value["label"] or ""),
    )


def _format_time(utc_ns: int | None) -> str:
    if utc_ns is None:
        return "-"
    try:
        at = _EPOCH + timedelta(microseconds=utc_ns // 1000)
    except OverflowError:
        return str(utc_ns)
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def _detail(text: str) -> Any:
    """What an event says; the text itself where it is no JSON."""
    try:
        return decode_json(text)
    except DecodeError:
        return text


def _epoch_dict(epoch: EpochCheck) -> dict[str, Any]:
    names = (
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
        "holds",
    )
    return {name: getattr(epoch, name) for name in names}
