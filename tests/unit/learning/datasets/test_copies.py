"""Files with the same bytes stay in one split, or are not measured on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgeinspect.cli.main import main
from edgeinspect.learning.datasets.copies import exact_copies, without_copies_of_train
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.split import split_dataset
from edgeinspect.learning.datasets.split_file import file_digests
from tests.unit.learning.evaluate.small_datasets import write_dataset


def published(root: Path) -> Dataset:
    """A set with a split of its own and three copies of one training image, one in each split."""
    write_dataset(root, ["good", "dark"] * 10)
    index = root / "index.csv"
    head, *rows = index.read_text().splitlines()
    column = head.split(",").index("split")
    splits = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    lines = [row.split(",") for row in rows]
    for line, split in zip(lines, splits, strict=True):
        line[column] = split
    index.write_text("\n".join([head, *(",".join(line) for line in lines)]) + "\n")
    data = open_dataset(root)
    first = data.samples[0].path
    for copy in (2, 12, 16):
        shutil.copy(first, data.samples[copy].path)
    return data


def test_copies_of_a_published_split_are_skipped_with_their_original(tmp_path: Path) -> None:
    data = published(tmp_path / "set")
    digests = file_digests(data)
    names = [sample.name for sample in data.samples]
    assert exact_copies(digests) == [[names[0], names[2], names[12], names[16]]]
    usable = without_copies_of_train(data, digests)
    assert [sample.name for sample in usable.samples] == [
        name for name in names if name not in (names[12], names[16])
    ]
    assert {one.name: one.reason for one in usable.skipped} == {
        names[12]: f"in `val`, and the same file as {names[0]} in `train`: not measured on",
        names[16]: f"in `test`, and the same file as {names[0]} in `train`: not measured on",
    }
    assert without_copies_of_train(usable, digests) is usable
    assert without_copies_of_train(data, {}) is data, "files that cannot be read are no copies"


def test_copies_stay_in_one_split_of_a_new_one(tmp_path: Path) -> None:
    data = published(tmp_path / "set")
    groups = exact_copies(file_digests(data))
    for seed in range(5):
        split = split_dataset(data, seed, ignore_existing=True, groups=groups)
        assert without_copies_of_train(split, file_digests(data)) is split
    out = tmp_path / "split.json"
    command = ["data", "split", str(data.root), "--out", str(out), "--quiet", "--resplit"]
    assert main([*command, "--seed", "3"]) == 0
    assert json.loads(out.read_text())["splits"] == {
        name: [
            sample.name
            for sample in split_dataset(data, 3, ignore_existing=True, groups=groups).in_splits(
                name
            )
        ]
        for name in ("train", "val", "test")
    }


def test_inspect_and_split_warn_of_copies_across_a_published_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = published(tmp_path / "set")
    assert main(["data", "inspect", str(data.root), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert any(
        one["level"] == "warning" and "2 exact duplicates are in two splits" in one["what"]
        for one in findings
    )
    out = ["--out", str(tmp_path / "split.json"), "--quiet"]
    assert main(["data", "split", str(data.root), *out]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 group of images are in two of its splits" in shown
