"""The contract of every backend that the registry finds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeinspect import registry
from edgeinspect.domain.clock import SystemClock
from edgeinspect.domain.frame import FrameShape
from edgeinspect.errors import EngineFault, MissingExtraError, ModelError
from edgeinspect.ports import Engine
from edgeinspect.storage.model_store import ModelStore
from tests import graphs


def on_gpu(name: str) -> tuple[pytest.MarkDecorator, ...]:
    """TensorRT may skip even in CI: it needs a GPU."""
    return (pytest.mark.gpu,) if name == "trt" else ()


@pytest.fixture(
    params=[pytest.param(name, marks=on_gpu(name)) for name in registry.plugin_names("backend")]
)
def backend(request: pytest.FixtureRequest) -> registry.PluginModule:
    reason = registry.missing_reason("backend", request.param)
    if reason:
        pytest.skip(f"backend {request.param}: {reason}")
    return registry.load_plugin("backend", request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def build(backend: registry.PluginModule, root: Path, ref: str, **options: Any) -> Engine:
    engine = backend.build(
        backend.Options(model=ref, **options), SystemClock(), store=ModelStore(root)
    )
    assert isinstance(engine, Engine)
    return engine


@pytest.fixture
def gate(backend: registry.PluginModule, root: Path) -> Iterator[Engine]:
    graphs.install(root, graphs.gate())
    engine = build(backend, root, "tiny-gate")
    yield engine
    engine.close()


@pytest.fixture
def segmenter(backend: registry.PluginModule, root: Path) -> Iterator[Engine]:
    graphs.install(root, graphs.segmenter(), name="tiny-segmenter", kind="segmenter")
    engine = build(backend, root, "tiny-segmenter/1")
    yield engine
    engine.close()


def images(count: int = 5, shape: FrameShape = graphs.SHAPE) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [rng.integers(0, 256, shape.dims, np.uint8) for _ in range(count)]


def test_the_gate_equals_numpy(gate: Engine) -> None:
    for image in images():
        (prob,) = gate.infer(image)
        assert prob.shape == (1,)
        assert prob.dtype == np.float32
        np.testing.assert_allclose(prob, graphs.gate_numpy(image)[0], atol=1e-6)


def test_the_segmenter_equals_numpy(segmenter: Engine) -> None:
    for image in images():
        outputs = segmenter.infer(image)
        for got, expected in zip(outputs, graphs.segmenter_numpy(image), strict=True):
            assert got.dtype == expected.dtype
            np.testing.assert_allclose(got, expected, atol=1e-6)


def test_outputs_are_reused(segmenter: Engine) -> None:
    first, second = images(2)
    outputs = segmenter.infer(first)
    copies = [array.copy() for array in outputs]
    assert all(a is b for a, b in zip(outputs, segmenter.infer(second), strict=True))
    segmenter.infer(first)
    for array, copy in zip(outputs, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_new_pixels_at_the_same_address_are_read(gate: Engine) -> None:
    slot = np.zeros(graphs.SHAPE.dims, np.uint8)
    for value in (0, 255, 51):
        slot[:] = value
        assert gate.infer(slot)[0][0] == pytest.approx(value / 255, abs=1e-6)


def test_a_view_into_a_ring_is_accepted(gate: Engine) -> None:
    ring = np.zeros((3, *graphs.SHAPE.dims), np.uint8)
    ring[1] = 102
    assert gate.infer(ring[1])[0][0] == pytest.approx(0.4, abs=1e-6)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((32, 48), np.uint8),
        np.zeros((32, 48, 3), np.uint8),
        np.zeros((16, 48, 1), np.uint8),
        np.zeros((32, 48, 1), np.float32),
        np.zeros((32, 96, 1), np.uint8)[:, ::2],
        np.zeros((0, 0, 1), np.uint8),
    ],
    ids=["flat", "color", "small", "float", "strided", "empty"],
)
def test_an_image_of_another_shape_is_a_fault_and_the_engine_remains_usable(
    gate: Engine, image: Any
) -> None:
    with pytest.raises(EngineFault, match="requires contiguous uint8 32x48x1"):
        gate.infer(image)
    assert gate.infer(np.full(graphs.SHAPE.dims, 255, np.uint8))[0][0] == pytest.approx(1)


def test_three_channels_are_supported(backend: registry.PluginModule, root: Path) -> None:
    shape = FrameShape(16, 24, 3)
    graphs.install(root, graphs.gate(shape), shape=shape)
    engine = build(backend, root, "tiny-gate")
    (image,) = images(1, shape)
    np.testing.assert_allclose(engine.infer(image)[0], graphs.gate_numpy(image)[0], atol=1e-6)
    engine.close()


def test_the_spec_is_available(segmenter: Engine) -> None:
    assert str(segmenter.spec.id) == "tiny-segmenter/1"
    assert segmenter.spec.classes == graphs.CLASSES
    assert segmenter.spec.output_stride == graphs.STRIDE


def test_close_twice_and_infer_after_close(gate: Engine) -> None:
    gate.close()
    gate.close()
    with pytest.raises(EngineFault, match="closed"):
        gate.infer(np.zeros(graphs.SHAPE.dims, np.uint8))


def test_two_engines_on_two_threads(backend: registry.PluginModule, root: Path) -> None:
    graphs.install(root, graphs.gate())
    wrong: list[str] = []

    def infer_once(value: int) -> None:
        engine = build(backend, root, "tiny-gate", threads=1)
        image = np.full(graphs.SHAPE.dims, value, np.uint8)
        for _ in range(50):
            got = float(engine.infer(image)[0][0])
            if abs(got - value / 255) > 1e-6:
                wrong.append(f"{got} for {value}")
        engine.close()

    threads = [threading.Thread(target=infer_once, args=(value,)) for value in (10, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_python_runs_while_it_infers(backend: registry.PluginModule, root: Path) -> None:
    # If the engine kept the interpreter lock, the deadline guard could not run.
    shape = FrameShape(4096, 8192, 1)
    graphs.install(root, graphs.gate(shape), shape=shape)
    engine = build(backend, root, "tiny-gate", threads=1)
    image = np.zeros(shape.dims, np.uint8)
    engine.infer(image)
    woken: list[float] = []
    done = threading.Event()

    def guard() -> None:
        while not done.is_set():
            time.sleep(0.0005)
            woken.append(time.perf_counter())

    thread = threading.Thread(target=guard)
    thread.start()
    started = time.perf_counter()
    while time.perf_counter() - started < 0.3:
        before = time.perf_counter()
        engine.infer(image)
        inside = sum(before < at < time.perf_counter() for at in woken)
        if inside:
            break
    done.set()
    thread.join()
    engine.close()
    assert inside


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 64, b"this is no graph\n" * 100, "cut", "scrambled"],
    ids=["empty", "zeros", "text", "cut", "scrambled"],
)
def test_a_corrupt_file_is_refused(
    backend: registry.PluginModule, root: Path, data: bytes | str
) -> None:
    complete = graphs.segmenter().SerializeToString()
    if data == "cut":
        data = complete[: len(complete) // 2]
    elif data == "scrambled":
        data = bytes(byte ^ 0x5A for byte in complete)
    assert isinstance(data, bytes)
    size = max(1, len(data))
    graphs.install(root, data or b"\0", kind="gate", size_bytes=size)
    with pytest.raises(ModelError) as caught:
        build(backend, root, "tiny-gate")
    assert caught.value.exit_code == 65
    assert "model.onnx" in caught.value.where


def test_a_gate_is_refused_as_segmenter(backend: registry.PluginModule, root: Path) -> None:
    graphs.install(root, graphs.gate(), kind="segmenter")
    with pytest.raises(ModelError) as caught:
        build(backend, root, "tiny-gate")
    for word in ("class_map uint8 (1, 16, 24) is missing", "defect_prob", "'gate'"):
        assert word in str(caught.value)


def test_another_size_is_refused(backend: registry.PluginModule, root: Path) -> None:
    graphs.install(root, graphs.gate(), shape=FrameShape(64, 48, 1))
    with pytest.raises(ModelError, match=r"input must be image uint8 \(1, 64, 48, 1\), is"):
        build(backend, root, "tiny-gate")


def test_a_graph_of_another_contract_is_refused(backend: registry.PluginModule, root: Path) -> None:
    model = graphs.gate()
    for prop in model.metadata_props:
        if prop.key == "edgeinspect.contract":
            prop.value = "3"
    graphs.install(root, model)
    with pytest.raises(ModelError, match=r"contract (is )?3"):
        build(backend, root, "tiny-gate")


def test_classes_in_another_order_are_refused(backend: registry.PluginModule, root: Path) -> None:
    model = graphs.segmenter()
    onnx.helper.set_model_props(
        model, {"edgeinspect.kind": "segmenter", "edgeinspect.classes": '["bright", "dark"]'}
    )
    graphs.install(root, model, name="tiny-segmenter", kind="segmenter")
    with pytest.raises(ModelError, match=r'is \["bright", "dark"\], the manifest states'):
        build(backend, root, "tiny-segmenter")


def test_a_dynamic_size_is_refused(backend: registry.PluginModule, root: Path) -> None:
    model = graphs.gate()
    dim = model.graph.input[0].type.tensor_type.shape.dim[2]
    dim.ClearField("dim_value")
    dim.dim_param = "width"
    graphs.install(root, model)
    with pytest.raises(ModelError, match=r"is image uint8 \(1, 32, \?, 1\)"):
        build(backend, root, "tiny-gate")


def test_a_missing_model_is_refused(backend: registry.PluginModule, root: Path) -> None:
    with pytest.raises(ModelError, match="there is no model tiny-gate"):
        build(backend, root, "tiny-gate")


@pytest.mark.parametrize("name", registry.plugin_names("backend"))
def test_a_missing_package_names_the_extra(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs.install(root, graphs.gate())
    module = registry.load_plugin("backend", name)
    package, extra = module.REQUIRES[0]  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, package, None)
    assert f"edgeinspect[{extra}]" in (registry.missing_reason("backend", name) or "")
    with pytest.raises(MissingExtraError) as caught:
        build(module, root, "tiny-gate")
    assert caught.value.exit_code == 69
    assert caught.value.extra == extra
