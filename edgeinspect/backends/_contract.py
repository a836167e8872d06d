"""The model contract, checked on a loaded graph whatever library loaded it.

Source: docs/models.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import MODEL_CONTRACT_VERSION, ModelKind, ModelSpec, Pixels
from edgeinspect.errors import EngineFault, ModelError, is_transient

INPUT_NAME = "image"
GATE_OUTPUTS = ("defect_prob",)
SEGMENTER_OUTPUTS = ("class_map", "class_area_px", "class_score")
KIND_KEY = "edgeinspect.kind"
CONTRACT_KEY = "edgeinspect.contract"

DYNAMIC_SIZE = -1
"""A size that is not fixed."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output as the library reports it."""

    name: str
    dtype: str
    """numpy's name."""
    shape: tuple[int, ...]
    """-1 for a size that is not fixed."""

    def __str__(self) -> str:
        sizes = ", ".join("?" if size == DYNAMIC_SIZE else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} ({sizes})"


def expected_outputs(spec: ModelSpec) -> tuple[TensorInfo, ...]:
    """The outputs a model of this spec must have, in the order `Engine.infer` gives them."""
    if spec.kind is ModelKind.GATE:
        return (TensorInfo(GATE_OUTPUTS[0], "float32", (1,)),)
    stride, classes = spec.output_stride, len(spec.classes)
    size = (1, spec.shape.height_px // stride, spec.shape.width_px // stride)
    class_map, area, score = SEGMENTER_OUTPUTS
    return (
        TensorInfo(class_map, "uint8", size),
        TensorInfo(area, "float32", (1, classes)),
        TensorInfo(score, "float32", (1, classes)),
    )


def check_graph(
    spec: ModelSpec,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    metadata: Mapping[str, str],
) -> None:
    """Check a loaded graph against its spec.

    Raises:
        ModelError: It breaks the contract; all breaches are listed.
    """
    wanted_input = TensorInfo(INPUT_NAME, "uint8", (1, *spec.shape.dims))
    breaches = []
    if list(inputs) != [wanted_input]:
        found = "; ".join(map(str, inputs)) or "none"
        breaches.append(f"input must be {wanted_input}, is {found}")
    given = {tensor.name: tensor for tensor in outputs}
    wanted = {tensor.name: tensor for tensor in expected_outputs(spec)}
    for name, tensor in wanted.items():
        if name not in given:
            breaches.append(f"output {tensor} is missing")
        elif given[name] != tensor:
            breaches.append(f"output must be {tensor}, is {given[name]}")
    breaches += [f"output {given[name]} is not in the contract" for name in given.keys() - wanted]
    kind = metadata.get(KIND_KEY)
    if kind != spec.kind.value:
        found = f"'{kind}'" if kind else "missing"
        breaches.append(f"metadata {KIND_KEY} must be '{spec.kind.value}', is {found}")
    breaches += _check_metadata(spec, metadata)
    if metadata.get(CONTRACT_KEY, MODEL_CONTRACT_VERSION) != MODEL_CONTRACT_VERSION:
        breaches.append(
            f"is for contract {metadata[CONTRACT_KEY]}, this is {MODEL_CONTRACT_VERSION}"
        )
    if breaches:
        raise ModelError(
            f"{spec.id} breaks the model contract: {'; '.join(breaches)}",
            where=str(spec.path),
            remedy="docs/models.md says what a graph must give",
        )


def _check_metadata(spec: ModelSpec, metadata: Mapping[str, str]) -> list[str]:
    """What the graph says of itself must be what its manifest says.

    Two classes in another order would name every defect wrongly, and no shape would tell.
    """
    wanted = {
        "edgeinspect.classes": json.dumps(list(spec.classes)),
        "edgeinspect.color": spec.color,
        "edgeinspect.output_stride": str(spec.output_stride),
    }
    return [
        f"metadata {key} is {metadata[key]}, the manifest says {value}"
        for key, value in wanted.items()
        if key in metadata and metadata[key] != value
    ]


def allocate_outputs(spec: ModelSpec) -> tuple[NDArray[np.generic], ...]:
    """Arrays for the outputs, written by every inference and owned by the engine."""
    return tuple(np.zeros(tensor.shape, tensor.dtype) for tensor in expected_outputs(spec))


def check_image(spec: ModelSpec, image: Pixels) -> None:
    """Check what is about to be handed to a library as a bare address.

    Raises:
        EngineFault: It is not a C-contiguous uint8 array of the model's shape.
    """
    if image.shape != spec.shape.dims or image.dtype != np.uint8 or not image.flags.c_contiguous:
        raise EngineFault(
            f"{spec.id} takes contiguous uint8 {spec.shape}, was given {image.dtype} {image.shape}"
        )


def model_error(spec: ModelSpec, error: Exception) -> ModelError:
    """The error for a file that the library cannot load."""
    reason = " ".join(str(error).split())
    if is_transient(error):
        remedy = "The file may be whole: give the daemon more memory (`MemoryMax`), or free some"
    else:
        remedy = "The file is corrupt or uses what this library lacks: copy or export it again"
    return ModelError(
        f"{spec.id} cannot be loaded: {reason[:300]}", where=str(spec.path), remedy=remedy
    )
