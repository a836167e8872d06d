"""Groups by name, folder and time: what is grouped, and what is refused with names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edgeinspect.errors import DataError, UsageError
from edgeinspect.learning.datasets.capture_time import capture_times_s
from edgeinspect.learning.datasets.dataset import Dataset, Sample
from edgeinspect.learning.datasets.groups import (
    GroupRule,
    group_samples,
    groups_across_splits,
    summarise_groups,
)
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.split import split_dataset
from edgeinspect.learning.datasets.split_file import load_split, read_split, write_split


def named(*names: str, root: Path = Path("set")) -> Dataset:
    samples = [Sample(name, root / name, index % 2 == 1, "ok") for index, name in enumerate(names)]
    return Dataset(root, "fake", ("bad",), tuple(samples), has_masks=False)


def groups(data: Dataset) -> list[str]:
    return [sample.group for sample in data.samples]


def test_a_pattern_groups_by_its_capture_group() -> None:
    data = named("coil_7_a.png", "coil_7_b.png", "coil_12_a.png", "other.png")
    done = group_samples(data, GroupRule(pattern=r"coil_(\d+)_"))
    assert groups(done) == ["7", "7", "12", ""]
    assert done.notes == (
        "3 groups by the pattern 'coil_(\\d+)_'; 1 name does not match, as other.png: each such "
        "image is a group",
    )
    summary = summarise_groups(done)
    assert summary is not None
    assert (summary.count, summary.largest, summary.largest_images) == (3, "7", 2)
    assert summary.examples == (
        ("7", ("coil_7_a.png", "coil_7_b.png")),
        ("12", ("coil_12_a.png",)),
    )


@pytest.mark.parametrize(
    ("pattern", "error", "words"),
    [
        (r"roll_(\d+)", DataError, "no name matches .* like coil_1_a.png, coil_1_b.png"),
        (r"(coil)_", DataError, "all 3 images are in one group, 'coil': coil_1_a.png"),
        (r"(coil_\d_.)", DataError, "every image is in a group of its own, as coil_1_a.png in"),
        (r"coil_\d+", UsageError, "has 0 capture groups, not one"),
        (r"(c)oil_(\d+)", UsageError, "has 2 capture groups, not one"),
        (r"coil_(", UsageError, "is not a regular expression"),
        ("x" * 600, UsageError, "has 600 characters"),
    ],
)
def test_a_useless_pattern_is_refused(pattern: str, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        group_samples(
            named("coil_1_a.png", "coil_1_b.png", "coil_2_a.png"), GroupRule(pattern=pattern)
        )


def test_images_are_grouped_in_one_way() -> None:
    with pytest.raises(UsageError, match="in one way"):
        group_samples(named("a", "b"), GroupRule(pattern="(a)", by_folder=True))


def test_folders_of_classes_and_splits_are_not_groups() -> None:
    data = named("ok/coil1/a.png", "bad/coil1/b.png", "train/coil2/c.png", "images/d.png")
    assert groups(group_samples(data, GroupRule(by_folder=True))) == ["coil1", "coil1", "coil2", ""]
    with pytest.raises(DataError, match="no folder of its own"):
        group_samples(named("ok/a.png", "bad/b.png"), GroupRule(by_folder=True))


@pytest.mark.parametrize(
    "names",
    [
        ("20240131_081500.png", "20240131_081730.png", "20240131_093000.png"),
        ("cam1-2024-01-31T08-15-00.123.png", "x_2024-01-31 08.17.30.png", "2024.01.31_09h30m00"),
        ("1706688900.png", "f1706689050123.png", "1706693400000000.png"),
    ],
)
def test_times_in_names_start_groups(names: tuple[str, ...]) -> None:
    done = group_samples(named(*names), GroupRule(gap_minutes=10))
    assert groups(done) == ["period 1", "period 1", "period 2"]
    assert "in the names" in done.notes[0]


def test_exif_comes_before_the_times_of_files(tmp_path: Path) -> None:
    for name, taken in (("a", "10:00:00"), ("b", "10:03:00"), ("c", "11:00:00")):
        exif = b"Exif" + b"2031:01:01 00:00:00\0" + f"2024:05:06 {taken}\0".encode()
        (tmp_path / name).write_bytes(exif)
    data = named("a", "b", "c", root=tmp_path)
    assert capture_times_s(data.samples)[1] == "the EXIF data"
    assert groups(group_samples(data, GroupRule(gap_minutes=5))) == [
        "period 1",
        "period 1",
        "period 2",
    ]


def test_times_of_files_are_the_last_resort(tmp_path: Path) -> None:
    for name, time_s in (("a", 5000), ("b", 0), ("c", 100)):
        (tmp_path / name).write_bytes(b"2024:99:99 10:00:00\0")
        os.utime(tmp_path / name, (time_s, time_s))
    done = group_samples(named("a", "b", "c", root=tmp_path), GroupRule(gap_minutes=5))
    assert groups(done) == ["period 2", "period 1", "period 1"]
    assert "in the files' times" in done.notes[0]


def test_a_split_keeps_groups_and_its_file_has_them(make: Any, tmp_path: Path) -> None:
    for index in range(24):
        make.write(f"{'ok' if index % 2 else 'bad'}/coil_{index // 3}_{index}.png")
    data = group_samples(open_dataset(make.root), GroupRule(pattern=r"coil_(\d+)_"))
    done = split_dataset(data, 1)
    assert groups_across_splits(done) == []
    write_split(tmp_path / "split.json", done, 1)
    again = read_split(tmp_path / "split.json", open_dataset(make.root))
    assert groups(again) == groups(done)


def test_duplicates_join_groups(make: Any) -> None:
    make.class_folder(count=6)
    data = open_dataset(make.root)
    names = [sample.name for sample in data.samples]
    done = split_dataset(data, 1, groups=[names[:3], names[5:7]])
    count = [groups(done).count(group) for group in groups(done)]
    assert count[:3] == [3, 3, 3]
    assert count[5:7] == [2, 2]
    assert count[3:5] == [1, 1]


@pytest.mark.parametrize("broken", ['{"a": 1}', '{"x.png": null}', "[]", "[[[]]]", '"a"'])
def test_a_split_file_with_other_groups_is_refused(make: Any, tmp_path: Path, broken: str) -> None:
    file = tmp_path / "split.json"
    write_split(file, split_dataset(open_dataset(make.class_folder()), 1), 1)
    file.write_text(file.read_text().replace('"splits"', f'"groups": {broken},\n "splits"'))
    with pytest.raises(DataError, match="`groups` does not map names to texts"):
        load_split(file)
