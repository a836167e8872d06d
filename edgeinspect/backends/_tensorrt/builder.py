"""TensorRT's builder and inspector: from a graph to a plan, and what the plan really runs.

One path for TensorRT 10.3 to 11.x: every name used here exists in all of them
(tests/contract/test_tensorrt_api.py reads this file). What 11 no longer has stands in
`LEGACY`, is looked up by name, and is used only for the fallback to weak typing.

Source: docs/decisions/0011-tensorrt.md
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgeinspect.backends._contract import DYNAMIC_SIZE, TensorInfo
from edgeinspect.errors import MissingExtraError, ModelError
from edgeinspect.system import MODEL_BYTES_MAX, read_regular

if TYPE_CHECKING:
    import tensorrt as trt

Typing = Literal["strong", "weak"]
Progress = Callable[[str, int, int], None]
"""Phase, steps done, steps in all."""

LEGACY_NAMES = {
    "BuilderFlag": ("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"),
    "ILayer": ("precision", "set_output_type"),
}
"""Class to names that TensorRT 10 has and 11 has not; never written as attributes."""
STRONG_ONLY_SINCE = (10, 12)
"""Where a strongly typed build fails on a TensorRT older than this, a weak one is tried."""
_FLOAT_LAYER_KINDS = ("REDUCE", "SOFTMAX", "TOPK", "UNARY")
"""Kinds of layers that weak typing must leave in float32: sums, exponentials, roots."""
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
_MESSAGES_MAX = 20


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How to build."""

    typing: Typing
    flags: tuple[str, ...]
    """Builder flags by name."""
    optimization_level: int
    workspace_mib: int
    threads: int
    """Of the builder; 0 leaves it to TensorRT."""


@dataclass(slots=True)
class TrtLogCollector:
    """The newest errors and warnings of TensorRT, which says why only in its log."""

    lines: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Keep one message, and forget the oldest."""
        self.lines.append(" ".join(text.split())[:300])
        del self.lines[:-_MESSAGES_MAX]

    def last(self) -> str:
        """The newest message."""
        return self.lines[-1] if self.lines else "TensorRT does not say why"


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One layer of a plan, as the engine inspector tells it."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    """Number format of each input: `int8`, `fp16`, `fp32` …, `?` where it does not say."""
    outputs: tuple[str, ...]


def tensorrt_version() -> str:
    """Version of the TensorRT that is installed.

    Raises:
        MissingExtraError: None is.
    """
    try:
        import tensorrt as trt
    except ImportError as error:
        raise MissingExtraError("trt", "tensorrt", where="backend trt") from error
    return str(trt.__version__)


def typings_to_try(version: str, wanted: str) -> tuple[Typing, ...]:
    """Which typings to try, in this order.

    Raises:
        ModelError: `weak` is wanted of a TensorRT that has only strong typing.
    """
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if wanted == "strong" or (wanted == "auto" and numbers >= STRONG_ONLY_SINCE):
        return ("strong",)
    if wanted == "auto":
        return ("strong", "weak")
    if numbers >= (11, 0):
        raise ModelError(
            f"TensorRT {version} has no weak typing", where="typing", remedy="Write `typing: auto`"
        )
    return ("weak",)


def make_logger(messages: TrtLogCollector) -> trt.ILogger:
    """A logger that keeps warnings and errors; hold it as long as what was made with it."""
    import tensorrt as trt

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                messages.add(msg)

    return Logger()


def build_plan(
    path: Path,
    settings: BuildSettings,
    timing_cache: bytes,
    check: Callable[[Sequence[TensorInfo], Sequence[TensorInfo]], None],
    progress: Progress | None = None,
) -> tuple[bytes, bytes]:
    """Build a plan. Takes minutes; lets the interpreter lock go.

    Args:
        path: The ONNX file.
        recipe: How.
        seed: A timing cache to begin with; empty, or of another device, costs only time.
        check: Called with the graph's inputs and outputs before the long part.
        progress: Called from the builder's thread.

    Returns:
        The plan, and the timing cache to begin with next time.

    Raises:
        ModelError: TensorRT cannot read the graph, or finds no plan for it.
    """
    import tensorrt as trt

    messages = TrtLogCollector()
    logger: trt.ILogger = make_logger(messages)
    builder: trt.Builder = trt.Builder(logger)
    if settings.threads:
        builder.max_threads = settings.threads
    creation = 0
    if settings.typing == "strong":
        creation = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network: trt.INetworkDefinition = builder.create_network(creation)
    _parse_onnx(path, network, logger)
    check(*_io_tensors(network))
    config: trt.IBuilderConfig = builder.create_builder_config()
    _configure(config, settings)
    if settings.typing == "weak":
        _force_float_layers(network)
    cache: trt.ITimingCache = config.create_timing_cache(timing_cache)
    if not config.set_timing_cache(cache, False):  # of another TensorRT or GPU
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    monitor = _make_monitor(progress) if progress else None
    if monitor is not None:
        config.progress_monitor = monitor
    plan: trt.IHostMemory | None = builder.build_serialized_network(network, config)
    if plan is None:
        raise ModelError(
            f"TensorRT builds no plan: {messages.last()}",
            where=str(path),
            remedy="See the log; docs/hardware.md knows some causes",
        )
    grown: trt.ITimingCache = config.get_timing_cache()
    return _copy_bytes(plan), _copy_bytes(grown.serialize())


def _copy_bytes(memory: Any) -> bytes:
    """A copy of what TensorRT holds: its own memory goes with the builder."""
    return bytes(memoryview(memory))


def inspect_layers(engine: trt.ICudaEngine) -> tuple[LayerInfo, ...]:
    """What each layer of a plan computes in, from the engine inspector."""
    import tensorrt as trt

    inspector: trt.EngineInspector = engine.create_engine_inspector()
    told = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    return parse_layers(told)


def parse_layers(report: Any) -> tuple[LayerInfo, ...]:
    """The inspector's JSON as layers; a plan built without details gives only names."""
    found = []
    for entry in report.get("Layers", ()):
        if isinstance(entry, str):
            found.append(LayerInfo(entry, "?", (), ()))
            continue
        ends = [
            tuple(_tensor_format(end) for end in entry.get(key, ()))
            for key in ("Inputs", "Outputs")
        ]
        found.append(LayerInfo(entry.get("Name", "?"), entry.get("LayerType", "?"), *ends))
    return tuple(found)


def dtype_name(dtype: Any) -> str:
    """Numpy's name for one of TensorRT's data types."""
    return _DTYPES.get(dtype.name, str(dtype.name).lower())


def fixed_shape(dims: Any) -> tuple[int, ...]:
    """A shape with `UNKNOWN` for what is not fixed."""
    return tuple(int(size) if size >= 0 else DYNAMIC_SIZE for size in dims)


def _parse_onnx(path: Path, network: trt.INetworkDefinition, logger: trt.ILogger) -> None:
    import tensorrt as trt

    parser: trt.OnnxParser = trt.OnnxParser(network, logger)
    # Not by its name: the bytes that were verified are in the page cache, and no weights
    # outside the file are wanted.
    if parser.parse(read_regular(path, MODEL_BYTES_MAX)):
        return
    problems = []
    for index in range(parser.num_errors):
        error: trt.ParserError = parser.get_error(index)
        place = f"{error.node_operator()} {error.node_name()}".strip()
        problems.append(f"{place}: {error.desc()}" if place else error.desc())
    text = " ".join("; ".join(problems).split()) or "TensorRT does not say why"
    raise ModelError(
        f"cannot be loaded: {text[:600]}",
        where=str(path),
        remedy="The file is corrupt or uses what this TensorRT lacks",
    )


def _io_tensors(network: trt.INetworkDefinition) -> tuple[list[TensorInfo], list[TensorInfo]]:
    inputs = [_tensor_info(network.get_input(index)) for index in range(network.num_inputs)]
    outputs = [_tensor_info(network.get_output(index)) for index in range(network.num_outputs)]
    return inputs, outputs


def _tensor_info(tensor: trt.ITensor) -> TensorInfo:
    return TensorInfo(tensor.name, dtype_name(tensor.dtype), fixed_shape(tensor.shape))


def _configure(config: trt.IBuilderConfig, settings: BuildSettings) -> None:
    import tensorrt as trt

    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    config.builder_optimization_level = settings.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    # On by default: float32 products with a mantissa of 10 bits, which nobody accepted.
    config.clear_flag(trt.BuilderFlag.TF32)
    for name in settings.flags:
        config.set_flag(getattr(trt.BuilderFlag, name))


def _force_float_layers(network: trt.INetworkDefinition) -> None:
    """Keep sums and exponentials in float32 where flags may choose half (10.x only)."""
    import tensorrt as trt

    precision, set_output_type = LEGACY_NAMES["ILayer"]
    for index in range(network.num_layers):
        layer: trt.ILayer = network.get_layer(index)
        if (
            layer.type.name in _FLOAT_LAYER_KINDS
            and layer.get_output(0).dtype == trt.DataType.FLOAT
        ):
            setattr(layer, precision, trt.DataType.FLOAT)
            getattr(layer, set_output_type)(0, trt.DataType.FLOAT)


def _make_monitor(progress: Progress) -> Any:
    import tensorrt as trt

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._totals[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, self._totals.get(phase_name, step + 1))
            return True

        def phase_finish(self, phase_name: str) -> None:
            total = self._totals.pop(phase_name, 1)
            progress(phase_name, total, total)

    return Monitor()


_FORMATS = (
    ("int8", r"int8"),
    ("uint8", r"uint8"),
    ("fp16", r"fp16|half"),
    ("fp32", r"fp32|float"),
    ("int32", r"int32"),
    ("int64", r"int64"),
    ("bool", r"bool"),
    ("bf16", r"bf16|bfloat16"),
    ("fp8", r"fp8"),
)


def _tensor_format(tensor: Any) -> str:
    """One input's or output's number format out of the inspector's words."""
    if not isinstance(tensor, dict):
        return "?"
    words = " ".join(str(tensor.get(key, "")) for key in ("Format/Datatype", "Datatype", "Format"))
    for name, pattern in _FORMATS:
        if re.search(rf"(?<![a-z])({pattern})(?![0-9])", words.lower()):
            return name
    return "?"
