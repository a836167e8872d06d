"""Simulation of a float16 graph on a CPU: float32 with every float16 rounding.

ONNX Runtime has no float16 kernels for a CPU: it computes in float32 and omits the rounding of
intermediate results, so a float16 graph shows neither lost precision nor overflows there. Here
every float16 tensor is cast to float16 and back. Products are summed in float32, as a GPU's
tensor cores do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx


def simulate_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph of `fp16.convert_to_fp16` in float32, with every float16 rounding.

    Args:
        model: Float16 tensors inside, float32 or integer inputs and outputs. Not changed.
    """
    import onnx

    fp16, fp32 = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    simulated = onnx.ModelProto()
    simulated.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(simulated, check_type=True, strict_mode=True)
    fp16_tensors = {
        value.name
        for value in inferred.graph.value_info
        if value.type.tensor_type.elem_type == fp16
    }
    nodes: list[Any] = []
    for node in simulated.graph.node:
        rounded = [name for name in node.output if name in fp16_tensors]
        if node.op_type == "Cast" and node.input[0] in fp16_tensors and not rounded:
            # The tensor is float32 here already; a cast to integers stays as it is.
            nodes.append(node)
            continue
        if node.op_type == "Cast" and rounded:
            nodes.append(onnx.helper.make_node("Identity", node.input, [f"{rounded[0]}/raw"]))
        else:
            new = onnx.NodeProto()
            new.CopyFrom(node)
            for index, name in enumerate(new.output):
                new.output[index] = f"{name}/raw" if name in fp16_tensors else name
            nodes.append(new)
        for name in rounded:
            nodes.append(onnx.helper.make_node("Cast", [f"{name}/raw"], [f"{name}/fp16"], to=fp16))
            nodes.append(onnx.helper.make_node("Cast", [f"{name}/fp16"], [name], to=fp32))
    tensors = [_to_float32(tensor, fp16) for tensor in simulated.graph.initializer]
    for field, content in ((simulated.graph.node, nodes), (simulated.graph.initializer, tensors)):
        kept = [type(entry).FromString(entry.SerializeToString()) for entry in content]
        del field[:]
        field.extend(kept)
    del simulated.graph.value_info[:]
    onnx.checker.check_model(simulated, full_check=True)
    return simulated


def _to_float32(tensor: Any, fp16: int) -> Any:
    import onnx

    if tensor.data_type != fp16:
        return tensor
    values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
    return onnx.numpy_helper.from_array(values, tensor.name)
