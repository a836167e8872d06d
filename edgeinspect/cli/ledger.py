"""`edgeinspect ledger`: prove, search and export what was decided."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from edgeinspect.domain.verdict import Decision, Reason
from edgeinspect.errors import EXIT_REFUSED, UsageError
from edgeinspect.ledger_read import (
    COLUMNS,
    EpochCheck,
    Filter,
    export_csv,
    export_parquet,
    open_ledger,
    query,
)
from edgeinspect.ledger_read import verify as verify_ledger

_FILE = click.Path(path_type=Path, dir_okay=False)
_AGO = re.compile(r"-(\d+(?:\.\d+)?)([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def ledger() -> None:
    """Prove, search and export the verdicts of a line."""


@ledger.command()
@click.argument("file", type=_FILE)
@click.option("--spool", type=_FILE, help="Check this spool too: the newest frames are there.")
@click.option("--json", "as_json", is_flag=True)
def verify(file: Path, spool: Path | None, as_json: bool) -> int:
    """Check that every frame in FILE has exactly one verdict.

    One line per epoch (a run of the daemon). Ends with 65 on any gap or damage.
    """
    account = verify_ledger(file, spool)
    if as_json:
        epochs = [_epoch_dict(epoch) for epoch in account.epochs]
        click.echo(json.dumps({"holds": account.holds, "problems": account.problems,
                               "epochs": epochs}, indent=2))  # fmt: skip
        return 0 if account.holds else EXIT_REFUSED
    table = Table("epoch", "started", "frames", "captured", "pass", "reject", "no verdict", "late",
                  "gaps", "damaged", "", box=None, pad_edge=False)  # fmt: skip
    for epoch in account.epochs:
        table.add_row(
            str(epoch.epoch), _time(epoch.started_at_utc_ns),
            f"{epoch.first_seq}..{epoch.last_seq}" if epoch.last_seq else "-",
            str(epoch.captured), str(epoch.passed), str(epoch.reject), str(epoch.no_verdict),
            str(epoch.late), str(epoch.gaps), str(epoch.damaged),
            "[green]holds[/]" if epoch.holds else "[bold red]BROKEN[/]",
        )  # fmt: skip
    console = Console()
    console.print(table)
    for problem in account.problems[:50]:
        console.print(problem, style="red")
    if len(account.problems) > 50:
        console.print(f"and {len(account.problems) - 50} more", style="red")
    return 0 if account.holds else EXIT_REFUSED


def _filters(command: Command) -> Command:
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
            click.option("--seq", type=int, help="This one frame."),
        )
    ):
        command = option(command)
    return command


@ledger.command("query")
@click.argument("file", type=_FILE)
@_filters
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def query_(file: Path, limit: int, as_json: bool, **words: Any) -> None:
    """List verdicts of FILE, the newest first."""
    wanted = _wanted(words, limit)
    with closing(open_ledger(file)) as base:
        rows = list(query(base, wanted))
    if as_json:
        for row in rows:
            click.echo(json.dumps(dict(zip(COLUMNS, row, strict=True))))
        return
    table = Table("seq", "captured", "camera", "decision", "reason", "classes", "part", "p", "ms",
                  box=None, pad_edge=False)  # fmt: skip
    for row in rows:
        value = dict(zip(COLUMNS, row, strict=True))
        prob = value["defect_prob"]
        table.add_row(
            str(value["seq"]), _time(value["captured_at_utc_ns"]), value["camera"],
            value["decision"], value["reason"], value["classes"], value["part_id"] or "",
            "" if prob is None else f"{prob:.2f}", f"{value['total_us'] / 1000:.1f}",
        )  # fmt: skip
    Console().print(table)


@ledger.command()
@click.argument("file", type=_FILE)
@_filters
@click.option("--csv", "csv_path", type=_FILE, help="Write a CSV file.")
@click.option("--parquet", "parquet_path", type=_FILE, help="Write a Parquet file.")
def export(file: Path, csv_path: Path | None, parquet_path: Path | None, **words: Any) -> None:
    """Write verdicts of FILE to another file."""
    if (csv_path is None) == (parquet_path is None):
        raise UsageError("give one of --csv and --parquet")
    wanted = _wanted(words, None)
    with closing(open_ledger(file)) as base:
        if csv_path is not None:
            count = export_csv(base, wanted, csv_path)
        else:
            assert parquet_path is not None
            count = export_parquet(base, wanted, parquet_path)
    click.echo(f"{count} verdicts")


def _wanted(words: dict[str, Any], limit: int | None) -> Filter:
    return Filter(
        since_utc_ns=_instant(words.pop("since")),
        until_utc_ns=_instant(words.pop("until")),
        limit=limit,
        **words,
    )


def _instant(text: str | None) -> int | None:
    """UTC ns of `-2h` or of an ISO time; without an offset it is UTC."""
    if text is None:
        return None
    if ago := _AGO.fullmatch(text):
        back = timedelta(seconds=float(ago[1]) * _UNIT_S[ago[2]])
        return round((datetime.now(timezone.utc) - back).timestamp() * 1e9)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no time", remedy="Give 2026-01-31T06:00 or -2h (s, m, h, d)"
        ) from None
    return round((at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp() * 1e9)


def _time(utc_ns: int | None) -> str:
    if utc_ns is None:
        return "-"
    at = datetime.fromtimestamp(utc_ns / 1e9, timezone.utc)
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _epoch_dict(epoch: EpochCheck) -> dict[str, Any]:
    names = ("epoch", "started_at_utc_ns", "first_seq", "last_seq", "captured", "passed", "reject",
             "no_verdict", "late", "gaps", "damaged", "holds")  # fmt: skip
    return {name: getattr(epoch, name) for name in names}
