"""Progress on stderr: a live bar on a terminal, else lines with the time, 80 columns at most."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from edgeinspect.cli._terminal import Console, echo
from edgeinspect.system import format_local

if TYPE_CHECKING:
    from edgeinspect.learning.train.progress import StageProgress

LINE_INTERVAL_S = 10.0
"""Time between two lines when stderr is not a terminal."""
STEP_INTERVAL_S = 60.0
"""The same for the steps of a training, after a first line that tells how long it will take."""
LINE_WIDTH = 80
_TIME_WIDTH = 25
"""Of the time at the start of a line."""
_STEPS_FOR_A_RATE = 3
"""Steps of a training after its first one, before the time left is shown."""
_WORTH_A_LINE_S = 1.0
"""A stage that took less is not reported at its end."""
_QUIET_KEY = "edgeinspect.quiet"


class BarUpdate(Protocol):
    """Sets the progress of a bar, and its total where that was not known before."""

    def __call__(self, done: int, total: int | None = None) -> None: ...


def _set_quiet(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_QUIET_KEY] = True


QUIET = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_set_quiet,
    help="Show no progress.",
)


@contextmanager
def progress_bar(label: str, total: int | None = None) -> Iterator[BarUpdate]:
    """Show the progress of one task until it ends; yields the function that updates it."""
    if not _is_live():
        lines = _ProgressLines()
        known = total

        def update_line(done: int, total: int | None = None) -> None:
            lines.report(label, done, known if total is None else total)

        yield update_line
        lines.finish()
        return
    with _bars(transient=True) as bars:
        task = bars.add_task(label, total=total, note="")

        def update(done: int, total: int | None = None) -> None:
            bars.update(task, completed=done, total=total)

        yield update


@contextmanager
def stage_bars(prefix: str = "") -> Iterator[StageProgress]:
    """Show the progress of each stage; yields the function that updates them."""
    if not _is_live():
        lines = _ProgressLines()
        yield _stage_progress(prefix, lines.report, ", ")
        lines.finish()
        return
    with _bars(transient=False) as bars:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int, note: str, *, is_due: bool) -> None:
            del is_due  # the bar changes with every report
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, note="")
            bars.update(tasks[stage], completed=done, total=total, note=note)

        yield _stage_progress(prefix, show)


def _stage_progress(prefix: str, show: Callable[..., None], lead: str = "") -> StageProgress:
    """Return what reports a stage by `show(stage, done, total, note, is_due=)`.

    A note begins with `lead`.
    """

    def report(
        stage: str,
        done: int,
        total: int,
        loss: float = 0.0,
        score: float = math.nan,
        *,
        is_due: bool = False,
    ) -> None:
        note = ", ".join(_training_notes(loss, score))
        show(f"{prefix}{stage}", done, total, f"{lead}{note}" if note else "", is_due=is_due)

    return report


def _training_notes(loss: float, score: float) -> Iterator[str]:
    if loss:
        yield f"loss {loss:.3f}"
    if not math.isnan(score):
        yield f"best {score:.3f}"


@contextmanager
def status_line(render: Callable[[], Text]) -> Iterator[Callable[[], None]]:
    """Show one line that changes; yields the function to call, often, to show it again."""
    if not _is_live():
        due_s = time.monotonic() + LINE_INTERVAL_S

        def update_line() -> None:
            nonlocal due_s
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + LINE_INTERVAL_S
                print_line(" ".join(render().plain.split()))

        yield update_line
        print_line(" ".join(render().plain.split()))
        return
    with Live(render(), console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        yield lambda: live.update(render(), refresh=True)


def print_line(text: str) -> None:
    """Print a line of progress with the time, unless the command is quiet."""
    if not _is_quiet():
        echo(f"{format_local(time.time_ns())} {text}", err=True)


def _is_quiet() -> bool:
    ctx = click.get_current_context(silent=True)
    return ctx is not None and bool(ctx.meta.get(_QUIET_KEY))


def _is_live() -> bool:
    """Return whether stderr is a terminal that can redraw a line, and progress is wanted."""
    console = Console(stderr=True)
    return sys.stderr.isatty() and not console.is_dumb_terminal and not _is_quiet()


class _ProgressLines:
    """Prints lines of each stage at intervals, and one at its end.

    A stage with a note, which is a training, has a line a minute in a form of its own.
    """

    def __init__(self) -> None:
        self._stage = ""
        self._is_quiet = _is_quiet()  # the caller's thread: a stage may report from another
        self._started_s = self._printed_s = time.monotonic()
        self._interval_s = LINE_INTERVAL_S
        self._first: tuple[int, float] | None = None
        """The number of the first report and its time; a resumed stage does not begin at 0."""
        self._last: tuple[int, int | None, str] | None = None
        self._finished: int | None = None
        """The number at which the present stage ended."""

    def report(
        self, stage: str, done: int, total: int | None, note: str = "", *, is_due: bool = False
    ) -> None:
        """Note the progress of a stage, and print it if it is due."""
        if stage != self._stage:
            if self._last is not None:
                self.finish()
            self._stage, self._finished, self._first = stage, None, None
            self._interval_s = LINE_INTERVAL_S
        if self._first is None or (note and self._last is not None and not self._last[2]):
            # The first step of a training counts no further: it takes much longer than others.
            self._first = (done, time.monotonic())
        if self._last is None and total is not None and done >= total and done == self._finished:
            return  # reported at its end already
        self._last = (done, total, note)
        self._finished = None
        if total is not None and done >= total:
            self.finish()
            self._finished = done
        elif note and done - self._first[0] < _STEPS_FOR_A_RATE:
            pass  # how long it will take is not known yet
        elif is_due or time.monotonic() - self._printed_s >= self._interval_s:
            self._printed_s = time.monotonic()
            if note:
                self._interval_s = STEP_INTERVAL_S
            line = self._line(done, total, note)
            self._print(line if self._fits(line) else self._line(done, total, note, rate=False))

    def finish(self) -> None:
        """Print the last state of the current stage."""
        took_s = time.monotonic() - self._started_s
        if self._last is not None and took_s >= _WORTH_A_LINE_S:
            done, total, note = self._last
            if note:
                took = _format_minutes(took_s) if took_s >= 60 else _format_duration(took_s)
                self._print(f": {done}/{total} in {took}{note}")
            else:
                of = "" if total is None else f" of {total}"
                self._print(f": {done}{of} in {_format_duration(took_s)}")
        self._last = None
        self._started_s = self._printed_s = time.monotonic()

    def _print(self, text: str) -> None:
        if not self._is_quiet:
            stage = self._stage
            if not self._fits(text):
                room = max(8, LINE_WIDTH - _TIME_WIDTH - 1 - len(text))
                stage = f"{stage[: room - 1]}…"
            echo(f"{format_local(time.time_ns())} {stage}{text}", err=True)

    def _fits(self, text: str) -> bool:
        return _TIME_WIDTH + 1 + len(self._stage) + len(text) <= LINE_WIDTH

    def _line(self, done: int, total: int | None, note: str, *, rate: bool = True) -> str:
        assert self._first is not None
        first, at_s = self._first
        known = done > first  # the first report may be late: a model is loaded before
        if total is None:
            rate_hz = (done - first if known else done) / self._elapsed_s(at_s, since_first=known)
            return f": {done}, {rate_hz:.3g}/s{note}"
        percent = 100 * done // max(1, total)
        if not known:
            return f": {done} of {total} ({percent} %)"
        rate_hz = (done - first) / self._elapsed_s(at_s, since_first=known)
        left_s = (total - done) / rate_hz
        if note:
            return f": {done}/{total}{note}, {_format_minutes(left_s)} left"
        left = _format_duration(left_s)
        per_s = f", {rate_hz:.3g}/s" if rate else ""
        return f": {done} of {total} ({percent} %){per_s}, {left} left"

    def _elapsed_s(self, first_s: float, *, since_first: bool) -> float:
        """Return the time since the first report, or since the stage began."""
        return max(1e-9, time.monotonic() - (first_s if since_first else self._started_s))


def _format_minutes(seconds: float) -> str:
    """Return a time left in minutes, or in hours where that is many."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"


def _format_duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _bars(*, transient: bool) -> Progress:
    columns: tuple[Any, ...] = (
        TextColumn("{task.description:<20.20}"),  # all of it fits into 80 columns
        BarColumn(bar_width=14),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=transient)
