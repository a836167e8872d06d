"""Command-line options and option values that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

import click

from edgeinspect.cli._command import Option
from edgeinspect.cli._paths import STORE_FOLDER
from edgeinspect.cli._ranges import FiniteRange, IntRange
from edgeinspect.errors import UsageError
from edgeinspect.system import is_short_decimal

Command = TypeVar("Command", bound=Callable[..., Any])

MAX_NS = (1 << 63) - 1
"""Latest timestamp that a SQLite column can hold."""
_AGO = re.compile(r"-(\d{1,9}(?:\.\d{1,9})?)([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

LOG_FORMAT = click.option(
    "--log-format",
    type=click.Choice(["auto", "console", "json", "journal"]),
    default="auto",
    show_default=True,
    help="How the log is written.",
)
LOG_LEVEL = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Least severity of what is logged.",
)
OVERRIDES = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace one value of the configuration, as budget_ms=200. Repeatable.",
)
STORE = click.option(
    "--store",
    type=STORE_FOLDER,
    metavar="FOLDER",
    help="Folder of the models; by default $EDGEINSPECT_STORE, or the one that "
    "`edgeinspect version` names.",
)
SEED = click.option(
    "--seed",
    default=1,
    show_default=True,
    type=IntRange(0, 1 << 31),
    metavar="N",
    help="Seed of every random choice; the same seed gives the same result.",
)
LAYOUT = click.option(
    "--layout", metavar="NAME", help="Layout of the data set, if it is not recognised."
)
GOOD_CLASS = click.option(
    "--good-class",
    "good_classes",
    multiple=True,
    metavar="CLASS",
    help="A class that is good, if it is not recognised as such. Repeatable.",
)
SINCE = click.option(
    "--since",
    metavar="TIME",
    help="From this time on: 2026-01-31T06:00 (UTC), or -2h before now.",
)
LIMIT = click.option(
    "--limit",
    default=50,
    show_default=True,
    metavar="N",
    type=IntRange(1, MAX_NS),
    help="At most this many, the newest.",
)
UNTIL = click.option("--until", metavar="TIME", help="Before this time.")


def budget_ms(condition: str = "") -> Callable[[Command], Command]:
    """Return the option `--budget-ms`; `condition` says when it counts."""
    return click.option(
        "--budget-ms",
        cls=Option,
        default=150.0,
        show_default=True,
        unit="ms",
        metavar="MS",
        type=FiniteRange(1, 60_000),
        help=f"Time budget of a frame, from capture to published verdict{condition}.",
    )


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that adds several options, in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def parse_size(
    text: str, where: str, *, min_px: int = 1, max_height_px: int, max_width_px: int
) -> tuple[int, int]:
    """Return height and width of `HEIGHTxWIDTH`.

    Raises:
        UsageError: The text is not a size, or out of range; names the option `where`.
    """
    height, _, width = text.lower().partition("x")
    if (
        is_short_decimal(height)
        and is_short_decimal(width)
        and min_px <= int(height) <= max_height_px
        and min_px <= int(width) <= max_width_px
    ):
        return int(height), int(width)
    raise UsageError(f"{text!r} is not a size", where=where, remedy="Give HEIGHTxWIDTH: 256x1600")


def parse_timestamp(text: str | None) -> int | None:
    """Return UTC nanoseconds of `-2h` or of an ISO time; an ISO time without offset is UTC."""
    if text is None:
        return None
    try:
        if ago := _AGO.fullmatch(text):
            at = datetime.now(timezone.utc) - timedelta(seconds=float(ago[1]) * _UNIT_S[ago[2]])
        else:
            # fromisoformat accepts a Z only from Python 3.11 on.
            at = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
            at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
        since_epoch = at - _EPOCH
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is not a time", remedy="Give 2026-01-31T06:00 or -2h (s, m, h, d)"
        ) from None
    utc_ns = since_epoch // timedelta(microseconds=1) * 1000
    return max(-MAX_NS, min(MAX_NS, utc_ns))
