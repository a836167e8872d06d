"""Progress bars on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from edgeinspect.cli._terminal import Console


class StageReport(Protocol):
    """Reports the progress of one stage of a command; stages appear in order of first report."""

    def __call__(self, stage: str, done: int, total: int, loss: float = 0.0) -> None: ...


class BarUpdate(Protocol):
    """Sets the progress of a bar, and its total where that was not known before."""

    def __call__(self, done: int, total: int | None = None) -> None: ...


@contextmanager
def progress_bar(label: str, total: int | None = None) -> Iterator[BarUpdate]:
    """Show a bar that disappears at the end; yields the function that updates it."""
    with _bars(transient=True) as bars:
        task = bars.add_task(label, total=total, note="")

        def update(done: int, total: int | None = None) -> None:
            bars.update(task, completed=done, total=total)

        yield update


@contextmanager
def stage_bars(prefix: str = "") -> Iterator[StageReport]:
    """Show a bar per stage; yields the function that updates them."""
    with _bars(transient=False) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int, loss: float = 0.0) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(f"{prefix}{stage}", total=total, note="")
            note = f"loss {loss:.3f}" if loss else ""
            bars.update(tasks[stage], completed=done, total=total, note=note)

        yield report


def _bars(*, transient: bool) -> Progress:
    columns = (
        TextColumn("{task.description:<22.40}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    hidden = transient and not console.is_terminal
    return Progress(*columns, console=console, transient=transient, disable=hidden)
