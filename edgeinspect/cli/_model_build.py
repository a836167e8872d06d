"""`edgeinspect models build`: TensorRT plans for this machine's GPU, and FP16 versions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._command import Command
from edgeinspect.cli._options import STORE
from edgeinspect.cli._paths import BUILD_TARGET, FRAMES, OUTPUT_FOLDER, SPLIT_FILE
from edgeinspect.cli._progress import stage_bars
from edgeinspect.cli._ranges import IntRange
from edgeinspect.cli._terminal import Console, echo
from edgeinspect.errors import ModelError, UsageError

if TYPE_CHECKING:
    from edgeinspect.storage.model_store import ModelStore


@click.command(
    cls=Command,
    examples=[
        ("Build the plans that a line needs", "edgeinspect models build line.yaml"),
        (
            "Make an FP16 version, verified on labelled frames",
            "edgeinspect models build strip-gate/1 --fp16 --data castings#test",
        ),
    ],
    renamed={"--labels": "--data DATASET"},
)
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...", type=BUILD_TARGET)
@click.option("--force", is_flag=True, help="Build even if a valid plan exists.")
@click.option("--inspect", is_flag=True, help="Show the data types of each layer of the plans.")
@click.option("--fp16", is_flag=True, help="Make an FP16 version of each model instead of a plan.")
@click.option(
    "--images",
    metavar="IMAGES",
    type=FRAMES,
    help="With --fp16: frames to verify on, as for `calibrate --images`.",
)
@click.option(
    "--data",
    "labels",
    metavar="DATASET",
    type=FRAMES,
    help="With --fp16: labelled frames to verify on, as for `calibrate --data`.",
)
@click.option(
    "--split-file",
    metavar="SPLIT_FILE",
    type=SPLIT_FILE,
    help="With --fp16: file that assigns images to splits.",
)
@STORE
@click.option("--plans", metavar="FOLDER", type=OUTPUT_FOLDER, help="Folder of the plans.")
@click.option("--device", metavar="N", type=IntRange(0, 63), help="GPU number, from 0.")
@click.option(
    "--level",
    metavar="N",
    type=IntRange(0, 5),
    help="Optimisation level: how long to search for a faster plan.",
)
@click.option(
    "--workspace-mib",
    metavar="MIB",
    type=IntRange(16, 65_536),
    help="GPU memory for one layer.",
)
def build(
    targets: tuple[str, ...],
    force: bool,
    inspect: bool,
    fp16: bool,
    images: str | None,
    labels: str | None,
    split_file: Path | None,
    store: Path | None,
    plans: Path | None,
    device: int | None,
    level: int | None,
    workspace_mib: int | None,
) -> None:
    """Build TensorRT plans on this machine, before a line needs them.

    TARGET is a line's file (FILE.yaml: every engine of type trt in it), a model of
    the store (NAME or NAME/VERSION), or with --inspect a file PLAN.plan. A valid plan is not
    built again. A running line is not affected.
    """
    from edgeinspect.storage.model_store import ModelStore

    model_store = ModelStore(store) if store else None
    if fp16:
        _make_fp16(targets, model_store or ModelStore(), images, labels, split_file)
        return
    if images or labels or split_file:
        raise UsageError("--images, --data and --split-file go with --fp16")
    given = {
        "plans": str(plans) if plans else None,
        "device": device,
        "optimization_level": level,
        "workspace_mib": workspace_mib,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    for target in targets:
        _build_target(target, overrides, model_store, force=force, show_layers=inspect)


def _build_target(
    target: str,
    overrides: dict[str, Any],
    store: ModelStore | None,
    *,
    force: bool,
    show_layers: bool,
) -> None:
    from edgeinspect.learning.conversion import build_plan, inspect_plan, plan_requests

    if target.endswith(".plan"):
        if not show_layers:
            raise UsageError(f"{target} is built already", remedy="Inspect it with --inspect")
        _print_layers(target, inspect_plan(Path(target), overrides.get("device", 0)))
        return
    for request in plan_requests(target, overrides, store):
        with stage_bars(f"{request.name}: ") as report:
            plan = build_plan(request, force=force, progress=report)
        facts = plan.manifest
        echo(
            f"{request.name}: {plan.path} ({facts.plan_bytes / 1e6:.1f} MB, built {facts.built_at} "
            f"in {facts.build_s:g} s, {facts.key.typing} typing, TensorRT {facts.key.tensorrt})"
        )
        if show_layers:
            _print_layers(request.name, inspect_plan(plan.path, request.options.device))


def _make_fp16(
    targets: tuple[str, ...],
    store: ModelStore,
    images: str | None,
    labels: str | None,
    split_file: Path | None,
) -> None:
    from edgeinspect.learning.conversion import make_fp16_version

    if not (images or labels):
        raise UsageError(
            "--fp16 needs frames to verify on", remedy="Name them with --images or --data"
        )
    for target in targets:
        parent = store.resolve(target)
        with stage_bars(f"{parent.id}: ") as report:
            converted = make_fp16_version(
                parent,
                store,
                images or "",
                labels,
                split_file,
                lambda done, total: report("comparing", done, total),
            )
        for layer in converted.float32_layers:
            echo(f"{parent.id}: {layer} stays in float32: float16 cannot represent it")
        for check in converted.acceptance.checks:
            words = check.words.replace("INT8", "FP16")  # the checks are those of a calibration
            echo(f"  {'ok' if check.passed else 'NO':<3}{check.name}: {words}")
        if converted.version_folder is None:
            raise ModelError(
                f"FP16 of {parent.id} is rejected: {converted.acceptance.reason}",
                where=str(parent.path),
                remedy="Use FP32 or INT8",
            )
        folder = converted.version_folder
        echo(f"{parent.id.name}/{folder.name} is a candidate in {folder}")


def _print_layers(name: str, layers: tuple[Any, ...]) -> None:
    """Print every layer with its data types, and the ratio of each type."""
    from edgeinspect.learning.conversion import precision_ratio

    table = Table(title=name, title_justify="left", box=None, pad_edge=False)
    for heading in ("layer", "kind", "reads", "writes"):
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
