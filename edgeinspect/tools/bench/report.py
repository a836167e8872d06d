"""Plot of a benchmark's results."""

from __future__ import annotations

from edgeinspect.learning.reporting import BLUE, GREEN, RED, Axis, Plot
from edgeinspect.tools.bench.results import BenchmarkResult, Quantiles


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
