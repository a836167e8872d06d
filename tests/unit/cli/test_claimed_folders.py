"""Commands that fill a folder over a long time refuse one that another process fills."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeinspect.cli.main import main
from edgeinspect.system import CLAIM_FILE, claim_folder
from tests import graphs, needs
from tests.unit.learning.evaluate.small_datasets import write_dataset

needs.library("onnxruntime")


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    data = write_dataset(tmp_path / "set", ["good", "dark"] * 10, split="")
    graphs.install(tmp_path / "store", graphs.gate(), thresholds={"reject": 0.5})
    names = {"data": data, "images": data / "images", "store": tmp_path / "store"}
    return {name: str(path) for name, path in names.items()}


TRAININGS = {
    "gate": "train gate --data {data} --out {out} --arch cnn --steps 2",
    "compared gates": "train gate --data {data} --out {out} --compare cnn,small --steps 2",
    "segmenter": "train segmenter --data {data} --out {out} --arch resunet-0.8m --steps 2",
    "anomaly": "train anomaly --data {data} --out {out} --weights none",
}
OTHERS = {
    "data select": "data select {images} --model tiny-gate --store {store} --out {out}",
    "explain": "explain tiny-gate {images} --store {store} --out {out}",
}
UNSEEN = {
    "data convert": "data convert {data} --out {out} --to edgeinspect",
    "data example": "data example {out}",
}


def check_refused(
    command: str, paths: dict[str, str], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(out=out, **paths) for word in command.split()]
    assert main(words) == 73
    error = capsys.readouterr().err
    assert f"{out}: another process is writing into this folder" in error
    assert "give another folder" in error


@pytest.mark.parametrize("name", TRAININGS)
def test_a_second_training_is_refused_before_it_reads_an_image(
    name: str, paths: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs.library("torch")
    needs.library("onnxscript")
    out = tmp_path / "out"
    with claim_folder(out):
        for image in Path(paths["images"]).iterdir():
            image.write_bytes(b"not read")
        check_refused(TRAININGS[name], paths, out, capsys)
        assert [path.name for path in out.iterdir()] == [CLAIM_FILE]
        for file in ("run.json", "checkpoint.pt"):  # with or without --resume
            (out / file).write_text("{}")
        check_refused(TRAININGS[name], paths, out, capsys)


@pytest.mark.parametrize("name", OTHERS)
def test_a_second_command_is_refused(
    name: str, paths: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with claim_folder(out):
        check_refused(OTHERS[name], paths, out, capsys)
        assert [path.name for path in out.iterdir()] == [CLAIM_FILE]
    words = [word.format(out=out, **paths) for word in OTHERS[name].split()]
    assert main(words) == 0
    assert out.exists()
    assert not (out / CLAIM_FILE).exists()


@pytest.mark.parametrize("name", UNSEEN)
def test_a_set_that_appears_when_it_is_complete_has_one_writer(
    name: str, paths: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, part = tmp_path / "out", tmp_path / ".out.part"
    words = [word.format(out=out, **paths) for word in UNSEEN[name].split()]
    with claim_folder(part):
        (part / "set").mkdir()
        check_refused(UNSEEN[name], paths, out, capsys)
        assert (part / "set").is_dir(), "the first writer's"
    assert main(words) == 0, "what a killed writer has left is replaced"
    assert out.is_dir()
    assert not part.exists()
    assert not (out / CLAIM_FILE).exists()


def test_a_finished_training_is_refused_before_it_reads_an_image(
    paths: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs.library("torch")
    needs.library("onnxscript")
    out = tmp_path / "out"
    out.mkdir()
    for name in ("run.json", "checkpoint.pt"):
        (out / name).write_text("{}")
    for image in Path(paths["images"]).iterdir():
        image.write_bytes(b"not read")
    words = [word.format(out=out, **paths) for word in TRAININGS["gate"].split()]
    assert main(words) == 73
    assert "holds a training already" in capsys.readouterr().err
