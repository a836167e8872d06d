"""The float32 graph of the parent, as the INT8 one is made from it."""

from __future__ import annotations

from typing import Any

from edgeinspect.domain import ModelSpec, Precision
from edgeinspect.errors import ModelError
from edgeinspect.learning.calibrate.space_to_depth import space_to_depth_stem
from edgeinspect.learning.onnx_graphs.graph import fold_batch_norms, load_model, non_float32_type

_FLOAT32_REMEDY = (
    "Calibrate its float32 version: export the network in float32 (torch: model.float()) and "
    "import that; `edgeinspect models build` converts it to FP16"
)


def prepare_graph(parent: ModelSpec) -> Any:
    """Load the FP32 graph with batch norms folded and its stem rewritten for int8.

    Raises:
        ModelError: It is not FP32.
    """
    if parent.precision is not Precision.FP32:
        raise ModelError(
            f"{parent.id} is already {parent.precision.value}",
            where=str(parent.path),
            remedy=_FLOAT32_REMEDY,
        )
    model = load_model(parent.path)
    if other := non_float32_type(model):
        raise ModelError(
            f"{parent.id} computes in {other}, not in float32",
            where=str(parent.path),
            remedy=_FLOAT32_REMEDY,
        )
    fold_batch_norms(model)
    space_to_depth_stem(model)
    return model
