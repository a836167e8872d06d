"""Which model a name is: of the store if it is named, else of a folder, and what it cannot be."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

from edgeinspect.cli.main import main
from edgeinspect.errors import ModelError
from edgeinspect.learning.evaluate import load_engine, resolve_model
from edgeinspect.storage.model_store import ModelStore
from tests import graphs, needs
from tests.unit.learning.evaluate.small_datasets import make_image, write_dataset

needs.library("onnxruntime")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store, frames, and a folder `tiny-gate` that holds no model."""
    graphs.install(tmp_path / "store", graphs.gate(), thresholds={"reject": 0.5})
    (tmp_path / "tiny-gate").mkdir()
    (tmp_path / "frames").mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / "frames" / f"{index}.png"), make_image("good", index)[0])
    write_dataset(tmp_path / "set", ["good", "dark"] * 4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = [
    "evaluate tiny-gate --data set",
    "compare tiny-gate tiny-gate/1 --data set",
    "explain tiny-gate frames/0.png --out explained",
    "data select frames --model tiny-gate --out selected.csv",
    "rescore frames --model tiny-gate --out scored --backend ort --plain",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_store_that_is_named_goes_before_a_folder(
    command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "--store", "store"]) == 0, capsys.readouterr().err
    # In front too: the options of a command have no order.
    words = command.split()
    place = 2 if words[0] == "data" else 1
    for path in ("explained", "scored"):
        shutil.rmtree(here / path, ignore_errors=True)
    assert main([*words[:place], "--store", "store", *words[place:]]) == 0


def test_without_a_named_store_the_folder_is_meant(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEINSPECT_STORE", str(here / "store"))
    assert main(["evaluate", "tiny-gate", "--data", "set"]) != 0
    assert "tiny-gate" in capsys.readouterr().err
    with pytest.raises(ModelError, match=r"holds no manifest\.yaml"):
        load_engine("tiny-gate", "ort")
    load_engine("tiny-gate", "ort", store=ModelStore(here / "store")).close()


def test_models_add_takes_the_folder_and_a_store_without_the_name_leaves_it(here: Path) -> None:
    shutil.copytree(here / "store" / "tiny-gate" / "1", here / "other")
    add = ["models", "add", "other", "--store", "store", "--json"]
    assert main(add) == 0
    assert (here / "store" / "tiny-gate" / "2").is_dir()
    store, ref = resolve_model("other", ModelStore(here / "store"), store_first=True)
    assert store.resolve(ref).id.name == "tiny-gate"


@pytest.mark.parametrize("name", ["runs/nosuch", "./nosuch", "a/b/c"])
def test_a_path_that_is_not_there_is_named_as_one(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", name, "--data", "set"]) == ModelError("").exit_code
    error = capsys.readouterr().err
    assert f"{name.removeprefix('./')}: there is no such file or folder" in error
    assert "Give NAME/VERSION of the store, a model's folder" in error
    with pytest.raises(ModelError, match="there is no such file or folder, and it is no name"):
        load_engine(name, "ort")


def test_a_misspelt_path_has_its_neighbour(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "runs" / "gate").mkdir(parents=True)
    assert main(["evaluate", "runs/gaet", "--data", "set"]) != 0
    assert "Did you mean runs/gate?" in capsys.readouterr().err
