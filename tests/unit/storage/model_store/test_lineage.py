"""A name stands for one product: other kinds, classes and data sets are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeinspect.cli.main import main
from edgeinspect.errors import ModelError
from edgeinspect.storage.model_store import ModelStore
from tests import graphs, needs

needs.library("onnxruntime")

WASHERS = {"data": "washers, 140 images"}
OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "kind": (
        {"kind": "segmenter", "model": graphs.segmenter},
        "is a gate, this one a segmenter",
    ),
    "classes": ({"classes": ["crack"]}, "has the classes none, this one crack"),
    "data set": (
        {"training": {"data": "tiles, 140 images"}},
        "was trained on the data set 'washers', this one on 'tiles'",
    ),
}
SAME: dict[str, dict[str, Any]] = {
    "more images": {"training": {"data": "washers, 900 images"}},
    "data set not recorded": {"training": {"run": "elsewhere"}},
    "no training at all": {"training": None},
    "INT8": {"training": {**WASHERS, "parent": {"model": "part/1"}}, "precision": "int8"},
}


def install(root: Path, version: int = 1, **changes: Any) -> Path:
    make: Callable[[], Any] = changes.pop("model", graphs.gate)
    changes = {"training": WASHERS, **changes}
    return graphs.install(root, make(), name="part", version=version, **changes)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    install(tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize("case", OTHERS)
def test_another_model_does_not_take_the_name(
    case: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, words = OTHERS[case]
    other = str(install(tmp_path / "elsewhere", **changes))
    add = ["models", "add", other, "--store", str(store)]
    assert main(add) == 65
    err = capsys.readouterr().err
    assert words in err
    assert "--name" in err
    assert ModelStore(store).versions("part") == (1,)
    assert main([*add, "--name", "other-part"]) == 0
    assert str(ModelStore(store).resolve("other-part").id) == "other-part/1"
    assert main([*add, "--replaces-lineage"]) == 0
    assert str(ModelStore(store).resolve("part").id) == "part/1", "a candidate until promoted"
    promote = ["models", "promote", "part/2", "--store", str(store)]
    assert main(promote) == 65
    assert words in capsys.readouterr().err
    assert main([*promote, "--replaces-lineage"]) == 0
    assert str(ModelStore(store).resolve("part").id) == "part/2"


@pytest.mark.parametrize("case", OTHERS)
def test_a_copied_version_of_another_model_is_not_live(case: str, store: Path) -> None:
    changes, words = OTHERS[case]
    install(store, version=2, **changes)
    with pytest.raises(ModelError, match="promote part/VERSION") as caught:
        ModelStore(store).resolve("part")
    assert words in str(caught.value)
    assert str(ModelStore(store).resolve("part/1").id) == "part/1"
    assert main(["models", "promote", "part/2", "--store", str(store)]) == 65
    assert main(["models", "promote", "part/1", "--store", str(store)]) == 0
    assert str(ModelStore(store).resolve("part").id) == "part/1"


@pytest.mark.parametrize("case", SAME)
def test_a_further_version_of_the_same_model_is_accepted(
    case: str, store: Path, tmp_path: Path
) -> None:
    other = install(tmp_path / "elsewhere", version=7, **SAME[case])
    assert main(["models", "add", str(other), "--store", str(store)]) == 0
    assert str(ModelStore(store).resolve("part/2").id) == "part/2"
    assert main(["models", "promote", "part/2", "--store", str(store)]) == 0


def test_what_is_no_graph_with_a_manifest_or_no_name_is_not_added(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add = ["models", "add", "--store", str(store)]
    assert main([*add, str(tmp_path)]) == 65
    assert main([*add, str(store / "part" / "1"), "--name", "My Part"]) == 64
    assert "not a valid model name" in capsys.readouterr().err
    bare = tmp_path / "bare.onnx"
    shutil.copyfile(store / "part" / "1" / "model.onnx", bare)
    assert main([*add, str(bare)]) == 65
    assert "manifest" in capsys.readouterr().err
