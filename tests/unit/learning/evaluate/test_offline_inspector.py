"""OfflineInspector against the line's own decision and the tiny graphs' definitions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeinspect.config.loader import load_config
from edgeinspect.domain.model import ModelKind
from edgeinspect.errors import DataError, ModelError, UsageError
from edgeinspect.imaging.blobs import find_blobs
from edgeinspect.learning.evaluate.evaluation import ErrorCosts, evaluate
from edgeinspect.learning.evaluate.image_source import class_id_table, with_model_classes
from edgeinspect.learning.evaluate.metrics.frame_results import (
    FrameResult,
    FrameSample,
    evaluate_frames,
)
from edgeinspect.learning.evaluate.offline_inspector import OfflineInspector
from edgeinspect.learning.evaluate.open_dataset import open_image_source
from edgeinspect.learning.evaluate.open_model import (
    build_inspector,
    load_engine,
    load_line_inspector,
    resolve_model,
)
from edgeinspect.learning.evaluate.worst_frames import WorstFrames
from edgeinspect.pipeline.inspection.decision import decide_by_gate, decide_by_regions
from edgeinspect.storage.model_store import ModelStore
from tests import graphs, needs
from tests.unit.learning.evaluate.small_datasets import make_image, write_dataset

needs.library("onnxruntime")

GATE_LIMITS = {"suspect": 0.3, "reject": 0.99, "degraded": 0.49}
CLASS_LIMITS = {name: {"score": 0.01, "area_px": 40} for name in graphs.CLASSES}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    root = tmp_path / "store"
    graphs.install(root, graphs.gate(), thresholds=GATE_LIMITS)
    graphs.install(
        root, graphs.segmenter(), name="tiny-seg", kind="segmenter", thresholds=CLASS_LIMITS
    )
    return ModelStore(root)


@pytest.fixture
def inspector(store: ModelStore) -> Iterator[OfflineInspector]:
    built = build_inspector(
        load_engine("tiny-seg", "ort", store=store), load_engine("tiny-gate", "ort", store=store)
    )
    yield built
    built.close()


@pytest.mark.parametrize("kind", ["good", "dark", "bright"])
@pytest.mark.parametrize("seed", range(4))
def test_decisions_are_those_of_the_line(inspector: OfflineInspector, kind: str, seed: int) -> None:
    image, _mask = make_image(kind, seed)
    result = inspector.inspect(image[..., None])
    prob = float(graphs.gate_numpy(image)[0][0])
    class_map, area, score = graphs.segmenter_numpy(image[..., None])
    finding = decide_by_gate(prob, inspector.rules)
    if finding is None:
        blobs = find_blobs(class_map[0], area[0], score[0])
        finding = decide_by_regions(prob, blobs, inspector.rules)
    assert result.assessment == finding
    assert result.prob == pytest.approx(prob, abs=1e-6)
    assert result.class_map is not None
    assert np.array_equal(result.class_map, class_map[0])
    assert result.is_rejected == (kind != "good")
    assert result.fatal_map is not None
    assert np.array_equal(result.fatal_map, class_map[0] > 0)


def test_regions_below_their_area_are_not_fatal(store: ModelStore) -> None:
    inspector = build_inspector(load_engine("tiny-seg", "ort", store=store))
    image = np.full((32, 48, 1), 120, np.uint8)
    image[4:10, 4:10] = 0  # 3x3 cells: 36 px, below 40
    image[16:24, 16:24] = 255  # 4x4 cells: 64 px
    result = inspector.inspect(image)
    assert result.fatal_map is not None
    assert result.largest_region_px is not None
    assert result.largest_region_px.tolist() == [36, 64]
    assert not result.fatal_map[:8].any()
    assert result.fatal_map.sum() == 16
    assert result.score == pytest.approx(16 / (16 * 24))


def test_a_gate_alone_rejects_at_degraded_with_a_note(store: ModelStore) -> None:
    inspector = build_inspector(load_engine("tiny-gate", "ort", store=store))
    assert inspector.rules.gate is not None
    assert inspector.rules.gate.reject_at == 0.49
    assert "degraded" in inspector.notes[0]
    assert inspector.inspect(np.full((32, 48, 1), 126, np.uint8)).is_rejected
    assert not inspector.inspect(np.full((32, 48, 1), 124, np.uint8)).is_rejected


def test_a_manifest_without_thresholds_is_noted(tmp_path: Path) -> None:
    graphs.install(tmp_path, graphs.gate())
    inspector = build_inspector(load_engine("tiny-gate", "ort", store=ModelStore(tmp_path)))
    assert "proposes no thresholds" in inspector.notes[0]


def test_a_gate_that_gives_nan_is_rejected(store: ModelStore) -> None:
    inspector = build_inspector(load_engine("tiny-gate", "ort", store=store))
    assert inspector.gate is not None

    class Broken:
        spec = inspector.gate.spec

        def infer(self, image: object) -> tuple[np.ndarray]:
            return (np.array([np.nan], np.float32),)

        def close(self) -> None:
            """Nothing to close."""

    broken = OfflineInspector(gate=Broken(), segmenter=None, rules=inspector.rules, label="broken")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="not a number"):
        broken.inspect(np.zeros((32, 48, 1), np.uint8))


def test_every_reference_to_a_model(store: ModelStore, tmp_path: Path) -> None:
    folder = store.root / "tiny-gate" / "1"
    run = tmp_path / "run"
    graphs.install(run, graphs.gate(), version=1)
    graphs.install(run, graphs.gate(), version=12)
    (run / "checkpoint.pt").touch()
    bare = tmp_path / "bare.onnx"
    bare.write_bytes((folder / "model.onnx").read_bytes())
    for name in (
        "tiny-gate",
        "tiny-gate/1",
        str(folder),
        str(folder / "model.onnx"),
        str(bare),
        str(run),
    ):
        engine = load_engine(name, "ort", store=store)
        assert engine.spec.kind is ModelKind.GATE, name
        assert engine.spec.id.version == (12 if name == str(run) else 1)
        engine.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "gone", "no such file or folder"),
        (lambda path: (path / "empty").mkdir() or path / "empty", "holds no manifest"),
        (lambda path: (path / "x.onnx").write_bytes(b"rubbish") and path / "x.onnx", "no ONNX"),
    ],
)
def test_other_files_are_rejected(tmp_path: Path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ModelError, match=message):
        resolve_model(str(make(tmp_path)), ModelStore(tmp_path))


def test_a_run_without_an_export_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(ModelError, match="--resume for a gate or a segmenter, exports"):
        resolve_model(str(tmp_path), ModelStore(tmp_path))


def test_two_gates_cannot_be_combined(store: ModelStore) -> None:
    gate = load_engine("tiny-gate", "ort", store=store)
    with pytest.raises(UsageError, match="--gate goes with a segmenter"):
        build_inspector(gate, gate)


def test_classes_are_matched_by_name() -> None:
    assert class_id_table(("b", "A"), ("a", "b", "c"))[:4].tolist() == [0, 2, 1, 0]
    assert class_id_table(("b", "A"), ("defect",))[:4].tolist() == [0, 1, 1, 0]
    with pytest.raises(DataError, match="the model has a, b"):
        class_id_table(("a", "z"), ("a", "b"))


def test_evaluation_of_a_folder(inspector: OfflineInspector, tmp_path: Path) -> None:
    kinds = ["good"] * 8 + ["dark"] * 5 + ["bright"] * 5
    folder = write_dataset(tmp_path / "set", kinds)
    source = with_model_classes(open_image_source(str(folder), inspector.spec), inspector.classes)
    evaluation, worst = evaluate(inspector, source, costs=ErrorCosts(10, 1))
    assert (evaluation.pictures, evaluation.defective, evaluation.sound) == (18, 10, 8)
    assert evaluation.decisions.defective_rejected == 10
    assert evaluation.decisions.sound_rejected == 0
    assert evaluation.overlap is not None
    assert evaluation.overlap.miou == 1.0
    assert evaluation.overlap.severstal.dice == 1.0
    assert evaluation.overlap.severstal.dice_of_empty == pytest.approx(26 / 36)
    assert evaluation.costs is not None
    assert worst.top("escapes") == []


def test_the_worst_frames_have_the_highest_severity(
    inspector: OfflineInspector, tmp_path: Path
) -> None:
    folder = write_dataset(tmp_path / "set", ["dark", "good", "bright"] * 6)
    source = open_image_source(str(folder), inspector.spec, classes=inspector.classes)
    worst = WorstFrames(3, stride=2, has_masks=True)
    results = []
    for index, each in enumerate(evaluate_frames(inspector, source)):
        name, confusion, score = each.result.name, each.result.confusion, index / 20
        missed = FrameResult(name, True, False, "clean", score, score, confusion, index)
        results.append(missed)
        worst.add(FrameSample(missed, each.inspection, each.image, each.mask))
    names = [each.result.name for each in worst.top("escapes")]
    expected = sorted(results, key=lambda one: -(one.defect_px + 1 - one.score))
    assert names == [one.name for one in expected[:3]]


def test_thresholds_of_a_line(store: ModelStore, tmp_path: Path) -> None:
    line = tmp_path / "line.yaml"
    line.write_text(
        f"""
schema: 1
line: one
budget_ms: 100
cameras: {{top: {{type: synthetic}}}}
engines:
  gate: {{type: ort, model: tiny-gate}}
  segmenter: {{type: ort, model: tiny-seg}}
optics: {{mm_per_px_x: 0.5, mm_per_px_y: 0.5}}
decide:
  gate: {{suspect_at: 0.2, reject_at: 0.9, degraded_reject_at: 0.8, reject_code: 1}}
  classes:
    dark: {{score: 0.5, area_mm2: 10, severity: 1, reject_code: 2}}
    bright: {{score: 0.5, area_px: 7, severity: 1, reject_code: 3}}
store: {store.root}
"""
    )
    inspector = load_line_inspector(line)
    assert inspector.rules.classes[1].area_px == 40
    assert inspector.rules.gate is not None
    assert inspector.rules.gate.suspect_at == 0.2
    assert load_config(line).hash in inspector.notes[0]
    inspector.close()


def test_a_graph_without_an_input_is_rejected(tmp_path: Path) -> None:
    onnx = needs.library("onnx")
    value = onnx.helper.make_tensor("v", onnx.TensorProto.FLOAT, [1], [1.0])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["y"], value=value)],
        "g",
        [],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    model = onnx.helper.make_model(
        graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 13)]
    )
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="metadata is incomplete"):
        load_engine(str(tmp_path / "m.onnx"), "ort")
