"""Model contracts 2 and 3: kinds, good-parts models, heat maps, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgeinspect.domain import Decides, LearnedFrom, ModelSpec, SystemClock
from edgeinspect.errors import ModelError
from edgeinspect.learning.evaluate import load_engine
from edgeinspect.ports import Engine
from edgeinspect.registry import load_plugin
from edgeinspect.storage.model_store import ModelStore, create_golden_frames, verify_engine
from edgeinspect.testing import ScriptedEngine
from tests import graphs, needs

needs.library("onnxruntime")
Numpy = Callable[[NDArray[np.uint8]], tuple[NDArray[Any], ...]]
RNG = np.random.default_rng(3)
IMAGES = [
    RNG.integers(low, high, graphs.SHAPE.dims, np.uint8)
    for low, high in ((0, 256), (0, 60), (100, 180), (190, 256))
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    graphs.install_kinds_gate(tmp_path)
    graphs.install_kinds_gate(tmp_path, name="only-kinds", decides="kinds")
    graphs.install_good_parts(tmp_path)
    graphs.install_good_parts(tmp_path, name="tiny-heat", with_heat_map=True)
    return tmp_path


def load(root: Path, name: str, backend: str = "ort") -> Engine:
    plugin = load_plugin("backend", backend)
    engine = plugin.build(plugin.Options(model=name), SystemClock(), store=ModelStore(root))
    assert isinstance(engine, Engine)
    return engine


@pytest.mark.parametrize("backend", ["ort", "ov"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tiny-kinds", graphs.kinds_gate_numpy),
        ("only-kinds", lambda image: graphs.kinds_gate_numpy(image, decides="kinds")),
        ("tiny-unknown", graphs.good_parts_numpy),
        ("tiny-heat", lambda image: graphs.good_parts_numpy(image, with_heat_map=True)),
    ],
)
def test_backends_return_the_optional_outputs(
    root: Path, backend: str, name: str, expected: Numpy
) -> None:
    needs.library({"ort": "onnxruntime", "ov": "openvino"}[backend])
    engine = load(root, name, backend)
    assert verify_engine(engine)
    for image in IMAGES:
        outputs, reference = engine.infer(image), expected(image)
        assert len(outputs) == len(reference) == len(engine.spec.outputs)
        for actual, wanted in zip(outputs, reference, strict=True):
            assert (actual.shape, actual.dtype) == (wanted.shape, wanted.dtype)
            np.testing.assert_allclose(actual, wanted, atol=1e-5)
    engine.close()


def test_the_spec_says_what_a_model_can_tell_apart(root: Path) -> None:
    store = ModelStore(root)
    assert store.resolve("tiny-kinds").kinds == graphs.KINDS
    assert store.resolve("tiny-kinds").decides is Decides.DEFECTS
    assert store.resolve("only-kinds").decides is Decides.KINDS
    unknown = store.resolve("tiny-unknown")
    assert (unknown.learned_from, unknown.kinds) == (LearnedFrom.GOOD, ())
    assert unknown.outputs[3] == "defect_prob"


def test_a_file_without_a_manifest_is_read_by_its_metadata(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "loose.onnx"
    path.write_bytes(graphs.kinds_gate(decides="kinds").SerializeToString())
    engine = load_engine(str(path), "ort")
    assert (engine.spec.kinds, engine.spec.decides) == (graphs.KINDS, Decides.KINDS)
    other = graphs.kinds_gate()
    next(e for e in other.metadata_props if e.key == "edgeinspect.contract").value = "4"
    path.write_bytes(other.SerializeToString())
    with pytest.raises(ModelError, match=r"contract 4; this program supports 1, 2, 3"):
        load_engine(str(path), "ort")


@pytest.mark.parametrize(
    ("graph", "changes", "problem"),
    [
        (graphs.kinds_gate(), {"contract": None}, r"metadata edgeinspect.contract is 2"),
        (graphs.kinds_gate(), {"classes": ["a", "b"]}, r"class_prob float32 \(1, 3\)"),
        (graphs.kinds_gate(), {"classes": list("abc")}, "metadata edgeinspect.classes"),
        (graphs.kinds_gate(decides="kinds"), {}, "metadata edgeinspect.decides is kinds"),
        (graphs.gate(), {}, r"output class_prob float32 \(1, 3\) is missing"),
        (graphs.kinds_gate(), {"contract": "4"}, "contract: must be 1 or 2 or 3"),
        (graphs.kinds_gate(), {"contract": "3"}, "contract: 3 goes with a good-parts model"),
        (graphs.kinds_gate(), {"classes": []}, "classes: required: a gate of contract 2"),
        (graphs.kinds_gate(), {"learned_from": "good"}, "`good` goes with a segmenter"),
        (graphs.kinds_gate(), {"decides": "what"}, "decides: "),
        (graphs.kinds_gate(), {"pretrained_sha256": "abc"}, "pretrained_sha256: "),
        (graphs.gate(), {"contract": "1", "decides": "kinds"}, "goes with a gate of contract 2"),
    ],
)
def test_a_model_that_breaks_contract_2_is_refused(
    tmp_path: Path, graph: onnx.ModelProto, changes: dict[str, Any], problem: str
) -> None:
    keys = {"contract": "2", "classes": list(graphs.KINDS), **changes}
    graphs.install(tmp_path, graph, **keys)
    with pytest.raises(ModelError, match=problem):
        load(tmp_path, "tiny-gate")


def test_a_heat_map_is_part_of_contract_3(tmp_path: Path) -> None:
    folder = graphs.install_good_parts(tmp_path, with_heat_map=True)
    manifest = folder / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace("contract: '3'", "contract: '2'"))
    with pytest.raises(ModelError, match=r"heat_map uint8 \(1, 2, 3\) is not in the contract"):
        load(tmp_path, "tiny-unknown")


def test_another_heat_map_is_not_accepted(tmp_path: Path) -> None:
    graphs.install_good_parts(tmp_path, with_heat_map=True)
    engine = load(tmp_path, "tiny-unknown")
    create_golden_frames(engine, IMAGES)
    spec = ModelStore(tmp_path).resolve("tiny-unknown")

    def colder(image: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        *others, heat_map = graphs.good_parts_numpy(image, with_heat_map=True)
        return (*others, np.minimum(heat_map, 51))

    with pytest.raises(ModelError, match=r"gives heat 0\.2000 instead of"):
        verify_engine(ScriptedEngine(spec, colder))
    engine.close()


def test_a_good_parts_model_has_one_class(tmp_path: Path) -> None:
    graphs.install_good_parts(tmp_path, classes=["a", "b"])
    with pytest.raises(ModelError, match="knows no kinds of defects"):
        ModelStore(tmp_path).resolve("tiny-unknown")


@pytest.mark.parametrize("name", ["tiny-kinds", "tiny-unknown"])
def test_golden_frames_hold_the_optional_outputs(root: Path, name: str) -> None:
    create_golden_frames(load(root, name), IMAGES)
    engine = load(root, name)
    assert "golden frames" in verify_engine(engine)
    real, at = engine, {"tiny-kinds": 1, "tiny-unknown": 3}[name]

    def changed(image: NDArray[np.uint8]) -> tuple[NDArray[np.generic], ...]:
        outputs = [np.array(one) for one in real.infer(image)]
        outputs[at] = np.roll(outputs[at], 1) if outputs[at].size > 1 else outputs[at] * 0.9
        return tuple(outputs)

    with pytest.raises(ModelError, match="on golden frame"):
        verify_engine(ScriptedEngine(engine.spec, changed))


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        (([0.5], [[0.2, 0.2, 0.2]]), "that sum to 0.6"),
        (([0.5], [[0.2, float("nan"), 0.2]]), "probabilities of kinds of"),
        (([0.5], [[0.2, 0.3]]), "of shape"),
        (([float("nan")], [[0.2, 0.3, 0.0]]), "a probability of nan"),
    ],
)
def test_outputs_that_cannot_be_are_refused(root: Path, outputs: Any, problem: str) -> None:
    spec: ModelSpec = ModelStore(root).resolve("tiny-kinds")
    arrays = tuple(np.array(one, np.float32) for one in outputs)
    with pytest.raises(ModelError, match=problem):
        verify_engine(ScriptedEngine(spec, lambda image: arrays))
