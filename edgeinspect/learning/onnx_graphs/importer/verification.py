"""Proof of an import: the foreign graph, fed and read by explicit numpy, on samples.

Nothing here is shared with `importing_graph`: what both do must agree, not be the same code.
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
)

TOLERANCE = 1e-3
"""What a probability or a mean score may differ by; the share of cells that may."""
TOLERANCE_FP16 = 1e-2
"""The same where the network itself computes in float16."""
TOLERANCE_AREA = 1e-2
"""Of the largest area: a cell on the brink may fall either way."""

_SATURATION_MARGIN = 1e-3
"""So near to 0 or 1 everywhere, and a network knows one answer only."""
_MIN_SPREAD = 1e-6


@dataclass(frozen=True, slots=True)
class EquivalenceReport:
    """How far the imported graph was from the original, at worst."""

    sample_count: int
    tolerance: float
    largest_errors: dict[str, float]
    """By output."""
    uniform_result: str
    """What it says of every sample, where that tells no parts apart; empty else."""
    doubtful_result: str
    """What it says of every sample, where that may be so and may not; empty else."""
    result_summary: str
    """What the samples were called, in words: a person sees at once if it is nonsense."""


def prepare_input(pixels: Pixels, request: ImportRequest, intake: InputSpec) -> NDArray[Any]:
    """What the foreign graph expects, from a raw frame uint8 (H, W, C)."""
    x: NDArray[Any] = pixels.astype(np.float32)
    if request.channels == 1 and intake.channels == 3:
        x = np.dstack([x, x, x])
    elif intake.channels == 3 and request.color != request.frame_color:
        x = np.ascontiguousarray(x[:, :, ::-1])
    if x.shape[:2] != (intake.height_px, intake.width_px):
        x = _resize_linear(x, intake.height_px, intake.width_px)
    x = x / np.float32(request.scale)
    x = (x - np.array(intake.mean, np.float32)) / np.array(intake.std, np.float32)
    if intake.layout == "nchw":
        x = x.transpose(2, 0, 1)
    if intake.dtype == np.uint8:
        x = np.asarray(np.rint(x), np.float32)
    return np.ascontiguousarray(x[None]).astype(intake.dtype)


def reference_output(
    raw: NDArray[Any], request: ImportRequest, outcome: OutputSpec
) -> tuple[NDArray[Any], ...]:
    """What the contract's outputs must be, from what the foreign graph gave."""
    values = raw.astype(np.float64)
    if request.kind is ModelKind.GATE:
        probs = _probabilities(values.reshape(-1), outcome, axis=0)
        if request.good_index is not None:
            prob = 1 - probs[request.good_index]
        elif request.defect_index is not None:
            prob = probs[request.defect_index]
        else:
            prob = probs.max()
        return (np.array([prob], np.float32),)
    return _reference_map_output(values, request, outcome)


def _reference_map_output(
    values: NDArray[Any], request: ImportRequest, outcome: OutputSpec
) -> tuple[NDArray[Any], ...]:
    plane = values[0]
    if plane.ndim == 2:
        plane = plane[:, :, None]
    elif outcome.layout == "nchw":
        plane = plane.transpose(1, 2, 0)
    height, width = request.height_px // outcome.stride, request.width_px // outcome.stride
    if plane.shape[:2] != (height, width):
        plane = _resize_linear(plane.astype(np.float32), height, width).astype(np.float64)
    probs = _probabilities(plane, outcome, axis=2)
    kinds = len(request.classes)
    of_kinds = probs[:, :, -kinds:]
    if outcome.activation == "softmax":
        class_map = probs.argmax(axis=2)
    else:
        margin = of_kinds - np.array(request.thresholds)
        class_map = np.where(margin.max(axis=2) > 0, margin.argmax(axis=2) + 1, 0)
    areas = np.zeros((1, kinds), np.float32)
    scores = np.zeros((1, kinds), np.float32)
    for kind in range(kinds):
        mine = class_map == kind + 1
        areas[0, kind] = mine.sum() * outcome.stride**2
        scores[0, kind] = of_kinds[:, :, kind][mine].mean() if mine.any() else 0.0
    return class_map[None].astype(np.uint8), areas, scores


def verify_equivalence(
    session: Any,
    names: Sequence[str],
    samples: Sequence[tuple[str, Pixels]],
    raws: Sequence[NDArray[Any]],
    request: ImportRequest,
    reading: GraphInterpretation,
) -> EquivalenceReport:
    """Run the imported graph on every sample against what is expected.

    Args:
        session: Of the imported graph, in ONNX Runtime.
        names: Of its outputs, in the contract's order.
        samples: Names and frames.
        raws: What the foreign graph gave on each.
        request: As asked.
        reading: As read.

    Raises:
        ModelError: They disagree; names the worst sample.
    """
    half = reading.input_spec.dtype == np.float16 or raws[0].dtype == np.float16
    tolerance = TOLERANCE_FP16 if half else TOLERANCE
    worst = dict.fromkeys(names, 0.0)
    at, excess = "", 0.0
    said = []
    for (sample, pixels), raw in zip(samples, raws, strict=True):
        got = session.run(list(names), {"image": pixels[None]})
        want = reference_output(raw, request, reading.output_spec)
        for name, mine, theirs in zip(names, got, want, strict=True):
            allowed = TOLERANCE_AREA if name == "class_area_px" else tolerance
            off = _output_error(name, mine, theirs, request)
            worst[name] = max(worst[name], off)
            if off / allowed > excess:
                at, excess = f"{sample}: {name} by {off:.2g}, allowed {allowed:g}", off / allowed
        said.append(got[0])
    if excess > 1:
        raise ModelError(
            f"the imported graph disagrees with the original, worst on {at}",
            where=str(request.file),
            remedy="Nothing was written; the network may compute otherwise than its graph shows",
        )
    return EquivalenceReport(
        len(samples),
        tolerance,
        worst,
        *_uniform_results(said, request, reading.output_spec),
        _summarise_results(said, request),
    )


def _output_error(
    name: str, mine: NDArray[Any], theirs: NDArray[Any], request: ImportRequest
) -> float:
    if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
        return float("inf")
    if name == "class_map":
        return float((mine != theirs).mean())
    off = float(np.abs(mine.astype(np.float64) - theirs).max())
    if not np.isfinite(off):
        return float("inf")
    return off / (request.height_px * request.width_px) if name == "class_area_px" else off


def _uniform_results(
    said: Sequence[NDArray[Any]], request: ImportRequest, outcome: OutputSpec
) -> tuple[str, str]:
    """What all samples are called alike: what cannot be right, and what may be.

    The only class on all of every sample, or one probability for all of them, tells no parts
    apart. Several classes that share the samples among them may; so may no defect anywhere.
    """
    if request.kind is ModelKind.GATE:
        probs = np.concatenate(said)
        if probs.min() > 1 - _SATURATION_MARGIN or (len(probs) > 1 and np.ptp(probs) < _MIN_SPREAD):
            return f"defect_prob {probs[0]:.4f} of every sample", ""
        return (
            "",
            f"defect_prob below {_SATURATION_MARGIN:g} of every sample"
            if probs.max() < _SATURATION_MARGIN
            else "",
        )
    shares = [float((answer > 0).mean()) for answer in said]
    if min(shares) >= 1 - _SATURATION_MARGIN:
        what = "a defect on 100 % of every sample"
        if outcome.channels > len(request.classes) > 1:
            what += " (is the background the last of its channels? It must be the first)"
        return (what, "") if len(request.classes) == 1 else ("", what)
    return "", "" if any(shares) else "no defect on any sample"


def _summarise_results(said: Sequence[NDArray[Any]], request: ImportRequest) -> str:
    if request.kind is ModelKind.GATE:
        probs = np.sort(np.concatenate(said))
        return f"defect_prob from {probs[0]:.4f} to {probs[-1]:.4f}"
    total = sum(answer.size for answer in said)
    shares = [
        sum(int((answer == kind + 1).sum()) for answer in said) / total
        for kind in range(len(request.classes))
    ]
    listing = ", ".join(
        f"{name} {share:.2%}" for name, share in zip(request.classes, shares, strict=True)
    )
    return f"share of all cells: {listing}"


def _probabilities(values: NDArray[Any], outcome: OutputSpec, axis: int) -> NDArray[Any]:
    if outcome.activation_applied:
        return values
    if outcome.activation == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(values / 2)))  # no overflow at either end
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _resize_linear(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Linear between pixel centres; a channel at a time, as OpenCV takes four at most."""
    planes = [
        cv2.resize(image[:, :, k], (width, height), interpolation=cv2.INTER_LINEAR)
        for k in range(image.shape[2])
    ]
    return np.stack(planes, axis=2)
