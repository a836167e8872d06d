"""Draws why an image was rejected or passed: the gate's heat map, the segmenter's regions."""

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
from edgeinspect.errors import (
    DataError,
    MissingExtraError,
    OutputError,
    UsageError,
    install_command,
)
from edgeinspect.imaging import (
    class_color_bgr,
    image_label,
    is_image_name,
    letterbox_image,
    load_declaration,
    read_image,
    upsample_class_map,
)
from edgeinspect.learning.datasets import find_bit_depth, images_below
from edgeinspect.learning.evaluate.explain.anomaly_map import open_anomaly_map
from edgeinspect.learning.evaluate.explain.grad_cam import grad_cam, split_graph
from edgeinspect.learning.evaluate.explain.occlusion import occlusion_map
from edgeinspect.learning.evaluate.offline_inspector import InspectionResult, OfflineInspector
from edgeinspect.learning.reporting import (
    display_width_px,
    overlay_class_map,
    overlay_heatmap,
    to_display_size,
)
from edgeinspect.system import escape_name

AUTO, GRADCAM, OCCLUSION = "auto", "gradcam", "occlusion"
ANOMALY_MAP = "anomaly map"
"""Of a good-parts model: what it decides by, not an explanation of it."""

HeatmapFunction = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], float]]
"""Maps uint8 (H, W, C) to (map (h, w), probability)."""

_BAR_PX = 26
_TEXT_BGR = (50, 36, 28)
_MIN_FULL_SCALE = 3.0
"""Minimum change of the logit that is drawn as full heat, so that noise stays faint."""


_MAX_FOLDERS = 3
"""Folders that a remedy lists."""


@dataclass(frozen=True, slots=True)
class HeatmapMethod:
    """How the heat map of the gate, or of a good-parts model, is computed."""

    name: str
    """`gradcam`, `occlusion` or `anomaly map`."""
    description: str
    """One line of text for reports."""
    compute: HeatmapFunction


@dataclass(frozen=True, slots=True)
class FrameExplanation:
    """The JSON record of one explained image."""

    name: str
    file: str
    """The drawn image."""
    decision: str
    reason: str
    prob: float | None
    peak_px: tuple[int, int] | None
    """(x, y) of the map's maximum in frame pixels; None without a gate, or without heat."""
    regions: tuple[dict[str, Any], ...]
    """Class, score, area, box and whether it rejects, as in a verdict."""


def choose_heatmap_method(
    inspector: OfflineInspector, requested: str = AUTO
) -> HeatmapMethod | None:
    """Choose how to explain the inspector's gate, or else its good-parts model; None without both.

    Args:
        inspector: With a gate or not.
        requested: `gradcam`, `occlusion`, or `auto`: Grad-CAM where the graph and the
            installed packages allow it. Neither needs torch.

    Raises:
        MissingExtraError: Grad-CAM is requested, and onnx is not installed.
        UsageError: Grad-CAM is requested for a graph without a common feature map.
    """
    engine = inspector.gate
    if engine is None:
        return _anomaly_map_method(inspector)
    hint = ""
    if requested in (AUTO, GRADCAM) and engine.spec.path.suffix == ".onnx":
        graph = None
        try:
            graph = split_graph(engine.spec.path)
        except MissingExtraError:
            if requested == GRADCAM:
                raise
            hint = f"; {install_command('edgeinspect[onnx]')} for Grad-CAM, which is faster"
        if graph is not None:
            channels, height, width = graph.shape
            description = (
                f"Grad-CAM from the ONNX graph at {graph.tensor} ({channels} channels, "
                f"{height}x{width}), its weights by finite differences"
            )
            return HeatmapMethod(GRADCAM, description, lambda image: grad_cam(graph, image))
    if requested == GRADCAM:
        raise UsageError(
            "Grad-CAM needs a feature map that all paths share, and this model has none",
            remedy="Give --method occlusion",
        )
    description = f"occlusion: loss of logit where the image is covered{hint}"
    return HeatmapMethod(OCCLUSION, description, lambda image: occlusion_map(engine, image))


def _anomaly_map_method(inspector: OfflineInspector) -> HeatmapMethod | None:
    """Return the map of a good-parts model; None without one, or without its ONNX graph."""
    engine = inspector.unknown
    if engine is None or engine.spec.path.suffix != ".onnx":
        return None
    read_map = open_anomaly_map(engine.spec.path)
    if read_map is None:
        return None
    description = "anomaly map of the good-parts model: half of the scale is its threshold"
    return HeatmapMethod(ANOMALY_MAP, description, read_map)


def read_frames(paths: Sequence[Path], spec: ModelSpec) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield (name, frame) of every image, letterboxed as on the line.

    Args:
        paths: Image files, or folders of them.
        spec: Model whose frame size and colours are used.

    Raises:
        DataError: There is no image, or one cannot be read.
    """
    files = image_files(paths)
    if not files:
        listing = ", ".join(map(str, paths))
        raise DataError(
            "holds no image", where=listing, remedy=_deeper_remedy(paths) or "Give image files"
        )
    folder = paths[0] if paths[0].is_dir() else paths[0].parent
    depth = find_bit_depth(files, load_declaration(folder), escape_name(folder))
    settings = depth.read_settings(spec.color)
    for file in files:
        image = read_image(file, settings)
        frame = letterbox_image(image, spec.shape.height_px, spec.shape.width_px)
        yield image_label(file.name), np.ascontiguousarray(frame[0]).reshape(spec.shape.dims)


def explain_frame(
    inspector: OfflineInspector,
    method: HeatmapMethod | None,
    name: str,
    frame: NDArray[np.uint8],
    file: Path,
) -> FrameExplanation:
    """Inspect a frame and draw the explanation.

    Args:
        inspector: Engines and thresholds.
        method: Of the gate's heat map.
        name: The image's.
        frame: uint8 (H, W, C).
        file: PNG to write.

    Raises:
        OutputError: The file cannot be written.
    """
    inspection = inspector.inspect(frame)
    assessment = inspection.assessment
    height, width = frame.shape[:2]
    display_px = max(display_width_px(height, width), 420)
    peak: tuple[int, int] | None = None
    head = f"{name}: {assessment.decision.value}, {assessment.reason.value}"
    rows = [_draw_text_bar(head, display_px), to_display_size(frame, display_px)]
    if method is not None:
        values, prob = method.compute(frame)
        top = float(values.max(initial=0.0))
        if top > 0:
            peak = _peak(values, frame.shape)
        # Grad-CAM has no unit that compares across networks; a loss of logit has.
        full = max(top, _MIN_FULL_SCALE) if method.name == OCCLUSION else top
        if method.name == ANOMALY_MAP:
            full, role = 1.0, "good-parts model"
        else:
            prob, role = inspection.prob or 0.0, "gate"
        heat = values / full if full > 0 else values
        rows.append(_draw_text_bar(f"{role} {prob:.4f}, {method.name}", display_px))
        rows.append(overlay_heatmap(frame, heat, display_px))
    if inspection.class_map is not None:
        class_map = upsample_class_map(inspection.class_map, inspector.stride, height, width)
        rows.append(_draw_text_bar(_describe_segmenter_scores(inspector, inspection), display_px))
        rows.append(overlay_class_map(frame, class_map, display_px))
    if inspection.unknown_map is not None and inspection.unknown_map is not inspection.class_map:
        assert inspector.unknown is not None
        stride = inspector.unknown.spec.output_stride
        unknown_map = upsample_class_map(inspection.unknown_map, stride, height, width)
        rows.append(_draw_text_bar(_describe_unknown(inspection), display_px))
        rows.append(overlay_class_map(frame, unknown_map, display_px))
    if inspector.classes:
        rows.append(_draw_legend(inspector.classes, display_px))
    _write_png(file, np.concatenate(rows))
    return FrameExplanation(
        name=name,
        file=file.name,
        decision=assessment.decision.value,
        reason=assessment.reason.value,
        prob=inspection.prob,
        peak_px=peak,
        regions=tuple(
            {
                "class": region.class_name,
                "score": region.score,
                "area_px": region.area_px,
                "box": msgspec.to_builtins(region.box),
                "fatal": region.fatal,
            }
            for region in assessment.regions
        ),
    )


def _deeper_remedy(paths: Sequence[Path]) -> str:
    """Return which folders below hold images; empty if none does."""
    folders = {file.parent: None for path in paths for file in images_below(path)}
    if not folders:
        return ""
    shown = ", ".join(escape_name(folder) for folder in list(folders)[:_MAX_FOLDERS])
    return f"Its images are in folders below it: give {'one of ' * (len(folders) > 1)}{shown}"


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files, and the images directly in the folders."""
    files: list[Path] = []
    for path in paths:
        is_folder = path.is_dir()
        files += (
            sorted(file for file in path.iterdir() if is_image_name(file.name))
            if is_folder
            else [path]
        )
    return files


def _peak(values: NDArray[np.float32], shape: tuple[int, ...]) -> tuple[int, int]:
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    return (
        int((column + 0.5) * shape[1] / values.shape[1]),
        int((row + 0.5) * shape[0] / values.shape[0]),
    )


def _describe_segmenter_scores(inspector: OfflineInspector, inspection: InspectionResult) -> str:
    if inspector.segmenter is None:
        return _describe_unknown(inspection)
    scores, areas = inspection.class_scores, inspection.largest_region_px
    assert scores is not None
    assert areas is not None
    present = [
        f"{name} {score:.2f}, {area:.0f} px"
        for name, score, area in zip(inspector.classes, scores, areas, strict=True)
        if area
    ]
    return "segmenter: " + ("; ".join(present) or "nothing")


def _describe_unknown(inspection: InspectionResult) -> str:
    return f"good-parts model {inspection.unknown_prob:.4f}: what good parts do not have"


def _draw_legend(classes: Sequence[str], width: int) -> NDArray[np.uint8]:
    bar = np.full((_BAR_PX, width, 3), 255, np.uint8)
    x = 8
    for class_id, name in enumerate(classes, 1):
        cv2.rectangle(bar, (x, 7), (x + 12, 19), class_color_bgr(class_id), -1)
        x += 30 + _put_text(bar, name, x + 18, 0.42)
    return bar


def _draw_text_bar(text: str, width: int) -> NDArray[np.uint8]:
    bar = np.full((_BAR_PX, width, 3), 255, np.uint8)
    _put_text(bar, text, 8, 0.45)
    return bar


def _put_text(bar: NDArray[np.uint8], text: str, x: int, scale: float) -> int:
    """Draw text into a bar; return its width in pixels."""
    text = text.encode("ascii", "replace").decode("ascii")  # OpenCV's font is ASCII only
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(bar, text, (x, 18), font, scale, _TEXT_BGR, 1, cv2.LINE_AA)
    return cv2.getTextSize(text, font, scale, 1)[0][0]


def _write_png(file: Path, image: NDArray[np.uint8]) -> None:
    _is_encoded, data = cv2.imencode(".png", image)
    try:
        file.write_bytes(data.tobytes())
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(file)) from error
