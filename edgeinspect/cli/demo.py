"""`edgeinspect demo`: the whole line on synthetic steel strip."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import click
from rich.text import Text

from edgeinspect.cli._command import Command, Option
from edgeinspect.cli._json_output import JSON_FILE, json_option, print_result
from edgeinspect.cli._options import budget_ms
from edgeinspect.cli._progress import QUIET, status_line
from edgeinspect.cli._ranges import FiniteRange, IntRange
from edgeinspect.cli._results.line import DemoOutcome
from edgeinspect.cli._tables import Cell, format_count, print_facts, print_text
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
    renamed={"--report": "--json-file FILE.json"},
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
@JSON_FILE
@QUIET
@json_option("edgeinspect.cli._results.line:DemoOutcome")
def demo(
    frames: int,
    rate_hz: float,
    budget_ms: float,
    backend: str,
    json_path: Path | None,
    as_json: bool,
) -> None:
    """Inspect synthetic steel strip with the shipped models.

    Camera, ring, both models, decision, deadline guard and the ZeroMQ wire all run as on a
    real line. Ends with 0 only if every frame got exactly one verdict.
    """
    result = _run_with_progress(DemoProgress(), frames, rate_hz, budget_ms, backend)
    print_result(_outcome(result), as_json, _show, path=json_path)


def _run_with_progress(
    progress: DemoProgress, frames: int, rate_hz: float, budget_ms: float, backend: str
) -> DemoResult:
    """Run the demo in a thread, so that the display is updated and Ctrl-C works."""
    box: list[DemoResult | BaseException] = []
    stop = threading.Event()

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
    with status_line(lambda: _progress_text(progress)) as update:
        worker.start()
        while worker.is_alive():
            try:
                worker.join(0.2)
                update()
            except KeyboardInterrupt:
                stop.set()
    if isinstance(box[0], BaseException):
        raise box[0]
    return box[0]


def _outcome(result: DemoResult) -> DemoOutcome:
    counts = result.counts
    return DemoOutcome(
        captured=counts.captured,
        passed=counts.passed,
        reject=counts.reject,
        no_verdict=counts.no_verdict,
        late=counts.late,
        degraded=counts.degraded,
        reasons=counts.reasons,
        received=result.received,
        truth=dict(result.truth),
        **result.measurements,
    )


def _progress_text(progress: DemoProgress) -> Text:
    """Return the progress line: stage, frames, verdicts so far."""
    decisions, digits = progress.decisions, len(str(progress.total))
    return Text.assemble(
        (f"{progress.stage:<14}", "bold"),
        f" {progress.done:>{digits}}/{progress.total}  ",
        ("pass ", "dim"),
        (f"{decisions['PASS']:<5}", "green"),
        ("reject ", "dim"),
        (f"{decisions['REJECT']:<5}", "red"),
        ("no verdict ", "dim"),
        (f"{decisions['NO_VERDICT']:<5}", "yellow"),
        ("p50 ", "dim"),
        f"{progress.latency_p50_us / 1000:.1f} ms  ",
        (progress.last_reject, "red"),
        no_wrap=True,
        overflow="ellipsis",
    )


def _show(outcome: DemoOutcome) -> None:
    print_text(Text("edgeinspect demo", style="bold"))
    print_facts(_facts(outcome))


def _facts(outcome: DemoOutcome) -> Iterator[tuple[str, Cell]]:
    truth = outcome.truth
    reasons = ", ".join(f"{count} {reason}" for reason, count in outcome.reasons.items())
    yield "captured", outcome.captured
    yield (
        "verdicts",
        Text.assemble(
            (f"{format_count(outcome.passed)} pass", "green"),
            "  ",
            (f"{format_count(outcome.reject)} reject", "red"),
            "  ",
            (f"{format_count(outcome.no_verdict)} no verdict", "yellow"),
            f"  ({reasons})" if reasons else "",
        ),
    )
    yield "received on the wire", outcome.received
    yield (
        "defective parts",
        f"{truth['defective']}: {truth['escapes']} escaped, "
        f"{truth['defective_without_verdict']} without a verdict",
    )
    yield "clean parts", f"{truth['clean']}: {truth['overkills']} rejected wrongly"
    for name, values in (
        ("latency, ms", outcome.latency_us),
        ("of which engines, ms", outcome.engine_us),
        ("overhead, ms", outcome.overhead_us),
    ):
        yield (
            name,
            "  ".join(f"{key} {values[key] / 1000:.2f}" for key in ("p50", "p99", "p999", "max")),
        )
    yield "late results", f"{outcome.late}   degraded {outcome.degraded}"
    held = outcome.captured == outcome.passed + outcome.reject + outcome.no_verdict
    yield (
        "one frame, one verdict",
        Text("held" if held else "BROKEN", style="bold green" if held else "bold red"),
    )
