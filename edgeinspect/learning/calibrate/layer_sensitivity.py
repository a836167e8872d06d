"""Layer sensitivity: the cost of each layer in int8, and the gain of keeping it in float."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelSpec
from edgeinspect.learning.calibrate.checkpoint import ProgressCallback, no_progress
from edgeinspect.learning.calibrate.distance import (
    Distance,
    Outputs,
    distance_from_labels,
    distance_from_reference,
)
from edgeinspect.learning.calibrate.frames import FrameSet
from edgeinspect.learning.calibrate.qdq_placement import QdqPlacement, insert_qdq, plan_qdq
from edgeinspect.learning.calibrate.sessions import TensorProbe

STAGE = "blame"
_MAX_SIGNAL_DB = 120.0
_SIGNAL_FRAMES = 4
"""Frames whose intermediate tensors are held in memory."""


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """How much quantizing one layer costs."""

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
    """The sensitivity of every quantized layer, the most sensitive first."""

    rows: tuple[LayerSensitivity, ...]
    fp32: Distance
    """The task's distance: from labels if there are any, else from FP32."""
    int8: Distance
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
    images = [frames.read(number) for number in range(len(frames))]
    truths = (
        None if frames.read_label is None else [frames.read_label(n) for n in range(len(frames))]
    )
    whole = plan_qdq(model)
    names = [layer.name for layer in whole.int8_layers]
    tensors = [layer.output for layer in whole.int8_layers]
    done, total = 0, 2 * len(names) + 2

    def step() -> None:
        nonlocal done
        done += 1
        progress(STAGE, done, total)

    wanted = _run_outputs(model, images)
    inner = TensorProbe(model, tensors)
    true = [dict(zip(tensors, inner.run(image), strict=True)) for image in images[:_SIGNAL_FRAMES]]
    measure = _make_distance(spec, wanted, truths)
    fp32 = measure(wanted)
    step()
    whole_outputs = _run_outputs(insert_qdq(model, whole, clip_values), images)
    int8, far = measure(whole_outputs), distance_from_reference(spec, whole_outputs, wanted).total
    step()
    rows = []
    for layer in whole.int8_layers:
        others = [name for name in names if name != layer.name]
        alone = TensorProbe(
            insert_qdq(model, plan_qdq(model, others), clip_values),
            [layer.output],
            with_outputs=True,
        )
        got = [alone.run(image) for image in images]
        outputs: list[Outputs] = [row[:-1] for row in got]
        signal = _signal_to_noise_db([row[layer.output] for row in true], [row[-1] for row in got])
        step()
        spared = _run_outputs(insert_qdq(model, plan_qdq(model, [layer.name]), clip_values), images)
        step()
        rows.append(
            LayerSensitivity(
                layer.name,
                layer.inputs,
                layer.outputs,
                signal,
                distance_from_reference(spec, outputs, wanted).total,
                far - distance_from_reference(spec, spared, wanted).total,
                measure(outputs).total - fp32.total,
                int8.total - measure(spared).total,
            )
        )
    rows.sort(key=lambda row: (-row.score, row.signal_db))
    return SensitivityReport(tuple(rows), fp32, int8, len(images))


def _make_distance(
    spec: ModelSpec, expected: Sequence[Outputs], labels: Any
) -> Callable[[Sequence[Outputs]], Distance]:
    if labels is None:
        return lambda got: distance_from_reference(spec, got, expected)
    return lambda got: distance_from_labels(spec, got, labels)


def _run_outputs(model: Any, images: Sequence[NDArray[np.uint8]]) -> list[Outputs]:
    inner = TensorProbe(model, [], with_outputs=True)
    return [inner.run(image) for image in images]


def _signal_to_noise_db(true: Sequence[NDArray[Any]], got: Sequence[NDArray[Any]]) -> float:
    """Return the signal-to-noise ratio in dB of one tensor over the frames of both."""
    signal = noise = 0.0
    for ours, theirs in zip(true, got, strict=False):
        signal += float(np.square(ours, dtype=np.float64).sum())
        noise += float(np.square(ours - theirs, dtype=np.float64).sum())
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
    for name in reversed(
        kept[:-1]
    ):  # the last one is needed: without it the model was not accepted
        fewer = tuple(each for each in kept if each != name)
        if is_accepted(fewer):
            kept = list(fewer)
    return tuple(kept)


def layers_in_order(placement: QdqPlacement, names: Sequence[str]) -> tuple[str, ...]:
    """Return layer names in the order of the graph."""
    return tuple(layer.name for layer in placement.layers if layer.name in set(names))
