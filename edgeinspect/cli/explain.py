"""`edgeinspect explain MODEL PICTURES... --out FOLDER`: why was it judged so?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeinspect.cli import _evaluation_options
from edgeinspect.cli._terminal import echo
from edgeinspect.errors import DataError

if TYPE_CHECKING:
    from edgeinspect.learning.evaluate import HeatmapMethod, OfflineInspector


@click.command()
@click.argument("model")
@click.argument("pictures", nargs=-1, required=True, type=_evaluation_options.PATH)
@click.option(
    "--out",
    required=True,
    type=_evaluation_options.PATH,
    metavar="FOLDER",
    help="Folder of the drawn pictures and explain.json.",
)
@_evaluation_options.GATE
@click.option(
    "--config",
    type=_evaluation_options.PATH,
    metavar="LINE.yaml",
    help="Take the thresholds from a line.",
)
@_evaluation_options.BACKEND
@click.option(
    "--method",
    type=click.Choice(["auto", "gradcam", "occlusion"]),
    default="auto",
    show_default=True,
    help="How the gate is asked: occlusion suits any model and is slow.",
)
def explain(
    model: str,
    pictures: tuple[Path, ...],
    out: Path,
    gate: str | None,
    config: Path | None,
    backend: str | None,
    method: str,
) -> None:
    """Draw where the gate sees a defect, and what the segmenter finds.

    PICTURES are files or folders. One PNG each: the picture, the gate's heat map
    (Grad-CAM), the segmenter's regions. For a training run's folder the gradients are
    torch's own, from its checkpoint; for any other model they come from the ONNX graph.
    """
    from edgeinspect.learning.evaluate import EXPLANATION_SCHEMA, read_frames
    from edgeinspect.learning.evaluate import explain_frame as draw

    judge = _evaluation_options.load_inspector(model, gate, config, backend)
    try:
        how = _method(judge, model, method)
        _make_folder(out)
        taken: dict[str, int] = {}
        found = []
        for name, frame in read_frames(pictures, judge.spec):
            stem = Path(name).stem
            taken[stem] = taken.get(stem, 0) + 1
            file = out / (stem + (f"-{taken[stem]}" if taken[stem] > 1 else "") + ".png")
            found.append(draw(judge, how, name, frame, file))
    finally:
        judge.close()
    words = how.description if how else "no gate: the segmenter's regions alone"
    document = {
        "schema": EXPLANATION_SCHEMA,
        "model": judge.label,
        "method": how.name if how else None,
        "how": words,
        "notes": list(judge.notes),
        "pictures": found,
    }
    _evaluation_options.write_json(out / "explain.json", document)
    echo(words)
    for each in found:
        prob = "" if each.prob is None else f", gate {each.prob:.4f}"
        echo(f"{out / each.file}: {each.decision} ({each.reason}){prob}")


def _method(judge: OfflineInspector, model: str, wanted: str) -> HeatmapMethod | None:
    """Torch's gradients for a run, else what the graph allows."""
    from edgeinspect.learning.evaluate import (
        AUTO,
        CHECKPOINT_FILE,
        GRADCAM,
        HeatmapMethod,
        choose_heatmap_method,
    )
    from edgeinspect.registry import is_installed

    run = Path(model) if Path(model).name != CHECKPOINT_FILE else Path(model).parent
    is_run = (run / CHECKPOINT_FILE).is_file() and judge.segmenter is None
    if is_run and wanted in (AUTO, GRADCAM) and (wanted == GRADCAM or is_installed("torch")):
        from edgeinspect.learning.train.torch_grad_cam import load_grad_cam

        cam = load_grad_cam(run)
        return HeatmapMethod(
            GRADCAM, f"Grad-CAM by torch's gradients at {cam.layer}, from {run}", cam
        )
    return choose_heatmap_method(judge, wanted)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot be made: {error.strerror}", where=str(out)) from error
