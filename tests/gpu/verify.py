"""Checks that require a GPU: `python -m tests.gpu.verify --out FOLDER`.

Each step reports whether it ran, whether it passed, and its measurements. A step that cannot run
reports the reason, and the others continue. Every step runs in a separate process, as it may end
it. The report is `gpu.json` in FOLDER, and a table on the terminal. docs/howto/hardware.md lists
what each step verifies.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FRAME = (256, 1600, 1)
ROUNDS = 500
STEP_S = 300

# Inverts each byte of a frame, in place of an engine.
PTX = """
.version 6.5
.target sm_53
.address_size 64
.visible .entry invert(.param .u64 source, .param .u64 target, .param .u32 count)
{
    .reg .pred %p;
    .reg .b32 %r<8>;
    .reg .b64 %d<6>;
    ld.param.u64 %d0, [source];
    ld.param.u64 %d1, [target];
    ld.param.u32 %r0, [count];
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.u32 %r4, %r1, %r2, %r3;
    setp.ge.u32 %p, %r4, %r0;
    @%p bra DONE;
    cvt.u64.u32 %d2, %r4;
    cvta.to.global.u64 %d0, %d0;
    cvta.to.global.u64 %d1, %d1;
    add.u64 %d3, %d0, %d2;
    add.u64 %d4, %d1, %d2;
    ld.global.u8 %r5, [%d3];
    xor.b32 %r6, %r5, 255;
    st.global.u8 [%d4], %r6;
DONE:
    ret;
}
"""


class NotAvailableError(Exception):
    """A requirement of a step is missing on this machine."""


@dataclass
class StepResult:
    """Result of one step."""

    name: str
    ran: bool = False
    passed: bool = False
    message: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("reports"))
    parser.add_argument("--only", help="One step, by its name, in this process.")
    given = parser.parse_args(argv)
    if given.only:
        print(json.dumps(STEPS[given.only]()))
        return 0
    steps = [run(name) for name in STEPS]
    given.out.mkdir(parents=True, exist_ok=True)
    report = {"machine": platform.uname()._asdict(), "steps": [asdict(step) for step in steps]}
    (given.out / "gpu.json").write_text(json.dumps(report, indent=2) + "\n")
    for step in steps:
        mark = "ok" if step.passed else "FAILED" if step.ran else "not run"
        print(f"{mark:<8}{step.name:<14}{step.message or json.dumps(step.figures)}")
    return int(any(step.ran and not step.passed for step in steps))


def run(name: str) -> StepResult:
    """Run one step in a separate process: a runtime without its driver may end it."""
    step = StepResult(name)
    command = [sys.executable, "-m", "tests.gpu.verify", "--only", name]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=STEP_S
        )
    except subprocess.TimeoutExpired:
        step.ran, step.message = True, f"took more than {STEP_S} s"
        return step
    last = (done.stderr.strip().splitlines() or [""])[-1]
    if done.returncode == 0:
        step.ran = step.passed = True
        step.figures = json.loads(done.stdout.strip().splitlines()[-1])
    elif "NotAvailableError:" in last:
        step.message = last.partition("NotAvailableError:")[2].strip()
    else:
        step.ran, step.message = True, f"ended with {done.returncode}: {last[:300]}"
    return step


def measure_latency(work: Callable[[], None]) -> dict[str, float]:
    """Return p50 and p99 of `work` in microseconds, after a warm-up."""
    durations_us = []
    for index in range(ROUNDS + 50):
        before = time.perf_counter_ns()
        work()
        if index >= 50:
            durations_us.append((time.perf_counter_ns() - before) / 1000)
    durations_us.sort()
    return {
        "p50_us": round(durations_us[ROUNDS // 2], 1),
        "p99_us": round(durations_us[ROUNDS * 99 // 100], 1),
    }


def command_output(command: list[str]) -> str:
    """Return the output of a system program; empty if it does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        return ""
    return done.stdout.strip()[:2000]


def open_cuda(*, spin: bool = False) -> Any:
    from edgeinspect.backends._tensorrt.cuda import open_device
    from edgeinspect.errors import EdgeInspectError

    try:
        return open_device(spin=spin)
    except EdgeInspectError as error:
        raise NotAvailableError(str(error)) from error


def machine() -> dict[str, Any]:
    """Conditions of the measurements: driver, clocks, power mode, temperatures."""
    zones = {
        (zone / "type").read_text().strip(): int((zone / "temp").read_text()) / 1000
        for zone in Path("/sys/class/thermal").glob("thermal_zone*")
        if (zone / "temp").is_file()
    }
    facts = {
        "gpu": command_output(
            [
                "nvidia-smi",
                "--query-gpu=name,driver_version,clocks.sm,power.limit",
                "--format=csv,noheader",
            ]
        ),
        "nvpmodel": command_output(["nvpmodel", "-q"]),
        "jetson_clocks": command_output(["jetson_clocks", "--show"]),
        "zones_c": zones,
    }
    if not (facts["gpu"] or facts["nvpmodel"]):
        raise NotAvailableError("neither nvidia-smi nor nvpmodel exists")
    return facts


def context() -> dict[str, Any]:
    device = open_cuda()
    assert device.is_alive()
    return asdict(device.device_info)


def memory() -> dict[str, Any]:
    """Pinned copies in both directions on a separate stream, and mapped memory."""
    device = open_cuda()
    with device.current():
        return _copies(device)  # frees its allocations within the context


def _copies(device: Any) -> dict[str, Any]:
    import numpy as np

    stream = device.create_stream()
    there, back = (device.allocate_pinned(FRAME, np.dtype(np.uint8)) for _ in range(2))
    on_device = device.allocate(there.nbytes)
    there[...] = np.random.default_rng(0).integers(0, 256, FRAME, np.uint8)
    device.copy_to_device(on_device, there, stream)
    device.copy_to_host(back, on_device, stream)
    stream.synchronize()
    assert np.array_equal(there, back)
    mapped = device.allocate_pinned(FRAME, np.dtype(np.uint8), is_mapped=True)
    assert device.mapped_address(mapped)

    def copy() -> None:
        device.copy_to_device(on_device, there, stream)
        stream.synchronize()

    return measure_latency(copy)


def kernel() -> dict[str, Any]:
    """Copy in, kernel, copy out: enqueued separately, recorded as a graph, and on mapped memory."""
    figures: dict[str, Any] = {}
    for wait in ("block", "spin"):
        device = open_cuda(spin=wait == "spin")
        with device.current():
            figures |= {f"{wait}, {way}": result for way, result in _measure_kernel(device).items()}
    return figures


def _measure_kernel(device: Any) -> dict[str, Any]:
    import numpy as np

    from edgeinspect.backends._tensorrt.cuda import CudaGraph

    function = load_invert_kernel()
    stream = device.create_stream()
    source = device.allocate_pinned(FRAME, np.dtype(np.uint8), is_mapped=True)
    result = device.allocate_pinned(FRAME, np.dtype(np.uint8))
    size = source.nbytes
    here, there = device.allocate(size), device.allocate(size)
    source[...] = np.random.default_rng(1).integers(0, 256, FRAME, np.uint8)
    grid = ((size + 255) // 256, 1)

    def compute(address: int) -> None:
        function.prepared_async_call(grid, (256, 1, 1), stream, address, int(there), size)
        device.copy_to_host(result, there, stream)

    def copied() -> None:
        device.copy_to_device(here, source, stream)
        compute(int(here))

    def mapped() -> None:
        compute(device.mapped_address(source))

    graph: list[CudaGraph] = []
    figures: dict[str, Any] = {}
    ways = {"copied": copied, "mapped": mapped, "graph": lambda: graph[0].launch()}
    for name, queue in ways.items():
        if name == "graph":
            graph.append(CudaGraph(stream, copied))
            source[...] = 7  # new pixels at the same address

        def run_once(queue: Callable[[], None] = queue) -> None:
            queue()
            stream.synchronize()

        result[...] = 0
        run_once()
        assert np.array_equal(result, 255 - source), name
        figures[name] = measure_latency(run_once)
    graph[0].close()
    return figures


def load_invert_kernel() -> Any:
    """Load the kernel into the current context."""
    from pycuda import driver

    function = driver.module_from_buffer(PTX.encode() + b"\0").get_function("invert")
    function.prepare("PPI")
    return function


def loss() -> dict[str, Any]:
    """Illegal access: it is a fault, the context counts as lost, and whether a new one works."""
    from edgeinspect.errors import EngineFault

    device = open_cuda()
    try:
        with device.current():
            load_invert_kernel().prepared_call((64, 1), (256, 1, 1), 16, 16, 1 << 14)
            stream = device.create_stream()
            stream.synchronize()
    except EngineFault as fault:
        message = fault.what
    else:
        message = ""
    assert not device.is_alive(), "the context counts as alive after an illegal access"
    try:
        fresh = open_cuda()
        again = fresh is not device and fresh.is_alive()
    except NotAvailableError:
        again = False
    # Both results are valid; docs/howto/hardware.md describes the consequence.
    return {"fault": message, "new_context_works_in_process": again}


def rtx() -> dict[str, Any]:
    """TensorRT-RTX builds for this GPU, loads, and creates a context."""
    try:
        import tensorrt_rtx as rt
    except ImportError as error:
        raise NotAvailableError(
            "tensorrt_rtx is not installed (pip install tensorrt-rtx)"
        ) from error
    device = open_cuda()
    with device.current():
        logger = rt.Logger(rt.Logger.ERROR)
        builder = rt.Builder(logger)
        network = builder.create_network(0)
        parser = rt.OnnxParser(network, logger)
        assert parser.parse_from_file(str(ROOT / "engines" / "strip-gate" / "1" / "model.onnx"))
        plan = builder.build_serialized_network(network, builder.create_builder_config())
        assert plan is not None, f"no plan for {device.device_info.compute_capability}"
        engine = rt.Runtime(logger).deserialize_cuda_engine(plan)
        assert engine is not None
        assert engine.create_execution_context() is not None
    return {"plan_bytes": plan.nbytes, "version": rt.__version__}


def tensorrt() -> dict[str, Any]:
    """Both shipped models in FP32 and FP16: outputs, speed and precision."""
    from tests.gpu.models import measure

    return measure(require_tensorrt())


def require_tensorrt() -> Any:
    try:
        import tensorrt
    except ImportError as error:
        raise NotAvailableError("tensorrt is not installed") from error
    return open_cuda() and tensorrt


def contract() -> dict[str, Any]:
    """The contract tests of backends."""
    require_tensorrt()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-k",
            "trt",
            "tests/contract/test_backends.py",
            "tests/unit/storage/model_store/test_shipped_line.py",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    return {"summary": done.stdout.strip().splitlines()[-1]}


def daemon() -> dict[str, Any]:
    """A complete line on TensorRT, and its guarantees afterwards."""
    from tests.gpu.models import run_line

    require_tensorrt()
    return run_line()


STEPS: dict[str, Callable[[], dict[str, Any]]] = {
    step.__name__: step
    for step in (machine, context, memory, kernel, loss, rtx, tensorrt, contract, daemon)
}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception:
        traceback.print_exc()
        sys.exit(70)
