"""`edgeinspect train` from a folder to a model in a store, for several layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import needs

torch = needs.library("torch")

from edgeinspect.cli.main import main
from edgeinspect.domain.model import ModelKind
from edgeinspect.errors import DataError
from edgeinspect.learning.onnx_graphs.session import run_graph
from edgeinspect.learning.train.run_identity import load_run
from edgeinspect.storage.model_store import ModelStore


def surface(rng: np.random.Generator, height: int, width: int, channels: int = 1) -> np.ndarray:
    return rng.integers(90, 120, (height, width, channels), np.uint8).squeeze()


def castings(root: Path, count: int = 24, seed: int = 1) -> Path:
    """Class folders of small colour images, and two broken files."""
    rng = np.random.default_rng(seed)
    for name in ("ok_front", "def_front"):
        (root / name).mkdir(parents=True)
        for index in range(count):
            image = surface(rng, 60, 60, 3)
            if name == "def_front":
                image[20:40, 20:40] = 230
            cv2.imwrite(str(root / name / f"cast_{index}.jpeg"), image)
    (root / "ok_front" / "cut_off.jpeg").write_bytes(b"\xff\xd8\xff")
    (root / "def_front" / "empty.png").write_bytes(b"")
    return root


def cracks(root: Path, count: int = 14) -> Path:
    """Thin cracks on wide 16-bit images with a mask folder."""
    rng = np.random.default_rng(2)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(count):
        image = (surface(rng, 50, 124).astype(np.uint16) << 4) + 3
        mask = np.zeros((50, 124), np.uint8)
        if index % 3:
            cv2.line(mask, (5, 10 + index), (110, 30), 255, 1)
            image[mask > 0] = 4000
        cv2.imwrite(str(root / "images" / f"{index:03}.png"), image)
        cv2.imwrite(str(root / "masks" / f"{index:03}.png"), mask)
    return root


def run(*arguments: object) -> int:
    return main(["train", *map(str, arguments)])


def test_a_gate_from_class_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = castings(tmp_path / "castings")
    out = tmp_path / "run"
    assert (
        run(
            "gate",
            "--data",
            data,
            "--out",
            out,
            "--arch",
            "small",
            "--steps",
            6,
            "--threads",
            1,
            "--rotation-invariant",
            "--set",
            "batch=4",
            "--json",
        )
        == 0
    )
    (model,) = json.loads(capsys.readouterr().out)["models"]
    accuracy = model["accuracy"]
    assert 0 <= accuracy["auc"] <= 1
    spec = ModelStore(out).resolve("run")
    assert (spec.kind, spec.shape.dims) == (ModelKind.GATE, (60, 60, 3))
    (prob,) = run_graph(spec.path, np.full((1, 60, 60, 3), 99, np.uint8))[0]
    assert 0 <= float(prob[0]) <= 1
    assert (out / "curve.svg").read_text().startswith("<svg")
    check_damaged_runs_are_rejected(out)
    net, identity = load_run(out)
    assert identity["frame"]["channels"] == 3
    assert net(torch.full((1, 3, 60, 60), 99.0))[0].shape == (1,)


@pytest.mark.parametrize(
    ("split", "missing", "kind"),
    [
        ("val", "def_front", "defective"),
        ("val", "ok_front", "good"),
        ("test", "def_front", "defective"),
    ],
)
def test_a_gate_needs_both_labels_in_every_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str, missing: str, kind: str
) -> None:
    for seed, name in enumerate(("train", "val", "test")):
        data = castings(tmp_path / "set" / name, 4, seed)
    shutil.rmtree(tmp_path / "set" / split / missing)
    out = tmp_path / "run"
    assert run("gate", "--data", data.parent, "--out", out, "--steps", 2, "--threads", 1) == 65
    assert f"has no {kind} image in split '{split}'" in capsys.readouterr().err
    assert not (out / "checkpoint.pt").exists()


def check_damaged_runs_are_rejected(out: Path) -> None:
    """Each change is a DataError with a remedy, never a network of another shape."""
    run_json, checkpoint = out / "run.json", out / "checkpoint.pt"
    identity, state = json.loads(run_json.read_text()), checkpoint.read_bytes()
    for change in (
        {"kind": "detector"},
        {"frame": None},
        {"frame": {"channels": 1}},
        {"stride": -1},
        {"architecture": 5},
        {"name": None},
        {"classes": "defect"},
        {"ignore_black": None},
        {"architecture": "cnn"},
        {"frame": identity["frame"] | {"channels": 1}},
        {"kind": "segmenter", "architecture": "resunet-0.3m", "stride": 2},
    ):
        run_json.write_text(json.dumps(identity | change))
        with pytest.raises(DataError) as caught:
            load_run(out)
        assert caught.value.remedy
    for text in ("{}", "[]", '{"name": "model", "kind": "gate"}', "[" * 100_000):
        run_json.write_text(text)
        with pytest.raises(DataError):
            load_run(out)
    run_json.write_text(json.dumps(identity))
    whole = torch.load(checkpoint, weights_only=True)
    for change in (
        {"best": 5},
        {"best": {"a": torch.zeros(2)}},
        {"step": "x"},
        {"curve": [1]},
        {"done": None},
    ):
        torch.save(whole | change, checkpoint)
        with pytest.raises(DataError) as caught:
            load_run(out)
        assert str(checkpoint) in str(caught.value)
    checkpoint.write_bytes(state[: len(state) // 2])
    with pytest.raises(DataError, match=f"damaged, or was cut off after {len(state) // 2} bytes"):
        load_run(out)
    checkpoint.write_bytes(state)


def test_a_segmenter_from_thin_cracks(tmp_path: Path) -> None:
    data = cracks(tmp_path / "cracks")
    out = tmp_path / "run"
    arguments = (
        "segmenter",
        "--data",
        data,
        "--out",
        out,
        "--name",
        "crack",
        "--arch",
        "resunet-0.3m",
        "--steps",
        4,
        "--threads",
        1,
        "--set",
        "batch=2",
    )
    assert run(*arguments) == 0
    spec = ModelStore(out).resolve("crack")
    assert (spec.shape.height_px, spec.shape.width_px, spec.output_stride) == (50, 124, 2)
    assert len(spec.classes) == 1
    assert run(*arguments) == 73, "an existing run is not overwritten"
    curve = (out / "curve.csv").read_bytes()
    (out / "curve.csv").write_bytes(b"damaged")
    assert run(*arguments, "--resume") == 0, "a finished run is exported again"
    assert (out / "curve.csv").read_bytes() == curve, "rewritten from the checkpoint"
    assert run(*arguments, "--resume", "--seed", 2) == 65


@pytest.mark.parametrize(
    ("kind", "make", "code"),
    [
        ("gate", lambda root: root.mkdir(), 65),
        ("gate", lambda root: None, 65),
        ("gate", lambda root: one_class(root), 65),
        ("segmenter", lambda root: castings(root), 65),
        ("segmenter", lambda root: wrong_masks(root), 65),
    ],
    ids=["empty", "absent", "one class only", "no masks", "masks of another size"],
)
def test_unusable_data_ends_with_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, make: object, code: int
) -> None:
    assert callable(make)
    make(tmp_path / "data")
    exit_code = run(
        kind, "--data", tmp_path / "data", "--out", tmp_path / "run", "--steps", 2, "--threads", 1
    )
    err = capsys.readouterr().err
    assert exit_code == code, err
    assert "Traceback" not in err
    assert not list((tmp_path / "run").glob("*/1/model.onnx"))


def one_class(root: Path) -> None:
    castings(root)
    for path in (root / "def_front").iterdir():
        path.unlink()


def wrong_masks(root: Path) -> None:
    cracks(root)
    for path in (root / "masks").iterdir():
        cv2.imwrite(str(path), np.zeros((20, 20), np.uint8))


def test_invalid_options_are_usage_errors(tmp_path: Path) -> None:
    data = castings(tmp_path / "castings")
    base = ("gate", "--data", data, "--out", tmp_path / "run", "--steps", 1)
    assert run(*base, "--size", "big") == 64
    assert run(*base, "--set", "speed=9") == 64
    assert run(*base, "--resume", "--channels", "2") == 64


def test_another_folder_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no run folder"):
        load_run(tmp_path)


def test_comparison_of_gates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = castings(tmp_path / "castings")
    out = tmp_path / "runs"
    assert (
        run(
            "gate",
            "--data",
            data,
            "--out",
            out,
            "--compare",
            "small,cnn",
            "--steps",
            2,
            "--threads",
            1,
            "--set",
            "batch=4",
        )
        == 0
    )
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()[:3]] == ["network", "small", "cnn"]
    rows = json.loads((out / "comparison.json").read_text())["rows"]
    assert all(row["gmac"] > 0 and row["fp32"]["latency_ms"] > 0 for row in rows)
    assert all(row["int8"] or row["note"] for row in rows)


def test_every_unusable_image_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tmp_path / "set", tmp_path / "run"
    rng = np.random.default_rng(4)
    for index in range(40):
        image = rng.integers(90, 110, (48, 48), np.uint8)
        mask = np.zeros((48, 48), np.uint8)
        if index % 2:
            image[10:20, 10:20], mask[10:20, 10:20] = 240, 255
        for folder, pixels in (("images", image), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / f"p{index}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    (root / "images/p2.png").write_bytes(b"\x89PNG cut off")
    (root / "images/p3.jpg").write_bytes(
        cv2.imencode(".jpg", cv2.imread(str(root / "images/p3.png")))[1].tobytes()
    )
    small = np.full((9, 9), 255, np.uint8)
    (root / "masks/p5.png").write_bytes(cv2.imencode(".png", small)[1].tobytes())
    (root / "masks/stray.png").write_bytes(cv2.imencode(".png", small)[1].tobytes())
    options = ("--arch", "cnn", "--steps", 2, "--set", "batch=4", "--threads", 1)
    assert run("gate", "--data", root, "--out", out, *options) == 0
    err = capsys.readouterr().err
    left_out = json.loads((out / "run.json").read_text())["left_out"]
    assert {entry["name"] for entry in left_out} == {
        "p2.png",
        "p3.jpg",
        "p5.png",
        "masks/stray.png",
    }
    assert "4 images are skipped:" in err
    for entry in left_out:
        assert f"skipped: {entry['name']}: {entry['why']}" in err
    assert run("gate", "--data", root, "--out", out, *options, "--resume") == 0


@pytest.mark.slow
def test_copies_of_training_images_in_test_are_named_and_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out, rng = tmp_path / "set", tmp_path / "run", np.random.default_rng(5)
    for split, count in (("train", 6), ("valid", 3), ("test", 4)):
        for name in ("good", "hole"):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                image = surface(rng, 48, 48)
                if name == "hole":
                    image[10:20, 10:20] = 240
                cv2.imwrite(str(root / split / name / f"{split}-{index}.png"), image)
    for name in ("good", "hole"):
        shutil.copy(root / f"train/{name}/train-0.png", root / f"test/{name}/test-3.png")
    options = ("--arch", "cnn", "--steps", 2, "--set", "batch=4", "--threads", 1)
    assert run("gate", "--data", root, "--out", out, *options, "--json") == 0
    printed = capsys.readouterr()
    assert set(json.loads(printed.out)["skipped"]) == {
        "test/good/test-3.png",
        "test/hole/test-3.png",
    }
    assert "the same file as train/good/train-0.png in `train`: not measured on" in printed.err
    evaluate = ["evaluate", str(out), "--data", str(root), "--json", "--quiet"]
    assert main(evaluate) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["defective"], document["sound"], document["training_images"]) == (3, 3, 0)
    assert "2 images of `val` and `test` are copies of training images" in str(document["notes"])
    # The run's own split file says `test` of them, and hides nothing.
    assert main([*evaluate, "--split-file", str(out / "split.json")]) == 65
    assert "2 of 8 images are training images" in capsys.readouterr().err


@pytest.mark.slow
def test_a_refused_resume_says_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = castings(tmp_path / "castings"), tmp_path / "run"
    options = ("--data", data, "--out", out, "--arch", "cnn", "--steps", 2, "--threads", 1)
    assert run("gate", *options) == 0
    capsys.readouterr()
    first, second = (data / "ok_front" / f"cast_{index}.jpeg" for index in (0, 1))
    gone = first.read_bytes()
    first.unlink()
    assert run("gate", *options, "--resume") == 65
    error = capsys.readouterr().err
    assert "was started with other images: there were 50 images, now 49" in error
    assert "1 is gone (ok_front/cast_0.jpeg)" in error
    assert "Restore the data set" in error
    first.write_bytes(gone)
    second.rename(data / "ok_front" / "other.jpeg")
    assert run("gate", *options, "--resume") == 65
    assert "1 is new (ok_front/other.jpeg)" in capsys.readouterr().err
    (data / "ok_front" / "other.jpeg").rename(second)
    assert run("gate", *options, "--resume", "--set", "batch=3") == 65
    assert "recipe.batch was" in capsys.readouterr().err
    checkpoint = out / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    for command in (
        ["train", "gate", *map(str, options), "--resume"],
        ["evaluate", str(checkpoint), "--data", str(data)],
    ):
        assert main(command) == 65
        error = capsys.readouterr().err
        assert f"{checkpoint}: cannot be read: it is damaged, or was cut off after 5000" in error
        assert "Errno" not in error
