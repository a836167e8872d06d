"""`edgeinspect record FILE --out PATH`: record a running line's frames and verdicts."""

from __future__ import annotations

from pathlib import Path

import click

from edgeinspect.cli._command import Command, Option
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._options import LOG_FORMAT, LOG_LEVEL, OVERRIDES
from edgeinspect.cli._paths import LINE_FILE, OUTPUT_PATH
from edgeinspect.cli._ranges import FiniteRange, IntRange
from edgeinspect.cli._results.line import RecordOutcome
from edgeinspect.cli._tables import format_number_of, print_text
from edgeinspect.system import configure, signal_handlers


@click.command(
    cls=Command,
    examples=[
        (
            "Record ten minutes into one file",
            "edgeinspect record line.yaml --out shift.mcap --for 600",
        ),
        ("Keep the latest 8 GiB", "edgeinspect record line.yaml --out recordings"),
    ],
)
@click.argument("file", type=LINE_FILE)
@click.option(
    "--out",
    required=True,
    metavar="PATH",
    type=OUTPUT_PATH,
    help="NAME.mcap, which ends when it is full; or a folder, whose oldest files are "
    "removed when it is full.",
)
@click.option(
    "--max-mib",
    cls=Option,
    default=8192,
    show_default=True,
    unit="MiB",
    metavar="MIB",
    type=IntRange(16, 1 << 30),
    help="Size limit of the file, or of the line's files in the folder.",
)
@click.option("--frames", metavar="N", type=IntRange(1), help="End after this many frames.")
@click.option(
    "--for", "duration_s", type=FiniteRange(0.1), metavar="SECONDS", help="End after this time."
)
@click.option(
    "--buffer-mib",
    cls=Option,
    default=256,
    show_default=True,
    unit="MiB",
    metavar="MIB",
    type=IntRange(1, 1 << 20),
    help="Memory for images while the disk is slow.",
)
@OVERRIDES
@LOG_FORMAT
@LOG_LEVEL
@json_option("edgeinspect.cli._results.line:RecordOutcome")
def record(
    file: Path,
    out: Path,
    max_mib: int,
    frames: int | None,
    duration_s: float | None,
    buffer_mib: int,
    overrides: tuple[str, ...],
    log_format: str,
    log_level: str,
    as_json: bool,
) -> None:
    """Record the running line that FILE describes, until stopped by Ctrl-C or SIGTERM.

    Runs on the line's PC as the line's user; the line may start before or after it, and
    restart. The line does not wait for it; missed frames and verdicts are counted. The files
    can be replayed after a `kill -9` too. Give the same --set options as to `run`.
    """
    from edgeinspect.domain import NS_PER_S, SystemClock
    from edgeinspect.services.recorder.service import Recorder, RecordingLimits

    configure(log_format, log_level)
    limits = RecordingLimits(
        max_bytes=max_mib << 20,
        buffer_bytes=buffer_mib << 20,
        max_frames=frames,
        duration_ns=None if duration_s is None else round(duration_s * NS_PER_S),
    )
    recorder = Recorder(file, overrides, out, limits, SystemClock())
    with signal_handlers(recorder.stop):
        summary = recorder.run()
    result = RecordOutcome(
        out=str(out),
        frames=summary.frames,
        without_image=summary.without_image,
        missed=summary.missed,
        end_reason=summary.end_reason,
    )
    print_result(result, as_json, _show)


def _show(result: RecordOutcome) -> None:
    print_text(
        f"recorded {format_number_of(result.frames, 'frame')} in {result.out} "
        f"({result.end_reason}); {result.without_image} without image, "
        f"{format_number_of(result.missed, 'verdict')} missed"
    )
