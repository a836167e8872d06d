"""Golden frames: pictures whose outputs are known, which an engine must give before it judges.

They are kept with the version, made by an engine that was accepted. Where there are none,
plain pictures at least show that outputs are finite, in range and of the right shape.
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
from edgeinspect.errors import DataError, EngineFault, ModelError
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
"""Largest difference of a probability; another backend rounds otherwise, an INT8 one more."""
_CELL_TOLERANCE = {Precision.FP32: 0.002, Precision.FP16: 0.005, Precision.INT8: 0.02}
"""Largest share of a class map's cells that may differ."""


def verify_engine(engine: Engine, wait: Callable[[], None] = lambda: None, rounds: int = 3) -> str:
    """Warm an engine up and hold it against what it must give.

    Args:
        engine: Used by nobody else yet.
        wait: Called before each inference, to leave the machine to whom it belongs.
        rounds: Inferences to warm up with.

    Returns:
        What was shown, in words.

    Raises:
        ModelError: It fails, or gives something else.
    """
    spec = engine.spec
    try:
        for picture in _synthetic_images(spec, rounds):
            wait()
            _check_output(spec, engine.infer(picture))
        if spec.golden is None:
            return f"outputs are sound on {rounds} plain pictures; it has no golden frames"
        images, wanted = read_golden_frames(spec)
        for index, image in enumerate(images):
            wait()
            outputs = engine.infer(image)
            _check_output(spec, outputs)
            _compare_output(spec, index, outputs, [expected[index] for expected in wanted])
    except EngineFault as fault:
        raise ModelError(
            f"{spec.id} fails on its first frames: {fault}", where=str(spec.path)
        ) from fault
    return f"gives what it must on {len(images)} golden frames"


def create_golden_frames(engine: Engine, images: Sequence[Pixels]) -> Path:
    """Keep pictures and what this engine gives on them with its version.

    Raises:
        DataError: Too many or none, or of another shape.
        ModelError: The folder cannot be written.
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
    """Put keys into a manifest, in one rename; its comments are lost.

    Raises:
        ModelError: It cannot be written.
    """
    path = folder / MANIFEST_FILE
    manifest = yaml.safe_load(read_text(path)) | keys
    text = yaml.safe_dump(
        manifest, sort_keys=False, allow_unicode=True, width=96, default_flow_style=None
    )
    _write_file(path, text.encode())


def read_golden_frames(spec: ModelSpec) -> tuple[NDArray[np.uint8], tuple[NDArray[Any], ...]]:
    """The pictures (N, H, W, C) and the outputs, each with N first.

    Raises:
        ModelError: The file is not what it should be.
    """
    assert spec.golden is not None
    count = 1 if spec.kind is ModelKind.GATE else 3
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
    pictures: list[Pixels] = []
    for index in range(rounds):
        if index % 3 == 2:
            pictures.append(noise.integers(0, 256, dims, np.uint8))
        else:
            pictures.append(np.full(dims, 255 * (index % 3), np.uint8))
    return pictures


def _check_output(spec: ModelSpec, outputs: Sequence[NDArray[Any]]) -> None:
    problem = _output_problem(spec, outputs)
    if problem:
        raise ModelError(f"{spec.id} gives {problem}", where=str(spec.path))


def _output_problem(spec: ModelSpec, outputs: Sequence[NDArray[Any]]) -> str:
    """What is impossible about outputs, in words; empty if nothing is."""
    if spec.kind is ModelKind.GATE:
        prob = outputs[0]
        if prob.shape != (1,):
            return f"a probability of shape {prob.shape}"
        return "" if 0 <= prob[0] <= 1 else f"a probability of {prob[0]}"
    class_map, areas, scores = outputs
    stride, classes = spec.output_stride, len(spec.classes)
    size = (1, spec.shape.height_px // stride, spec.shape.width_px // stride)
    if class_map.shape != size or areas.shape != (1, classes) or scores.shape != (1, classes):
        return f"outputs of shapes {class_map.shape}, {areas.shape}, {scores.shape}"
    if int(class_map.max()) > classes:
        return f"class {int(class_map.max())} of {classes}"
    frame_px = spec.shape.height_px * spec.shape.width_px
    if not (np.all(areas >= 0) and float(areas.sum()) <= frame_px * 1.001):
        return f"areas of {areas[0].tolist()} px in a frame of {frame_px}"
    if not (np.all(scores >= 0) and np.all(scores <= 1.001)):
        return f"scores of {scores[0].tolist()}"
    return ""


def _compare_output(
    spec: ModelSpec, index: int, outputs: Sequence[NDArray[Any]], wanted: Sequence[NDArray[Any]]
) -> None:
    limit = _PROB_TOLERANCE[spec.precision]
    if spec.kind is ModelKind.GATE:
        off = abs(float(outputs[0][0]) - float(wanted[0][0]))
        words = f"probability {float(outputs[0][0]):.4f} instead of {float(wanted[0][0]):.4f}"
    else:
        off = float(np.mean(outputs[0] != wanted[0]))
        limit = _CELL_TOLERANCE[spec.precision]
        words = f"another class in {off:.2%} of the cells"
    if not off <= limit:
        raise ModelError(
            f"{spec.id} gives {words} on golden frame {index}",
            where=str(spec.golden),
            remedy="It does not compute what was accepted on this machine: do not use it",
        )


def _write_file(path: Path, data: bytes) -> None:
    try:
        write_atomic(path, data, mode=0o644, durable=True)
    except OSError as error:
        raise ModelError(f"cannot be written: {error.strerror}", where=str(path)) from error
