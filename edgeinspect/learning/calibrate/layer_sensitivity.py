"""Layer sensitivity: the cost of each layer in int8, and the gain of keeping it in float."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import Decides, ModelSpec
from edgeinspect.learning.calibrate.checkpoint import ProgressCallback, no_progress
from edgeinspect.learning.calibrate.distance import (
    OutputDistance,
    Outputs,
    distance_from_labels,
    distance_from_reference,
)
from edgeinspect.learning.calibrate.frames import FrameSet
from edgeinspect.learning.calibrate.qdq_placement import QdqPlacement, insert_qdq, plan_qdq
from edgeinspect.learning.calibrate.sessions import TensorProbe

STAGE = "layer sensitivity"
_MAX_SIGNAL_DB = 120.0
_SIGNAL_FRAMES = 4
"""Frames whose intermediate tensors are held in memory."""


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """How much quantising one layer costs."""

    layer: str
    inputs: int
    outputs: int
    signal_db: float
    """Signal-to-noise ratio of the layer's output with only this layer in int8; at most 120."""
    distance_int8: float
    """Distance from FP32 with only this layer in int8."""
    distance_recovered: float
    """Decrease of the distance from FP32 with only this layer in float."""
    alone_int8: float
    """Change of the task's distance with only this layer in int8: above 0 is worse."""
    alone_float: float
    """Decrease of the task's distance with only this layer in float: above 0 is better."""

    @property
    def score(self) -> float:
        """The ranking criterion. It ignores the task's distance: on a few frames, noise may
        improve that by chance and hide a harmful layer.
        """
        return self.distance_int8 + self.distance_recovered


@dataclass(frozen=True, slots=True)
class SensitivityReport:
    """The sensitivity of every quantised layer, the most sensitive first."""

    rows: tuple[LayerSensitivity, ...]
    fp32: OutputDistance
    """The task's distance: from labels if there are any, else from FP32."""
    int8: OutputDistance
    frames: int


def measure_layer_sensitivity(
    spec: ModelSpec,
    model: Any,
    clip_values: Mapping[str, float],
    frames: FrameSet,
    progress: ProgressCallback = no_progress,
) -> SensitivityReport:
    """Run the graph with only each layer in int8, and with only each layer in float.

    The task's distance is from the labels if there are any, else from the FP32 graph; the ranking
    is by the distance from the FP32 graph. Q/DQ nodes are computed unfused (ONNX Runtime), so
    the table is the same on every processor.

    Args:
        spec: The FP32 model.
        model: Its graph with batch norms folded.
        clip_values: Clip value of every tensor of the full placement.
        frames: A few frames, held in memory.
        progress: Called with stage, done and total.
    """
    numbers = range(len(frames))
    images = [frames.read(number) for number in numbers]
    labels = frames.read_label and [frames.read_label(number) for number in numbers]
    placement = plan_qdq(model)
    layers = placement.int8_layers
    names = [layer.name for layer in layers]
    tensors = [layer.output for layer in layers]
    done, total = 0, 2 * len(names) + 2

    def step() -> None:
        nonlocal done
        done += 1
        progress(STAGE, done, total)

    def from_fp32(outputs: Sequence[Outputs]) -> float:
        return distance_from_reference(spec, outputs, expected).total

    def task_distance(outputs: Sequence[Outputs]) -> OutputDistance:
        # Labels of good and defective say nothing of a model that only tells kinds apart.
        if labels is None or spec.decides is Decides.KINDS:
            return distance_from_reference(spec, outputs, expected)
        return distance_from_labels(spec, outputs, labels)

    def quantize(float_layers: Collection[str]) -> Any:
        return insert_qdq(model, plan_qdq(model, float_layers), clip_values)

    expected = _run_outputs(model, images)
    probe = TensorProbe(model, tensors)
    fp32_tensors = [
        dict(zip(tensors, probe.run(image), strict=True)) for image in images[:_SIGNAL_FRAMES]
    ]
    fp32 = task_distance(expected)
    step()
    int8_outputs = _run_outputs(quantize(()), images)
    int8, int8_from_fp32 = task_distance(int8_outputs), from_fp32(int8_outputs)
    step()
    rows = []
    for layer in layers:
        others = [name for name in names if name != layer.name]
        probe = TensorProbe(quantize(others), [layer.output], with_outputs=True)
        results = [probe.run(image) for image in images]
        alone: list[Outputs] = [row[:-1] for row in results]
        signal_db = _signal_to_noise_db(
            [row[layer.output] for row in fp32_tensors], [row[-1] for row in results]
        )
        step()
        without = _run_outputs(quantize([layer.name]), images)
        step()
        rows.append(
            LayerSensitivity(
                layer.name,
                layer.inputs,
                layer.outputs,
                signal_db,
                from_fp32(alone),
                int8_from_fp32 - from_fp32(without),
                task_distance(alone).total - fp32.total,
                int8.total - task_distance(without).total,
            )
        )
    rows.sort(key=lambda row: (-row.score, row.signal_db))
    return SensitivityReport(tuple(rows), fp32, int8, len(images))


def _run_outputs(model: Any, images: Sequence[NDArray[np.uint8]]) -> list[Outputs]:
    probe = TensorProbe(model, [], with_outputs=True)
    return [probe.run(image) for image in images]


def _signal_to_noise_db(expected: Sequence[NDArray[Any]], actual: Sequence[NDArray[Any]]) -> float:
    """Return the signal-to-noise ratio in dB of one tensor over the frames of both."""
    signal = noise = 0.0
    for tensor, quantized in zip(expected, actual, strict=False):
        signal += float(np.square(tensor, dtype=np.float64).sum())
        noise += float(np.square(tensor - quantized, dtype=np.float64).sum())
    if noise == 0 or signal == 0:
        return _MAX_SIGNAL_DB
    return min(_MAX_SIGNAL_DB, float(10 * np.log10(signal / noise)))


def exclude_layers(
    sensitivity: SensitivityReport,
    is_accepted: Callable[[tuple[str, ...]], bool],
    max_layers: int,
) -> tuple[str, ...] | None:
    """Return the fewest layers to keep in float so that the model is accepted.

    Adds layers in the order of their sensitivity until the model is accepted, then removes, the
    least sensitive first, every layer that is not needed.

    Args:
        sensitivity: The ranking.
        is_accepted: Whether the model with these layers in float is accepted.
        max_layers: Maximum number of layers.

    Returns:
        Their names, or None if `max_layers` are not enough.
    """
    kept: list[str] = []
    for row in sensitivity.rows[:max_layers]:
        kept.append(row.layer)
        if is_accepted(tuple(kept)):
            break
    else:
        return None
    for name in reversed(kept[:-1]):  # the last one is needed: without it, not accepted
        fewer = tuple(each for each in kept if each != name)
        if is_accepted(fewer):
            kept = list(fewer)
    return tuple(kept)


def layers_in_order(placement: QdqPlacement, names: Sequence[str]) -> tuple[str, ...]:
    """Return layer names in the order of the graph."""
    return tuple(layer.name for layer in placement.layers if layer.name in set(names))
