"""Why a picture was judged so: the gate's heat map and the segmenter's regions, as pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelSpec
from edgeinspect.errors import DataError, MissingExtraError, UsageError
from edgeinspect.imaging import image_label, is_image_name, load_declaration, read_image
from edgeinspect.imaging.letterbox import letterbox
from edgeinspect.learning.datasets import find_bit_depth
from edgeinspect.learning.evaluate.explain.grad_cam import grad_cam, split_graph
from edgeinspect.learning.evaluate.explain.occlusion import occlusion_map
from edgeinspect.learning.evaluate.metrics.scores import upsample_class_map
from edgeinspect.learning.evaluate.offline_inspector import InspectionResult, OfflineInspector
from edgeinspect.learning.reporting import (
    class_color,
    display_width_px,
    overlay_class_map,
    overlay_heatmap,
    to_display_size,
)
from edgeinspect.system import escape_name

SCHEMA = "edgeinspect.explanation/1"
AUTO, GRADCAM, OCCLUSION = "auto", "gradcam", "occlusion"

HeatmapFunction = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], float]]
"""uint8 (H, W, C) to (map (h, w), probability)."""

_BAR_PX = 26
_MIN_FULL_SCALE = 3.0
"""Change of logit that is drawn as full heat at least: noise must not look like a finding."""


@dataclass(frozen=True, slots=True)
class HeatmapMethod:
    """How the gate's heat map is made."""

    name: str
    """`gradcam` or `occlusion`."""
    description: str
    """For the person who reads it."""
    compute: HeatmapFunction


@dataclass(frozen=True, slots=True)
class FrameExplanation:
    """What is written of one picture."""

    name: str
    file: str
    """The drawn picture."""
    decision: str
    reason: str
    prob: float | None
    peak_px: tuple[int, int] | None
    """(x, y) of the hottest place in frame pixels; None without a gate, or without heat."""
    regions: tuple[dict[str, Any], ...]
    """Class, score, area, box and whether it rejects, as in a verdict."""


def choose_heatmap_method(
    inspector: OfflineInspector, requested: str = AUTO
) -> HeatmapMethod | None:
    """How to ask the judge's gate; None without a gate.

    Args:
        judge: With a gate or not.
        wanted: `gradcam`, `occlusion`, or `auto`: the former where the graph and what is
            installed allow it. Neither needs torch.

    Raises:
        MissingExtraError: Grad-CAM is asked for, and onnx is not installed.
        UsageError: Grad-CAM is asked of a graph that has no common feature map.
    """
    engine = inspector.gate
    if engine is None:
        return None
    without = ""
    if requested in (AUTO, GRADCAM) and engine.spec.path.suffix == ".onnx":
        cut = None
        try:
            cut = split_graph(engine.spec.path)
        except MissingExtraError:
            if requested == GRADCAM:
                raise
            without = "; pip install 'edgeinspect[onnx]' for Grad-CAM, which is quicker"
        if cut is not None:
            channels, height, width = cut.shape
            words = (
                f"Grad-CAM from the ONNX graph at {cut.tensor} ({channels} channels, "
                f"{height}x{width}), its weights by finite differences"
            )
            return HeatmapMethod(GRADCAM, words, lambda image: grad_cam(cut, image))
    if requested == GRADCAM:
        raise UsageError(
            "Grad-CAM needs a feature map that all paths share, and this model has none",
            remedy="Give --method occlusion",
        )
    words = f"occlusion: loss of logit where the picture is covered{without}"
    return HeatmapMethod(OCCLUSION, words, lambda image: occlusion_map(engine, image))


def read_frames(paths: Sequence[Path], spec: ModelSpec) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """(name, frame) of every picture, letterboxed as the line would.

    Args:
        paths: Picture files, or folders of them.
        spec: Whose frame.

    Raises:
        DataError: There is no picture, or one cannot be read.
    """
    files = [file for path in paths for file in _image_files(path)]
    if not files:
        listing = ", ".join(map(str, paths))
        raise DataError("holds no picture", where=listing, remedy="Give picture files or a folder")
    folder = paths[0] if paths[0].is_dir() else paths[0].parent
    reading = find_bit_depth(files, load_declaration(folder), escape_name(folder)).read_settings(
        spec.color
    )
    for file in files:
        picture = read_image(file, reading)
        frame = letterbox(picture, spec.shape.height_px, spec.shape.width_px)
        yield image_label(file.name), np.ascontiguousarray(frame[0]).reshape(spec.shape.dims)


def explain_frame(
    inspector: OfflineInspector,
    method: HeatmapMethod | None,
    name: str,
    frame: NDArray[np.uint8],
    file: Path,
) -> FrameExplanation:
    """Judge a frame and draw why.

    Args:
        judge: Engines and thresholds.
        method: Of the gate's heat map.
        name: The picture's.
        frame: uint8 (H, W, C).
        file: PNG to write.

    Raises:
        DataError: The file cannot be written.
    """
    judged = inspector.inspect(frame)
    width = max(display_width_px(*frame.shape[:2]), 420)
    rows = [to_display_size(frame, width)]
    peak: tuple[int, int] | None = None
    head = f"{name}: {judged.assessment.decision.value}, {judged.assessment.reason.value}"
    bars = [head]
    if method is not None:
        values, _prob = method.compute(frame)
        top = float(values.max(initial=0.0))
        if top > 0:
            peak = _peak(values, frame.shape)
        # Grad-CAM has no unit that compares across networks; a loss of logit has.
        full = max(top, _MIN_FULL_SCALE) if method.name == OCCLUSION else top
        rows.append(overlay_heatmap(frame, values / full if full > 0 else values, width))
        bars.append(f"gate {judged.prob:.4f}, {method.name}")
    if judged.class_map is not None:
        found = upsample_class_map(judged.class_map, inspector.stride, *frame.shape[:2])
        rows.append(overlay_class_map(frame, found, width))
        bars.append(_describe_segmenter_scores(inspector, judged))
    parts = [
        part
        for bar, row in zip(bars, rows, strict=True)
        for part in (_draw_text_bar(bar, width), row)
    ]
    _write_png(file, np.concatenate([*parts, *_draw_legend(inspector, width)]))
    return FrameExplanation(
        name=name,
        file=file.name,
        decision=judged.assessment.decision.value,
        reason=judged.assessment.reason.value,
        prob=judged.prob,
        peak_px=peak,
        regions=tuple(
            {
                "class": region.class_name,
                "score": region.score,
                "area_px": region.area_px,
                "box": msgspec.to_builtins(region.box),
                "fatal": region.fatal,
            }
            for region in judged.assessment.regions
        ),
    )


def _image_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(each for each in path.iterdir() if is_image_name(each.name))
    return [path]


def _peak(values: NDArray[np.float32], shape: tuple[int, ...]) -> tuple[int, int]:
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    return (
        int((column + 0.5) * shape[1] / values.shape[1]),
        int((row + 0.5) * shape[0] / values.shape[0]),
    )


def _describe_segmenter_scores(inspector: OfflineInspector, inspection: InspectionResult) -> str:
    assert inspection.class_scores is not None
    assert inspection.largest_region_px is not None
    found = [
        f"{name} {score:.2f}, {area:.0f} px"
        for name, score, area in zip(
            inspector.classes, inspection.class_scores, inspection.largest_region_px, strict=True
        )
        if area
    ]
    return "segmenter: " + ("; ".join(found) or "nothing")


def _draw_legend(inspector: OfflineInspector, width: int) -> list[NDArray[np.uint8]]:
    if not inspector.classes:
        return []
    bar = np.full((_BAR_PX, width, 3), 255, np.uint8)
    x = 8
    for index, name in enumerate(inspector.classes):
        color = class_color(index + 1)
        bgr = (int(color[5:7], 16), int(color[3:5], 16), int(color[1:3], 16))
        cv2.rectangle(bar, (x, 7), (x + 12, 19), bgr, -1)
        text = _to_ascii(name)
        cv2.putText(
            bar, text, (x + 18, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (50, 36, 28), 1, cv2.LINE_AA
        )
        x += 30 + cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0]
    return [bar]


def _draw_text_bar(text: str, width: int) -> NDArray[np.uint8]:
    bar = np.full((_BAR_PX, width, 3), 255, np.uint8)
    cv2.putText(
        bar, _to_ascii(text), (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (50, 36, 28), 1, cv2.LINE_AA
    )
    return bar


def _to_ascii(text: str) -> str:
    """OpenCV's letters are ASCII alone."""
    return text.encode("ascii", "replace").decode("ascii")


def _write_png(file: Path, image: NDArray[np.uint8]) -> None:
    _done, data = cv2.imencode(".png", image)
    try:
        file.write_bytes(data.tobytes())
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(file)) from error
