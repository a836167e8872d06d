"""Golden frames: images with known outputs, which an engine must reproduce before it inspects.

They are stored with the version, made by an accepted engine. Without them synthetic images at
least verify that outputs are finite, in range and of the right shape.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from edgeinspect.domain import ModelKind, ModelSpec, Pixels, Precision
from edgeinspect.errors import DataError, EngineFault, ModelError, OutputError
from edgeinspect.ports import Engine
from edgeinspect.storage.model_store.manifest import MANIFEST_FILE
from edgeinspect.system import (
    MODEL_BYTES_MAX,
    DecodeError,
    decode_arrays,
    read_regular,
    read_text,
    write_atomic,
)

GOLDEN_FILE = "golden.npz"
MAX_FRAMES = 16
Outputs = tuple[NDArray[np.generic], ...]

_PROB_TOLERANCE = {Precision.FP32: 0.005, Precision.FP16: 0.02, Precision.INT8: 0.08}
"""Largest difference of a probability; backends round differently, with INT8 most."""
_KINDS_TOLERANCE = 0.01
"""Largest difference of `defect_prob` from the sum of `class_prob`; float16 rounds each of them."""
_CELL_TOLERANCE = {Precision.FP32: 0.002, Precision.FP16: 0.005, Precision.INT8: 0.02}
"""Largest fraction of a class map's cells that may differ."""


def verify_engine(engine: Engine, wait: Callable[[], None] = lambda: None, rounds: int = 3) -> str:
    """Warm an engine up and compare its outputs with the golden frames.

    Args:
        engine: Not in use elsewhere.
        wait: Called before each inference, to give way to the running line.
        rounds: Number of warm-up inferences.

    Returns:
        What was verified, for a person.

    Raises:
        ModelError: It fails, or its outputs differ.
    """
    spec = engine.spec
    try:
        for image in _synthetic_images(spec, rounds):
            wait()
            _check_output(spec, engine.infer(image))
        if spec.golden is None:
            return f"outputs are valid on {rounds} synthetic images; it has no golden frames"
        images, expected_outputs = read_golden_frames(spec)
        for index, image in enumerate(images):
            wait()
            outputs = engine.infer(image)
            _check_output(spec, outputs)
            _compare_output(spec, index, outputs, [output[index] for output in expected_outputs])
    except EngineFault as fault:
        raise ModelError(
            f"{spec.id} fails on its first frames: {fault}", where=str(spec.path)
        ) from fault
    return f"matches the reference outputs on {len(images)} golden frames"


def create_golden_frames(engine: Engine, images: Sequence[Pixels]) -> Path:
    """Store images and this engine's outputs for them with its version.

    Raises:
        DataError: There are none, too many, or of another shape.
        OutputError: The folder cannot be written.
    """
    spec = engine.spec
    if not 1 <= len(images) <= MAX_FRAMES:
        raise DataError(f"golden frames are 1 to {MAX_FRAMES}, not {len(images)}")
    if any(image.shape != spec.shape.dims for image in images):
        raise DataError(f"{spec.id} takes {spec.shape}")
    rows = [[np.array(output) for output in engine.infer(image)] for image in images]
    for outputs in rows:
        _check_output(spec, outputs)
    arrays: dict[str, Any] = {
        f"output_{index}": np.stack([outputs[index] for outputs in rows])
        for index in range(len(rows[0]))
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=np.stack(images), **arrays)
    data = buffer.getvalue()
    golden = {
        "file": GOLDEN_FILE,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
    }
    _write_file(spec.path.parent / GOLDEN_FILE, data)
    update_manifest(spec.path.parent, golden=golden)
    return spec.path.parent / GOLDEN_FILE


def update_manifest(folder: Path, **keys: Any) -> None:
    """Set keys of a manifest atomically; its comments are lost.

    Raises:
        OutputError: It cannot be written.
    """
    path = folder / MANIFEST_FILE
    manifest = yaml.safe_load(read_text(path)) | keys
    text = yaml.safe_dump(
        manifest, sort_keys=False, allow_unicode=True, width=96, default_flow_style=None
    )
    _write_file(path, text.encode())


def read_golden_frames(spec: ModelSpec) -> tuple[NDArray[np.uint8], tuple[NDArray[Any], ...]]:
    """Return the images (N, H, W, C) and the outputs, each (N, ...).

    Raises:
        ModelError: The file is unreadable or does not fit the model.
    """
    assert spec.golden is not None
    count = len(spec.outputs)
    try:
        arrays = decode_arrays(read_regular(spec.golden, MODEL_BYTES_MAX))
        images = arrays["images"]
        outputs = tuple(arrays[f"output_{index}"] for index in range(count))
    except (OSError, DecodeError, KeyError) as error:
        raise ModelError(
            f"golden frames cannot be read: {error}", where=str(spec.golden)
        ) from error
    sizes = {array.shape[:1] for array in (images, *outputs)}
    if images.shape[1:] != spec.shape.dims or images.dtype != np.uint8 or len(sizes) != 1:
        raise ModelError(f"golden frames do not fit {spec.id}", where=str(spec.golden))
    return images, outputs


def _synthetic_images(spec: ModelSpec, rounds: int) -> list[Pixels]:
    dims = spec.shape.dims
    noise = np.random.default_rng(0)
    images: list[Pixels] = []
    for index in range(rounds):
        if index % 3 == 2:
            images.append(noise.integers(0, 256, dims, np.uint8))
        else:
            images.append(np.full(dims, 255 * (index % 3), np.uint8))
    return images


def _check_output(spec: ModelSpec, outputs: Sequence[NDArray[Any]]) -> None:
    problem = _output_problem(spec, outputs)
    if problem:
        raise ModelError(f"{spec.id} gives {problem}", where=str(spec.path))


def _output_problem(spec: ModelSpec, outputs: Sequence[NDArray[Any]]) -> str:
    """Return what is invalid about outputs; empty if nothing is."""
    named = dict(zip(spec.outputs, outputs, strict=True))
    if (prob := named.get("defect_prob")) is not None:
        if prob.shape != (1,):
            return f"a probability of shape {prob.shape}"
        if not 0 <= prob[0] <= 1:
            return f"a probability of {prob[0]}"
    if spec.kind is ModelKind.GATE:
        return _kinds_problem(spec, outputs[1], float(outputs[0][0])) if spec.kinds else ""
    class_map, areas, scores = outputs[:3]
    stride, classes = spec.output_stride, len(spec.classes)
    size = (1, spec.shape.height_px // stride, spec.shape.width_px // stride)
    if class_map.shape != size or areas.shape != (1, classes) or scores.shape != (1, classes):
        return f"outputs of shapes {class_map.shape}, {areas.shape}, {scores.shape}"
    if int(class_map.max()) > classes:
        return f"class {int(class_map.max())} of {classes}"
    heat_map = named.get("heat_map")
    if heat_map is not None and heat_map.shape != (1, *spec.heat_map_size):
        return f"a heat map of shape {heat_map.shape}"
    frame_px = spec.shape.height_px * spec.shape.width_px
    if not (np.all(areas >= 0) and float(areas.sum()) <= frame_px * 1.001):
        return f"areas of {areas[0].tolist()} px in a frame of {frame_px}"
    if not (np.all(scores >= 0) and np.all(scores <= 1.001)):
        return f"scores of {scores[0].tolist()}"
    return ""


def _kinds_problem(spec: ModelSpec, kind_probs: NDArray[Any], defect_prob: float) -> str:
    """Return what is invalid about the probabilities of a gate's kinds; empty if nothing is."""
    if kind_probs.shape != (1, len(spec.kinds)):
        return f"probabilities of kinds of shape {kind_probs.shape}"
    if not (np.all(kind_probs >= 0) and np.all(kind_probs <= 1.001)):
        return f"probabilities of kinds of {kind_probs[0].tolist()}"
    total = float(kind_probs.sum(dtype=np.float64))
    if not abs(total - defect_prob) <= _KINDS_TOLERANCE:
        return f"probabilities of kinds that sum to {total:.4f}, and a defect_prob of {defect_prob}"
    return ""


def _compare_output(
    spec: ModelSpec,
    index: int,
    outputs: Sequence[NDArray[Any]],
    expected: Sequence[NDArray[Any]],
) -> None:
    for name, actual, reference in zip(spec.outputs, outputs, expected, strict=True):
        difference = _difference(spec, name, actual, reference)
        if difference:
            raise ModelError(
                f"{spec.id} gives {difference} on golden frame {index}",
                where=str(spec.golden),
                remedy="On this machine it does not compute what was accepted: do not use it",
            )


def _difference(spec: ModelSpec, name: str, actual: NDArray[Any], expected: NDArray[Any]) -> str:
    """Return by what an output differs too much; empty if it does not."""
    if actual.shape != expected.shape:
        return f"a {name} of shape {actual.shape} instead of {expected.shape}"
    if name == "class_map":
        ratio = float(np.mean(actual != expected))
        within = ratio <= _CELL_TOLERANCE[spec.precision]
        return "" if within else f"another class in {ratio:.2%} of the cells"
    if name in ("class_area_px", "class_score"):  # they follow from the map
        return ""
    if name == "heat_map":
        actual, expected = actual / np.float32(255), expected / np.float32(255)
    errors = np.abs(actual - expected)
    at = np.unravel_index(int(errors.argmax()), errors.shape)
    if errors[at] <= _PROB_TOLERANCE[spec.precision]:
        return ""
    plain = {"defect_prob": "probability", "heat_map": "heat"}
    what = plain.get(name) or f"probability of {spec.classes[at[-1]]}"
    return f"{what} {actual[at]:.4f} instead of {expected[at]:.4f}"


def _write_file(path: Path, data: bytes) -> None:
    try:
        write_atomic(path, data, mode=0o644, durable=True)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from error
