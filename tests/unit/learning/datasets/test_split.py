"""Splits: whole groups, balanced classes, the same for the same seed, tied to their pictures."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.errors import DataError, UsageError
from edgeinspect.learning.datasets.dataset import Dataset, Sample
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.split import read_split, split_dataset, write_split


def fake(*rows: tuple[str, tuple[int, ...], str | None]) -> Dataset:
    """A set of records (group, class ids, split) without pictures."""
    records = [
        Sample(f"p{i:04}", Path(f"p{i:04}"), bool(ids), None, group, its, None, ids)
        for i, (group, ids, its) in enumerate(rows)
    ]
    return Dataset(Path("set"), "fake", ("a", "b"), tuple(records), has_masks=True)


classes = st.sampled_from([(), (), (1,), (2,), (1, 2)])
sets = st.lists(st.tuples(st.integers(0, 12).map("g{}".format), classes, st.none()), min_size=3)


@settings(deadline=None)  # the machine may be busy
@given(sets, st.integers(0, 5), st.tuples(*[st.floats(0.1, 1)] * 3))
def test_groups_stay_whole_and_no_split_is_empty(
    rows: list[Any], seed: int, shares: tuple[float, float, float]
) -> None:
    data = fake(*rows)
    groups = {record.group for record in data.samples}
    if len(groups) < 3:
        with pytest.raises(DataError, match="groups for 3 splits"):
            split_dataset(data, seed, shares)
        return
    done = split_dataset(data, seed, shares)
    where = defaultdict(set)
    for record in done.samples:
        where[record.group].add(record.split)
    assert all(len(splits) == 1 for splits in where.values())
    assert {record.split for record in done.samples} == {"train", "val", "test"}
    assert split_dataset(data, seed, shares) == done
    assert [record.name for record in done.samples] == [record.name for record in data.samples]


def test_classes_are_balanced() -> None:
    rows = [(f"g{i}", ids, None) for i, ids in enumerate([()] * 200 + [(1,)] * 100 + [(2,)] * 20)]
    done = split_dataset(fake(*rows), 3)
    count = Counter((record.split, record.class_ids) for record in done.samples)
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


def test_a_missing_val_is_cut_from_train() -> None:
    rows = [(f"g{i}", (1,) if i % 2 else (), "test" if i < 20 else "train") for i in range(100)]
    done = split_dataset(fake(*rows), 1)
    count = Counter(record.split for record in done.samples)
    assert count["test"] == 20
    assert 12 <= count["val"] <= 16
    assert all(r.split == "test" for r in done.samples[:20])
    assert any("taken from" in note for note in done.notes)


def test_a_train_of_good_pictures_only_is_not_used(make: Any) -> None:
    done = split_dataset(open_dataset(make.mvtec()), 1)
    assert any(record.is_defective for record in done.in_splits("train"))
    assert any("has no defective image" in note for note in done.notes)


def test_what_belongs_together_stays_together() -> None:
    data = fake(*[(f"g{i}", (), None) for i in range(30)])
    ties = [[f"p{i:04}", f"p{i + 10:04}", f"p{i + 20:04}"] for i in range(10)]
    done = {record.name: record.split for record in split_dataset(data, 1, groups=ties).samples}
    for tie in ties:
        assert len({done[name] for name in tie}) == 1


def test_ties_and_groups_are_joined() -> None:
    data = fake(("x", (), None), ("x", (), None), ("y", (), None), ("z", (), None), ("w", (), None))
    done = {r.name: r.split for r in split_dataset(data, 1, groups=[["p0001", "p0002"]]).samples}
    assert done["p0000"] == done["p0001"] == done["p0002"]


@pytest.mark.parametrize("shares", [(0, 0.5, 0.5), (0.5, -0.1, 0.6), (float("nan"), 1, 1)])
def test_shares_that_cannot_be_are_refused(shares: Any) -> None:
    with pytest.raises(UsageError, match="shares"):
        split_dataset(fake(("g", (), None)), 1, shares)


def test_a_share_of_nothing_leaves_the_split_empty() -> None:
    done = split_dataset(fake(*[(f"g{i}", (), None) for i in range(10)]), 1, (0.8, 0, 0.2))
    assert Counter(record.split for record in done.samples) == {"train": 8, "test": 2}


# -- the file -----------------------------------------------------------------------------


def test_the_file_gives_the_same_split_again(make: Any, tmp_path: Path) -> None:
    data = open_dataset(make.mask_folder(count=12))
    done = split_dataset(data, 4)
    write_split(tmp_path / "split.json", done, 4)
    assert read_split(tmp_path / "split.json", data).samples == done.samples
    told = json.loads((tmp_path / "split.json").read_text())
    assert (told["schema"], told["seed"]) == ("edgeinspect.split/1", 4)
    assert sum(map(len, told["splits"].values())) == 12


def test_a_file_of_other_pictures_is_refused(make: Any, tmp_path: Path) -> None:
    data = open_dataset(make.mask_folder(count=12))
    write_split(tmp_path / "split.json", split_dataset(data, 4), 4)
    (make.root / "images/p0.jpg").rename(make.root / "images/q0.jpg")
    (make.root / "masks/p0.png").rename(make.root / "masks/q0.png")
    with pytest.raises(DataError, match=r"it names 12, the set has 12, 11 in common"):
        read_split(tmp_path / "split.json", open_dataset(make.root))


def test_a_picture_in_two_splits_is_refused(make: Any, tmp_path: Path) -> None:
    """It would be learnt by heart and then measured, or measured only, as the order is."""
    data = open_dataset(make.mask_folder(count=12))
    path = tmp_path / "split.json"
    write_split(path, split_dataset(data, 4), 4)
    told = json.loads(path.read_text())
    told["splits"]["test"].append(told["splits"]["train"][0])
    path.write_text(json.dumps(told))
    with pytest.raises(DataError, match=f"more than once: {told['splits']['train'][0]}"):
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
def test_what_is_no_split_file_is_refused(make: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match="split"):
        read_split(tmp_path / "split.json", open_dataset(make.mask_folder()))


def test_nothing_is_written_without_a_split_or_a_folder(make: Any, tmp_path: Path) -> None:
    data = open_dataset(make.mask_folder(count=12))
    with pytest.raises(DataError, match="is not split"):
        write_split(tmp_path / "split.json", data, 1)
    with pytest.raises(DataError, match="cannot be written"):
        write_split(tmp_path / "no" / "split.json", split_dataset(data, 1), 1)
