"""ONNX Runtime on the CPU: the reference for the other backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edgeinspect.backends import _contract
from edgeinspect.backends._contract import TensorInfo
from edgeinspect.domain import Clock, ModelSpec, Pixels
from edgeinspect.errors import EngineFault, MissingExtraError
from edgeinspect.storage.model_store import ModelStore

if TYPE_CHECKING:
    import onnxruntime

REQUIRES = (("onnxruntime", "cpu"),)

_DTYPES = {
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
}
_LOG_FATAL = 4


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: ort`."""

    model: str
    """Model in the store: `NAME`, `NAME/VERSION`, or a folder with a leading `/` or `./`."""
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    """Threads of one inference; 0: one per physical core."""


class OrtEngine:
    """One session with bound outputs. For one thread; see `ports.Engine`.

    The session reads the frame without a copy and writes to arrays of this engine. ONNX Runtime
    releases the interpreter lock during inference.
    """

    def __init__(self, spec: ModelSpec, session: onnxruntime.InferenceSession) -> None:
        self._spec = spec
        self._session: Any = session
        self._outputs = _contract.allocate_outputs(spec)
        self._binding = session.io_binding()
        expected = _contract.expected_outputs(spec)
        for tensor, array in zip(expected, self._outputs, strict=True):
            self._binding.bind_output(
                tensor.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data
            )

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def infer(self, image: Pixels) -> tuple[NDArray[np.generic], ...]:
        _contract.check_image(self._spec, image)
        if self._session is None:
            raise EngineFault(f"{self._spec.id} is closed")
        try:
            self._binding.bind_cpu_input(_contract.INPUT_NAME, image[None])
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # of any type: the line must keep running
            raise EngineFault(f"{self._spec.id}: {error}", where="onnxruntime") from error
        return self._outputs

    def close(self) -> None:
        self._binding = None
        self._session = None


def build(options: Options, clock: Clock, *, store: ModelStore) -> OrtEngine:
    """Load a model.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: The model is missing, corrupt, or violates the contract.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("cpu", "onnxruntime", where="backend ort") from error
    spec = store.resolve(options.model)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _LOG_FATAL  # errors are raised
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    # Spinning idle threads would occupy cores that the capture and guard threads need.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            str(spec.path), settings, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions have no common base class
        raise _contract.model_error(spec, error) from error
    _contract.check_graph(
        spec,
        [_tensor_info(tensor) for tensor in session.get_inputs()],
        [_tensor_info(tensor) for tensor in session.get_outputs()],
        session.get_modelmeta().custom_metadata_map,
    )
    return OrtEngine(spec, session)


def _tensor_info(argument: Any) -> TensorInfo:
    shape = tuple(
        size if isinstance(size, int) else _contract.DYNAMIC_SIZE for size in argument.shape or ()
    )
    return TensorInfo(argument.name, _DTYPES.get(argument.type, argument.type), shape)
