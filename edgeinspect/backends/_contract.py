"""Checks a loaded graph against the model contract, independent of the library.

Source: docs/reference/models.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import (
    BASE_CONTRACT,
    MODEL_CONTRACTS,
    ModelKind,
    ModelSpec,
    Pixels,
    model_outputs,
)
from edgeinspect.errors import EngineFault, ModelError, is_transient

INPUT_NAME = "image"
OUTPUT_NAMES = frozenset(
    name
    for kind in ModelKind
    for contract in MODEL_CONTRACTS
    for name in model_outputs(kind, contract)
)
"""Names of the outputs of all models."""
_UINT8 = ("class_map", "heat_map")
KIND_KEY = "edgeinspect.kind"
CONTRACT_KEY = "edgeinspect.contract"

DYNAMIC_SIZE = -1
"""A dimension that is not fixed."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output as reported by the library."""

    name: str
    dtype: str
    """Name of the numpy type."""
    shape: tuple[int, ...]
    """`DYNAMIC_SIZE` for a dimension that is not fixed."""

    def __str__(self) -> str:
        sizes = ", ".join("?" if size == DYNAMIC_SIZE else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} ({sizes})"


def expected_outputs(spec: ModelSpec) -> tuple[TensorInfo, ...]:
    """Return the outputs that a model of this spec must have, in the order of `Engine.infer`."""
    stride, classes = spec.output_stride, len(spec.classes)
    size = (1, spec.shape.height_px // stride, spec.shape.width_px // stride)
    shapes = {"class_map": size, "heat_map": (1, *spec.heat_map_size), "defect_prob": (1,)}
    return tuple(
        TensorInfo(name, "uint8" if name in _UINT8 else "float32", shapes.get(name, (1, classes)))
        for name in spec.outputs
    )


def check_graph(
    spec: ModelSpec,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    metadata: Mapping[str, str],
) -> None:
    """Check a loaded graph against its spec.

    Raises:
        ModelError: It violates the contract; all violations are listed.
    """
    expected_input = TensorInfo(INPUT_NAME, "uint8", (1, *spec.shape.dims))
    violations = []
    if list(inputs) != [expected_input]:
        actual = "; ".join(map(str, inputs)) or "none"
        violations.append(f"input must be {expected_input}, is {actual}")
    actual_outputs = {tensor.name: tensor for tensor in outputs}
    expected = {tensor.name: tensor for tensor in expected_outputs(spec)}
    for name, tensor in expected.items():
        if name not in actual_outputs:
            violations.append(f"output {tensor} is missing")
        elif actual_outputs[name] != tensor:
            violations.append(f"output must be {tensor}, is {actual_outputs[name]}")
    unknown = actual_outputs.keys() - expected
    violations += [f"output {actual_outputs[name]} is not in the contract" for name in unknown]
    kind = metadata.get(KIND_KEY)
    if kind != spec.kind.value:
        actual = f"'{kind}'" if kind else "missing"
        violations.append(f"metadata {KIND_KEY} must be '{spec.kind.value}', is {actual}")
    violations += _check_metadata(spec, metadata)
    contract = metadata.get(CONTRACT_KEY, BASE_CONTRACT)
    if contract not in MODEL_CONTRACTS:
        known = ", ".join(MODEL_CONTRACTS)
        violations.append(f"is for contract {contract}; this program supports {known}")
    elif contract != spec.contract:
        violations.append(
            f"metadata {CONTRACT_KEY} is {contract}, the manifest states {spec.contract}"
        )
    if violations:
        raise ModelError(
            f"{spec.id} violates the model contract: {'; '.join(violations)}",
            where=str(spec.path),
            remedy="docs/reference/models.md describes the contract",
        )


def _check_metadata(spec: ModelSpec, metadata: Mapping[str, str]) -> list[str]:
    """Return the differences between the graph's metadata and the manifest.

    The shapes do not show, for example, that two classes are in another order.
    """
    expected = {
        "edgeinspect.classes": json.dumps(list(spec.classes)),
        "edgeinspect.color": spec.color,
        "edgeinspect.output_stride": str(spec.output_stride),
        "edgeinspect.decides": spec.decides.value,
        "edgeinspect.learned_from": spec.learned_from.value,
    }
    return [
        f"metadata {key} is {metadata[key]}, the manifest states {value}"
        for key, value in expected.items()
        if key in metadata and metadata[key] != value
    ]


def allocate_outputs(spec: ModelSpec) -> tuple[NDArray[np.generic], ...]:
    """Allocate arrays for the outputs, written by every inference and owned by the engine."""
    return tuple(np.zeros(tensor.shape, tensor.dtype) for tensor in expected_outputs(spec))


def check_image(spec: ModelSpec, image: Pixels) -> None:
    """Check an image before its address is passed to a library.

    Raises:
        EngineFault: It is not a C-contiguous uint8 array of the model's shape.
    """
    if image.shape != spec.shape.dims or image.dtype != np.uint8 or not image.flags.c_contiguous:
        raise EngineFault(
            f"{spec.id} requires contiguous uint8 {spec.shape}, got {image.dtype} {image.shape}"
        )


def model_error(spec: ModelSpec, error: Exception) -> ModelError:
    """Return the error for a file that the library cannot load."""
    reason = " ".join(str(error).split())
    if is_transient(error):
        remedy = "The file may be intact: give the daemon more memory (`MemoryMax`), or free some"
    else:
        remedy = "The file is corrupt, or this library does not support it: copy or export it again"
    return ModelError(
        f"{spec.id} cannot be loaded: {reason[:300]}", where=str(spec.path), remedy=remedy
    )
