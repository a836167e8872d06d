"""`edgeinspect bench`: throughput, latency and overhead of a line on this PC."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import structlog
from rich.text import Text

from edgeinspect.cli._bench_tables import show_options, show_result, show_search
from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import JSON_FILE, json_option, print_result
from edgeinspect.cli._options import OVERRIDES, budget_ms
from edgeinspect.cli._paths import IMAGES_FOLDER, LINE_FILE, OUTPUT_FILE
from edgeinspect.cli._progress import QUIET, print_line, status_line
from edgeinspect.cli._ranges import FiniteRange, IntRange
from edgeinspect.errors import EdgeInspectError, UsageError
from edgeinspect.system import decode_json
from edgeinspect.tools.bench import (
    Benchmark,
    BenchmarkConfig,
    BenchmarkResult,
    OptionResults,
    latency_plot,
    realtime_variants,
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
    "--plot",
    "plot_path",
    metavar="FILE.svg",
    type=OUTPUT_FILE,
    help="Write the plot to this file.",
)
@JSON_FILE
@QUIET
@json_option(
    "edgeinspect.tools.bench:BenchmarkResult",
    "edgeinspect.tools.bench:SearchResult",
    "edgeinspect.tools.bench:OptionResults",
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
    as_json: bool,
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
        print_result(_measure_options(benchmark), as_json, show_options, path=json_path)
    elif budget_search:
        search = _run_with_progress(
            benchmark, lambda: benchmark.search_rate(benchmark.choose_setting())
        )
        print_result(search, as_json, show_search, path=json_path)
    else:
        result = _run_with_progress(benchmark, benchmark.run)
        print_result(result, as_json, show_result, path=json_path)
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

    def render() -> Text:
        progress = benchmark.progress
        return Text(f"{progress.stage}  {progress.done}/{progress.total}")

    # A daemon thread, so that Ctrl-C ends the command and not only the display.
    worker = threading.Thread(target=body, name="bench", daemon=True)
    with status_line(render) as update:
        worker.start()
        while worker.is_alive():
            worker.join(0.5)  # rarely: drawing takes interpreter time from the measurement
            update()
    if errors:
        raise errors[0]
    return results[0]


def _measure_options(benchmark: Benchmark) -> OptionResults:
    """Measure each option in its own process: the kernel applies it to a whole process."""
    config = benchmark.config
    results: dict[str, list[BenchmarkResult]] = {}
    rejected: dict[str, str] = {}
    for round_index in range(min(3, config.rounds)):
        for name, overrides in realtime_variants().items():
            if name in rejected:
                continue
            print_line(f"option {name}, round {round_index + 1}")
            try:
                results.setdefault(name, []).append(_run_subprocess(config, overrides))
            except EdgeInspectError as error:
                rejected[name] = error.what
                results.pop(name, None)
    return OptionResults(options=results, rejected=rejected)


def _run_subprocess(config: BenchmarkConfig, overrides: list[str]) -> BenchmarkResult:
    command = [sys.executable, "-m", "edgeinspect", "bench", "--json", "--quiet"]
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
    return decode_json(process.stdout, BenchmarkResult)
