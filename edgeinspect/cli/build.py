"""`edgeinspect build`: plans for this machine's GPU, and FP16 versions of models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._terminal import Console, echo
from edgeinspect.errors import ModelError, UsageError

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--force", is_flag=True, help="Build even where a plan still holds.")
@click.option("--inspect", is_flag=True, help="Show what each layer of the plans computes in.")
@click.option("--fp16", is_flag=True, help="Make an FP16 version of each model instead.")
@click.option(
    "--images", help="With --fp16: frames that both must agree on, as calibrate takes them."
)
@click.option("--labels", help="With --fp16: labelled frames to compare on instead.")
@click.option("--store", type=_FOLDER, help="Where the models are.")
@click.option("--plans", type=_FOLDER, help="Where plans are kept.")
@click.option("--device", type=click.IntRange(0, 63), help="Which GPU, counted from 0.")
@click.option("--level", type=click.IntRange(0, 5), help="How long to look for a faster plan.")
@click.option("--workspace-mib", type=click.IntRange(16, 65_536), help="GPU memory for a layer.")
def build(
    targets: tuple[str, ...],
    force: bool,
    inspect: bool,
    fp16: bool,
    images: str | None,
    labels: str | None,
    store: Path | None,
    plans: Path | None,
    device: int | None,
    level: int | None,
    workspace_mib: int | None,
) -> None:
    """Build TensorRT plans on this machine, before a line needs them.

    TARGET is a line's configuration (FILE.yaml: every engine of type trt in it), a model of
    the store (NAME or NAME/VERSION), or with --inspect a file PLAN.plan. A plan that still
    holds is left as it is. A line that runs is not disturbed.
    """
    from edgeinspect.storage.model_store import ModelStore

    holder = ModelStore(store) if store else None
    if fp16:
        _make_fp16(targets, holder or ModelStore(), images, labels)
        return
    if images or labels:
        raise UsageError("--images and --labels go with --fp16")
    given = {
        "plans": str(plans) if plans else None,
        "device": device,
        "optimization_level": level,
        "workspace_mib": workspace_mib,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    for target in targets:
        _build_target(target, overrides, holder, force=force, show=inspect)


def _build_target(target: str, overrides: Any, store: Any, *, force: bool, show: bool) -> None:
    from edgeinspect.learning.build.plans import build_plan, inspect_plan, plan_requests

    if target.endswith(".plan"):
        if not show:
            raise UsageError(f"{target} is built already", remedy="Look at it with --inspect")
        _print_layers(target, inspect_plan(Path(target), overrides.get("device", 0)))
        return
    for task in plan_requests(target, overrides, store):
        with _progress(task.name) as report:
            plan = build_plan(task, force=force, progress=report)
        facts = plan.manifest
        echo(
            f"{task.name}: {plan.path} ({facts.plan_bytes / 1e6:.1f} MB, built {facts.built_at} "
            f"in {facts.build_s:g} s, {facts.key.typing} typing, TensorRT {facts.key.tensorrt})"
        )
        if show:
            _print_layers(task.name, inspect_plan(plan.path, task.options.device))


def _make_fp16(
    targets: tuple[str, ...], store: Any, images: str | None, labels: str | None
) -> None:
    from edgeinspect.learning.build.plans import make_fp16_version

    if not (images or labels):
        raise UsageError(
            "--fp16 needs frames to prove it on", remedy="Name them with --images or --labels"
        )
    for target in targets:
        parent = store.resolve(target)
        with _progress(str(parent.id)) as report:
            made = make_fp16_version(
                parent,
                store,
                images or "",
                labels,
                lambda done, total: report("comparing", done, total),
            )
        for layer in made.float32_layers:
            echo(f"{parent.id}: {layer} stays in float32, half cannot hold it")
        for check in made.acceptance.checks:
            words = check.words.replace("INT8", "FP16")  # its checks are calibration's
            echo(f"  {'ok' if check.passed else 'NO':<3}{check.name}: {words}")
        if made.version_folder is None:
            raise ModelError(
                f"FP16 of {parent.id} is refused: {made.acceptance.reason}",
                where=str(parent.path),
                remedy="Use FP32 or INT8; docs/models.md says how they differ",
            )
        echo(f"{parent.id.name}/{made.version_folder.name} is a candidate in {made.version_folder}")


def _print_layers(name: str, layers: tuple[Any, ...]) -> None:
    """Every layer with its formats, and how much of the work is in which."""
    from edgeinspect.learning.build.plans import precision_ratio

    table = Table(title=name, title_justify="left", box=None, pad_edge=False)
    for heading in ("layer", "kind", "reads", "gives"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for layer in layers:
        table.add_row(
            Text(layer.name), Text(layer.kind), ", ".join(layer.inputs), ", ".join(layer.outputs)
        )
    console = Console()
    console.print(table)
    counts = Counter(layer.inputs[0] if layer.inputs else "?" for layer in layers)
    console.print(", ".join(f"{count} layers read {kind}" for kind, count in counts.most_common()))
    for precision in ("int8", "fp16", "fp32"):
        if part := precision_ratio(layers, precision):
            console.print(f"convolutions and products that read {precision}: {part:.0%}")


@contextmanager
def _progress(name: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar per phase, on stderr."""
    columns = (
        TextColumn("{task.description:<40.40}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        known: dict[str, Any] = {}

        def report(phase: str, done: int, total: int) -> None:
            if phase not in known:
                known[phase] = bars.add_task(f"{name}: {phase}", total=total)
            bars.update(known[phase], completed=done, total=total)

        yield report
