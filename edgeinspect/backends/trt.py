"""TensorRT 10.3 to 11.x on an NVIDIA GPU, Jetson or discrete.

The graph of the model determines the precision of each tensor. The plan is built from it on this
machine, cached, and built again when anything that it depends on has changed.
"""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import structlog
from msgspec import Meta

from edgeinspect.backends import _contract
from edgeinspect.backends._contract import TensorInfo
from edgeinspect.backends._onnx_metadata import read_metadata
from edgeinspect.backends._tensorrt import builder
from edgeinspect.backends._tensorrt.builder import BuildSettings, Progress, Typing
from edgeinspect.backends._tensorrt.cuda import CudaContext, DeviceInfo, open_device
from edgeinspect.backends._tensorrt.engine import TrtEngine
from edgeinspect.backends._tensorrt.plan_cache import (
    PlanCache,
    PlanKey,
    PlanMismatch,
    TrtPlan,
    default_plan_folder,
)
from edgeinspect.domain import Clock, ModelSpec, Precision
from edgeinspect.errors import ModelError
from edgeinspect.storage.model_store import ModelStore
from edgeinspect.system import log_events, sd_notify

REQUIRES = (("tensorrt", "trt"), ("pycuda", "trt"))
FLOAT_PRECISION_KEY = "edgeinspect.float"
"""Metadata key of a graph whose floats are half precision; written by the FP16 conversion."""
_BUILD_TIMEOUT_US = 15 * 60 * 1_000_000
"""Extension of the unit's `TimeoutStartSec=` for the build of one plan."""

_log = structlog.get_logger()


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: trt`."""

    model: str
    """Model in the store: `NAME`, `NAME/VERSION`, or a folder with a leading `/` or `./`."""
    device: Annotated[int, Meta(ge=0, le=63)] = 0
    """Index of the GPU, from 0."""
    input: Literal["copied", "mapped"] = "copied"
    """`mapped`: the GPU reads the frame in host memory; for a Jetson, which has unified memory."""
    cuda_graph: bool = True
    """Launch an inference as one recorded graph, if the model supports it."""
    wait: Literal["block", "spin"] = "block"
    """How a thread waits for the GPU: `spin` wakes sooner, but occupies a core."""
    optimization_level: Annotated[int, Meta(ge=0, le=5)] = 3
    """TensorRT's effort in the search for a fast plan."""
    workspace_mib: Annotated[int, Meta(ge=16, le=65_536)] = 1024
    """GPU memory that a layer may use temporarily."""
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    """Threads of a build; 0: chosen by TensorRT."""
    typing: Literal["auto", "strong", "weak"] = "auto"
    """`strong`: the graph determines each type; `weak`: by builder flags; `auto`: strong, with weak
    as a fallback before 10.12."""
    plans: str | None = None
    """Folder of the plans, writable by no other user; absent: `$EDGEINSPECT_PLANS`."""
    rebuild: bool = True
    """Build a plan that is missing or outdated; `false`: refuse instead."""


def build(options: Options, clock: Clock, *, store: ModelStore) -> TrtEngine:
    """Load a model. If it has no valid plan, build one first, which takes minutes.

    Raises:
        MissingExtraError: tensorrt or pycuda is not installed.
        ModelError: The model is missing, corrupt, violates the contract, or has no plan.
        DeviceLostError: The GPU does not exist.
        EngineFault: The first inference failed.
    """
    builder.tensorrt_version()
    spec = store.resolve(options.model)
    cuda = open_device(options.device, spin=options.wait == "spin")
    return TrtEngine(
        spec,
        lambda: open_device(options.device, spin=options.wait == "spin"),
        find_or_build_plan(spec, options, cuda),
        clock,
        use_mapped_input=options.input == "mapped",
        use_cuda_graph=options.cuda_graph,
    )


def find_or_build_plan(
    spec: ModelSpec,
    options: Options,
    cuda: CudaContext,
    *,
    force_build: bool = False,
    progress: Progress | None = None,
) -> TrtPlan:
    """Return the plan for a model on this machine; build it if it is missing or outdated.

    Args:
        spec: The model, verified.
        options: Build options and the folder of the plans.
        cuda: The device to build on.
        force_build: Build even if there is a valid plan.
        progress: Called with phase, steps done and total steps in the builder's thread.

    Raises:
        ModelError: It cannot be built or stored, or must not be built (`rebuild: false`).
    """
    metadata = _metadata(spec)
    keys = plan_keys(
        spec, options, cuda.device_info, is_half=metadata.get(FLOAT_PRECISION_KEY) == "fp16"
    )
    folder = PlanCache(Path(options.plans) if options.plans else default_plan_folder())
    reason = "requested"
    for key in () if force_build else keys:
        plan = folder.load(key)
        if isinstance(plan, TrtPlan):
            return plan
        reason = plan.reason if reason == "requested" else reason
    if not (options.rebuild or force_build):
        raise ModelError(
            f"{spec.id} has no plan for this machine: {reason}",
            where=str(folder.path),
            remedy=f"Build it: edgeinspect models build {spec.id}",
        )
    _log.info(log_events.PLAN_STALE, model=str(spec.id), problem=reason)

    def check(inputs: Any, outputs: Any) -> None:
        _contract.check_graph(spec, inputs, outputs, metadata)

    for last, key in ((key is keys[-1], key) for key in keys):
        sd_notify(f"EXTEND_TIMEOUT_USEC={_BUILD_TIMEOUT_US}")
        with folder.build_lock(key), cuda.current():
            cached = PlanMismatch(reason) if force_build else folder.load(key)
            if isinstance(cached, TrtPlan):  # built by another process during the wait
                return cached
            settings = BuildSettings(
                key.typing,
                key.flags,
                options.optimization_level,
                options.workspace_mib,
                options.threads,
            )
            started_s = time.monotonic()
            try:
                data, timing = builder.build_plan(
                    spec.path, settings, folder.load_timing_cache(key), check, progress
                )
            except ModelError:
                if last:
                    raise
                continue
            build_s = time.monotonic() - started_s
            plan = folder.save(key, data, timing, build_s)
        _log.info(log_events.PLAN_BUILT, model=str(spec.id), typing=key.typing, build_s=build_s)
        return plan
    raise AssertionError("typings_to_try() returns at least one")


def plan_keys(
    spec: ModelSpec, options: Options, device_info: DeviceInfo, *, is_half: bool
) -> tuple[PlanKey, ...]:
    """Return the keys of valid plans, one per typing, in the order of preference."""
    version = builder.tensorrt_version()
    return tuple(
        PlanKey(
            tensorrt=version,
            compute_capability=device_info.compute_capability,
            gpu=device_info.gpu,
            driver=device_info.driver,
            cuda=device_info.cuda,
            os=platform.system(),
            arch=platform.machine(),
            l4t=device_info.l4t,
            onnx_sha256=spec.id.sha256,
            calibration=spec.id.calibration,
            typing=typing,
            flags=_builder_flags(typing, spec.precision, is_half),
            optimization_level=options.optimization_level,
            workspace_mib=options.workspace_mib,
            profiles=(str(TensorInfo(_contract.INPUT_NAME, "uint8", (1, *spec.shape.dims))),),
        )
        for typing in builder.typings_to_try(version, options.typing)
    )


def _builder_flags(typing: Typing, precision: Precision, is_half: bool) -> tuple[str, ...]:
    """Return the builder flags by name; none for strong typing."""
    fp16, int8, obey = builder.LEGACY_NAMES["BuilderFlag"]
    if typing == "strong":
        return ()
    is_half = is_half or precision is Precision.FP16
    return ((fp16, obey) if is_half else ()) + ((int8,) if precision is Precision.INT8 else ())


def _metadata(spec: ModelSpec) -> dict[str, str]:
    try:
        return read_metadata(spec.path)
    except (ValueError, OSError) as error:
        raise _contract.model_error(spec, error) from error
