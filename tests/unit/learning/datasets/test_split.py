"""Splits: whole groups, balanced classes, reproducible, tied to their images."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.errors import DataError, OutputError, UsageError
from edgeinspect.learning.datasets.dataset import Dataset, Sample
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.split import split_dataset
from edgeinspect.learning.datasets.split_file import read_split, write_split


def fake(*rows: tuple[str, tuple[int, ...], str | None]) -> Dataset:
    """A data set of samples (group, class ids, split) without image files."""
    samples = [
        Sample(f"p{i:04}", Path(f"p{i:04}"), bool(ids), None, group, its, None, ids)
        for i, (group, ids, its) in enumerate(rows)
    ]
    return Dataset(Path("set"), "fake", ("a", "b"), tuple(samples), has_masks=True)


classes = st.sampled_from([(), (), (1,), (2,), (1, 2)])
sets = st.lists(st.tuples(st.integers(0, 12).map("g{}".format), classes, st.none()), min_size=3)


@settings(deadline=None)  # the machine may be busy
@given(sets, st.integers(0, 5), st.tuples(*[st.floats(0.1, 1)] * 3))
def test_groups_stay_whole_and_no_split_is_empty(
    rows: list[Any], seed: int, shares: tuple[float, float, float]
) -> None:
    data = fake(*rows)
    groups = {sample.group for sample in data.samples}
    if len(groups) < 3:
        with pytest.raises(DataError, match="groups for 3 splits"):
            split_dataset(data, seed, shares)
        return
    done = split_dataset(data, seed, shares)
    where = defaultdict(set)
    for sample in done.samples:
        where[sample.group].add(sample.split)
    assert all(len(splits) == 1 for splits in where.values())
    assert {sample.split for sample in done.samples} == {"train", "val", "test"}
    assert split_dataset(data, seed, shares) == done
    assert [sample.name for sample in done.samples] == [sample.name for sample in data.samples]


def test_classes_are_balanced() -> None:
    rows = [(f"g{i}", ids, None) for i, ids in enumerate([()] * 200 + [(1,)] * 100 + [(2,)] * 20)]
    done = split_dataset(fake(*rows), 3)
    count = Counter((sample.split, sample.class_ids) for sample in done.samples)
    assert [count[name, ()] for name in ("train", "val", "test")] == [140, 30, 30]
    assert [count[name, (1,)] for name in ("train", "val", "test")] == [70, 15, 15]
    assert [count[name, (2,)] for name in ("train", "val", "test")] == [14, 3, 3]


def test_another_seed_gives_another_split() -> None:
    data = fake(*[(f"g{i}", (), None) for i in range(40)])
    assert split_dataset(data, 1) != split_dataset(data, 2)


def test_a_complete_split_of_the_layout_is_kept(make: Any) -> None:
    data = open_dataset(make.indexed())
    assert split_dataset(data, 1) == data
    assert split_dataset(data, 1, ignore_existing=True) != data


def test_a_missing_val_is_taken_from_train() -> None:
    rows = [(f"g{i}", (1,) if i % 2 else (), "test" if i < 20 else "train") for i in range(100)]
    done = split_dataset(fake(*rows), 1)
    count = Counter(sample.split for sample in done.samples)
    assert count["test"] == 20
    assert 12 <= count["val"] <= 16
    assert all(r.split == "test" for r in done.samples[:20])
    assert any("taken from" in note for note in done.notes)


def test_a_train_of_good_images_only_is_not_used(make: Any) -> None:
    done = split_dataset(open_dataset(make.mvtec()), 1)
    assert any(sample.is_defective for sample in done.in_splits("train"))
    assert any("has no defective image" in note for note in done.notes)


def test_groups_stay_in_one_split() -> None:
    data = fake(*[(f"g{i}", (), None) for i in range(30)])
    ties = [[f"p{i:04}", f"p{i + 10:04}", f"p{i + 20:04}"] for i in range(10)]
    done = {sample.name: sample.split for sample in split_dataset(data, 1, groups=ties).samples}
    for tie in ties:
        assert len({done[name] for name in tie}) == 1


def test_groups_of_samples_and_of_duplicates_are_joined() -> None:
    data = fake(("x", (), None), ("x", (), None), ("y", (), None), ("z", (), None), ("w", (), None))
    done = {r.name: r.split for r in split_dataset(data, 1, groups=[["p0001", "p0002"]]).samples}
    assert done["p0000"] == done["p0001"] == done["p0002"]


@pytest.mark.parametrize("shares", [(0, 0.5, 0.5), (0.5, -0.1, 0.6), (float("nan"), 1, 1)])
def test_invalid_shares_are_refused(shares: Any) -> None:
    with pytest.raises(UsageError, match="shares"):
        split_dataset(fake(("g", (), None)), 1, shares)


def test_a_share_of_0_leaves_the_split_empty() -> None:
    done = split_dataset(fake(*[(f"g{i}", (), None) for i in range(10)]), 1, (0.8, 0, 0.2))
    assert Counter(sample.split for sample in done.samples) == {"train": 8, "test": 2}


# -- the file -----------------------------------------------------------------------------


def test_the_file_gives_the_same_split_again(make: Any, tmp_path: Path) -> None:
    data = open_dataset(make.mask_folder(count=12))
    done = split_dataset(data, 4)
    write_split(tmp_path / "split.json", done, 4)
    assert read_split(tmp_path / "split.json", data).samples == done.samples
    document = json.loads((tmp_path / "split.json").read_text())
    assert (document["schema"], document["seed"]) == ("edgeinspect.split/1", 4)
    assert sum(map(len, document["splits"].values())) == 12


def test_another_split_is_not_replaced(make: Any, tmp_path: Path) -> None:
    data = open_dataset(make.mask_folder(count=12))
    path = tmp_path / "split.json"
    write_split(path, split_dataset(data, 4), 4)
    before = path.read_bytes()
    write_split(path, split_dataset(data, 4), 4)  # the same
    with pytest.raises(OutputError, match="is there already, and is not this split"):
        write_split(path, split_dataset(data, 5), 5)
    assert path.read_bytes() == before
    write_split(path, split_dataset(data, 5), 5, replaces=True)
    assert path.read_bytes() != before


def test_a_file_of_other_images_is_refused(make: Any, tmp_path: Path) -> None:
    data = open_dataset(make.mask_folder(count=12))
    write_split(tmp_path / "split.json", split_dataset(data, 4), 4)
    (make.root / "images/p0.jpg").rename(make.root / "images/q0.jpg")
    (make.root / "masks/p0.png").rename(make.root / "masks/q0.png")
    with pytest.raises(DataError, match=r"it names 12, the set has 12, 11 in common"):
        read_split(tmp_path / "split.json", open_dataset(make.root))


def test_an_image_in_two_splits_is_refused(make: Any, tmp_path: Path) -> None:
    """Otherwise a test image could be trained on."""
    data = open_dataset(make.mask_folder(count=12))
    path = tmp_path / "split.json"
    write_split(path, split_dataset(data, 4), 4)
    document = json.loads(path.read_text())
    document["splits"]["test"].append(document["splits"]["train"][0])
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=f"more than once: {document['splits']['train'][0]}"):
        read_split(path, data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"splits": {"train": 3}, "names_sha256": ""}',
        '{"splits": 3, "names_sha256": ""}',
    ],
)
def test_an_invalid_split_file_is_refused(make: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match="split"):
        read_split(tmp_path / "split.json", open_dataset(make.mask_folder()))


def test_nothing_is_written_without_a_split_or_a_folder(make: Any, tmp_path: Path) -> None:
    data = open_dataset(make.mask_folder(count=12))
    with pytest.raises(DataError, match="is not split"):
        write_split(tmp_path / "split.json", data, 1)
    with pytest.raises(OutputError, match="cannot be written"):
        write_split(tmp_path / "no" / "split.json", split_dataset(data, 1), 1)
