"""`edgeinspect rescore`: run another model over an archive of millions of frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._options import STORE
from edgeinspect.cli._paths import ARCHIVE, MODEL, OUTPUT_FOLDER
from edgeinspect.cli._progress import QUIET, progress_bar
from edgeinspect.cli._ranges import FiniteRange, IntRange
from edgeinspect.cli._results.archive import RescoreOutcome
from edgeinspect.cli._tables import format_number_of, print_text
from edgeinspect.cli._terminal import echo
from edgeinspect.errors import MissingExtraError
from edgeinspect.registry import is_installed

if TYPE_CHECKING:
    from edgeinspect.tools.rescore import ChunkRunner


@click.command(
    cls=Command,
    examples=[
        (
            "Run a new version over an archive",
            "edgeinspect rescore archive --model strip-gate/2 --out runs/gate-2",
        ),
        (
            "Count what a threshold would change, without Ray",
            "edgeinspect rescore archive --model strip-gate/2 --out runs/gate-2 --plain "
            "--threshold 0.5",
        ),
    ],
    renamed={"--engine": "--model MODEL"},
)
@click.argument("source", metavar="ARCHIVE", type=ARCHIVE)
@click.option(
    "--model",
    required=True,
    metavar="MODEL",
    type=MODEL,
    help="NAME/VERSION of the store, a model's folder, or an ONNX file.",
)
@click.option(
    "--out",
    required=True,
    metavar="FOLDER",
    type=OUTPUT_FOLDER,
    help="Folder of the run; an interrupted run continues with the same folder.",
)
@click.option(
    "--backend", metavar="NAME", default="ov", show_default=True, help="Backend of the model."
)
@STORE
@click.option(
    "--workers",
    metavar="N",
    type=IntRange(1, 10_000),
    help="Engines that run in parallel; one per processor by default.",
)
@click.option(
    "--address",
    metavar="ADDRESS",
    default="local",
    show_default=True,
    help="Address of a Ray cluster, as ray://HOST:10001.",
)
@click.option(
    "--gpus-per-worker",
    metavar="N",
    default=0.0,
    type=FiniteRange(0, 16),
    help="GPUs that Ray reserves for each worker.",
)
@click.option(
    "--chunk",
    "chunk_frames",
    metavar="N",
    default=64,
    show_default=True,
    type=IntRange(1, 100_000),
    help="Frames per result file.",
)
@click.option(
    "--threshold",
    metavar="PROBABILITY",
    type=FiniteRange(0, 1),
    help="Gate threshold: count the frames whose decision would change.",
)
@click.option("--plain", is_flag=True, help="Run in this process, frame by frame, without Ray.")
@QUIET
@json_option("edgeinspect.cli._results.archive:RescoreOutcome")
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
    as_json: bool,
) -> None:
    """Run a model on every frame of ARCHIVE, or of a folder of images.

    Writes results.csv and summary.json into the run's folder: exactly one result per frame. An
    interrupted run, even after `kill -9`, continues when it is called again.
    """
    from edgeinspect.storage.model_store import ModelStore
    from edgeinspect.tools.rescore import LocalRunner, RayRunner, ScorerConfig, read_model_spec
    from edgeinspect.tools.rescore import rescore as run

    is_stored = store is not None and ModelStore(store).has_name(model)
    is_path = not is_stored and Path(model).exists()
    model_ref = str(Path(model).absolute()) if is_path else model
    config = ScorerConfig(
        str(source.absolute()), model_ref, backend, str(store.absolute()) if store else None
    )
    spec = read_model_spec(config)
    if not plain and not is_installed("ray"):
        raise MissingExtraError("ray", "ray")
    worker_count = workers or len(os.sched_getaffinity(0))
    runner: ChunkRunner = (
        LocalRunner() if plain else RayRunner(worker_count, address, gpus_per_worker)
    )
    with progress_bar("scoring frames") as update:

        def report(before: int, now: int, total: int) -> None:
            if before and not now:
                echo(f"{before} of {total} frames were done in an earlier run", err=True)
            update(before + now, total)

        result = run(
            source,
            out,
            config,
            spec,
            runner,
            chunk_frames=chunk_frames,
            threshold=threshold,
            progress=report,
        )
    outcome = RescoreOutcome(
        folder=str(out),
        frames=result.frame_count,
        without_result=result.problem_count,
        summary=result.summary,
    )
    print_result(outcome, as_json, lambda it: _show(it, threshold))


def _show(outcome: RescoreOutcome, threshold: float | None) -> None:
    transitions: dict[str, int] = outcome.summary["line_said_and_now"]
    for transition, count in transitions.items():
        print_text(f"{transition} at {threshold:g}: {format_number_of(count, 'frame')}")
    print_text(
        f"{format_number_of(outcome.frames, 'frame')}, {outcome.without_result} of them without "
        f"a result, in {outcome.folder}"
    )
