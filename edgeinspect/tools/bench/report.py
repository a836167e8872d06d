"""A bench's figures as a table for the terminal and as a plot."""

from __future__ import annotations

import statistics
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from edgeinspect.learning.reporting import BLUE, GREEN, RED, Axis, Plot
from edgeinspect.tools.bench.results import BenchmarkResult, Quantiles, RateSummary

_QUANTILES = ("p50", "p90", "p99", "p999", "max")


def result_table(figures: BenchmarkResult) -> Group:
    """What a technician reads."""
    throughput, machine = figures.throughput, figures.machine
    head = Text.assemble(
        ("edgeinspect bench", "bold"),
        f"  {machine['processor']}, {machine['cores']} cores, frames {figures.frame}",
    )
    speed = Table(box=None, pad_edge=False, show_header=False)
    speed.add_column(style="dim", no_wrap=True)
    speed.add_column()
    for setting, hz in figures.settings:
        speed.add_row(f"engines alone, {setting}", f"{hz:.1f} frames/s")
    share = statistics.median(throughput.ratio)
    speed.add_row(
        f"whole line, {throughput.setting}",
        Text.assemble(
            f"{statistics.median(throughput.line_hz):.1f} frames/s, ",
            (f"{share:.1%}", "green" if share >= 0.98 else "yellow"),
            f" of the engines' {statistics.median(throughput.bare_hz):.1f} in the same rounds "
            f"({min(throughput.ratio):.1%} to {max(throughput.ratio):.1%})",
        ),
    )
    speed.add_row("beside the engines", f"{throughput.extra_cpu_us:.0f} us processor time a frame")
    speed.add_row("context switches", f"{throughput.switches:.0f} a frame, engines included")
    speed.add_row("copied pixels", f"{figures.copied_bytes} bytes a frame, once")
    times = Table(box=None, pad_edge=False)
    times.add_column("times, ms", header_style="dim")
    for name in ("frames", *_QUANTILES):
        times.add_column(name.replace("p999", "p99.9"), justify="right", header_style="dim")
    _add_quantile_rows(times, f"at {figures.quiet.rate_hz:.1f} frames/s", figures.quiet.summary)
    _add_quantile_rows(times, f"at {figures.busy.rate_hz:.1f} frames/s", figures.busy.summary)
    missed = Text.assemble(
        f"budget {figures.budget_us / 1000:g} ms: ",
        _miss_text(figures.quiet.summary),
        ", ",
        _miss_text(figures.busy.summary),
        ("   no miss in n frames says: fewer than 3/n, 95 times of 100", "dim"),
    )
    busy = figures.busy.summary
    predicted = Text(
        f"the segmenter took longer than the predicted p99 on {busy.underestimated} of "
        f"{busy.latency_segmented.frames} frames (1 in 100 is what a p99 means)"
    )
    out: list[Any] = [head, speed, times, missed, predicted]
    if machine["load"] > machine["cores"] * 0.25:
        words = f"other work kept this PC busy (load {machine['load']}): stop it and measure again"
        out.append(Text(words, style="yellow"))
    return Group(*out)


def _miss_text(summary: RateSummary) -> Text:
    return Text(
        f"{summary.misses} of {summary.frames} missed", style="red" if summary.misses else "green"
    )


def _add_quantile_rows(times: Table, heading: str, summary: RateSummary) -> None:
    times.add_row(Text(heading, style="bold"))
    for words, found in (
        ("  captured to sent", summary.latency),
        ("  beside the engines, clean", summary.overhead_clean),
        ("  beside the engines, segmented", summary.overhead_segmented),
        ("  beside the engines, rejected", summary.overhead_reject),
    ):
        if found.frames:
            values = [f"{getattr(found, name) / 1000:.2f}" for name in _QUANTILES]
            times.add_row(words, str(found.frames), *values)


def search_table(tried: list[dict[str, Any]], budget_us: int) -> Group:
    """The steps of the search, and its answer."""
    steps = Table(box=None, pad_edge=False)
    for name in ("frames/s", "frames", "missed", "1 in 10⁶, ms", "at most (95 %), ms", ""):
        steps.add_column(name, justify="right", header_style="dim")
    for each in tried:
        steps.add_row(
            f"{each['rate_hz']:.1f}",
            str(each["frames"]),
            str(each["misses"]),
            f"{each['one_in_a_million_us'] / 1000:.1f}",
            f"{each['upper_us'] / 1000:.1f}",
            Text("holds", style="green") if each["holds"] else Text("does not hold", style="red"),
        )
    held = [each["rate_hz"] for each in tried if each["holds"]]
    budget = f"a budget of {budget_us / 1000:g} ms"
    answer = (
        Text(f"{budget} holds up to {max(held):.1f} frames/s, as projected", style="bold green")
        if held
        else Text(f"{budget} holds at none of these rates", style="bold red")
    )
    note = Text("projected from a fitted tail: docs/bench.md says what that cannot know", "dim")
    return Group(steps, answer, note)


def latency_plot(figures: BenchmarkResult) -> str:
    """Latency and overhead by quantile, as SVG: the tail to the right, as HdrHistogram draws it."""
    series = (
        ("captured to sent", figures.busy.summary.latency, BLUE),
        ("beside the engines, clean", figures.quiet.summary.overhead_clean, GREEN),
        ("beside the engines, rejected", figures.quiet.summary.overhead_reject, RED),
    )
    shown = [each for each in series if each[1].frames]
    top = max(found.max for _words, found, _color in shown) / 1000
    low = max(0.01, min(found.p50 for _words, found, _color in shown) / 2000)
    drawing = Plot(
        "Latency by quantile",
        Axis("one frame in so many takes longer", 2, 1000, is_log=True),
        Axis("ms", low, top * 1.2, is_log=True),
        width=640,
    )
    for words, found, color in shown:
        drawing.line(_quantile_points(found), color, words)
    svg = drawing.to_svg()
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def _quantile_points(found: Quantiles) -> list[tuple[float, float]]:
    return [
        (1 / (1 - ratio), max(getattr(found, name), 1) / 1000)
        for ratio, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p999"))
    ]
