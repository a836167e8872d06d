"""The line file of a training: `check` accepts it, `run` inspects the test images with it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from tests import needs

torch = needs.library("torch")
needs.library("openvino")

from edgeinspect.cli.main import main
from edgeinspect.learning.datasets.arrays import ImageArrays
from edgeinspect.learning.evaluate import (
    NO_GATE,
    SplitScores,
    area_candidates,
    choose_class_thresholds,
)
from edgeinspect.learning.train.line_thresholds import (
    LineGraphs,
    smallest_region_px,
)
from edgeinspect.storage.model_store import read_manifest

CLASSES = ("dot", 'a "line": #1')


def parts(root: Path, count: int = 40) -> Path:
    """Images of 48 x 64 pixels, 16 bits deep, with bright defects of two classes."""
    rng = np.random.default_rng(5)
    for name in ("images", *(f"masks/{name}" for name in CLASSES)):
        (root / name).mkdir(parents=True)
    for index in range(count):
        image = rng.integers(9000, 12000, (48, 64), np.uint16)
        name = f"part {index}.png"
        if index % 4 in (1, 3):
            width = 12 if index % 4 == 1 else 40
            mask = np.zeros((48, 64), np.uint8)
            mask[20:32, 10 : 10 + width] = 255
            image[mask > 0] = 60000
            cv2.imwrite(str(root / "masks" / CLASSES[index % 4 == 3] / name), mask)
        cv2.imwrite(str(root / "images" / name), image)
    return root


def train(kind: str, data: Path, out: Path, *options: object) -> int:
    arch = "cnn" if kind == "gate" else "resunet-0.3m"
    words = ("--arch", arch, "--steps", 40, "--threads", 1, "--set", "batch=8")
    return main(
        [str(each) for each in ("train", kind, "--data", data, "--out", out, *words, *options)]
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gate, and a segmenter that was paired with it."""
    root = tmp_path_factory.mktemp("a folder: with # marks")
    data = parts(root / "parts")
    assert train("gate", data, root / "gate") == 0
    assert train("segmenter", data, root / "pair", "--pair", root / "gate") == 0
    return root


def checked(line: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["check", str(line)]) == 0
    assert "this line can run" in capsys.readouterr().out
    document = yaml.safe_load(line.read_text())
    assert isinstance(document, dict)
    return document


@pytest.mark.slow
def test_the_line_of_a_gate(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = checked(runs / "gate" / "line.yaml", capsys)
    limits = line["decide"]["gate"]
    proposed = read_manifest(runs / "gate" / "gate" / "1" / "manifest.yaml").thresholds
    for key in ("suspect_at", "reject_at", "degraded_reject_at"):
        assert limits[key] == proposed["degraded"], "a gate alone rejects at this one"
    assert "classes" not in line["decide"]
    assert line["cameras"]["top"]["bits"] == 16


@pytest.mark.slow
def test_the_line_of_a_pair_runs_over_the_test_images(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = checked(runs / "pair" / "line.yaml", capsys)
    assert line["engines"].keys() == {"gate", "segmenter"}
    rules = line["decide"]["classes"]
    assert set(rules) == set(CLASSES)
    assert len({rule["reject_code"] for rule in rules.values()} | {10}) == 3
    assert all(1 <= rule["severity"] <= 9 for rule in rules.values())
    split = json.loads((runs / "pair" / "split.json").read_text())
    assert split["splits"] == json.loads((runs / "gate" / "split.json").read_text())["splits"]
    names = (runs / "pair" / "test-images.txt").read_text().splitlines()
    assert sorted(names) == sorted(split["splits"]["test"])
    spool = f"spool.folder={tmp_path}"
    run = ["run", str(runs / "pair" / "line.yaml"), "--set", spool]
    done = subprocess.run([sys.executable, "-m", "edgeinspect", *run], timeout=120, check=False)
    assert done.returncode == 0
    capsys.readouterr()
    query = ["ledger", "query", str(runs / "pair" / "line.yaml"), "--json"]
    assert main(query) == 0
    rows = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    inspected = {row["label"]: row["decision"] for row in rows}
    assert inspected.keys() == set(names)
    assert "NO_VERDICT" not in inspected.values()


@pytest.mark.slow
def test_the_next_commands_can_be_pasted(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train("gate", runs / "parts", runs / "gate", "--resume", "--json") == 0
    outcome = json.loads(capsys.readouterr().out)
    commands = [shlex.split(each["command"]) for each in outcome["next"]]
    assert [words[1:3] for words in commands if words[1] in ("train", "models")] == [
        ["train", "segmenter"],
        ["models", "add"],
    ]
    assert commands[1][-2:] == ["--pair", str(runs / "gate")]
    for words in commands:
        if words[1] in ("evaluate", "models", "check"):
            assert main(words[1:]) == 0, words
    (added,) = tmp_path.glob("engines/*/1")
    split = (runs / "gate/split.json").read_bytes()
    assert (added / "split.json").read_bytes() == split, "a store knows the training's images"
    assert train("gate", runs / "parts", runs / "gate", "--resume") == 0
    printed = capsys.readouterr().out
    assert "images" in printed
    assert "pictures" not in printed
    joined = printed.replace("\\\n", "")
    for words in commands:
        assert shlex.join(words) in " ".join(joined.split())


@pytest.mark.slow
def test_an_edited_line_file_is_kept(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, new = (runs / "gate" / name for name in ("line.yaml", "line.new.yaml"))
    written = path.read_text()
    resume = ("gate", runs / "parts", runs / "gate", "--resume")
    assert train(*resume) == 0
    assert path.read_text().split("budget_ms")[1] == written.split("budget_ms")[1]
    assert not new.exists(), "an unchanged one is replaced"
    edited = path.read_text().replace("mm_per_px_x: 1", "mm_per_px_x: 0.25")
    path.write_text(edited)
    capsys.readouterr()
    assert train(*resume) == 0
    assert "line.yaml was edited and is kept" in capsys.readouterr().out
    assert path.read_text() == edited
    assert "mm_per_px_x: 1" in new.read_text()
    new.unlink()
    path.write_text(written)


def scores(*rows: tuple[float, float]) -> SplitScores:
    """Score and largest region of one class, for each image."""
    table = np.array(rows)
    return SplitScores(np.ones(len(rows)), table[:, :1], table[:, 1:])


def test_sensitive_thresholds_exclude_the_good_images_and_no_more() -> None:
    found = scores((0.9, 400), (0.8, 300), (0.7, 60), (0.6, 48))
    defective = np.array([True, True, False, False])
    strict = choose_class_thresholds(found, defective, ("dot",), NO_GATE)["dot"]
    chosen = choose_class_thresholds(found, defective, ("dot",), NO_GATE, sensitive=True)["dot"]
    assert strict == {"score": 0.8, "area_px": 256.0}
    assert chosen == {"score": 0.75, "area_px": 48.0}


def test_a_class_that_no_validation_image_has_is_still_found() -> None:
    table = np.array([[0.9], [0.1]])
    nothing = np.zeros((2, 1))
    both = SplitScores(np.ones(2), np.hstack([table, nothing]), np.hstack([500 * table, nothing]))
    chosen = choose_class_thresholds(
        both, np.array([True, False]), ("dot", "line"), NO_GATE, sensitive=True
    )
    assert chosen["line"] == {"score": 0.5, "area_px": 48.0}


def test_defects_below_the_default_area_are_tried() -> None:
    masks = np.zeros((3, 32, 32), np.uint8)
    masks[0, 4:8, 4:8] = 1
    masks[1, 4:9, 4:9] = 2
    masks[2] = 255
    images = ImageArrays(
        np.zeros((3, 32, 32, 1), np.uint8),
        masks,
        np.array([True, True, False]),
        ["a", "b", "c"],
        ("dot", "line"),
    )
    assert 16 <= smallest_region_px(images) < 17
    areas = area_candidates(16)
    assert min(areas) == 4
    assert list(areas) == sorted(areas)
    assert min(area_candidates(500)) == 48
    graphs = LineGraphs(None, Path("segmenter"), 2)
    found = SplitScores(
        np.ones(3), np.array([[0.9, 0], [0, 0.9], [0, 0]]), np.array([[16.0, 0], [0, 24], [0, 0]])
    )
    chosen = graphs.choose(found, images, images.classes)
    assert chosen.gate is None
    assert chosen.classes["dot"]["area_px"] <= 16
