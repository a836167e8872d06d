"""Command-line options and option values that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from edgeinspect.cli._command import Option
from edgeinspect.cli._paths import NEW_STORE_FOLDER, STORE_FOLDER
from edgeinspect.cli._ranges import INT64_MAX, FiniteRange, IntRange
from edgeinspect.cli._terminal import echo
from edgeinspect.errors import UsageError
from edgeinspect.system import format_local, is_short_decimal, parse_time

Command = TypeVar("Command", bound=Callable[..., Any])


def store_option(
    callback: Callable[..., Any] | None = None, *, is_made: bool = False
) -> Callable[[Command], Command]:
    """Return the option `--store`.

    Args:
        callback: Changes the folder, as in click.
        is_made: The command makes a missing folder.
    """
    return click.option(
        "--store",
        type=NEW_STORE_FOLDER if is_made else STORE_FOLDER,
        callback=callback,
        is_eager=True,  # read before a MODEL, which may be one of its names
        metavar="FOLDER",
        help="Folder of the models; by default $EDGEINSPECT_STORE, or the one that "
        "`edgeinspect version` names.",
    )


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
CHECK_FILE = click.option(
    "--check",
    "only_check",
    is_flag=True,
    help="Do not run: read the file, and list every fault in it.",
)
OVERRIDES = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace one value of the configuration, as budget_ms=200. Repeatable.",
)
STORE = store_option()
NEW_STORE = store_option(is_made=True)
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
BOXES = click.option(
    "--boxes",
    "draws_boxes",
    type=click.Choice(["labels", "masks"]),
    default="labels",
    show_default=True,
    callback=lambda _context, _option, value: value == "masks",
    help="What annotated boxes are: labels of their images, or filled as rough masks.",
)
LIMIT = click.option(
    "--limit",
    default=50,
    show_default=True,
    metavar="N",
    type=IntRange(1, INT64_MAX),
    help="At most this many, the newest.",
)


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


class TimeOption(click.ParamType):  # type: ignore[type-arg]
    """A point in time, as UTC ns; a time without zone is printed with it on stderr.

    Args:
        is_end: It is the end of a period.
    """

    name = "time"

    def __init__(self, *, is_end: bool = False) -> None:
        self._is_end = is_end

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        parsed = parse_time(value, is_end=self._is_end)
        if not parsed.has_zone and param is not None:
            echo(
                f"{(param.name or '').removesuffix('_utc_ns')} {format_local(parsed.utc_ns)}",
                err=True,
            )
        return parsed.utc_ns


def _check_period(ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
    """Refuse a period that ends before it begins, as soon as both of its ends are known."""
    ends = {**ctx.params, param.name: value}
    since, until = ends.get("since_utc_ns"), ends.get("until_utc_ns")
    if since is not None and until is not None and since >= until:
        raise UsageError(
            f"{format_local(until)} is not after --since {format_local(since)}", where="--until"
        )
    return value


SINCE = click.option(
    "--since",
    "since_utc_ns",
    type=TimeOption(),
    metavar="TIME",
    callback=_check_period,
    help="From this time on: 2026-01-31T06:00 (local time, or with an offset or Z), 2026-01-31, "
    "06:00 (its last occurrence), today, yesterday, now, or how long ago: 90s, 30m, 8h, 7d, 2w.",
)
UNTIL = click.option(
    "--until",
    "until_utc_ns",
    type=TimeOption(is_end=True),
    metavar="TIME",
    callback=_check_period,
    help="Before this time, given in one of the ways of --since.",
)
