"""`edgeinspect explain MODEL IMAGE... --out FOLDER`: heat maps and regions per image."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeinspect.cli import _evaluation_options
from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._options import STORE
from edgeinspect.cli._paths import IMAGES, MODEL, OUTPUT_FOLDER
from edgeinspect.cli._results.learning import ExplanationOutcome
from edgeinspect.cli._tables import print_text
from edgeinspect.errors import OutputError
from edgeinspect.system import claim_folder, is_empty_but_for_claim

if TYPE_CHECKING:
    from edgeinspect.learning.evaluate import HeatmapMethod, OfflineInspector


@click.command(
    cls=Command,
    examples=[
        (
            "See what the gate looked at in one image",
            "edgeinspect explain strip-gate scratches.png --out explained",
        ),
        (
            "Draw regions for a folder, by a line's thresholds",
            "edgeinspect explain strip-segmenter pictures --line line.yaml --out explained",
        ),
    ],
    renamed=_evaluation_options.RENAMED,
)
@click.argument("model", type=MODEL)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=IMAGES)
@click.option(
    "--out",
    required=True,
    type=OUTPUT_FOLDER,
    metavar="FOLDER",
    help="Folder for the drawn images and explain.json.",
)
@_evaluation_options.GATE
@_evaluation_options.line_option("Use a line's thresholds.")
@_evaluation_options.BACKEND
@STORE
@click.option(
    "--method",
    type=click.Choice(["auto", "gradcam", "occlusion"]),
    default="auto",
    show_default=True,
    help="Method for the gate's heat map; occlusion works for any model and is slow.",
)
@json_option("edgeinspect.cli._results.learning:ExplanationOutcome")
def explain(
    model: str,
    images: tuple[Path, ...],
    out: Path,
    gate: str | None,
    config: Path | None,
    backend: str | None,
    store: Path | None,
    method: str,
    as_json: bool,
) -> None:
    """Draw the gate's heat map and the segmenter's regions.

    IMAGE is a file or a folder of images. Writes one PNG each: the image, the gate's heat map
    (Grad-CAM), the segmenter's regions; of a good-parts model its anomaly map. For a training
    run's folder torch computes the gradients from its checkpoint; for any other model they come
    from the ONNX graph.
    """
    from edgeinspect.learning.evaluate import explain_frame as draw
    from edgeinspect.learning.evaluate import read_frames

    with contextlib.ExitStack() as stack:
        inspector = _evaluation_options.load_inspector(model, gate, config, backend, store)
        stack.callback(inspector.close)
        heat_map_method = _method(inspector, model, method)
        stack.enter_context(claim_folder(out))
        _check_folder(out)
        name_counts: dict[str, int] = {}
        drawn = []
        for name, frame in read_frames(images, inspector.spec):
            stem = Path(name).stem
            count = name_counts[stem] = name_counts.get(stem, 0) + 1
            file = out / f"{stem if count == 1 else f'{stem}-{count}'}.png"
            drawn.append(draw(inspector, heat_map_method, name, frame, file))
    description = (
        heat_map_method.description
        if heat_map_method
        else "no gate: only the regions of the class map"
    )
    result = ExplanationOutcome(
        model=inspector.label,
        method=heat_map_method.name if heat_map_method else None,
        how=description,
        notes=[*inspector.notes, *_training_notes(inspector, images)],
        pictures=drawn,
    )
    print_result(result, as_json, lambda it: _show(it, out), path=out / "explain.json")


def _training_notes(inspector: OfflineInspector, images: tuple[Path, ...]) -> tuple[str, ...]:
    """Return what is known of training images among these."""
    from edgeinspect.learning.evaluate import image_files, training_knowledge, training_note

    knowledge = training_knowledge(inspector.specs)
    files = image_files(images)
    return (*knowledge.notes, *training_note(knowledge.count_files(files), len(files)))


def _show(result: ExplanationOutcome, out: Path) -> None:
    print_text(result.how)
    for note in result.notes:
        print_text(f"note: {note}")
    for image in result.pictures:
        prob = "" if image.prob is None else f", gate {image.prob:.4f}"
        print_text(f"{out / image.file}: {image.decision} ({image.reason}){prob}")


def _method(inspector: OfflineInspector, model: str, wanted: str) -> HeatmapMethod | None:
    """Return torch's gradients for a training run, else what the graph allows."""
    from edgeinspect.learning.evaluate import (
        AUTO,
        CHECKPOINT_FILE,
        GRADCAM,
        HeatmapMethod,
        choose_heatmap_method,
    )
    from edgeinspect.registry import is_installed

    run = Path(model) if Path(model).name != CHECKPOINT_FILE else Path(model).parent
    # A model of the store may have the name of another run's folder here.
    is_its_run = inspector.spec.path.resolve().is_relative_to(run.resolve())
    is_run = is_its_run and (run / CHECKPOINT_FILE).is_file() and inspector.mapper is None
    if is_run and wanted in (AUTO, GRADCAM) and (wanted == GRADCAM or is_installed("torch")):
        from edgeinspect.learning.train.torch_grad_cam import load_grad_cam

        grad_cam = load_grad_cam(run)
        return HeatmapMethod(
            GRADCAM, f"Grad-CAM by torch's gradients at {grad_cam.layer}, from {run}", grad_cam
        )
    return choose_heatmap_method(inspector, wanted)


def _check_folder(out: Path) -> None:
    """Refuse a folder with other content than an earlier call's; its images are replaced."""
    try:
        if not is_empty_but_for_claim(out) and not (out / "explain.json").exists():
            raise OutputError("is not empty", where=str(out), remedy="Give a new folder")
    except OSError as error:
        raise OutputError(f"cannot be read: {error.strerror}", where=str(out)) from error
