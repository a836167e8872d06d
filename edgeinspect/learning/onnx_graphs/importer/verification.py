"""Verification of an import: the foreign graph against the contract graph, on sample images.

Pre- and postprocessing are written again here in numpy and OpenCV; they share no code with
`contract_graph`, so an error in one shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelKind, Pixels
from edgeinspect.errors import ModelError
from edgeinspect.learning.onnx_graphs.importer.request import (
    GraphInterpretation,
    ImportRequest,
    InputSpec,
    OutputSpec,
    kind_indices,
)

TOLERANCE = 1e-3
"""Largest difference of a probability or mean score; largest ratio of differing cells."""
TOLERANCE_FP16 = 1e-2
"""The same for a network that computes in float16."""
TOLERANCE_AREA = 1e-2
"""Largest difference of an area, relative to the frame: cells at a threshold may flip."""

_SATURATION_MARGIN = 1e-3
"""A network whose results all are this near to 0 or 1 is saturated."""
_MIN_SPREAD = 1e-6


@dataclass(frozen=True, slots=True)
class EquivalenceReport:
    """Largest differences between the imported and the original graph."""

    sample_count: int
    tolerance: float
    largest_errors: dict[str, float]
    """Largest error of each output."""
    uniform_result: str
    """The single result on all samples, if it cannot separate good from bad; else empty."""
    doubtful_result: str
    """A suspicious result shared by all samples; else empty."""
    result_summary: str
    """Summary of the results on the samples, for a person to check."""


def prepare_input(pixels: Pixels, request: ImportRequest, input_spec: InputSpec) -> NDArray[Any]:
    """Return the foreign graph's input tensor for a raw frame uint8 (H, W, C)."""
    x: NDArray[Any] = pixels.astype(np.float32)
    if request.channels == 1 and input_spec.channels == 3:
        x = np.dstack([x, x, x])
    elif input_spec.channels == 3 and request.color != request.frame_color:
        x = np.ascontiguousarray(x[:, :, ::-1])
    if x.shape[:2] != (input_spec.height_px, input_spec.width_px):
        x = _resize_linear(x, input_spec.height_px, input_spec.width_px)
    x = x / np.float32(request.scale)
    x = (x - np.array(input_spec.mean, np.float32)) / np.array(input_spec.std, np.float32)
    if input_spec.layout == "nchw":
        x = x.transpose(2, 0, 1)
    if input_spec.dtype == np.uint8:
        x = np.asarray(np.rint(x), np.float32)
    return np.ascontiguousarray(x[None]).astype(input_spec.dtype)


def reference_output(
    raw: NDArray[Any], request: ImportRequest, output_spec: OutputSpec
) -> tuple[NDArray[Any], ...]:
    """Return the contract outputs that correspond to a foreign graph's output."""
    values = raw.astype(np.float64)
    if request.kind is ModelKind.GATE:
        probs = _probabilities(values.reshape(-1), output_spec, axis=0)
        kinds = kind_indices(request, output_spec)
        if request.kinds_only:
            prob = 1.0
        elif request.good_index is not None:
            prob = 1 - probs[request.good_index]
        elif request.defect_index is not None:
            prob = probs[request.defect_index]
        else:
            prob = probs.max()
        answer = np.array([prob], np.float32)
        return (answer, probs[None, kinds].astype(np.float32)) if kinds else (answer,)
    return _reference_map_output(values, request, output_spec)


def _reference_map_output(
    values: NDArray[Any], request: ImportRequest, output_spec: OutputSpec
) -> tuple[NDArray[Any], ...]:
    plane = values[0]
    if plane.ndim == 2:
        plane = plane[:, :, None]
    elif output_spec.layout == "nchw":
        plane = plane.transpose(1, 2, 0)
    height, width = request.height_px // output_spec.stride, request.width_px // output_spec.stride
    if plane.shape[:2] != (height, width):
        plane = _resize_linear(plane.astype(np.float32), height, width).astype(np.float64)
    probs = _probabilities(plane, output_spec, axis=2)
    class_count = len(request.classes)
    class_probs = probs[:, :, -class_count:]
    if output_spec.activation == "softmax":
        class_map = probs.argmax(axis=2)
    else:
        margin = class_probs - np.array(request.thresholds)
        class_map = np.where(margin.max(axis=2) > 0, margin.argmax(axis=2) + 1, 0)
    areas = np.zeros((1, class_count), np.float32)
    scores = np.zeros((1, class_count), np.float32)
    for class_index in range(class_count):
        actual = class_map == class_index + 1
        areas[0, class_index] = actual.sum() * output_spec.stride**2
        scores[0, class_index] = (
            class_probs[:, :, class_index][actual].mean() if actual.any() else 0.0
        )
    return class_map[None].astype(np.uint8), areas, scores


def verify_equivalence(
    session: Any,
    names: Sequence[str],
    samples: Sequence[tuple[str, Pixels]],
    raw_outputs: Sequence[NDArray[Any]],
    request: ImportRequest,
    interpretation: GraphInterpretation,
) -> EquivalenceReport:
    """Run the imported graph on every sample and compare it with the reference.

    Args:
        session: ONNX Runtime session of the imported graph.
        names: Its outputs, in the contract's order.
        samples: Names and frames.
        raw_outputs: The foreign graph's output on each sample.
        request: What the user specified.
        interpretation: How the foreign graph is interpreted.

    Raises:
        ModelError: The graphs disagree; names the worst sample.
    """
    is_fp16 = interpretation.input_spec.dtype == np.float16 or raw_outputs[0].dtype == np.float16
    tolerance = TOLERANCE_FP16 if is_fp16 else TOLERANCE
    worst = dict.fromkeys(names, 0.0)
    worst_sample, excess = "", 0.0
    results = []
    for (sample, pixels), raw in zip(samples, raw_outputs, strict=True):
        outputs = session.run(list(names), {"image": pixels[None]})
        references = reference_output(raw, request, interpretation.output_spec)
        for name, actual, reference in zip(names, outputs, references, strict=True):
            allowed = TOLERANCE_AREA if name == "class_area_px" else tolerance
            error = _output_error(name, actual, reference, request)
            worst[name] = max(worst[name], error)
            if error / allowed > excess:
                worst_sample, excess = (
                    f"{sample}: {name} by {error:.2g}, allowed {allowed:g}",
                    error / allowed,
                )
        results.append(outputs[1] if request.kinds_only else outputs[0])
    if excess > 1:
        raise ModelError(
            f"the imported graph disagrees with the original, worst on {worst_sample}",
            where=str(request.file),
            remedy="Nothing was written; the network may compute something its graph does not show",
        )
    return EquivalenceReport(
        len(samples),
        tolerance,
        worst,
        *_uniform_results(results, request, interpretation.output_spec),
        _summarise_results(results, request),
    )


def _output_error(
    name: str, actual: NDArray[Any], reference: NDArray[Any], request: ImportRequest
) -> float:
    if actual.shape != reference.shape or actual.dtype != reference.dtype:
        return float("inf")
    if name == "class_map":
        return float((actual != reference).mean())
    error = float(np.abs(actual.astype(np.float64) - reference).max())
    if not np.isfinite(error):
        return float("inf")
    return error / (request.height_px * request.width_px) if name == "class_area_px" else error


def _uniform_results(
    results: Sequence[NDArray[Any]], request: ImportRequest, output_spec: OutputSpec
) -> tuple[str, str]:
    """Return a result shared by all samples: one that must be wrong, one that may be right.

    The only class everywhere, or one probability for all samples, cannot separate parts. Several
    classes that fill all samples may, and so may no defect anywhere.
    """
    if request.kinds_only:
        kind_probs = np.concatenate(results)
        is_uniform = len(kind_probs) > 1 and np.ptp(kind_probs, axis=0).max() < _MIN_SPREAD
        return ("the same probabilities of kinds for every sample" if is_uniform else ""), ""
    if request.kind is ModelKind.GATE:
        probs = np.concatenate(results)
        if probs.min() > 1 - _SATURATION_MARGIN or (len(probs) > 1 and np.ptp(probs) < _MIN_SPREAD):
            return f"defect_prob {probs[0]:.4f} of every sample", ""
        return (
            "",
            f"defect_prob below {_SATURATION_MARGIN:g} of every sample"
            if probs.max() < _SATURATION_MARGIN
            else "",
        )
    shares = [float((answer > 0).mean()) for answer in results]
    if min(shares) >= 1 - _SATURATION_MARGIN:
        description = "a defect on 100 % of every sample"
        if output_spec.channels > len(request.classes) > 1:
            description += " (is the background the last of its channels? It must be the first)"
        return (description, "") if len(request.classes) == 1 else ("", description)
    return "", "" if any(shares) else "no defect on any sample"


def _summarise_results(results: Sequence[NDArray[Any]], request: ImportRequest) -> str:
    if request.kinds_only:
        found = np.concatenate(results).argmax(axis=1)
        counts = np.bincount(found, minlength=len(request.classes))
        return "most probable kind: " + ", ".join(
            f"{name} of {count}" for name, count in zip(request.classes, counts, strict=True)
        )
    if request.kind is ModelKind.GATE:
        probs = np.sort(np.concatenate(results))
        return f"defect_prob from {probs[0]:.4f} to {probs[-1]:.4f}"
    total = sum(answer.size for answer in results)
    shares = [
        sum(int((answer == class_index + 1).sum()) for answer in results) / total
        for class_index in range(len(request.classes))
    ]
    shares_text = ", ".join(
        f"{name} {share:.2%}" for name, share in zip(request.classes, shares, strict=True)
    )
    return f"share of all cells: {shares_text}"


def _probabilities(values: NDArray[Any], output_spec: OutputSpec, axis: int) -> NDArray[Any]:
    if output_spec.activation_applied:
        return values
    if output_spec.activation == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(values / 2)))  # no overflow at either end
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _resize_linear(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Resize linearly between pixel centres, channel by channel (OpenCV takes at most four)."""
    planes = [
        cv2.resize(image[:, :, k], (width, height), interpolation=cv2.INTER_LINEAR)
        for k in range(image.shape[2])
    ]
    return np.stack(planes, axis=2)
