"""Tables of `edgeinspect bench`."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from rich.text import Text

from edgeinspect.cli._tables import (
    Cell,
    Column,
    TextTable,
    number,
    print_facts,
    print_table,
    print_text,
)
from edgeinspect.tools.bench import BenchmarkResult, OptionResults, RateSummary, SearchResult

_QUANTILES = ("p50", "p90", "p99", "p999", "max")


def show_result(result: BenchmarkResult) -> None:
    """Print throughput, times and misses of a benchmark."""
    machine = result.machine
    print_text(
        Text.assemble(
            ("edgeinspect bench", "bold"),
            f"  {machine['processor']}, {machine['cores']} cores, frames {result.frame}",
        )
    )
    print_facts(_throughput_facts(result))
    table = TextTable(
        Column("times, ms", fixed=True),
        *(number(name.replace("p999", "p99.9")) for name in ("frames", *_QUANTILES)),
    )
    for point in (result.quiet, result.busy):
        _add_quantile_rows(table, f"at {point.rate_hz:.1f} frames/s", point.summary)
    print_table(table)
    print_text(
        Text.assemble(
            f"budget {result.budget_us / 1000:g} ms: ",
            _miss_text(result.quiet.summary),
            ", ",
            _miss_text(result.busy.summary),
            (". No miss in n frames means: fewer than 3/n, with 95 % confidence", "dim"),
        )
    )
    busy = result.busy.summary
    print_text(
        f"the segmenter took longer than the predicted p99 on {busy.underestimated} of "
        f"{busy.latency_segmented.frames} frames (1 in 100 is expected)"
    )
    if machine["load"] > machine["cores"] * 0.25:
        note = f"other processes used this PC (load {machine['load']}): stop them and measure again"
        print_text(Text(note, style="yellow"))


def _throughput_facts(result: BenchmarkResult) -> Iterator[tuple[str, Cell]]:
    throughput = result.throughput
    for setting, hz in result.settings:
        yield f"engines alone, {setting}", f"{hz:.1f} frames/s"
    share = statistics.median(throughput.ratio)
    yield (
        f"whole line, {throughput.setting}",
        Text.assemble(
            f"{statistics.median(throughput.line_hz):.1f} frames/s, ",
            (f"{share:.1%}", "green" if share >= 0.98 else "yellow"),
            f" of the engines' {statistics.median(throughput.bare_hz):.1f} in the same rounds "
            f"({min(throughput.ratio):.1%} to {max(throughput.ratio):.1%})",
        ),
    )
    yield "overhead", f"{throughput.extra_cpu_us:.0f} µs processor time a frame"
    yield "context switches", f"{throughput.switches:.0f} a frame, engines included"
    yield "copied pixels", f"{result.copied_bytes} bytes a frame, once"


def _miss_text(summary: RateSummary) -> Text:
    return Text(
        f"{summary.misses} of {summary.frames} missed", style="red" if summary.misses else "green"
    )


def _add_quantile_rows(table: TextTable, heading: str, summary: RateSummary) -> None:
    table.add_row(Text(heading, style="bold"))
    for label, quantiles in (
        ("  capture to sent", summary.latency),
        ("  overhead, clean", summary.overhead_clean),
        ("  overhead, segmented", summary.overhead_segmented),
        ("  overhead, rejected", summary.overhead_reject),
    ):
        if quantiles.frames:
            values = [f"{getattr(quantiles, name) / 1000:.2f}" for name in _QUANTILES]
            table.add_row(label, quantiles.frames, *values)


def show_search(result: SearchResult) -> None:
    """Print the steps of a search and its result."""
    table = TextTable(
        number("frames/s"),
        number("frames"),
        number("missed"),
        number("1 in 10⁶, ms"),
        number("at most (95 %), ms"),
        "",
    )
    for step in result.steps:
        table.add_row(
            f"{step.rate_hz:.1f}",
            step.frames,
            step.misses,
            f"{step.one_in_a_million_us / 1000:.1f}",
            f"{step.upper_us / 1000:.1f}",
            Text("holds", style="green") if step.holds else Text("does not hold", style="red"),
        )
    print_table(table)
    budget, rate_hz = f"a budget of {result.budget_us / 1000:g} ms", result.highest_rate_hz
    if rate_hz is None:
        print_text(Text(f"{budget} holds at none of these rates", style="bold red"))
    else:
        answer = f"{budget} holds up to {rate_hz:.1f} frames/s, as estimated"
        print_text(Text(answer, style="bold green"))
    print_text(
        Text("estimated from a fitted tail: docs/howto/bench.md describes its limits", "dim")
    )


def show_options(result: OptionResults) -> None:
    """Print the effect of each real-time option."""
    table = TextTable(
        "option",
        number("overhead p50, ms"),
        number("p99, ms"),
        number("p99.9, ms"),
        number("latency p99, ms"),
        number("missed"),
    )
    for name, runs in result.options.items():
        values = [_option_figures(run) for run in runs]
        medians = [sorted(column)[len(column) // 2] for column in zip(*values, strict=True)]
        texts = [f"{value / 1000:.2f}" for value in medians[:4]]
        table.add_row(name, *texts, sum(row[4] for row in values))
    print_table(table)
    for name, problem in result.rejected.items():
        print_text(Text(f"{name}: {problem}", style="yellow"))


def _option_figures(result: BenchmarkResult) -> tuple[int, ...]:
    clean, busy = result.quiet.summary.overhead_clean, result.busy.summary
    return clean.p50, clean.p99, clean.p999, busy.latency.p99, busy.misses
