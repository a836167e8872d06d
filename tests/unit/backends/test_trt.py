"""The TensorRT backend on a fake GPU: calls, cached plans, refusals and recovery."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeinspect.backends import trt
from edgeinspect.backends._tensorrt import cuda as _cuda
from edgeinspect.backends._tensorrt.engine import RETRY_NS, TrtEngine
from edgeinspect.domain.clock import SystemClock
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.errors import DeviceLostError, EngineFault, MissingExtraError, ModelError
from edgeinspect.storage.model_store import ModelStore
from tests import graphs, needs
from tests.fake_gpu import FakeGpu, install

needs.library("onnxruntime")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    made = FakeGpu()
    install(monkeypatch.setitem, sys.modules, made)
    monkeypatch.setattr(_cuda, "_contexts", {})
    yield made
    assert not made.stack(), "a context was left current"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    graphs.install(store, graphs.gate())
    graphs.install(store, graphs.segmenter(), name="tiny-segmenter", kind="segmenter")
    return store


def options(root: Path, **changes: Any) -> trt.Options:
    plans = str(root.parent / "plans")
    return trt.Options(**{"model": "tiny-gate", "plans": plans, "cuda_graph": False, **changes})


def load(root: Path, **changes: Any) -> TrtEngine:
    return trt.build(options(root, **changes), SystemClock(), store=ModelStore(root))


def plans(root: Path, suffix: str = ".plan") -> list[Path]:
    return sorted((root.parent / "plans").glob(f"*{suffix}"))


def image(value: int = 51) -> np.ndarray:
    return np.full(graphs.SHAPE.dims, value, np.uint8)


def test_gate_and_segmenter_return_expected_outputs(gpu: FakeGpu, root: Path) -> None:
    gate, segmenter = load(root), load(root, model="tiny-segmenter")
    rng = np.random.default_rng(3)
    for _ in range(4):
        pixels = rng.integers(0, 256, graphs.SHAPE.dims, np.uint8)
        for engine, expected in (
            (gate, graphs.gate_numpy(pixels)),
            (segmenter, graphs.segmenter_numpy(pixels)),
        ):
            for got, want in zip(engine.infer(pixels), expected, strict=True):
                assert got.dtype == want.dtype
                np.testing.assert_allclose(got, want, atol=1e-6)
    gate.close()
    segmenter.close()
    gate.close()
    with pytest.raises(EngineFault, match="closed"):
        gate.infer(image())
    assert gpu.live_allocations == 0


def test_mapped_input_is_not_copied_to_the_device(gpu: FakeGpu, root: Path) -> None:
    engine = load(root, input="mapped")
    assert engine.infer(image(102))[0][0] == pytest.approx(0.4)
    assert "memcpy_htod_async" not in gpu.calls


def test_cuda_is_initialised_before_tensorrt(gpu: FakeGpu, root: Path) -> None:
    load(root)
    assert gpu.calls.index("init") < gpu.calls.index("Builder") < gpu.calls.index("Runtime")


@pytest.mark.parametrize("wait", ["spin", "block"])
def test_wait_sets_the_context_flags(gpu: FakeGpu, root: Path, wait: str) -> None:
    load(root, wait=wait)
    (cuda,) = _cuda._contexts.values()
    assert cuda._context.flags == (1 if wait == "spin" else 4) | 8


def test_build_infer_and_close_on_different_threads(gpu: FakeGpu, root: Path) -> None:
    engine = load(root)
    got: list[float] = []
    for _ in range(2):
        worker = threading.Thread(target=lambda: got.append(float(engine.infer(image(255))[0][0])))
        worker.start()
        worker.join()
    closing = threading.Thread(target=engine.close)
    closing.start()
    closing.join()
    assert got == [1.0, 1.0]
    assert gpu.live_allocations == 0


def test_a_plan_is_built_once_and_cached(gpu: FakeGpu, root: Path) -> None:
    load(root).close()
    load(root).close()
    assert gpu.builds == 1
    (manifest,) = (json.loads(path.read_text()) for path in plans(root, ".json"))
    assert manifest["key"]["tensorrt"] == "11.4.0.106"
    assert manifest["key"]["typing"] == "strong"
    assert manifest["key"]["flags"] == []
    assert manifest["key"]["profiles"] == ["image uint8 (1, 32, 48, 1)"]
    assert manifest["plan_bytes"] == plans(root)[0].stat().st_size
    assert all(path.stat().st_mode & 0o077 == 0 for path in plans(root, "*"))


def test_a_build_extends_the_start_timeout(
    gpu: FakeGpu, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(trt, "sd_notify", lambda *lines: sent.extend(lines))
    load(root).close()
    assert sent == [f"EXTEND_TIMEOUT_USEC={15 * 60 * 1_000_000}"]
    load(root).close()  # the plan is cached
    assert len(sent) == 1


def test_a_plan_is_built_by_one_thread_while_others_wait(
    gpu: FakeGpu, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeinspect.backends._tensorrt import builder

    original = builder.build_plan
    has_started = threading.Event()

    def slow(*arguments: Any) -> tuple[bytes, bytes]:
        has_started.set()
        time.sleep(0.2)
        return original(*arguments)

    monkeypatch.setattr(builder, "build_plan", slow)
    results: list[float] = []

    def infer_once() -> None:
        engine = load(root)
        results.append(float(engine.infer(image(255))[0][0]))
        engine.close()

    first, second = (threading.Thread(target=infer_once) for _ in range(2))
    first.start()
    assert has_started.wait(10)
    second.start()
    first.join()
    second.join()
    assert gpu.builds == 1
    assert results == [1.0, 1.0]


@pytest.mark.parametrize(
    "change",
    [{"version": "11.4.1.1"}, {"driver_version": 13010}],
    ids=["tensorrt", "cuda"],
)
def test_an_outdated_plan_is_replaced(
    gpu: FakeGpu, root: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    load(root).close()
    other = FakeGpu(**change)
    install(monkeypatch.setitem, sys.modules, other)
    monkeypatch.setattr(_cuda, "_contexts", {})
    load(root).close()
    assert other.builds == 1
    assert len(plans(root)) == 1


def test_another_gpu_or_other_options_have_separate_plans(
    gpu: FakeGpu, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(root).close()
    load(root, optimization_level=5).close()
    other = FakeGpu(name="Another GPU")
    install(monkeypatch.setitem, sys.modules, other)
    monkeypatch.setattr(_cuda, "_contexts", {})
    load(root).close()
    assert (gpu.builds, other.builds, len(plans(root))) == (2, 1, 3)


@pytest.mark.parametrize("suffix", [".plan", ".timing", ".json"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "link"])
def test_a_damaged_plan_is_not_used(gpu: FakeGpu, root: Path, suffix: str, damage: str) -> None:
    load(root).close()
    (path,) = plans(root, suffix)
    data = bytearray(path.read_bytes())
    if damage == "changed":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-1])
    else:
        path.rename(path.with_name("elsewhere"))
        if damage == "link":
            path.symlink_to("elsewhere")
    with pytest.raises(ModelError, match="no plan for this machine"):
        load(root, rebuild=False)
    engine = load(root)
    assert gpu.builds == 2
    assert engine.infer(image())[0][0] == pytest.approx(0.2)


def test_a_plan_writable_by_others_is_not_read(gpu: FakeGpu, root: Path) -> None:
    load(root).close()
    plans(root)[0].chmod(0o666)
    load(root).close()
    assert gpu.builds == 2
    assert plans(root)[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("level", [0, 1])
def test_a_folder_writable_by_others_is_refused(gpu: FakeGpu, root: Path, level: int) -> None:
    folder = root.parent / "shared" / "plans"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    [folder, folder.parent][level].chmod(0o777)
    with pytest.raises(ModelError, match="another user can write plans there") as caught:
        load(root, plans=str(folder))
    assert caught.value.exit_code == 65
    assert gpu.builds == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_folder_of_another_user_is_refused(gpu: FakeGpu, root: Path) -> None:
    folder = root.parent / "plans"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(ModelError, match="another user"):
        load(root)


def test_a_build_reuses_the_timing_cache_of_another_plan(gpu: FakeGpu, root: Path) -> None:
    load(root).close()
    load(root, model="tiny-segmenter").close()
    assert gpu.timing_caches == [b"", b"+timed"]


def test_an_incompatible_timing_cache_is_not_used(gpu: FakeGpu, root: Path) -> None:
    from edgeinspect.backends._tensorrt import builder

    settings = builder.BuildSettings("strong", (), 3, 64, 0)
    steps: list[tuple[str, int, int]] = []
    path = root / "tiny-gate" / "1" / "model.onnx"
    with _cuda.open_device().current():
        builder.build_plan(
            path, settings, b"of another", lambda _i, _o: None, lambda *step: steps.append(step)
        )
    assert gpu.timing_caches == [b"of another", b""]
    assert steps == [("timing", 0, 2), ("timing", 1, 2), ("timing", 2, 2)]


def test_a_failed_build_reports_the_reason(gpu: FakeGpu, root: Path) -> None:
    gpu.failures["build"] = ""
    with pytest.raises(ModelError, match="no implementation for node conv"):
        load(root)
    assert not plans(root)


@pytest.mark.parametrize(
    ("version", "typing", "expected"),
    [
        ("10.3.0", "auto", [True, False]),
        ("10.12.0.36", "auto", [True]),
        ("11.4.0.106", "auto", [True]),
        ("10.3.0", "strong", [True]),
        ("10.3.0", "weak", [False]),
    ],
)
def test_order_of_typings(
    root: Path, monkeypatch: pytest.MonkeyPatch, version: str, typing: str, expected: list[bool]
) -> None:
    gpu = FakeGpu(version=version, strong_builds_fail=True)
    install(monkeypatch.setitem, sys.modules, gpu)
    monkeypatch.setattr(_cuda, "_contexts", {})
    if expected[-1]:
        with pytest.raises(ModelError):
            load(root, typing=typing)
    else:
        load(root, typing=typing).close()
        load(root, typing=typing).close()
    assert gpu.strong == expected


@pytest.mark.parametrize(
    ("precision", "half", "expected"),
    [
        ("fp32", False, ()),
        ("fp16", True, ("FP16", "OBEY_PRECISION_CONSTRAINTS")),
        ("int8", False, ("INT8",)),
        ("int8", True, ("FP16", "OBEY_PRECISION_CONSTRAINTS", "INT8")),
    ],
)
def test_flags_of_weak_typing(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    half: bool,
    expected: tuple[str, ...],
) -> None:
    gpu = FakeGpu(version="10.3.0")
    install(monkeypatch.setitem, sys.modules, gpu)
    monkeypatch.setattr(_cuda, "_contexts", {})
    model = graphs.gate()
    if half:
        entry = model.metadata_props.add()
        entry.key, entry.value = trt.FLOAT_PRECISION_KEY, "fp16"
    graphs.install(root, model, version=2, precision=precision)
    load(root, typing="weak").close()
    assert tuple(gpu.flags) == expected


def test_weak_typing_is_refused_by_tensorrt_11(gpu: FakeGpu, root: Path) -> None:
    with pytest.raises(ModelError, match="no weak typing"):
        load(root, typing="weak")


def test_a_failed_copy_is_a_fault_and_the_engine_remains_usable(gpu: FakeGpu, root: Path) -> None:
    engine = load(root)
    gpu.failures["memcpy_htod_async"] = "out of something"
    with pytest.raises(EngineFault, match="out of something") as caught:
        engine.infer(image())
    assert caught.value.exit_code == 75
    assert not engine.is_device_lost
    gpu.failures.clear()
    assert engine.infer(image(255))[0][0] == 1


def test_a_refused_run_is_a_fault(gpu: FakeGpu, root: Path) -> None:
    engine = load(root)
    gpu.failures["refuse"] = ""
    with pytest.raises(EngineFault, match="refused to run"):
        engine.infer(image())


def test_a_lost_device_is_reported_and_recovered(gpu: FakeGpu, root: Path) -> None:
    clock = ManualClock()
    engine = trt.build(options(root), clock, store=ModelStore(root))
    gpu.is_context_lost = True
    with pytest.raises(EngineFault, match="illegal memory access"):
        engine.infer(image())
    assert engine.is_device_lost
    before = len(gpu.calls)
    with pytest.raises(EngineFault, match="lost its GPU"):
        engine.infer(image())
    assert len(gpu.calls) == before, "a lost context is not called for every frame"
    clock.advance(RETRY_NS)
    with pytest.raises(EngineFault, match=r"lost its GPU.*cannot be used"):
        engine.infer(image())
    gpu.is_context_lost = False
    with pytest.raises(EngineFault, match="lost its GPU"):
        engine.infer(image())
    clock.advance(RETRY_NS)
    assert engine.infer(image(255))[0][0] == 1
    assert not engine.is_device_lost
    gpu.is_context_lost = True
    engine.close()  # never raises


def test_missing_memory_is_a_fault(gpu: FakeGpu, root: Path) -> None:
    gpu.failures["create_execution_context"] = ""
    with pytest.raises(EngineFault, match="not enough memory"):
        load(root)


@pytest.mark.parametrize("devices", [0, 1])
def test_a_missing_device_is_lost(gpu: FakeGpu, root: Path, devices: int) -> None:
    gpu.devices = devices
    with pytest.raises(DeviceLostError, match=f"CUDA finds {devices}") as caught:
        load(root, device=devices)
    assert caught.value.exit_code == 75
    assert "Runtime" not in gpu.calls
    assert "Builder" not in gpu.calls


def test_a_missing_driver_is_a_lost_device(gpu: FakeGpu, root: Path) -> None:
    gpu.failures["init"] = "no CUDA-capable device is detected"
    with pytest.raises(DeviceLostError, match="no CUDA-capable device"):
        load(root)


def test_missing_pycuda_names_the_extra(
    gpu: FakeGpu, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(MissingExtraError, match="pycuda"):
        load(root)


def test_without_cuda_graphs_the_engine_runs_directly(
    gpu: FakeGpu, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Any:
        raise EngineFault("libcuda has no graph functions")

    monkeypatch.setattr(_cuda, "_load_libcuda", none)
    engine = load(root, cuda_graph=True)
    assert engine.infer(image(255))[0][0] == 1
