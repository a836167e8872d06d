"""What a training refuses before it reads an image: names, weights, settings, folders, pairs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import needs

torch = needs.library("torch")

from edgeinspect.cli.main import main
from edgeinspect.learning.train import architectures, preparation
from edgeinspect.learning.train.checkpoint import RunFolder


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty images of 48 x 64 pixels with masks of two classes, in folders of their own."""
    root = tmp_path_factory.mktemp("data") / "parts"
    rng = np.random.default_rng(5)
    for name in ("images", "masks/dot", "masks/line"):
        (root / name).mkdir(parents=True)
    for index in range(30):
        image = rng.integers(90, 120, (48, 64), np.uint8)
        kind = ("good", "dot", "line")[index % 3]
        if kind != "good":
            mask = np.zeros((48, 64), np.uint8)
            mask[10:22, 10 : 22 if kind == "dot" else 50] = 255
            image[mask > 0] = 230
            cv2.imwrite(str(root / "masks" / kind / f"{kind}-{index}.png"), mask)
        cv2.imwrite(str(root / "images" / f"{kind}-{index}.png"), image)
    return root


@pytest.fixture(scope="module")
def gate_run(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training of a gate."""
    out = tmp_path_factory.mktemp("runs") / "gate"
    assert _train("gate", parts, out) == 0
    return out


def _train(kind: str, data: Path, out: Path, *options: object) -> int:
    short = ("--steps", 2, "--threads", 1, "--set", "batch=4", "--arch")
    name = "cnn" if kind == "gate" else "resunet-0.3m"
    arguments = ("train", kind, "--data", data, "--out", out, *short, name, *options)
    return main([str(each) for each in arguments])


@pytest.fixture
def no_image_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("an image was read")

    for name in ("load_arrays", "common_size", "infer_channels"):
        monkeypatch.setattr(preparation, name, refuse)


@pytest.fixture
def no_data_is_opened(monkeypatch: pytest.MonkeyPatch, no_image_is_read: None) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("the data set was opened")

    monkeypatch.setattr(preparation, "open_dataset", refuse)


def _text(content: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "file"
        path.write_text(content)
        return path

    return write


def _weights(folder: Path) -> Path:
    path = folder / "weights.pth"
    torch.save({"conv1.weight": torch.zeros(2)}, path)
    return path


def _list_of_weights(folder: Path) -> Path:
    path = folder / "weights.pth"
    torch.save([torch.zeros(2)], path)
    return path


REFUSED: dict[str, tuple[Sequence[object], int, str]] = {
    "network": (("--arch", "tiny"), 64, "there is no gate 'tiny'"),
    "network of the other kind": (("--arch", "resunet-3m"), 64, "there is no gate"),
    "name": (("--name", "My Gate"), 64, "cannot be the name of a model"),
    "size": (("--size", "big"), 64, "--size"),
    "key": (("--set", "speed=9"), 64, "'speed=9' sets nothing"),
    "type": (("--set", "batch=many"), 64, "batch"),
    "range": (("--set", "batch=0"), 64, "batch=0 must be above 0"),
    "rate": (("--set", "learning_rate=-1e-3"), 64, "learning_rate=-0.001 must be above 0"),
    "ratio": (("--set", "whole_ratio=7"), 64, "whole_ratio=7.0 must be between 0 and 1"),
    "missing weights": (("--weights", "absent.pth"), 65, "no such file"),
    "text as weights": (("--arch", "resnet18", "--weights", _text("abc")), 65, "weights"),
    "a list as weights": (
        ("--arch", "resnet18", "--weights", _list_of_weights),
        65,
        "holds no state dict",
    ),
    "weights of another network": (
        ("--arch", "resnet18", "--weights", _weights),
        65,
        "the weights are of another network",
    ),
    "split file": (("--split-file", _text('{"splits": 5, "names_sha256": "a"}')), 65, "split file"),
    "nothing to resume": (("--resume",), 64, "there is no training to resume"),
    "a pair that is no run": (("--pair", "."), 65, "not a training run"),
    "a pair that is absent": (("--pair", "absent"), 65, "no such file or folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_options_are_refused_before_the_data_set_is_opened(
    case: str,
    parts: Path,
    tmp_path: Path,
    no_data_is_opened: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options, code, words = REFUSED[case]
    given = [each(tmp_path) if callable(each) else each for each in options]
    assert _train("gate", parts, tmp_path / "run", *given) == code
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_frame_that_the_class_map_does_not_cover_is_refused(
    parts: Path, tmp_path: Path, no_data_is_opened: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert _train("segmenter", parts, out, "--stride", 4, "--size", "50x62") == 64
    assert "Give --size 52x64" in capsys.readouterr().err


def test_the_folder_of_another_training_is_refused_at_once(
    gate_run: Path,
    parts: Path,
    tmp_path: Path,
    no_data_is_opened: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _train("gate", parts, gate_run) == 73
    assert "holds a training already" in capsys.readouterr().err
    for options, words in (
        (("--seed", 2), "recipe.seed was 1, is 2"),
        (("--name", "other"), "name was 'gate', is 'other'"),
        (("--arch", "small"), "architecture was 'cnn', is 'small'"),
    ):
        assert _train("gate", parts, gate_run, "--resume", *options) == 65
        assert words in capsys.readouterr().err
    assert _train("segmenter", parts, gate_run, "--resume") == 65
    assert "kind was 'gate', is 'segmenter'" in capsys.readouterr().err
    assert _train("gate", parts, parts / "run") == 73
    assert "would be read as data" in capsys.readouterr().err
    broken = tmp_path / "broken"
    shutil.copytree(gate_run, broken)
    RunFolder(broken).checkpoint.write_bytes(b"PK\x03\x04")
    assert _train("gate", parts, broken, "--name", "gate", "--resume") == 65
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_a_wrong_pair_is_refused_before_an_image_is_read(
    gate_run: Path,
    parts: Path,
    tmp_path: Path,
    no_image_is_read: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pair = ("--pair", gate_run)

    def refusal(kind: str, data: Path, *options: object) -> str:
        code = _train(kind, data, tmp_path / "run", *pair, *options)
        assert code in (64, 65)
        return capsys.readouterr().err

    assert "a pair is a gate and a segmenter" in refusal("gate", parts)
    assert "Leave out --size" in refusal("segmenter", parts, "--size", "48x48")
    assert "both see the same frame" in refusal("segmenter", parts, "--channels", 3)
    assert "both models would be named gate" in refusal("segmenter", parts, "--name", "gate")
    other = tmp_path / "fewer"
    shutil.copytree(parts, other)
    (other / "images" / "good-0.png").unlink()
    err = refusal("segmenter", other)
    assert f"--pair {gate_run}: was not trained on {other}: its split.json splits other" in err
    assert "data split" not in err, "a new split would not mend the pair"
    split = tmp_path / "split.json"
    assert main(["data", "split", str(parts), "--out", str(split), "--seed", "9"]) == 0
    assert "another split" in refusal("segmenter", parts, "--split-file", split)
    renamed = tmp_path / "renamed"
    shutil.copytree(parts, renamed)
    (renamed / "masks" / "line").rename(renamed / "masks" / "slit")
    assert "was trained on the classes dot, line" in refusal("segmenter", renamed)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(gate_run, unfinished)
    shutil.rmtree(unfinished / "gate")
    assert _train("segmenter", parts, tmp_path / "run", "--pair", unfinished) == 65
    assert "without an exported model" in capsys.readouterr().err
    (unfinished / "run.json").write_text(json.dumps({"kind": "gate"}))
    assert _train("segmenter", parts, tmp_path / "run", "--pair", unfinished) == 65


def test_a_run_from_good_parts_is_no_pair(
    parts: Path, tmp_path: Path, no_data_is_opened: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "unknown"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"kind": "good-parts", "name": "unknown"}))
    assert _train("segmenter", parts, tmp_path / "run", "--pair", run) == 65
    err = capsys.readouterr().err
    assert "is a training from good parts, which is neither a gate nor a segmenter" in err
    assert "enum" not in err


def _kinds(root: Path) -> Path:
    """Images of whole kinds, without masks."""
    rng = np.random.default_rng(7)
    for kind in ("good", "dent", "scratch"):
        (root / kind).mkdir(parents=True)
        for index in range(8):
            image = rng.integers(90, 120, (48, 64), np.uint8)
            cv2.imwrite(str(root / kind / f"{kind}-{index}.png"), image)
    return root


def test_labels_that_the_network_cannot_learn_are_refused_before_an_image_is_read(
    tmp_path: Path, no_image_is_read: None, capsys: pytest.CaptureFixture[str]
) -> None:
    data = _kinds(tmp_path / "the kinds")
    assert _train("gate", data, tmp_path / "run", "--arch", "small") == 64
    assert "'small' does not tell kinds of defects apart" in capsys.readouterr().err
    assert _train("segmenter", data, tmp_path / "run") == 65
    err = capsys.readouterr().err
    assert f"{data}: has no masks, which a segmenter is trained on" in err
    assert f"edgeinspect train gate --data '{data}'" in err
    _train("gate", data, tmp_path / "run", "--arch", "small", "--no-kinds")
    assert "AssertionError: an image was read" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["gate", "segmenter"])
def test_a_folder_in_which_nothing_can_be_made_is_refused_at_once(
    kind: str, parts: Path, no_data_is_opened: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(kind, parts, Path("/proc/x/y")) == 73
    assert "cannot be written" in capsys.readouterr().err


def test_a_check_does_not_change_the_random_numbers_of_the_training() -> None:
    from edgeinspect.learning.train import defaults
    from edgeinspect.learning.train.plan import TrainingConfig
    from edgeinspect.learning.train.preconditions import build_network

    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    config = TrainingConfig("gate", Path("data"), Path("out"), "gate", architecture="cnn")
    build_network(config)
    assert torch.equal(torch.rand(4), expected)
    assert defaults.GATE.architecture in architectures.GATE_NAMES
