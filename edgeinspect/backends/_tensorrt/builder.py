"""Builds TensorRT plans from ONNX graphs, and inspects the layers of a plan.

The same code runs on TensorRT 10.3 to 11.x: every name used here exists in all of them
(tests/contract/test_tensorrt_api.py reads this file). Names that 11 removed are in
`LEGACY_NAMES`, accessed by name, and used only for the fallback to weak typing.

Source: docs/explanation/decisions/0011-tensorrt.md
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
"""Called with phase, steps done and total steps."""

LEGACY_NAMES = {
    "BuilderFlag": ("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"),
    "ILayer": ("precision", "set_output_type"),
}
"""Class to names that TensorRT 11 removed; never written as attributes."""
STRONG_ONLY_SINCE = (10, 12)
"""Before this version, a weakly typed build is tried if the strongly typed one fails."""
_FLOAT_LAYER_KINDS = ("REDUCE", "SOFTMAX", "TOPK", "UNARY")
"""Layer types that weak typing must leave in float32: sums, exponentials, roots."""
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
    """Settings of one build."""

    typing: Typing
    flags: tuple[str, ...]
    """Builder flags by name."""
    optimization_level: int
    workspace_mib: int
    threads: int
    """Threads of the builder; 0: chosen by TensorRT."""


@dataclass(slots=True)
class TrtLogCollector:
    """Collects the latest errors of TensorRT, which reports reasons only in its log."""

    lines: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Add one message; drop the oldest beyond the limit."""
        self.lines.append(" ".join(text.split())[:300])
        del self.lines[:-_MESSAGES_MAX]

    def last(self) -> str:
        """Return the latest message."""
        return self.lines[-1] if self.lines else "TensorRT states no reason"


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One layer of a plan, by the engine inspector."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    """Number format of each input: `int8`, `fp16`, `fp32` …; `?` if unknown."""
    outputs: tuple[str, ...]


def tensorrt_version() -> str:
    """Return the version of the installed TensorRT.

    Raises:
        MissingExtraError: TensorRT is not installed.
    """
    try:
        import tensorrt as trt
    except ImportError as error:
        raise MissingExtraError("trt", "tensorrt", where="backend trt") from error
    return str(trt.__version__)


def typings_to_try(version: str, configured: str) -> tuple[Typing, ...]:
    """Return the typings to try, in order.

    Raises:
        ModelError: `weak` is configured, and TensorRT has only strong typing.
    """
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if configured == "strong" or (configured == "auto" and numbers >= STRONG_ONLY_SINCE):
        return ("strong",)
    if configured == "auto":
        return ("strong", "weak")
    if numbers >= (11, 0):
        raise ModelError(
            f"TensorRT {version} has no weak typing", where="typing", remedy="Set `typing: auto`"
        )
    return ("weak",)


def make_logger(messages: TrtLogCollector) -> trt.ILogger:
    """Return a logger that collects errors; it must outlive the objects created with it."""
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
    """Build a plan. Takes minutes; releases the interpreter lock.

    Args:
        path: The ONNX file.
        settings: Settings of the build.
        timing_cache: Cache of an earlier build; if empty or of another device, the build is slower.
        check: Called with the graph's inputs and outputs before the build.
        progress: Called from the builder's thread.

    Returns:
        (plan, timing cache for the next build).

    Raises:
        ModelError: TensorRT cannot parse the graph, or cannot build a plan for it.
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
            f"TensorRT cannot build a plan: {messages.last()}",
            where=str(path),
            remedy="See the log, and docs/howto/hardware.md for causes",
        )
    new_cache: trt.ITimingCache = config.get_timing_cache()
    return _copy_bytes(plan), _copy_bytes(new_cache.serialize())


def _copy_bytes(memory: Any) -> bytes:
    """Copy TensorRT's memory, which is freed with the builder."""
    return bytes(memoryview(memory))


def inspect_layers(engine: trt.ICudaEngine) -> tuple[LayerInfo, ...]:
    """Return the layers of a plan with their number formats, by the engine inspector."""
    import tensorrt as trt

    inspector: trt.EngineInspector = engine.create_engine_inspector()
    report = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    return parse_layers(report)


def parse_layers(report: Any) -> tuple[LayerInfo, ...]:
    """Parse the inspector's JSON; a plan built without details has only names."""
    layers = []
    for entry in report.get("Layers", ()):
        if isinstance(entry, str):
            layers.append(LayerInfo(entry, "?", (), ()))
            continue
        ends = [
            tuple(_tensor_format(end) for end in entry.get(key, ()))
            for key in ("Inputs", "Outputs")
        ]
        layers.append(LayerInfo(entry.get("Name", "?"), entry.get("LayerType", "?"), *ends))
    return tuple(layers)


def dtype_name(dtype: Any) -> str:
    """Return numpy's name of a TensorRT data type."""
    return _DTYPES.get(dtype.name, str(dtype.name).lower())


def fixed_shape(dims: Any) -> tuple[int, ...]:
    """Return a shape with `DYNAMIC_SIZE` for dimensions that are not fixed."""
    return tuple(int(size) if size >= 0 else DYNAMIC_SIZE for size in dims)


def _parse_onnx(path: Path, network: trt.INetworkDefinition, logger: trt.ILogger) -> None:
    import tensorrt as trt

    parser: trt.OnnxParser = trt.OnnxParser(network, logger)
    # Parse the verified bytes, not the path: weights outside the file are not allowed.
    if parser.parse(read_regular(path, MODEL_BYTES_MAX)):
        return
    problems = []
    for index in range(parser.num_errors):
        error: trt.ParserError = parser.get_error(index)
        node = f"{error.node_operator()} {error.node_name()}".strip()
        problems.append(f"{node}: {error.desc()}" if node else error.desc())
    text = " ".join("; ".join(problems).split()) or "TensorRT states no reason"
    raise ModelError(
        f"cannot be loaded: {text[:600]}",
        where=str(path),
        remedy="The file is corrupt, or this TensorRT does not support it",
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
    # TF32 is on by default; it multiplies with a mantissa of 10 bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    for name in settings.flags:
        config.set_flag(getattr(trt.BuilderFlag, name))


def _force_float_layers(network: trt.INetworkDefinition) -> None:
    """Force sums and exponentials to float32 where flags allow half precision (10.x only)."""
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
    """Return the number format of an input or output from the inspector's description."""
    if not isinstance(tensor, dict):
        return "?"
    description = " ".join(
        str(tensor.get(key, "")) for key in ("Format/Datatype", "Datatype", "Format")
    )
    for name, pattern in _FORMATS:
        if re.search(rf"(?<![a-z])({pattern})(?![0-9])", description.lower()):
            return name
    return "?"
