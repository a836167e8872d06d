"""Runs candidate graphs: intermediate tensors under ONNX Runtime, or engines of a backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeinspect import registry
from edgeinspect.domain import ModelSpec, Pixels, Precision, SystemClock
from edgeinspect.errors import MissingExtraError, ModelError
from edgeinspect.learning.evaluate import SingleModelStore
from edgeinspect.learning.onnx_graphs.graph import copy_model, serialize_model
from edgeinspect.ports import Engine

THREADS = 2
"""Fixed: another number may change the last bit of float sums."""


class TensorProbe:
    """An ONNX Runtime session that also returns intermediate tensors. Not thread-safe.

    Q/DQ nodes are computed unfused, so that the same graph returns the same numbers on every
    processor.

    Args:
        model: onnx.ModelProto; not modified.
        tensors: Intermediate tensors that `run` returns.
        with_outputs: Whether the graph's outputs come first.
    """

    def __init__(self, model: Any, tensors: Sequence[str], *, with_outputs: bool = False) -> None:
        import onnx

        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("cpu", "onnxruntime") from error
        extended = copy_model(model)
        outputs = [value.name for value in extended.graph.output]
        for name in dict.fromkeys(tensors):
            if name not in outputs:
                extended.graph.output.append(onnx.ValueInfoProto(name=name))
        self._output_names = [*(outputs if with_outputs else []), *tensors]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = THREADS
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Release buffers after each run: peak memory must not grow with the frames.
        options.enable_cpu_mem_arena = False
        try:
            self._session = onnxruntime.InferenceSession(
                extended.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base class
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"does not run under ONNX Runtime: {reason}") from error

    def run(self, image: Pixels) -> list[NDArray[Any]]:
        """Return the requested tensors for one frame uint8 (H, W, C)."""
        feed = {"image": image[None]}
        return list(self._session.run(self._output_names, feed)) if self._output_names else []


def default_backend() -> str:
    """Return `ov` if OpenVINO is installed, else `ort`."""
    try:
        import openvino  # noqa: F401
    except ImportError:
        return "ort"
    return "ov"


def open_engine(spec: ModelSpec, backend: str) -> Engine:
    """Open an engine for the file `spec.path`, as the line runs it."""
    part = registry.load_plugin("backend", backend)
    options: Any = part.Options(model="staged", threads=THREADS)
    engine: Engine = part.build(options, SystemClock(), store=SingleModelStore(spec))
    return engine


def write_temporary_model(parent: ModelSpec, model: Any, folder: Path, name: str) -> ModelSpec:
    """Write a candidate graph; return the spec of its parent with this file and INT8."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    path.write_bytes(serialize_model(model))
    return replace(parent, path=path, precision=Precision.INT8, golden=None)
