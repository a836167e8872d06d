"""Table and plot of a benchmark's results."""

from __future__ import annotations

import statistics
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from edgeinspect.learning.reporting import BLUE, GREEN, RED, Axis, Plot
from edgeinspect.tools.bench.results import BenchmarkResult, Quantiles, RateSummary

_QUANTILES = ("p50", "p90", "p99", "p999", "max")


def result_table(result: BenchmarkResult) -> Group:
    """Return the results as tables."""
    throughput, machine = result.throughput, result.machine
    heading = Text.assemble(
        ("edgeinspect bench", "bold"),
        f"  {machine['processor']}, {machine['cores']} cores, frames {result.frame}",
    )
    throughput_table = Table(box=None, pad_edge=False, show_header=False)
    throughput_table.add_column(style="dim", no_wrap=True)
    throughput_table.add_column()
    for setting, hz in result.settings:
        throughput_table.add_row(f"engines alone, {setting}", f"{hz:.1f} frames/s")
    share = statistics.median(throughput.ratio)
    throughput_table.add_row(
        f"whole line, {throughput.setting}",
        Text.assemble(
            f"{statistics.median(throughput.line_hz):.1f} frames/s, ",
            (f"{share:.1%}", "green" if share >= 0.98 else "yellow"),
            f" of the engines' {statistics.median(throughput.bare_hz):.1f} in the same rounds "
            f"({min(throughput.ratio):.1%} to {max(throughput.ratio):.1%})",
        ),
    )
    throughput_table.add_row(
        "overhead beyond the engines", f"{throughput.extra_cpu_us:.0f} us processor time a frame"
    )
    throughput_table.add_row(
        "context switches", f"{throughput.switches:.0f} a frame, engines included"
    )
    throughput_table.add_row("copied pixels", f"{result.copied_bytes} bytes a frame, once")
    latency_table = Table(box=None, pad_edge=False)
    latency_table.add_column("times, ms", header_style="dim")
    for name in ("frames", *_QUANTILES):
        latency_table.add_column(name.replace("p999", "p99.9"), justify="right", header_style="dim")
    _add_quantile_rows(
        latency_table, f"at {result.quiet.rate_hz:.1f} frames/s", result.quiet.summary
    )
    _add_quantile_rows(latency_table, f"at {result.busy.rate_hz:.1f} frames/s", result.busy.summary)
    missed = Text.assemble(
        f"budget {result.budget_us / 1000:g} ms: ",
        _miss_text(result.quiet.summary),
        ", ",
        _miss_text(result.busy.summary),
        ("   no miss in n frames means: fewer than 3/n, with 95 % confidence", "dim"),
    )
    busy = result.busy.summary
    predicted = Text(
        f"the segmenter took longer than the predicted p99 on {busy.underestimated} of "
        f"{busy.latency_segmented.frames} frames (1 in 100 is expected)"
    )
    parts: list[Any] = [heading, throughput_table, latency_table, missed, predicted]
    if machine["load"] > machine["cores"] * 0.25:
        label = (
            f"other processes used this PC (load {machine['load']}): stop them and measure again"
        )
        parts.append(Text(label, style="yellow"))
    return Group(*parts)


def _miss_text(summary: RateSummary) -> Text:
    return Text(
        f"{summary.misses} of {summary.frames} missed", style="red" if summary.misses else "green"
    )


def _add_quantile_rows(latency_table: Table, heading: str, summary: RateSummary) -> None:
    latency_table.add_row(Text(heading, style="bold"))
    for label, quantiles in (
        ("  capture to sent", summary.latency),
        ("  overhead, clean", summary.overhead_clean),
        ("  overhead, segmented", summary.overhead_segmented),
        ("  overhead, rejected", summary.overhead_reject),
    ):
        if quantiles.frames:
            values = [f"{getattr(quantiles, name) / 1000:.2f}" for name in _QUANTILES]
            latency_table.add_row(label, str(quantiles.frames), *values)


def search_table(steps: list[dict[str, Any]], budget_us: int) -> Group:
    """Return the steps of the search and its result."""
    table = Table(box=None, pad_edge=False)
    for name in ("frames/s", "frames", "missed", "1 in 10⁶, ms", "at most (95 %), ms", ""):
        table.add_column(name, justify="right", header_style="dim")
    for step in steps:
        table.add_row(
            f"{step['rate_hz']:.1f}",
            str(step["frames"]),
            str(step["misses"]),
            f"{step['one_in_a_million_us'] / 1000:.1f}",
            f"{step['upper_us'] / 1000:.1f}",
            Text("holds", style="green") if step["holds"] else Text("does not hold", style="red"),
        )
    holding_rates = [step["rate_hz"] for step in steps if step["holds"]]
    budget = f"a budget of {budget_us / 1000:g} ms"
    answer = (
        Text(
            f"{budget} holds up to {max(holding_rates):.1f} frames/s, as estimated",
            style="bold green",
        )
        if holding_rates
        else Text(f"{budget} holds at none of these rates", style="bold red")
    )
    note = Text("estimated from a fitted tail: docs/howto/bench.md describes its limits", "dim")
    return Group(table, answer, note)


def latency_plot(result: BenchmarkResult) -> str:
    """Return latency and overhead by quantile as SVG, the tail to the right as in HdrHistogram."""
    series = (
        ("capture to sent", result.busy.summary.latency, BLUE),
        ("overhead, clean", result.quiet.summary.overhead_clean, GREEN),
        ("overhead, rejected", result.quiet.summary.overhead_reject, RED),
    )
    series_shown = [step for step in series if step[1].frames]
    top = max(quantiles.max for _words, quantiles, _color in series_shown) / 1000
    low = max(0.01, min(quantiles.p50 for _words, quantiles, _color in series_shown) / 2000)
    drawing = Plot(
        "Latency by quantile",
        Axis("one in this many frames takes longer", 2, 1000, is_log=True),
        Axis("ms", low, top * 1.2, is_log=True),
        width=640,
    )
    for label, quantiles, color in series_shown:
        drawing.line(_quantile_points(quantiles), color, label)
    svg = drawing.to_svg()
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def _quantile_points(quantiles: Quantiles) -> list[tuple[float, float]]:
    return [
        (1 / (1 - ratio), max(getattr(quantiles, name), 1) / 1000)
        for ratio, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p999"))
    ]
