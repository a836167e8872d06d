"""`edgeinspect replay RECORDING`: judge a recorded shift again."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._terminal import Console, echo
from edgeinspect.errors import EXIT_DATAERR, EXIT_OK

if TYPE_CHECKING:
    from edgeinspect.domain import Pixels, Verdict
    from edgeinspect.storage.recording import RecordedFrame
    from edgeinspect.tools.replay.compare import ReplaySummary, VerdictSummary

_PATH = click.Path(path_type=Path)
_PIPE_WIDTH = 200
_MAX_SHOWN = 20


@click.command()
@click.argument("recording", type=_PATH)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME[/VERSION]",
    help="A model that judges in the place of the recorded one of its kind.",
)
@click.option("--backend", metavar="NAME", help="Judge with this backend, as `ov` or `ort`.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the recorded configuration, as decide.gate.reject_at=0.9.",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the models; the recorded line's when absent.",
)
@click.option(
    "--speed",
    type=click.Choice(["1", "max"]),
    default="max",
    show_default=True,
    help="1 keeps the times between the frames.",
)
@click.option(
    "--verdicts",
    "verdicts_path",
    type=_PATH,
    metavar="FILE",
    help="Write each new verdict as a line of JSON; - is stdout.",
)
@click.option(
    "--export",
    "export_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the recorded pictures (PNG) and verdicts into a folder.",
)
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON, every difference.")
def replay(
    recording: Path,
    engines: tuple[str, ...],
    backend: str | None,
    overrides: tuple[str, ...],
    store: Path | None,
    speed: str,
    verdicts_path: Path | None,
    export_folder: Path | None,
    as_json: bool,
) -> int:
    """Judge what RECORDING holds (a file, or a folder of them) and compare the verdicts.

    With the recorded models and thresholds every verdict must be the recorded one, bit for bit:
    ends with 65 if one is not. With others, says what they would have decided.
    """
    from edgeinspect.storage.model_store import ModelStore, default_root
    from edgeinspect.tools.replay.engine_selection import ReplayOverrides, models_by_role
    from edgeinspect.tools.replay.export import RecordingExporter
    from edgeinspect.tools.replay.replay import replay_recording as run
    from edgeinspect.wire import encode_message

    models = models_by_role(engines, ModelStore(store or default_root())) if engines else {}
    wanted = ReplayOverrides(models, backend, overrides, store)
    with ExitStack() as stack:
        verdicts = _open_output(verdicts_path, stack)
        export = RecordingExporter(export_folder) if export_folder is not None else None
        if export is not None:
            stack.callback(export.close)

        def show(recorded: RecordedFrame, pixels: Pixels | None, verdict: Verdict) -> None:
            if verdicts is not None:
                verdicts.write(encode_message(verdict) + b"\n")
                verdicts.flush()
            if export is not None:
                export.add(recorded, pixels)

        bar = stack.enter_context(_ProgressBar(sys.stderr.isatty()))
        summary = run(
            recording, wanted, real_time=speed == "1", on_replayed=show, progress=bar.update
        )
    if as_json:
        echo(json.dumps(msgspec.to_builtins(summary), indent=2))
    elif verdicts_path != Path("-"):
        _print_summary(summary)
    return EXIT_DATAERR if summary.different and not summary.has_overrides else EXIT_OK


def _open_output(path: Path | None, stack: ExitStack) -> BinaryIO | None:
    if path is None:
        return None
    return sys.stdout.buffer if path == Path("-") else stack.enter_context(path.open("wb"))


class _ProgressBar:
    """A bar on stderr where somebody sees it."""

    def __init__(self, seen: bool) -> None:
        from rich.progress import Progress

        self._bars = Progress(console=Console(stderr=True), transient=True, disable=not seen)

    def __enter__(self) -> _ProgressBar:
        self._bars.start()
        self._task = self._bars.add_task("replaying", total=None)
        return self

    def __exit__(self, *_error: object) -> None:
        self._bars.stop()

    def update(self, done: int, frames: int) -> None:
        self._bars.update(self._task, completed=done, total=frames)


# -- words out ---------------------------------------------------------------------------


def _print_summary(summary: ReplaySummary) -> None:
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    for words in _header_lines(summary):
        console.print(Text(words), soft_wrap=True)
    if summary.has_overrides or summary.different:
        console.print(_decision_table(summary))
        if summary.classes:
            console.print(_class_table(summary))
        if summary.differences:
            console.print(_difference_table(summary))
        if (more := summary.different - min(_MAX_SHOWN, len(summary.differences))) > 0:
            console.print(f"and {more} more; --json lists them")
    for words in _result_lines(summary):
        console.print(Text(words), soft_wrap=True)


def _header_lines(summary: ReplaySummary) -> list[str]:
    began, ended = _format_time(summary.first_utc_ns), _format_time(summary.last_utc_ns)
    lines = [f"line {summary.line}, {summary.frames} frames, {began} to {ended}"]
    for role, names in sorted(summary.models.items()):
        before = ", ".join(summary.recorded_models.get(role, [])) or "not told"
        now = ", ".join(names)
        same = now == before or before == "not told"
        lines.append(f"{role} {now}" if same else f"{role} {now} in the place of {before}")
    if summary.changes:
        lines.append(f"changed: {', '.join(summary.changes)}")
    lines += [f"cut: {cut}" for cut in summary.cuts]
    return lines


def _result_lines(summary: ReplaySummary) -> list[str]:
    told = ", ".join(f"{count} by {name}" for name, count in sorted(summary.decided_by.items()))
    lines = []
    if told:
        alone = f", {summary.degraded} by the gate alone for lack of time"
        lines.append(f"the recorded verdicts were decided: {told}{alone * (summary.degraded > 0)}")
    for reason, row in sorted(summary.opinions.items()):
        words = ", ".join(f"{count} {name}" for name, count in sorted(row.items()))
        lines.append(f"pictures of NO_VERDICT({reason}), judged now: {words}")
    lines += [
        f"not compared: {count} ({why})" for why, count in sorted(summary.not_compared.items())
    ]
    if summary.missed:
        lines.append(f"not recorded: {summary.missed} verdicts that the recorder missed")
    if summary.clock_steps:
        lines.append(f"the wall clock was set {summary.clock_steps} times while it was recorded")
    if summary.different:
        lines += [f"another machine: {words}" for words in summary.other_machine]
    if summary.has_overrides:
        lines.append(
            f"{summary.compared} compared, {summary.different} decided otherwise; "
            f"largest change of the gate's probability "
            f"{summary.largest_prob_change:.5f}"
        )
    else:
        same = "every verdict is the recorded one" if not summary.different else "NOT REPRODUCED"
        lines.append(
            f"{summary.compared} compared, {summary.equal} equal, "
            f"{summary.different} different: {same}"
        )
    return lines


def _decision_table(summary: ReplaySummary) -> Table:
    from edgeinspect.domain import Decision

    table = Table("recorded", *(f"now {d.value}" for d in Decision), box=None, pad_edge=False)
    for before in Decision:
        table.add_row(
            before.value, *(str(summary.count_transitions(before, after)) for after in Decision)
        )
    return table


def _class_table(summary: ReplaySummary) -> Table:
    table = Table("class", "recorded", "now", "only now", "no more", box=None, pad_edge=False)
    for name, count in sorted(summary.classes.items()):
        table.add_row(
            Text(name), str(count.recorded), str(count.replayed), str(count.gained), str(count.lost)
        )
    return table


def _difference_table(summary: ReplaySummary) -> Table:
    table = Table(
        "seq",
        "captured",
        "camera",
        "part",
        "recorded",
        "now",
        "differs in",
        box=None,
        pad_edge=False,
    )
    for entry in summary.differences[:_MAX_SHOWN]:
        table.add_row(
            str(entry.seq),
            _format_time(entry.captured_at_utc_ns),
            Text(entry.camera),
            Text(entry.part_id or ""),
            _verdict_text(entry.recorded),
            _verdict_text(entry.replayed),
            ", ".join(entry.fields),
        )
    return table


def _verdict_text(brief: VerdictSummary) -> Text:
    prob = "" if brief.defect_prob is None else f" p {brief.defect_prob:.3f}"
    classes = f" {','.join(brief.classes)}" if brief.classes else ""
    return Text(f"{brief.decision} {brief.reason}{classes}{prob}")


def _format_time(utc_ns: int) -> str:
    try:
        at = datetime.fromtimestamp(utc_ns // 1_000_000_000, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return str(utc_ns)
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
