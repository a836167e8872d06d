"""`edgeinspect models build`: TensorRT plans for this machine's GPU, and FP16 versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._options import STORE
from edgeinspect.cli._paths import BUILD_TARGET, FRAMES, OUTPUT_FOLDER, SPLIT_FILE
from edgeinspect.cli._progress import QUIET, print_line, stage_bars
from edgeinspect.cli._ranges import IntRange
from edgeinspect.cli._results.models import (
    AcceptanceResultRow,
    BuiltModels,
    BuiltPlan,
    Fp16Version,
    PlanLayer,
)
from edgeinspect.cli._tables import TextTable, print_table, print_text
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
@QUIET
@json_option("edgeinspect.cli._results.models:BuiltModels")
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
    as_json: bool,
) -> None:
    """Build TensorRT plans on this machine, before a line needs them.

    TARGET is a line's file (FILE.yaml: every engine of type trt in it), a model of
    the store (NAME or NAME/VERSION), or with --inspect a file PLAN.plan. A valid plan is not
    built again. A running line is not affected.
    """
    from edgeinspect.storage.model_store import ModelStore

    model_store = ModelStore(store) if store else None
    if fp16:
        versions = _make_fp16(targets, model_store or ModelStore(), images, labels, split_file)
        print_result(BuiltModels(plans=[], versions=versions), as_json, _show)
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
    plans_built = [
        plan
        for target in targets
        for plan in _build_target(target, overrides, model_store, force=force, show_layers=inspect)
    ]
    print_result(BuiltModels(plans=plans_built, versions=[]), as_json, _show)


def _build_target(
    target: str,
    overrides: dict[str, Any],
    store: ModelStore | None,
    *,
    force: bool,
    show_layers: bool,
) -> Iterator[BuiltPlan]:
    from edgeinspect.learning.conversion import build_plan, inspect_plan, plan_requests

    if target.endswith(".plan"):
        if not show_layers:
            raise UsageError(f"{target} is built already", remedy="Inspect it with --inspect")
        plan_file = BuiltPlan(name=Path(target).stem, path=target)
        _add_layers(plan_file, inspect_plan(Path(target), overrides.get("device", 0)))
        yield plan_file
        return
    for request in plan_requests(target, overrides, store):
        with stage_bars(f"{request.name}: ") as report:
            plan = build_plan(request, force=force, progress=report)
        facts = plan.manifest
        built = BuiltPlan(
            name=request.name,
            path=str(plan.path),
            plan_bytes=facts.plan_bytes,
            built_at=facts.built_at,
            build_s=facts.build_s,
            typing=facts.key.typing,
            tensorrt=facts.key.tensorrt,
        )
        if show_layers:
            _add_layers(built, inspect_plan(plan.path, request.options.device))
        yield built


def _add_layers(plan: BuiltPlan, layers: tuple[Any, ...]) -> None:
    from edgeinspect.learning.conversion import precision_ratio

    plan.layers = [
        PlanLayer(
            name=layer.name,
            kind=layer.kind,
            inputs=list(layer.inputs),
            outputs=list(layer.outputs),
        )
        for layer in layers
    ]
    plan.precision_ratios = {
        precision: precision_ratio(layers, precision) for precision in ("int8", "fp16", "fp32")
    }


def _make_fp16(
    targets: tuple[str, ...],
    store: ModelStore,
    images: str | None,
    labels: str | None,
    split_file: Path | None,
) -> list[Fp16Version]:
    from edgeinspect.learning.conversion import make_fp16_version

    if not (images or labels):
        raise UsageError(
            "--fp16 needs frames to verify on", remedy="Name them with --images or --data"
        )
    versions = []
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
        checks = [
            AcceptanceResultRow(
                name=check.name,
                before=check.fp32,
                after=check.int8,
                passed=check.passed,
                # The checks are those of a calibration.
                text=check.words.replace("INT8", "FP16"),
            )
            for check in converted.acceptance.checks
        ]
        folder = converted.version_folder
        if folder is None:
            for check in checks:
                print_line(f"{'ok' if check.passed else 'NO':<3}{check.name}: {check.text}")
            raise ModelError(
                f"FP16 of {parent.id} is rejected: {converted.acceptance.reason}",
                where=str(parent.path),
                remedy="Use FP32 or INT8",
            )
        versions.append(
            Fp16Version(
                model=f"{parent.id.name}/{folder.name}",
                parent=str(parent.id),
                folder=str(folder),
                float32_layers=list(converted.float32_layers),
                checks=checks,
            )
        )
    return versions


def _show(result: BuiltModels) -> None:
    for plan in result.plans:
        if plan.plan_bytes is not None:
            print_text(
                f"{plan.name}: {plan.path} ({plan.plan_bytes / 1e6:.1f} MB, built {plan.built_at} "
                f"in {plan.build_s:g} s, {plan.typing} typing, TensorRT {plan.tensorrt})"
            )
        if plan.layers:
            _print_layers(plan)
    for version in result.versions:
        for layer in version.float32_layers:
            print_text(f"{version.parent}: {layer} stays in float32: float16 cannot represent it")
        for check in version.checks:
            print_text(f"  {'ok' if check.passed else 'NO':<3}{check.name}: {check.text}")
        print_text(f"{version.model} is a candidate in {version.folder}")


def _print_layers(plan: BuiltPlan) -> None:
    """Print every layer with its data types, and the ratio of each type."""
    table = TextTable("layer", "kind", "reads", "writes", title=plan.path)
    for layer in plan.layers:
        table.add_row(layer.name, layer.kind, ", ".join(layer.inputs), ", ".join(layer.outputs))
    print_table(table)
    counts = Counter(layer.inputs[0] if layer.inputs else "?" for layer in plan.layers)
    print_text(", ".join(f"{count} layers read {kind}" for kind, count in counts.most_common()))
    for precision, part in plan.precision_ratios.items():
        if part:
            print_text(f"convolutions and products that read {precision}: {part:.0%}")
