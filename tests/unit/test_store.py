from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeinspect import store as store_module
from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.tensor import ModelKind, Precision
from edgeinspect.errors import ModelError
from edgeinspect.store import Store, default_root, read_manifest
from tests import graphs

BYTES = b"not really a graph; the store does not look inside"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def refused(root: Path, ref: str = "tiny-gate") -> str:
    with pytest.raises(ModelError) as caught:
        Store(root).resolve(ref)
    assert caught.value.exit_code == 65
    return str(caught.value)


def test_the_latest_version_by_number(root: Path) -> None:
    for version in (1, 2, 10):
        graphs.install(root, BYTES, version=version)
    store = Store(root)
    assert store.names() == ("tiny-gate",)
    assert store.versions("tiny-gate") == (1, 2, 10)
    assert str(store.resolve("tiny-gate").id) == "tiny-gate/10"
    assert str(store.resolve("tiny-gate/2").id) == "tiny-gate/2"


def test_the_spec(root: Path) -> None:
    graphs.install(root, BYTES, name="tiny-segmenter", kind="segmenter", calibration="cal-7",
                   precision="int8")  # fmt: skip
    spec = Store(root).resolve("tiny-segmenter")
    assert spec.kind is ModelKind.SEGMENTER
    assert spec.shape == FrameShape(32, 48, 1)
    assert spec.color == "mono"
    assert spec.classes == graphs.CLASSES
    assert spec.output_stride == graphs.STRIDE
    assert spec.precision is Precision.INT8
    assert spec.id.calibration == "cal-7"
    assert spec.path == root / "tiny-segmenter" / "1" / "model.onnx"
    assert spec.thresholds == {"suspect_at": 0.5}
    assert len(spec.id.sha256) == 64


def test_a_folder_is_a_reference(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = graphs.install(root, BYTES)
    assert Store(Path("/nonexistent")).resolve(str(folder)).path.read_bytes() == BYTES
    monkeypatch.chdir(folder)
    assert str(Store().resolve("./").id) == "tiny-gate/1"
    assert str(Store().resolve("../1").id) == "tiny-gate/1"


def test_what_is_not_there(root: Path) -> None:
    assert "The store is empty" in refused(root)
    graphs.install(root, BYTES)
    assert "did you mean `tiny-gate`?" in refused(root, "tiny-gat")
    assert "Its versions are: 1" in refused(root, "tiny-gate/2")
    assert "cannot be read" in refused(root, "/nonexistent/model")


@pytest.mark.parametrize(
    "ref", ["", "..", "a/../b", "A", "tiny-gate/0", "tiny-gate/x", "tiny gate", "a/1/2", "*",
            "tiny-gate/1\n", "x" * 70, "~/models"],
)  # fmt: skip
def test_what_is_no_reference(root: Path, ref: str) -> None:
    graphs.install(root, BYTES)
    assert "does not name a model" in refused(root, ref)


def test_one_changed_byte(root: Path) -> None:
    folder = graphs.install(root, BYTES)
    (folder / "model.onnx").write_bytes(b"N" + BYTES[1:])
    message = refused(root)
    assert "SHA-256" in message
    assert "copy the model again" in message


def test_another_size(root: Path) -> None:
    folder = graphs.install(root, BYTES)
    (folder / "model.onnx").write_bytes(BYTES + b"x")
    assert f"has {len(BYTES) + 1} bytes" in refused(root)


def test_no_model_file(root: Path) -> None:
    folder = graphs.install(root, BYTES)
    (folder / "model.onnx").unlink()
    assert "the model file is missing" in refused(root)
    (folder / "model.onnx").mkdir()
    assert "the model file is missing" in refused(root)


@pytest.mark.parametrize("name", ["../../secret.onnx", "/etc/hostname", "sub/model.onnx", ".."])
def test_a_path_that_escapes(root: Path, name: str) -> None:
    (root / "secret.onnx").parent.mkdir(parents=True)
    (root / "secret.onnx").write_bytes(BYTES)
    graphs.install(root, BYTES, file=name)
    assert "which is outside" in refused(root)


def test_a_link_that_escapes(root: Path) -> None:
    folder = graphs.install(root, BYTES)
    outside = root / "outside.onnx"
    (folder / "model.onnx").rename(outside)
    (folder / "model.onnx").symlink_to(outside)
    assert "which is outside" in refused(root)


def test_a_file_that_is_too_large(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs.install(root, BYTES, size_bytes=5)
    monkeypatch.setattr(store_module, "MAX_MODEL_BYTES", 10)
    assert "is larger than" in refused(root)


def test_a_manifest_in_the_wrong_folder(root: Path) -> None:
    graphs.install(root, BYTES, version=1).rename(root / "tiny-gate" / "7")
    assert "its manifest says tiny-gate/1" in refused(root, "tiny-gate/7")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema: must be 1"),
        ({"kind": "oracle"}, "kind: must be one of gate, segmenter"),
        ({"sha256": "abc"}, "sha256: must be text matching"),
        ({"size_bytes": 1 << 40}, "size_bytes: must be a whole number from 1 to"),
        ({"precision": None}, "precision: required: one of fp32, fp16, int8"),
        ({"input": None}, "input: required: a table"),
        ({"colour": "red"}, "colour: unknown key"),
        ({"input": {"height_px": 32, "width_px": 48, "channels": 3, "color": "mono"}},
         "input.color: must be mono with 1 channel"),
        ({"kind": "segmenter", "classes": []}, "a segmenter names its classes"),
        ({"classes": ["a", "a"]}, "must differ from each other"),
        ({"output_stride": 5}, "must divide"),
    ],
)  # fmt: skip
def test_faults_of_a_manifest(root: Path, changes: dict[str, Any], words: str) -> None:
    graphs.install(root, BYTES, **changes)
    message = refused(root)
    assert words in message
    assert "manifest.yaml" in message


@pytest.mark.parametrize("text", ["", "\0\1\2", "[1, 2]", "{a: b", "- x", "name: [\t"])
def test_an_unreadable_manifest(root: Path, text: str) -> None:
    folder = graphs.install(root, BYTES)
    (folder / "manifest.yaml").write_text(text)
    assert "the manifest cannot be used" in refused(root)


def test_the_default_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEINSPECT_STORE", str(tmp_path))
    assert default_root() == tmp_path
    assert Store().root == tmp_path
    monkeypatch.delenv("EDGEINSPECT_STORE")
    monkeypatch.setattr(store_module, "_INSTALLED", tmp_path)
    assert default_root() == tmp_path
    monkeypatch.setattr(store_module, "_INSTALLED", tmp_path / "absent")
    assert default_root().parts[-1] == "engines"


def test_shipped_models_are_what_their_manifests_say() -> None:
    engines = Path(__file__).parents[2] / "engines"
    paths = sorted(engines.glob("*/*/manifest.yaml"))
    assert {"strip-gate", "strip-segmenter"} <= {path.parts[-3] for path in paths}
    for path in paths:
        manifest = read_manifest(path)
        spec = Store(engines).resolve(f"{manifest.name}/{manifest.version}")
        assert spec.path.stat().st_size < 5_000_000
