"""`edgeinspect replay RECORDING`: inspect a recorded shift again."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_json
from edgeinspect.cli._paths import OUTPUT_FILE_OR_STDOUT, OUTPUT_FOLDER, RECORDING, STORE_FOLDER
from edgeinspect.cli._progress import QUIET, progress_bar
from edgeinspect.cli._tables import (
    Column,
    TextTable,
    format_number_of,
    format_time,
    number,
    print_table,
    print_text,
)
from edgeinspect.errors import EXIT_DATAERR, EXIT_OK, UsageError

if TYPE_CHECKING:
    from edgeinspect.domain import Pixels, Verdict
    from edgeinspect.storage.recording import RecordedFrame
    from edgeinspect.tools.replay import ReplaySummary, VerdictSummary

_MAX_SHOWN = 20


@click.command(
    cls=Command,
    examples=[
        ("Prove that the recorded verdicts can be repeated", "edgeinspect replay shift.mcap"),
        (
            "See what another model would have decided",
            "edgeinspect replay recordings --model strip-gate/1",
        ),
        (
            "See what another threshold would have decided",
            "edgeinspect replay shift.mcap --set decide.gate.reject_at=0.9",
        ),
    ],
    renamed={"--engine": "--model MODEL"},
)
@click.argument("recording", type=RECORDING)
@click.option(
    "--model",
    "engines",
    multiple=True,
    metavar="MODEL",
    help="A model (NAME or NAME/VERSION) that replaces the recorded one of its kind. Repeatable.",
)
@click.option("--backend", metavar="NAME", help="Backend, as ov or ort; the recorded by default.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace one value of the recorded configuration. Repeatable.",
)
@click.option(
    "--store",
    type=STORE_FOLDER,
    metavar="FOLDER",
    help="Folder of the models; the recorded line's by default.",
)
@click.option(
    "--speed",
    type=click.Choice(["1", "max"]),
    default="max",
    show_default=True,
    help="1 keeps the recorded times between frames.",
)
@click.option(
    "--verdicts",
    "verdicts_path",
    type=OUTPUT_FILE_OR_STDOUT,
    metavar="PATH",
    help="Write each new verdict as a line of JSON; - for stdout.",
)
@click.option(
    "--export",
    "export_folder",
    metavar="FOLDER",
    type=OUTPUT_FOLDER,
    help="Write the recorded images (PNG) and verdicts into a folder.",
)
@QUIET
@json_option("edgeinspect.tools.replay:ReplaySummary")
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
    """Inspect RECORDING (a file, or a folder of them) again and compare the verdicts.

    With the recorded models and thresholds every verdict must equal the recorded one bit for
    bit: ends with 65 if one differs. With others, shows what they would have decided.
    """
    from edgeinspect.storage.model_store import ModelStore, default_root
    from edgeinspect.tools.replay import (
        RecordingExporter,
        ReplayOverrides,
        models_by_role,
        replay_recording,
    )
    from edgeinspect.wire import encode_message

    if as_json and verdicts_path == Path("-"):
        raise UsageError("--json and --verdicts - both write to stdout", remedy="Give a file")
    models = models_by_role(engines, ModelStore(store or default_root())) if engines else {}
    replay_overrides = ReplayOverrides(models, backend, overrides, store)
    with ExitStack() as stack:
        verdicts = _open_output(verdicts_path, stack)
        export = RecordingExporter(export_folder) if export_folder is not None else None
        if export is not None:
            stack.callback(export.close)

        def write_outputs(recorded: RecordedFrame, pixels: Pixels | None, verdict: Verdict) -> None:
            if verdicts is not None:
                verdicts.write(encode_message(verdict) + b"\n")
                verdicts.flush()
            if export is not None:
                export.add(recorded, pixels)

        summary = replay_recording(
            recording,
            replay_overrides,
            real_time=speed == "1",
            on_replayed=write_outputs,
            progress=stack.enter_context(progress_bar("replaying")),
        )
    if as_json:
        print_json(summary)
    elif verdicts_path != Path("-"):
        _print_summary(summary)
    return EXIT_DATAERR if summary.different and not summary.has_overrides else EXIT_OK


def _open_output(path: Path | None, stack: ExitStack) -> BinaryIO | None:
    if path is None:
        return None
    return sys.stdout.buffer if path == Path("-") else stack.enter_context(path.open("wb"))


def _print_summary(summary: ReplaySummary) -> None:
    for line in _header_lines(summary):
        print_text(line)
    if summary.has_overrides or summary.different:
        print_table(_decision_table(summary))
        if summary.classes:
            print_table(_class_table(summary))
        if summary.differences:
            print_table(_difference_table(summary))
        if (more := summary.different - min(_MAX_SHOWN, len(summary.differences))) > 0:
            print_text(f"and {more} more; --json lists them")
    for line in _result_lines(summary):
        print_text(line)


def _header_lines(summary: ReplaySummary) -> list[str]:
    frames = format_number_of(summary.frames, "frame")
    lines = [f"line {summary.line}, {frames}"]
    if summary.frames:
        began, ended = format_time(summary.first_utc_ns), format_time(summary.last_utc_ns)
        lines = [f"{lines[0]}, {began} to {ended}"]
    for role, names in sorted(summary.models.items()):
        before = ", ".join(summary.recorded_models.get(role, [])) or "unknown"
        now = ", ".join(names)
        same = now == before or before == "unknown"
        lines.append(f"{role} {now}" if same else f"{role} {now} instead of {before}")
    if summary.changes:
        lines.append(f"changed: {', '.join(summary.changes)}")
    lines += [f"cut: {cut}" for cut in summary.cuts]
    return lines


def _result_lines(summary: ReplaySummary) -> list[str]:
    decided_by = ", ".join(
        f"{count} by {name}" for name, count in sorted(summary.decided_by.items())
    )
    lines = []
    if decided_by:
        alone = f", {summary.degraded} by the gate alone for lack of time"
        lines.append(
            f"the recorded verdicts were decided: {decided_by}{alone * (summary.degraded > 0)}"
        )
    for reason, row in sorted(summary.opinions.items()):
        line = ", ".join(f"{count} {name}" for name, count in sorted(row.items()))
        lines.append(f"images of NO_VERDICT({reason}), inspected now: {line}")
    lines += [
        f"not compared: {count} ({why})" for why, count in sorted(summary.not_compared.items())
    ]
    if summary.missed:
        lines.append(f"not recorded: {summary.missed} verdicts missed by the recorder")
    if summary.clock_steps:
        lines.append(f"the wall clock was set {summary.clock_steps} times during the recording")
    if summary.different:
        lines += [f"another machine: {line}" for line in summary.other_machine]
    if summary.has_overrides:
        lines.append(
            f"{summary.compared} compared, {summary.different} decided differently; "
            f"largest change of the gate's probability "
            f"{summary.largest_prob_change:.5f}"
        )
    else:
        same = (
            "every verdict equals the recorded one" if not summary.different else "NOT REPRODUCED"
        )
        lines.append(
            f"{summary.compared} compared, {summary.equal} equal, "
            f"{summary.different} different: {same}"
        )
    return lines


def _decision_table(summary: ReplaySummary) -> TextTable:
    from edgeinspect.domain import Decision

    table = TextTable("recorded", *(number(f"now {d.value}") for d in Decision))
    for before in Decision:
        table.add_row(
            before.value, *(summary.count_transitions(before, after) for after in Decision)
        )
    return table


def _class_table(summary: ReplaySummary) -> TextTable:
    table = TextTable(
        "class", number("recorded"), number("now"), number("only now"), number("no more")
    )
    for name, count in sorted(summary.classes.items()):
        table.add_row(name, count.recorded, count.replayed, count.gained, count.lost)
    return table


def _difference_table(summary: ReplaySummary) -> TextTable:
    table = TextTable(
        number("seq"),
        "recorded",
        "now",
        "differs in",
        Column("captured", fixed=True, optional=True),
        Column("camera", optional=True),
        Column("part", optional=True),
    )
    for difference in summary.differences[:_MAX_SHOWN]:
        table.add_row(
            str(difference.seq),
            _verdict_text(difference.recorded),
            _verdict_text(difference.replayed),
            ", ".join(difference.fields),
            format_time(difference.captured_at_utc_ns),
            difference.camera,
            difference.part_id,
        )
    return table


def _verdict_text(verdict_summary: VerdictSummary) -> str:
    prob = "" if verdict_summary.defect_prob is None else f" p {verdict_summary.defect_prob:.3f}"
    classes = f" {','.join(verdict_summary.classes)}" if verdict_summary.classes else ""
    return f"{verdict_summary.decision} {verdict_summary.reason}{classes}{prob}"
