from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.model import ModelKind, Precision
from edgeinspect.errors import DataError, ModelError, OutputError
from edgeinspect.storage.model_store import (
    ModelStage,
    ModelStore,
    ModelVersions,
    default_root,
    read_manifest,
)
from edgeinspect.storage.model_store import manifest as manifest_module
from edgeinspect.storage.model_store import store as models_module
from edgeinspect.storage.model_store.golden_frames import create_golden_frames, verify_engine
from edgeinspect.system import file_ownership as trust_module
from edgeinspect.testing.doubles import brightness_gate, model_spec, pixel_segmenter
from tests import graphs

BYTES = b"not really a graph; the store does not look inside"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def refused(root: Path, ref: str = "tiny-gate") -> str:
    with pytest.raises(ModelError) as caught:
        ModelStore(root).resolve(ref)
    assert caught.value.exit_code == 65
    return str(caught.value)


def test_the_latest_version_by_number(root: Path) -> None:
    for version in (1, 2, 10):
        graphs.install(root, BYTES, version=version)
    store = ModelStore(root)
    assert store.names() == ("tiny-gate",)
    assert store.versions("tiny-gate") == (1, 2, 10)
    assert str(store.resolve("tiny-gate").id) == "tiny-gate/10"
    assert str(store.resolve("tiny-gate/2").id) == "tiny-gate/2"


def test_the_spec(root: Path) -> None:
    graphs.install(
        root, BYTES, name="tiny-segmenter", kind="segmenter", calibration="cal-7", precision="int8"
    )
    spec = ModelStore(root).resolve("tiny-segmenter")
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
    assert ModelStore(Path("/nonexistent")).resolve(str(folder)).path.read_bytes() == BYTES
    monkeypatch.chdir(folder)
    assert str(ModelStore().resolve("./").id) == "tiny-gate/1"
    assert str(ModelStore().resolve("../1").id) == "tiny-gate/1"


def test_a_missing_model_is_reported(root: Path) -> None:
    assert "The store is empty" in refused(root)
    graphs.install(root, BYTES)
    assert "did you mean `tiny-gate`?" in refused(root, "tiny-gat")
    assert "Its versions are: 1" in refused(root, "tiny-gate/2")
    assert "cannot be read" in refused(root, "/nonexistent/model")


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "..",
        "a/../b",
        "A",
        "tiny-gate/0",
        "tiny-gate/x",
        "tiny gate",
        "a/1/2",
        "*",
        "tiny-gate/1\n",
        "x" * 70,
        "~/models",
    ],
)
def test_an_invalid_reference_is_refused(root: Path, ref: str) -> None:
    graphs.install(root, BYTES)
    assert "is not the name of a model" in refused(root, ref)


def test_one_changed_byte_is_refused(root: Path) -> None:
    folder = graphs.install(root, BYTES)
    (folder / "model.onnx").write_bytes(b"N" + BYTES[1:])
    message = refused(root)
    assert "SHA-256" in message
    assert "copy the model again" in message


def test_another_size_is_refused(root: Path) -> None:
    folder = graphs.install(root, BYTES)
    (folder / "model.onnx").write_bytes(BYTES + b"x")
    assert f"has {len(BYTES) + 1} bytes" in refused(root)


def test_a_missing_model_file_is_refused(root: Path) -> None:
    folder = graphs.install(root, BYTES)
    (folder / "model.onnx").unlink()
    assert "the model file is missing" in refused(root)
    (folder / "model.onnx").mkdir()
    assert "the model file is missing" in refused(root)


@pytest.mark.parametrize("name", ["../../secret.onnx", "/etc/hostname", "sub/model.onnx", ".."])
def test_a_path_outside_the_folder_is_refused(root: Path, name: str) -> None:
    (root / "secret.onnx").parent.mkdir(parents=True)
    (root / "secret.onnx").write_bytes(BYTES)
    graphs.install(root, BYTES, file=name)
    assert "which is outside" in refused(root)


def test_a_link_out_of_the_folder_is_refused(root: Path) -> None:
    folder = graphs.install(root, BYTES)
    outside = root / "outside.onnx"
    (folder / "model.onnx").rename(outside)
    (folder / "model.onnx").symlink_to(outside)
    assert "which is outside" in refused(root)


def test_a_file_that_is_too_large(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs.install(root, BYTES, size_bytes=5)
    monkeypatch.setattr(manifest_module, "MAX_MODEL_BYTES", 10)
    assert "is larger than" in refused(root)


def test_a_manifest_in_the_wrong_folder(root: Path) -> None:
    graphs.install(root, BYTES, version=1).rename(root / "tiny-gate" / "7")
    assert "its manifest is of tiny-gate/1" in refused(root, "tiny-gate/7")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema: this file is of version 2"),
        ({"contract": "9"}, "contract: must be 1 or 2"),
        ({"latency": [{"backend": "ov", "device": "x", "p50_us": -1, "p99_us": 1}]}, "p50_us"),
        ({"kind": "oracle"}, "kind: must be one of gate, segmenter"),
        ({"sha256": "abc"}, "sha256: must be text matching"),
        ({"size_bytes": 1 << 40}, "size_bytes: must be a whole number from 1 to"),
        ({"precision": None}, "precision: required: one of fp32, fp16, int8"),
        ({"input": None}, "input: required: a table"),
        ({"colour": "red"}, "colour: unknown key"),
        (
            {"input": {"height_px": 32, "width_px": 48, "channels": 3, "color": "mono"}},
            "input.color: must be mono with 1 channel",
        ),
        ({"kind": "segmenter", "classes": []}, "a segmenter names its classes"),
        ({"classes": ["a", "a"]}, "must differ from each other"),
        ({"output_stride": 5}, "must divide"),
    ],
)
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
    assert ModelStore().root == tmp_path
    monkeypatch.delenv("EDGEINSPECT_STORE")
    monkeypatch.setattr(models_module, "_INSTALLED_ROOT", tmp_path)
    assert default_root() == tmp_path
    monkeypatch.setattr(models_module, "_INSTALLED_ROOT", tmp_path / "absent")
    assert default_root().parts[-1] == "engines"


def test_shipped_models_match_their_manifests() -> None:
    engines = Path(__file__).parents[4] / "engines"
    paths = sorted(engines.glob("*/*/manifest.yaml"))
    assert {"strip-gate", "strip-segmenter"} <= {path.parts[-3] for path in paths}
    for path in paths:
        manifest = read_manifest(path)
        spec = ModelStore(engines).resolve(f"{manifest.name}/{manifest.version}")
        assert spec.path.stat().st_size < 5_000_000


# -- who may have written it --------------------------------------------------------------


@pytest.mark.parametrize("part", ["model.onnx", "manifest.yaml", ".", "..", "../.."])
@pytest.mark.parametrize(("mode", "who"), [(0o002, "all users"), (0o020, "the group")])
def test_what_others_can_write_is_refused(
    root: Path, part: str, mode: int, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_module, "_is_private_group", lambda uid, gid: False)
    folder = graphs.install(root, BYTES)
    path = (folder / part).resolve()
    path.chmod(path.stat().st_mode & 0o755 | mode)
    message = refused(root)
    assert f"can be written by {who}" in message
    assert str(path) in message
    path.chmod(path.stat().st_mode & 0o755)
    ModelStore(root).resolve("tiny-gate")


def test_the_private_group_of_a_user_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    user = pwd.struct_passwd(("ann", "x", 1000, 1000, "", "/", "/bin/sh"))
    groups = {
        1000: trust_module.grp.struct_group(("ann", "x", 1000, [])),
        50: trust_module.grp.struct_group(("staff", "x", 50, ["ann", "bob"])),
    }
    monkeypatch.setattr(trust_module.pwd, "getpwuid", lambda uid: user)
    monkeypatch.setattr(trust_module.grp, "getgrgid", lambda gid: groups[gid])
    assert trust_module._is_private_group(1000, 1000)
    assert not trust_module._is_private_group(1000, 50)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("part", ["model.onnx", "manifest.yaml", ".", ".."])
def test_files_of_another_user_are_refused(
    root: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = graphs.install(root, BYTES)
    os.chown(folder / part, 54321, 0)
    assert "belongs to user 54321" in refused(root)
    monkeypatch.setenv("EDGEINSPECT_STORE_OWNER", "54321")
    ModelStore(root).resolve("tiny-gate")
    monkeypatch.setenv("EDGEINSPECT_STORE_OWNER", "nobody-of-that-name")
    assert "there is no user" in refused(root)


def test_a_manifest_that_is_a_link_is_refused(root: Path) -> None:
    folder = graphs.install(root, BYTES)
    (folder / "manifest.yaml").rename(root / "real.yaml")
    (folder / "manifest.yaml").symlink_to(root / "real.yaml")
    assert "is a link" in refused(root)


def test_a_plan_for_another_device(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs.install(root, BYTES, built={"by": "x", "device": "NVIDIA Orin"})
    monkeypatch.setattr(manifest_module, "gpu_names", lambda: ("NVIDIA H200",))
    message = refused(root)
    assert "was built for NVIDIA Orin; this machine has NVIDIA H200" in message
    monkeypatch.setattr(manifest_module, "gpu_names", lambda: ("NVIDIA Orin",))
    ModelStore(root).resolve("tiny-gate")


# -- states -------------------------------------------------------------------------------


@pytest.fixture
def model(root: Path) -> ModelVersions:
    for version in (1, 2, 3):
        graphs.install(root, BYTES, version=version)
    return ModelStore(root).model_versions("tiny-gate")


def live(root: Path) -> int:
    return ModelStore(root).resolve("tiny-gate").id.version


def test_promote_and_roll_back(root: Path, model: ModelVersions) -> None:
    assert live(root) == 3
    model.promote(1, "first")
    assert live(root) == 1
    assert ModelStore(root).stage_of("tiny-gate", 3) is ModelStage.CANDIDATE
    model.promote(2, "better", actor="ann")
    assert model.rollback("worse").live == 1
    assert model.rollback().live == 3
    with pytest.raises(ModelError, match="no previous live version"):
        model.rollback()
    history = model.read_state().history
    assert [change.did for change in history] == ["promote", "promote", "rollback", "rollback"]
    assert (history[1].who, history[1].why, history[1].live) == ("ann", "better", 2)


def test_a_pinned_model_is_not_changed_by_a_new_version(root: Path, model: ModelVersions) -> None:
    model.pin_live()
    graphs.install(root, BYTES, version=4)
    assert live(root) == 3


def test_shadow_is_one_version_and_never_the_live_one(root: Path, model: ModelVersions) -> None:
    model.promote(1)
    model.set_shadow(2)
    assert model.set_shadow(3).stage_of(3) is ModelStage.SHADOW
    assert model.read_state().stage_of(2) is ModelStage.CANDIDATE
    with pytest.raises(ModelError, match="is the live version"):
        model.set_shadow(1)
    assert model.promote(3).shadow is None
    assert model.set_shadow(None).shadow is None


def test_gc_keeps_needed_versions(root: Path, model: ModelVersions) -> None:
    for version in (4, 5):
        graphs.install(root, BYTES, version=version)
    for version in (1, 2, 4):
        model.promote(version)
    assert model.removable(keep=1) == (1, 3)  # 2 was live before, 5 is newer
    assert model.removable(keep=0) == (1, 2, 3)
    assert model.remove(1) > len(BYTES)
    assert model.versions() == (2, 3, 4, 5)
    assert 1 not in model.read_state().before
    with pytest.raises(ModelError, match="live"):
        model.remove(4)


def test_a_manifest_changed_after_approval_is_refused(root: Path, model: ModelVersions) -> None:
    model.promote(2)
    path = model.folder / "2" / "manifest.yaml"
    text = path.read_text()
    path.write_text(text.replace("suspect_at: 0.5", "suspect_at: 0.9"))
    assert "was changed after it was approved" in refused(root)
    model.promote(2)
    assert live(root) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": 2, "live": 1}',
        '{"live": "x"}',
        '{"schema": 1, "live": 1, "extra": 2}',
    ],
)
def test_a_damaged_state_file(root: Path, model: ModelVersions, text: str) -> None:
    (model.folder / "state.json").write_text(text)
    assert "the state of tiny-gate cannot be read" in refused(root)


def test_a_state_file_that_names_a_missing_version(root: Path, model: ModelVersions) -> None:
    model.promote(1)
    (model.folder / "1").rename(root / "elsewhere")
    assert "there is no model tiny-gate/1, which is live" in refused(root)


def test_a_write_that_fails_leaves_the_old_state(
    root: Path, model: ModelVersions, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.promote(1)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        model.promote(2)
    assert live(root) == 1
    assert sorted(path.name for path in model.folder.iterdir()) == [
        ".state.lock",
        "1",
        "2",
        "3",
        "state.json",
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, "back", "s1", "s2", "none"]), max_size=12))
def test_any_history_is_rolled_back_in_reverse(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    root = tmp_path_factory.mktemp("store")
    for version in (1, 2, 3):
        graphs.install(root, BYTES, version=version)
    model = ModelVersions(root / "tiny-gate")
    path = [3]
    for step in steps:
        if step == "back":
            if len(path) > 1:
                path.pop()
                model.rollback()
        elif step == "none":
            model.set_shadow(None)
        elif isinstance(step, str):
            if int(step[1]) != path[-1]:
                model.set_shadow(int(step[1]))
        else:
            if step != path[-1]:
                path.append(step)
            model.promote(step)
        register = model.read_state()
        assert (*register.before, register.live) == tuple(path)
        assert register.shadow != register.live
        assert ModelStore(root).resolve("tiny-gate").id.version == path[-1]


# -- golden frames ------------------------------------------------------------------------


def golden_engine(root: Path, **changes: Any) -> Any:
    graphs.install(root, BYTES, **changes)
    engine = brightness_gate(graphs.SHAPE)
    engine._spec = ModelStore(root).resolve("tiny-gate")
    return engine


def test_golden_frames_are_created_and_compared(root: Path) -> None:
    engine = golden_engine(root)
    assert "no golden frames" in verify_engine(engine)
    images = [np.full(graphs.SHAPE.dims, level, np.uint8) for level in (10, 200)]
    create_golden_frames(engine, images)
    engine._spec = ModelStore(root).resolve("tiny-gate")
    assert "2 golden frames" in verify_engine(engine)
    outputs = engine._outputs
    engine._outputs = lambda image: (outputs(image)[0] * np.float32(0.9),)
    with pytest.raises(ModelError, match="golden frame 1"):
        verify_engine(engine)
    with pytest.raises(DataError, match="1 to 16"):
        create_golden_frames(engine, [])
    with pytest.raises(DataError, match="takes"):
        create_golden_frames(engine, [np.zeros((2, 2, 1), np.uint8)])


def test_replaced_golden_frames_are_refused(root: Path) -> None:
    create_golden_frames(golden_engine(root), [np.zeros(graphs.SHAPE.dims, np.uint8)])
    path = root / "tiny-gate" / "1" / "golden.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "golden.npz" in refused(root)


@pytest.mark.parametrize("prob", [float("nan"), -0.1, 1.5])
def test_an_invalid_probability_is_refused(prob: float) -> None:
    engine = brightness_gate(graphs.SHAPE)
    engine._outputs = lambda image: (np.array([prob], np.float32),)
    with pytest.raises(ModelError, match="gives a probability of"):
        verify_engine(engine)


def test_invalid_segmentations_are_refused() -> None:
    sound = pixel_segmenter(graphs.SHAPE)
    assert "outputs are valid" in verify_engine(sound)
    for position, value, words in ((0, 9, "class 9 of 2"), (1, 1e9, "areas"), (2, 7, "scores")):
        engine = pixel_segmenter(graphs.SHAPE)

        def broken(
            image: Any, position: int = position, value: float = value, good: Any = sound
        ) -> Any:
            outputs = good.infer(image)
            outputs[position].flat[0] = value
            return outputs

        engine._outputs = broken
        with pytest.raises(ModelError, match=words):
            verify_engine(engine)
    spec = model_spec(ModelKind.SEGMENTER, graphs.SHAPE, ("a",))
    engine = pixel_segmenter(graphs.SHAPE)
    engine._spec = spec
    with pytest.raises(ModelError, match="outputs of shapes"):
        verify_engine(engine)
