"""`edgeinspect data`: output, files, exit codes."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from edgeinspect.cli.main import main
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.split import split_dataset
from edgeinspect.learning.datasets.split_file import read_split, write_split


def test_inspect_shows_a_table_and_what_is_wrong(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make.indexed()
    make.write("masks/t1.png", make.mask())
    sheet = tmp_path / "sheet.png"
    assert main(["data", "inspect", str(root), "--sheet", str(sheet)]) == 0
    out = capsys.readouterr().out
    assert "layout    indexed" in out
    assert "1 pit" in out
    assert "1 defective image has no defect pixel: t1.jpg" in out
    assert sheet.stat().st_size > 1000


def test_a_command_that_inspect_prints_can_be_pasted(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "it's a set"
    make.class_folder().rename(root)
    assert main(["data", "inspect", str(root), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    remedy = next(each["remedy"] for each in findings if "no split" in each["what"])
    command = shlex.split(remedy.partition(": ")[2])
    assert command == ["edgeinspect", "data", "split", str(root), "--out", "split.json"]


def test_inspect_as_json(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", str(make.mvtec()), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "edgeinspect.data/1"
    assert (report["layout"], report["images"], report["classes"]) == (
        "mvtec",
        15,
        ["crack", "hole"],
    )
    assert report["counts"] == {
        "good": {"test": 3, "train": 6},
        "crack": {"test": 3},
        "hole": {"test": 3},
    }
    assert report["pixels"] == {"crack": 288, "hole": 288}
    assert report["sizes"] == [{"height_px": 40, "width_px": 64, "count": 15}]
    assert report["unusable"] == report["duplicates"] == report["across_splits"] == []


def test_inspect_ends_with_65_where_it_cannot_be_trained_on(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make.class_folder(count=2)
    assert main(["data", "inspect", str(root), "--strict"]) == 0
    path = root / "ok_front/ok_front_0.jpeg"
    path.write_bytes(path.read_bytes()[:-300])
    assert main(["data", "inspect", str(root), "--no-duplicates"]) == 65
    assert "cut off" in capsys.readouterr().out


def test_strict_ends_with_65_on_warnings(make: Any) -> None:
    root = make.class_folder("crazing", "patches", count=3)
    assert main(["data", "inspect", str(root)]) == 0
    assert main(["data", "inspect", str(root), "--strict"]) == 65


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["inspect", "{set}/nowhere"], 65, "there is no such file"),
        (["inspect", "{set}/masks/p0.png"], 65, "is an image, not a data set"),
        (["inspect", "{set}", "--layout", "cityscapes"], 64, "There are: archive, class_folder"),
        (["inspect", "{set}", "--layout", "mvtec"], 65, "This layout needs train/good/"),
        (["inspect", "{set}", "--sheet", "{set}/no/s.png"], 73, "there is no folder"),
        (["inspect", "{set}", "--split-file", "{set}/no.json"], 65, "there is no such file"),
        (["inspect"], 64, "DATASET"),
        (["split", "{set}"], 64, "--out"),
        (["split", "{set}", "--out", "{set}/no/s.json"], 73, "cannot be written"),
        (["split", "{set}", "--out", "{set}.json", "--shares", "0", "1", "1"], 64, "shares"),
    ],
)
def test_wrong_use_ends_with_one_message(
    make: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    root = make.mask_folder()
    assert main(["data", *(word.format(set=root) for word in arguments)]) == code
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_split_writes_a_file_that_inspect_reads(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = make.mask_folder(count=20), tmp_path / "split.json"
    assert (
        main(["data", "split", str(root), "--out", str(out), "--seed", "3", "--group-duplicates"])
        == 0
    )
    assert "0 images in 0 groups" in capsys.readouterr().out
    splits = json.loads(out.read_text())["splits"]
    assert {name: len(names) for name, names in splits.items()} == {
        "train": 14,
        "val": 3,
        "test": 3,
    }
    assert main(["data", "inspect", str(root), "--split-file", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["good"].keys() == {"train", "val", "test"}


def test_names_that_are_not_utf8_are_read(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make.class_folder(count=2)
    bad = os.fsencode(make.root) + b"/ok_front/na\xefve.jpeg"
    with open(bad, "wb") as file:
        file.write((make.root / "ok_front/ok_front_0.jpeg").read_bytes()[:-400])
    data = split_dataset(open_dataset(make.root), 1)
    write_split(tmp_path / "split.json", data, 1)
    assert read_split(tmp_path / "split.json", open_dataset(make.root)).samples == data.samples
    assert main(["data", "inspect", str(make.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unusable"][0]["name"] == r"na\xEFve.jpeg"
    assert main(["data", "inspect", str(make.root)]) == 0
    assert r"na\xEFve.jpeg" in capsys.readouterr().out
