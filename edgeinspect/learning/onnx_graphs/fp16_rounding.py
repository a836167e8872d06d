"""A half graph written out in float32, so that a processor shows what half does to it.

ONNX Runtime has no half kernels for a processor: it computes in float32 and leaves out the
roundings in between, so that a half graph run there shows neither what is lost nor what
overflows. Here every half tensor goes through a cast to half and back, which is kept.
Products are summed in float32, as a GPU's tensor cores do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx


def simulate_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph of `fp16.convert_to_fp16`, in float32 with every rounding of half in it.

    Args:
        model: With float16 tensors inside, and float32 or integers at its ends. Not changed.
    """
    import onnx

    half, real = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    made = onnx.ModelProto()
    made.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True)
    halves = {
        value.name
        for value in inferred.graph.value_info
        if value.type.tensor_type.elem_type == half
    }
    nodes: list[Any] = []
    for node in made.graph.node:
        if node.op_type == "Cast" and node.input[0] in halves and node.output[0] not in halves:
            # The tensor is float32 here already; a cast to integers is left as it is.
            nodes.append(node)
            continue
        rounded = [name for name in node.output if name in halves]
        if node.op_type == "Cast" and rounded:
            nodes.append(onnx.helper.make_node("Identity", node.input, [f"{rounded[0]}/raw"]))
        else:
            new = onnx.NodeProto()
            new.CopyFrom(node)
            for place, name in enumerate(new.output):
                new.output[place] = f"{name}/raw" if name in halves else name
            nodes.append(new)
        for name in rounded:
            nodes.append(onnx.helper.make_node("Cast", [f"{name}/raw"], [f"{name}/half"], to=half))
            nodes.append(onnx.helper.make_node("Cast", [f"{name}/half"], [name], to=real))
    tensors = [_to_float32(tensor, half) for tensor in made.graph.initializer]
    for field, content in ((made.graph.node, nodes), (made.graph.initializer, tensors)):
        kept = [type(entry).FromString(entry.SerializeToString()) for entry in content]
        del field[:]
        field.extend(kept)
    del made.graph.value_info[:]
    onnx.checker.check_model(made, full_check=True)
    return made


def _to_float32(tensor: Any, half: int) -> Any:
    import onnx

    if tensor.data_type != half:
        return tensor
    values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
    return onnx.numpy_helper.from_array(values, tensor.name)
