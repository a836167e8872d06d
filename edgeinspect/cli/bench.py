"""`edgeinspect bench`: throughput, latency and overhead of a line on this PC."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import msgspec
import structlog
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._command import Command
from edgeinspect.cli._options import OVERRIDES, budget_ms
from edgeinspect.cli._paths import IMAGES_FOLDER, LINE_FILE, OUTPUT_FILE
from edgeinspect.cli._ranges import FiniteRange, IntRange
from edgeinspect.cli._terminal import Console
from edgeinspect.errors import EdgeInspectError, UsageError
from edgeinspect.system import decode_json
from edgeinspect.tools.bench import (
    Benchmark,
    BenchmarkConfig,
    BenchmarkResult,
    encode_result,
    latency_plot,
    realtime_variants,
    result_table,
    search_table,
)

T = TypeVar("T")
_SEARCH_FRAMES = 2_000


@click.command(
    cls=Command,
    examples=[
        ("Measure the shipped models on this PC", "edgeinspect bench"),
        ("Measure a line as it is configured", "edgeinspect bench line.yaml --as-configured"),
    ],
)
@click.argument("file", required=False, type=LINE_FILE)
@OVERRIDES
@click.option(
    "--images",
    metavar="IMAGES",
    type=IMAGES_FOLDER,
    help="Folder of images to use; synthetic strip by default.",
)
@click.option(
    "--frames",
    default=200,
    show_default=True,
    metavar="N",
    type=IntRange(20, 100_000),
    help="Frames per round.",
)
@click.option(
    "--rounds",
    default=5,
    show_default=True,
    metavar="N",
    type=IntRange(1, 10_000),
    help="Rounds of each measurement, interleaved.",
)
@click.option(
    "--load",
    default=0.7,
    show_default=True,
    metavar="RATIO",
    type=FiniteRange(0.01, 0.99),
    help="Ratio of the highest rate at which latency is measured.",
)
@budget_ms(", without FILE")
@click.option(
    "--backend", metavar="NAME", default="ov", show_default=True, help="Backend, without FILE."
)
@click.option(
    "--as-configured",
    is_flag=True,
    help="Use the configured workers and threads, not the fastest.",
)
@click.option(
    "--budget-search",
    is_flag=True,
    help="Search for the highest rate that misses no frame in a million.",
)
@click.option(
    "--options", is_flag=True, help="Measure the effect of each real-time option on this PC."
)
@click.option(
    "--json",
    "json_path",
    metavar="FILE.json",
    type=OUTPUT_FILE,
    help="Write the results to this file.",
)
@click.option(
    "--plot",
    "plot_path",
    metavar="FILE.svg",
    type=OUTPUT_FILE,
    help="Write the plot to this file.",
)
def bench(
    file: Path | None,
    overrides: tuple[str, ...],
    images: Path | None,
    frames: int,
    rounds: int,
    load: float,
    budget_ms: float,
    backend: str,
    as_configured: bool,
    budget_search: bool,
    options: bool,
    json_path: Path | None,
    plot_path: Path | None,
) -> None:
    """Measure the whole line against its engines alone.

    Both process the same frames, interleaved, in one process. Reports frames a second, latency
    from capture to verdict, and the overhead beyond the engines. Without FILE the shipped
    models are measured on synthetic strip. Nothing else should run on the PC meanwhile.
    """
    if options and budget_search:
        raise UsageError("--options and --budget-search are two measurements", remedy="Give one")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    benchmark_config = BenchmarkConfig(
        config=file,
        overrides=overrides,
        images=images,
        frames=_SEARCH_FRAMES if budget_search else frames,
        rounds=1 if budget_search else rounds,
        load_ratio=load,
        budget_ms=budget_ms,
        backend=backend,
        as_configured=as_configured,
    )
    benchmark = Benchmark(benchmark_config)
    if options:
        _compare_options(benchmark, json_path)
        return
    if budget_search:
        steps = _run_with_progress(
            benchmark, lambda: benchmark.search_rate(benchmark.choose_setting())
        )
        Console().print(search_table(steps, benchmark.budget_us))
        if json_path is not None:
            json_path.write_text(json.dumps(steps, indent=2) + "\n", encoding="utf-8")
        return
    result = _run_with_progress(benchmark, benchmark.run)
    Console().print(result_table(result))
    if json_path is not None:
        json_path.write_bytes(encode_result(result))
    if plot_path is not None:
        plot_path.write_text(latency_plot(result), encoding="utf-8")


def _run_with_progress(benchmark: Benchmark, work: Callable[[], T]) -> T:
    """Run `work` in a thread, so that the display is updated meanwhile."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    # A daemon thread, so that Ctrl-C ends the command and not only the display.
    worker = threading.Thread(target=body, name="bench", daemon=True)
    progress = benchmark.progress
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        worker.start()
        while worker.is_alive():
            worker.join(0.5)  # rarely: drawing takes interpreter time from the measurement
            live.update(Text(f"{progress.stage}  {progress.done}/{progress.total}"), refresh=True)
    if errors:
        raise errors[0]
    return results[0]


def _compare_options(benchmark: Benchmark, json_path: Path | None) -> None:
    """Measure each option in its own process: the kernel applies it to a whole process."""
    config = benchmark.config
    results: dict[str, list[BenchmarkResult]] = {}
    rejected: dict[str, str] = {}
    console = Console(stderr=True)
    for round_index in range(min(3, config.rounds)):
        for name, overrides in realtime_variants().items():
            if name in rejected:
                continue
            console.print(f"option {name}, round {round_index + 1}", style="dim")
            try:
                results.setdefault(name, []).append(_run_subprocess(config, overrides))
            except EdgeInspectError as error:
                rejected[name] = error.what
    table = Table(box=None, pad_edge=False)
    for heading in ("option", "overhead p50", "p99", "p99.9", "latency p99", "missed"):
        table.add_column(heading, justify="left" if heading == "option" else "right")
    for name, runs in results.items():
        values = [_figures_of(run) for run in runs]
        medians = [sorted(column)[len(column) // 2] for column in zip(*values, strict=True)]
        texts = [f"{value / 1000:.2f} ms" for value in medians[:4]]
        table.add_row(name, *texts, str(sum(row[4] for row in values)))
    for name, problem in rejected.items():
        table.add_row(name, Text(problem, style="yellow"))
    Console().print(table)
    if json_path is not None:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")


def _figures_of(figures: BenchmarkResult) -> tuple[int, ...]:
    clean, busy = figures.quiet.summary.overhead_clean, figures.busy.summary
    return clean.p50, clean.p99, clean.p999, busy.latency.p99, busy.misses


def _run_subprocess(config: BenchmarkConfig, overrides: list[str]) -> BenchmarkResult:
    command = [sys.executable, "-m", "edgeinspect", "bench", "--json", "/dev/stdout"]
    command += [str(config.config)] if config.config else []
    command += ["--images", str(config.images)] if config.images else []
    command += ["--frames", str(config.frames), "--rounds", "1", "--load", str(config.load_ratio)]
    command += ["--budget-ms", str(config.budget_ms), "--backend", config.backend]
    for override in (*config.overrides, *overrides):
        command += ["--set", override]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        last = (process.stderr.strip().splitlines() or ["ended"])[-1]
        raise EdgeInspectError(last)
    start = process.stdout.index("{\n")
    return decode_json(process.stdout[start:], BenchmarkResult)
