"""`edgeinspect rescore`: judge an archive of millions of frames with another engine."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeinspect.cli._number_types import FiniteRange
from edgeinspect.cli._terminal import echo

if TYPE_CHECKING:
    from edgeinspect.tools.rescore.runners import ChunkRunner

_REPORT_INTERVAL_S = 2.0


@click.command()
@click.argument("source", metavar="ARCHIVE", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--engine",
    "model",
    required=True,
    metavar="MODEL",
    help="NAME/VERSION of the store, a model's folder, or an ONNX file.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The run's folder; named again, an ended run goes on.",
)
@click.option("--backend", default="ov", show_default=True)
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the model's name is looked up.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 10_000),
    help="Engines at work at once; as many as processors if absent.",
)
@click.option(
    "--address", default="local", show_default=True, help="Of a Ray cluster, as ray://HOST:10001."
)
@click.option("--gpus-per-worker", default=0.0, type=FiniteRange(0, 16))
@click.option(
    "--chunk",
    "chunk_frames",
    default=64,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Frames per part.",
)
@click.option(
    "--threshold",
    type=FiniteRange(0, 1),
    help="Of a gate: count the frames that would change sides.",
)
@click.option("--plain", is_flag=True, help="In this process, one by one, without Ray.")
def rescore(
    source: Path,
    model: str,
    out: Path,
    backend: str,
    store: Path | None,
    workers: int | None,
    address: str,
    gpus_per_worker: float,
    chunk_frames: int,
    threshold: float | None,
    plain: bool,
) -> None:
    """Judge every frame of ARCHIVE (or of a folder of pictures) with an engine.

    Writes results.csv and summary.json into the run's folder: exactly one result per frame. A
    run that was ended, by a kill too, goes on when it is called again.
    """
    from edgeinspect.tools.rescore.run import rescore as run
    from edgeinspect.tools.rescore.runners import LocalRunner, RayRunner
    from edgeinspect.tools.rescore.scorer import ScorerConfig, read_model_spec

    named = str(Path(model).absolute()) if Path(model).exists() else model
    request = ScorerConfig(
        str(source.absolute()), named, backend, str(store.absolute()) if store else None
    )
    spec = read_model_spec(request)
    many = workers or len(os.sched_getaffinity(0))
    runner: ChunkRunner = LocalRunner() if plain else RayRunner(many, address, gpus_per_worker)
    done = run(
        source,
        out,
        request,
        spec,
        runner,
        chunk_frames=chunk_frames,
        threshold=threshold,
        progress=_ProgressPrinter().update,
    )
    for words, count in dict(done.summary["line_said_and_now"]).items():  # type: ignore[call-overload]
        echo(f"the line said {words} at {threshold:g}: {count}")
    echo(f"{done.frame_count} frames, {done.problem_count} of them without a result, in {out}")


class _ProgressPrinter:
    """A line on stderr every two seconds."""

    def __init__(self) -> None:
        self._started_s = self._reported_s = time.monotonic()

    def update(self, before: int, now: int, total: int) -> None:
        at = time.monotonic()
        if before and not now:
            echo(f"{before} of {total} frames were done before", err=True)
        if not now or (at - self._reported_s < _REPORT_INTERVAL_S and before + now < total):
            return
        self._reported_s = at
        rate = now / max(1e-9, at - self._started_s)
        left_s = (total - before - now) / rate
        echo(f"{before + now} of {total} frames, {rate:.0f}/s, {left_s:.0f} s left", err=True)
        sys.stderr.flush()
