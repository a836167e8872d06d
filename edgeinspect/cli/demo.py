"""`edgeinspect demo`: the whole line on synthetic steel strip."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import click
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._command import Command, Option
from edgeinspect.cli._options import budget_ms
from edgeinspect.cli._paths import OUTPUT_FILE
from edgeinspect.cli._ranges import FiniteRange, IntRange
from edgeinspect.cli._terminal import Console
from edgeinspect.tools.demo import DemoProgress, DemoResult, run_demo


@click.command(
    cls=Command,
    examples=[
        ("Inspect 300 frames in half a minute", "edgeinspect demo"),
        (
            "As fast as 50 frames a second, with ONNX Runtime",
            "edgeinspect demo --rate 50 --backend ort",
        ),
    ],
)
@click.option(
    "--frames",
    default=300,
    show_default=True,
    metavar="N",
    type=IntRange(1, 10_000_000),
    help="Frames to inspect.",
)
@click.option(
    "--rate",
    "rate_hz",
    cls=Option,
    default=10.0,
    show_default=True,
    unit="Hz",
    metavar="HZ",
    type=FiniteRange(0.1, 10_000),
    help="Frames a second.",
)
@budget_ms()
@click.option(
    "--backend",
    metavar="NAME",
    default="ov",
    show_default=True,
    help="Inference library: ov (OpenVINO) or ort (ONNX Runtime).",
)
@click.option(
    "--report",
    metavar="FILE.json",
    type=OUTPUT_FILE,
    help="Write the results as JSON to this file.",
)
def demo(frames: int, rate_hz: float, budget_ms: float, backend: str, report: Path | None) -> None:
    """Inspect synthetic steel strip with the shipped models.

    Camera, ring, both models, decision, deadline guard and the ZeroMQ wire all run as on a
    real line. Ends with 0 only if every frame got exactly one verdict.
    """
    console = Console(stderr=True)
    progress = DemoProgress()
    stop = threading.Event()
    result = _run_with_progress(console, progress, frames, rate_hz, budget_ms, backend, stop)
    if report is not None:
        report.write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
    Console().print(_result_table(result))


def _run_with_progress(
    console: Console,
    progress: DemoProgress,
    frames: int,
    rate_hz: float,
    budget_ms: float,
    backend: str,
    stop: threading.Event,
) -> DemoResult:
    """Run the demo in a thread, so that the display is updated and Ctrl-C works."""
    box: list[DemoResult | BaseException] = []

    def body() -> None:
        try:
            box.append(
                run_demo(
                    frames=frames,
                    rate_hz=rate_hz,
                    budget_ms=budget_ms,
                    backend=backend,
                    progress=progress,
                    should_stop=stop.is_set,
                )
            )
        except BaseException as error:
            box.append(error)

    worker = threading.Thread(target=body, name="demo")
    with Live(
        _progress_text(progress), console=console, refresh_per_second=5, transient=True
    ) as live:
        worker.start()
        while worker.is_alive():
            try:
                worker.join(0.2)
                live.update(_progress_text(progress))
            except KeyboardInterrupt:
                stop.set()
    if isinstance(box[0], BaseException):
        raise box[0]
    return box[0]


def _progress_text(progress: DemoProgress) -> Text:
    """Return the progress line: stage, frames, verdicts so far."""
    decisions = progress.decisions
    return Text.assemble(
        (f"{progress.stage:<15}", "bold"),
        f" {progress.done:>6}/{progress.total:<6} ",
        ("pass ", "dim"),
        (f"{decisions['PASS']:<6}", "green"),
        ("reject ", "dim"),
        (f"{decisions['REJECT']:<6}", "red"),
        ("no verdict ", "dim"),
        (f"{decisions['NO_VERDICT']:<6}", "yellow"),
        ("p50 ", "dim"),
        f"{progress.latency_p50_us / 1000:.1f} ms  ",
        (progress.last_reject, "red"),
        no_wrap=True,
        overflow="ellipsis",
    )


def _result_table(report: DemoResult) -> Table:
    """Return the table of results."""
    counts, truth = report.counts, report.truth
    figures = report.measurements
    table = Table(
        title="edgeinspect demo", title_justify="left", show_header=False, pad_edge=False, box=None
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("captured", str(counts.captured))
    table.add_row(
        "verdicts",
        Text.assemble(
            (f"{counts.passed} pass", "green"),
            "  ",
            (f"{counts.reject} reject", "red"),
            "  ",
            (f"{counts.no_verdict} no verdict", "yellow"),
            f"  {counts.reasons}" if counts.reasons else "",
        ),
    )
    table.add_row("received on the wire", str(report.received))
    table.add_row(
        "defective parts",
        f"{truth['defective']}: {truth['escapes']} escaped, "
        f"{truth['defective_without_verdict']} without a verdict",
    )
    table.add_row("clean parts", f"{truth['clean']}: {truth['overkills']} rejected wrongly")
    for name in ("latency_us", "engine_us", "overhead_us"):
        stage = figures[name]
        table.add_row(
            name.replace("_us", ", ms").replace("engine,", "of which engines,"),
            "  ".join(f"{key} {stage[key] / 1000:.2f}" for key in ("p50", "p99", "p999", "max")),
        )
    table.add_row("late results", f"{counts.late}   degraded {counts.degraded}")
    held = counts.captured == counts.passed + counts.reject + counts.no_verdict
    table.add_row(
        "one frame, one verdict",
        Text("held" if held else "BROKEN", style="bold green" if held else "bold red"),
    )
    return table
