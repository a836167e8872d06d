"""`train anomaly` from a folder of good images to a graph that finds what they do not have."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests import needs

torch = needs.library("torch")
onnxruntime = needs.library("onnxruntime")
needs.library("onnxscript")

from edgeinspect.cli.main import main
from edgeinspect.domain import GOOD_PARTS_CONTRACT, ModelKind, model_outputs
from edgeinspect.errors import DataError, OutputError, UsageError
from edgeinspect.learning.evaluate import open_anomaly_map
from edgeinspect.learning.train.anomaly import AnomalyConfig, good_parts, train_good_parts
from edgeinspect.learning.train.anomaly.images import load_images, split_good
from tests.unit.learning.train.anomaly.tiny_encoder import TinyEncoder

SIDE = 64


def surface(rng: np.random.Generator, channels: int = 1) -> np.ndarray:
    """Stripes of random phase with noise."""
    rows = np.arange(SIDE)[:, None] + rng.uniform(0, 8)
    plain = 120 + 20 * np.sin(rows * 0.8) + rng.normal(0, 3, (SIDE, SIDE))
    image = np.clip(plain, 1, 255).astype(np.uint8)
    return image if channels == 1 else np.stack([image // 2, image, 255 - image], axis=2)


def damaged(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    image, mask = surface(rng), np.zeros((SIDE, SIDE), np.uint8)
    top, left = rng.integers(8, SIDE - 24, 2)
    cv2.circle(mask, (int(left) + 8, int(top) + 8), 7, 255, -1)
    image[mask > 0] = rng.integers(0, 256, int((mask > 0).sum()))
    return image, mask


def good_folder(root: Path, count: int = 12, channels: int = 1) -> Path:
    rng = np.random.default_rng(1)
    root.mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(root / f"{index:02}.png"), surface(rng, channels))
    return root


def labelled_set(root: Path) -> Path:
    """MVTec's layout: good images to train on, good and damaged ones with masks to test on."""
    rng = np.random.default_rng(2)
    for name in ("train/good", "test/good", "test/hit", "ground_truth/hit"):
        (root / name).mkdir(parents=True)
    for index in range(16):
        cv2.imwrite(str(root / f"train/good/{index:02}.png"), surface(rng))
    for index in range(8):
        cv2.imwrite(str(root / f"test/good/{index:02}.png"), surface(rng))
        image, mask = damaged(rng)
        cv2.imwrite(str(root / f"test/hit/{index:02}.png"), image)
        cv2.imwrite(str(root / f"ground_truth/hit/{index:02}_mask.png"), mask)
    return root


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(good_parts, "open_encoder", lambda config: (TinyEncoder(), None))


def config_for(data: Path, out: Path, **options: object) -> AnomalyConfig:
    return AnomalyConfig(data=data, out=out, name="unknown", entries=64, threads=1, **options)  # type: ignore[arg-type]


def outputs_of(out: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(out / "unknown/1/model.onnx"))
    frame = image.reshape(1, *image.shape[:2], -1)
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": frame}), strict=True))


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_a_labelled_set_is_measured_and_never_learned(tmp_path: Path):
    data = labelled_set(tmp_path / "set")
    accuracy = train_good_parts(config_for(data, tmp_path / "run")).accuracy
    test = accuracy["test"]
    assert (test["good"], test["defective"]) == (8, 8)
    assert test["auc"] >= 0.95
    assert test["pixel_auc"] >= 0.85
    assert 0.5 < test["region_overlap"] <= 1.0
    manifest = yaml.safe_load((tmp_path / "run/unknown/1/manifest.yaml").read_text())
    assert manifest["learned_from"] == "good"
    assert str(manifest["contract"]) == "3"
    assert manifest["thresholds"]["reject"] == 0.5
    assert manifest["accuracy"]["false_rejects"]["held_out_good"] == 16
    assert json.loads((tmp_path / "run/split.json").read_text())["splits"]["test"]
    # The outputs agree with one another, and the map with its mask.
    rng = np.random.default_rng(9)
    image, mask = damaged(rng)
    outputs = outputs_of(tmp_path / "run", image)
    assert tuple(outputs) == model_outputs(ModelKind.SEGMENTER, GOOD_PARTS_CONTRACT)
    cells = int(outputs["class_map"].sum())
    assert outputs["class_map"].shape == (1, SIDE // 8, SIDE // 8)
    assert outputs["class_area_px"][0, 0] == cells * 64
    assert outputs["defect_prob"][0] > 0.5
    assert cells > 0
    read_map = open_anomaly_map(tmp_path / "run/unknown/1/model.onnx")
    assert read_map is not None
    values, prob = read_map(image[:, :, None])
    assert prob == pytest.approx(outputs["defect_prob"][0])
    rows, columns = np.nonzero(mask)
    peak = np.unravel_index(values.argmax(), values.shape)
    assert abs(peak[0] * 8 + 4 - rows.mean()) < 20
    assert abs(peak[1] * 8 + 4 - columns.mean()) < 20
    heat = outputs["heat_map"][0]
    assert (heat.shape, heat.dtype) == ((SIDE // 16, SIDE // 16), np.uint8)
    assert int(heat.max()) >= 128
    assert (
        np.abs(np.array(np.unravel_index(heat.argmax(), heat.shape)) - np.array(peak) // 2).max()
        <= 1
    )


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_the_same_images_and_seed_give_the_same_bytes_and_colour_works(tmp_path: Path):
    data = good_folder(tmp_path / "good", count=5, channels=3)
    first = train_good_parts(config_for(data, tmp_path / "a"))
    second = train_good_parts(config_for(data, tmp_path / "b"))
    graphs = [(tmp_path / run / "unknown/1/model.onnx").read_bytes() for run in ("a", "b")]
    assert graphs[0] == graphs[1]
    assert first.accuracy == second.accuracy
    assert first.accuracy["folds"] == 5
    assert first.accuracy["false_rejects"]["extrapolated"]
    frame = cv2.imread(str(data / "00.png"))
    assert outputs_of(tmp_path / "a", frame)["defect_prob"][0] < 0.5


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize("has_defective", [True, False])
def test_its_line_runs_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], has_defective: bool
):
    make = labelled_set if has_defective else good_folder
    trained = train_good_parts(config_for(make(tmp_path / "a set"), tmp_path / "run"))
    assert trained.line == tmp_path / "run/line.yaml"
    assert main(["check", str(trained.line)]) == 0
    assert "this line can run" in capsys.readouterr().out
    run = ["run", str(trained.line), "--set", f"spool.folder={tmp_path}"]
    done = subprocess.run([sys.executable, "-m", "edgeinspect", *run], timeout=120, check=False)
    assert done.returncode == 0
    assert main(["ledger", "query", str(trained.line), "--json"]) == 0
    rows = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    splits = json.loads((tmp_path / "run/split.json").read_text())["splits"]
    names = splits["test" if has_defective else "train"]
    assert {row["label"].rpartition("/")[2] for row in rows} == {Path(name).name for name in names}
    rejected = sum(row["decision"] == "REJECT" for row in rows)
    if has_defective:
        test = trained.accuracy["test"]
        assert rejected == test["found"] + test["false_rejects"]
    else:
        assert rejected == 0


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_a_proof_on_good_images_of_the_training_that_were_moved_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    learned, labelled = good_folder(tmp_path / "good", count=4), tmp_path / "labelled"
    train_good_parts(config_for(learned, tmp_path / "run"))
    shutil.copytree(learned, labelled / "good")
    (labelled / "bad").mkdir()
    rng = np.random.default_rng(6)
    for index in range(3):
        cv2.imwrite(str(labelled / f"bad/{index}.png"), damaged(rng)[0])
    code = main(["evaluate", str(tmp_path / "run"), "--data", str(labelled), "--split", "all"])
    assert code == 65
    assert "4 of 7" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_images_that_it_has_not_seen_the_like_of_are_selected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    train_good_parts(config_for(good_folder(tmp_path / "good"), tmp_path / "run"))
    frames, rng = tmp_path / "frames", np.random.default_rng(8)
    frames.mkdir()
    shutil.copy(tmp_path / "good" / "03.png", frames / "learned.png")
    for index in range(6):
        cv2.imwrite(str(frames / f"good{index}.png"), surface(rng))
    for index in range(2):
        odd = cv2.circle(surface(rng), (20 + 20 * index, 30), 18, 250 * index, -1)
        cv2.imwrite(str(frames / f"odd{index}.png"), odd)
    command = ["data", "select", str(frames), "--model", str(tmp_path / "run"), "--quiet"]
    sheet = ["--sheet", str(tmp_path / "sheet.png")]
    assert main([*command, "--by", "unlike", "--count", "3", *sheet, "--json"]) == 0
    unlike = json.loads(capsys.readouterr().out)
    opinions = {one["name"]: one["opinions"][0] for one in unlike["selected"]}
    assert {"odd0.png", "odd1.png"} <= opinions.keys()
    assert opinions["odd0.png"].startswith("defect_prob 0.9")
    assert unlike["labelled"] == {"unknown/1": 1}
    assert main([*command, "--by", "uncertain", "--json"]) == 0
    values = [one["value"] for one in json.loads(capsys.readouterr().out)["selected"]]
    assert values == sorted(values, reverse=True)
    assert all(value >= 0.05 for value in values)


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_equal_images_give_a_model_that_passes_them_and_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = tmp_path / "same"
    root.mkdir()
    image = surface(np.random.default_rng(4))
    for index in range(4):
        cv2.imwrite(str(root / f"{index}.png"), image)
    arguments = ["train", "anomaly", "--data", str(root), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--name", "unknown", "--entries", "64", "--threads", "1"]) == 0
    err = capsys.readouterr().err
    assert "note: the folder has no labels: every image is taken as good" in err
    assert "note: 4 good images are copies of 1 different image" in err
    assert outputs_of(tmp_path / "run", image)["defect_prob"][0] < 0.5
    assert outputs_of(tmp_path / "run", damaged(np.random.default_rng(5))[0])["defect_prob"] > 0.5


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_letterbox_borders_are_never_unknown(tmp_path: Path):
    data = good_folder(tmp_path / "good")
    train_good_parts(config_for(data, tmp_path / "run", size=(64, 128)))
    frame = np.zeros((64, 128), np.uint8)
    frame[:, 32:96] = surface(np.random.default_rng(6))
    read_map = open_anomaly_map(tmp_path / "run/unknown/1/model.onnx")
    assert read_map is not None
    values, _prob = read_map(frame[:, :, None])
    assert values[:, 4:12].all()
    assert not values[:, :4].any()
    assert not values[:, 12:].any()


def test_a_folder_of_images_is_good_and_one_with_labels_is_not_guessed(tmp_path: Path):
    data = good_folder(tmp_path / "good")
    images = load_images(config_for(data, tmp_path / "run"), lambda *_: None)
    assert len(images.good) == 12
    assert images.validation is None
    assert images.test is None
    assert any("every image is taken as good" in note for note in images.data.notes)
    assert not any("copies" in note for note in images.data.notes)
    for below in ("nested/train/good", "named/scratches"):
        (tmp_path / below).parent.mkdir(parents=True)
        shutil.copytree(data, tmp_path / below)
    nested = load_images(config_for(tmp_path / "nested", tmp_path / "run"), lambda *_: None)
    assert len(nested.good) == 12
    with pytest.raises(DataError):
        load_images(config_for(tmp_path / "named", tmp_path / "run"), lambda *_: None)
    (data / "labels.json").write_text("{}")
    with pytest.raises(DataError):
        load_images(config_for(data, tmp_path / "run"), lambda *_: None)


def test_defective_images_are_never_in_train(tmp_path: Path):
    rng = np.random.default_rng(3)
    for name, count in (("good", 30), ("scratch", 8)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(count):
            cv2.imwrite(str(tmp_path / "set" / name / f"{index}.png"), surface(rng))
    config = config_for(tmp_path / "set", tmp_path / "run")
    images = load_images(config, lambda *_: None)
    assert not images.good.defective.any()
    assert images.validation is not None
    assert images.test is not None
    assert images.validation.defective.sum() == images.test.defective.sum() == 4
    assert images.data == split_good(images.data, config)


@pytest.mark.parametrize(("first", "count"), [("hole", 5), ("good", 2)])
def test_too_few_good_images_are_refused(tmp_path: Path, first: str, count: int):
    rng = np.random.default_rng(3)
    for name, number in ((first, count), ("scratch", 5)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(number):
            cv2.imwrite(str(tmp_path / "set" / name / f"{index}.png"), surface(rng))
    with pytest.raises(DataError, match="good image") as raised:
        load_images(config_for(tmp_path / "set", tmp_path / "run"), lambda *_: None)
    assert raised.value.remedy


@pytest.mark.usefixtures("_tiny")
def test_black_images_and_a_folder_with_a_training_are_refused(tmp_path: Path):
    root = tmp_path / "black"
    root.mkdir()
    for index in range(3):
        cv2.imwrite(str(root / f"{index}.png"), np.zeros((64, 64), np.uint8))
    with pytest.raises(DataError, match="3 black images of 3"):
        train_good_parts(config_for(root, tmp_path / "run"))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(OutputError, match="holds a training already"):
        train_good_parts(config_for(root, tmp_path / "old"))


def test_an_encoder_without_weights_is_refused_before_an_image_is_read(tmp_path: Path):
    config = AnomalyConfig(tmp_path / "missing", tmp_path / "run", "unknown", encoder="resnet18")
    with pytest.raises(UsageError, match="no package ships weights"):
        train_good_parts(config)
    config = AnomalyConfig(tmp_path / "missing", tmp_path / "run", "unknown", encoder="lite9")
    with pytest.raises(UsageError, match="there is no encoder"):
        train_good_parts(config)


def test_copies_of_good_images_are_neither_measured_on_nor_held_out_of_each_other(tmp_path: Path):
    data = labelled_set(tmp_path / "set")
    shutil.copy(data / "train/good/00.png", data / "train/good/01.png")
    shutil.copy(data / "train/good/02.png", data / "test/good/03.png")
    images = load_images(config_for(data, tmp_path / "run"), lambda *_: None)
    assert images.test is not None
    assert len(images.test) == 15
    (copy,) = images.left_out
    assert copy.name == "test/good/03.png"
    assert "the same file as train/good/02.png in `train`" in copy.reason
    assert "test/good/03.png" in {sample.name for sample in images.data.in_splits("test")}
    names = [str(name) for name in images.good.names]
    groups = dict(zip(names, images.groups, strict=True))
    assert groups["train/good/00.png"] == groups["train/good/01.png"] != ""
    assert groups["train/good/04.png"] != groups["train/good/00.png"]
