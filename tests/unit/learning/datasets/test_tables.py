"""Tables of other programs, and file names in other spellings."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.cli.main import main
from edgeinspect.errors import DataError
from edgeinspect.imaging.run_length import detect_run_direction, encode_runs, format_runs
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.name_matching import FileNameIndex, normalize_name
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.tables import parse_rows, read_header, read_rows
from edgeinspect.system import unescape_cell

CODE = "9 12 49 12"


def steel(
    make: Any,
    names: list[str],
    *,
    files: list[str] | None = None,
    sep: str = ",",
    end: str = "\n",
    encoding: str = "utf-8",
    column: str = "ImageId",
) -> Dataset:
    for name in files or ["p0.jpg", "p1.jpg", "p2.jpg", "p3.jpg", "p4.jpg", "p5.jpg"]:
        make.write(f"train_images/{name}")
    rows = [sep.join((column, "ClassId", "EncodedPixels"))]
    rows += [sep.join((name, "1", CODE)) for name in names]
    (make.root / "train.csv").write_bytes(end.join([*rows, ""]).encode(encoding))
    return open_dataset(make.root)


def bad(data: Dataset) -> list[str]:
    return [sample.name for sample in data.samples if sample.is_defective]


@pytest.mark.parametrize(
    "names",
    [
        ["P1.JPG", "p2.jpg"],
        ["p1", "p2"],
        ["p1.jpg ", "p2.jpg\t"],
        ["train_images/p1.jpg", "train_images\\p2.jpg"],
        ["p1.png", "p2.bmp"],
        ["./p1.jpg", "C:\\data\\P2.Jpg"],
    ],
)
def test_names_in_other_spellings_match_the_same_image(make: Any, names: list[str]) -> None:
    data = steel(make, names)
    assert bad(data) == ["p1.jpg", "p2.jpg"]
    assert (len(data), data.skipped) == (6, ())


@pytest.mark.parametrize(("table", "disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_in_either_form_are_the_same(make: Any, table: Any, disk: Any) -> None:
    files = [unicodedata.normalize(disk, f"öl_{i}.jpg") for i in range(6)]
    data = steel(make, [unicodedata.normalize(table, "öl_3.jpg")], files=files)
    assert bad(data) == [files[3]]


def test_rows_in_two_spellings_are_joined(make: Any) -> None:
    steel(make, ["p1.jpg"])
    make.text("train.csv", "ImageId,ClassId,EncodedPixels", f"p1.jpg,1,{CODE}", f"P1.JPG,2,{CODE}")
    assert open_dataset(make.root).samples[1].class_ids == (1, 2)
    make.text("train.csv", "ImageId,ClassId,EncodedPixels", f"p1.jpg,1,{CODE}", f"P1.JPG,1,{CODE}")
    with pytest.raises(DataError, match=r"repeats class 1 of p1\.jpg"):
        open_dataset(make.root)


def test_a_name_that_matches_two_images_is_refused(make: Any) -> None:
    with pytest.raises(DataError, match=r"'P1' matches p1\.jpg and p1\.png"):
        steel(make, ["P1"], files=["p1.jpg", "p1.png", "p2.jpg"])


def test_two_names_for_one_image_are_refused(make: Any) -> None:
    with pytest.raises(DataError, match=r"names a/p1\.jpg and b/p1\.jpg"):
        steel(make, ["a/p1.jpg", "b/p1.jpg"])


def test_an_exact_name_has_priority(make: Any) -> None:
    assert bad(steel(make, ["P1.jpg"], files=["p1.jpg", "P1.jpg", "p2.jpg"])) == ["P1.jpg"]


def test_a_few_names_without_an_image_are_named(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    data = steel(make, ["p1.jpg", "q7.jpg"])
    assert bad(data) == ["p1.jpg"]
    ((name, why),) = [(each.name, each.reason) for each in data.skipped]
    assert (name, "train.csv:3" in why) == ("q7.jpg", True)
    assert main(["data", "inspect", str(make.root)]) == 0
    out = capsys.readouterr().out
    assert "q7.jpg: train.csv:3 names it" in out
    assert "1 image is skipped" in out


def test_a_table_of_other_images_is_refused(make: Any) -> None:
    with pytest.raises(DataError, match=r"3 of the 4 images that it names are not in train_i"):
        steel(make, ["p1.jpg", "q1.jpg", "q2.jpg", "q3.jpg"])
    with pytest.raises(DataError, match=r"q1\.jpg \(train\.csv:2\)"):
        steel(make, ["q1.jpg", "q2.jpg", "q3.jpg"])


def test_if_good_images_have_rows_all_images_need_one(make: Any) -> None:
    steel(make, ["p1.jpg"])
    make.text("train.csv", "ImageId,ClassId,EncodedPixels", f"p1.jpg,1,{CODE}", "p2.jpg,1,")
    with pytest.raises(DataError, match=r"no row for 4 others: p0\.jpg"):
        open_dataset(make.root)


@pytest.mark.parametrize("column", ["split", "group"])
def test_an_image_has_one_split_and_one_group(make: Any, column: str) -> None:
    steel(make, ["p1.jpg"])
    rows = [f"p1.jpg,1,{CODE},train", f"p1.jpg,2,{CODE},test"]
    make.text("train.csv", f"ImageId,ClassId,EncodedPixels,{column}", *rows)
    with pytest.raises(DataError, match=f"p1.jpg the {column} test, but train above") as caught:
        open_dataset(make.root)
    assert caught.value.where == "train.csv:3"


@pytest.mark.parametrize("named", ["", "train.csv"])
def test_images_defective_in_another_table_are_not_good(make: Any, named: str) -> None:
    """Images in one folder, and a table for each split."""
    steel(make, ["p1.jpg"])
    make.text("val.csv", "ImageId,ClassId,EncodedPixels", f"P2.JPG,1,{CODE}", "p3.jpg,1,")
    with pytest.raises(DataError, match=r"defective in val\.csv: p2\.jpg") as caught:
        open_dataset(make.root / named)
    assert caught.value.remedy
    make.text("val.csv", "ImageId,ClassId,EncodedPixels", f"p1.jpg,1,{CODE}", f"q.jpg,1,{CODE}")
    assert open_dataset(make.root / named).samples[1].is_defective
    (make.root / "val.csv").rename(make.root / "sample_submission.csv")
    make.text("sample_submission.csv", "ImageId,ClassId,EncodedPixels", f"p2.jpg,1,{CODE}")
    assert not open_dataset(make.root / named).samples[2].is_defective


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_form_of_a_table_is_read(make: Any, sep: str, end: str, encoding: str) -> None:
    assert bad(steel(make, ["p1.jpg", "p4.jpg"], sep=sep, end=end, encoding=encoding)) == [
        "p1.jpg",
        "p4.jpg",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"ImageId,ClassId,EncodedPixels\np1.jpg,1", "fewer cells than the header.*truncated"),
        (b"ImageId,ClassId,EncodedPixels\np1.jpg,1,1 2\0", "NUL"),
        (b"ImageId,ClassId,EncodedPixels\np\xff.jpg,1,1 2", "is not UTF-8: byte 31"),
        (b"ImageId,ClassId,EncodedPixels,imageid\na,1,1 2,b", "has two columns 'ImageId'"),
        (b"ImageId,ImageId,EncodedPixels\na,1,1 2", "has two columns 'ImageId'"),
        (b"ImageId,ClassId,EncodedPixels\np1.jpg," + b"9" * 5000 + b",1 2", "ClassId is '999"),
        (b"ImageId,ClassId,EncodedPixels\np1.jpg,0,1 2", "starts at 1"),
        (b"ImageId,ClassId,EncodedPixels\n", "has no row"),
        (b"ImageId,ClassId,EncodedPixels\n" + b"p1.jpg,1," + b"1 " * (40 << 20), "field larger"),
    ],
)
def test_a_damaged_table_is_one_error(make: Any, text: bytes, message: str) -> None:
    steel(make, ["p1.jpg"])
    (make.root / "train.csv").write_bytes(text)
    with pytest.raises(DataError, match=message):
        open_dataset(make.root)


def test_codes_that_run_along_rows_are_refused(make: Any) -> None:
    for name in ("a", "b", "c"):
        make.write(f"images/{name}.png")
    tall = np.zeros((40, 64), np.uint8)
    tall[5:35, 10:20] = 1
    rows = [f"{n}.png,1,{format_runs(encode_runs(tall.T))}" for n in "ab"]
    make.text("train.csv", "ImageId,ClassId,EncodedPixels", *rows)
    with pytest.raises(DataError, match="run along the rows: 2 of 2"):
        open_dataset(make.root)
    rows = [f"{n}.png,1,{format_runs(encode_runs(tall))}" for n in "ab"]
    make.text("train.csv", "ImageId,ClassId,EncodedPixels", *rows)
    assert np.array_equal(open_dataset(make.root).samples[0].read_mask(40, 64), tall)


def test_the_direction_of_a_square_is_not_guessed() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[5:35, 10:20] = 1
    assert detect_run_direction(encode_runs(mask), 64, 64) is None
    assert detect_run_direction(encode_runs(mask), 64, 128) is None


def test_an_index_matches_images_and_masks_in_other_spellings(make: Any) -> None:
    for index in range(6):
        make.write(f"images/p{index}.jpg")
    make.write("masks/P1.PNG", make.mask(1))
    rows = [f"p{i}.jpg ,free,0" for i in range(2, 6)]
    make.text("index.csv", "image,class_name,class_id", "P0,free,0", "images/P1.JPG,pit,1", *rows)
    data = open_dataset(make.root)
    assert (bad(data), len(data)) == (["p1.jpg"], 6)
    assert data.samples[1].read_mask(40, 64).sum() == 96


def test_an_index_cannot_name_files_outside_its_folder(make: Any) -> None:
    for index in range(3):
        make.write(f"images/p{index}.jpg")
    make.write("secret.jpg")
    make.text(
        "index.csv",
        "image,class_name,class_id",
        "p0.jpg,free,0",
        "p1.jpg,pit,1",
        "../secret.jpg,pit,1",
    )
    data = open_dataset(make.root)
    assert [each.name for each in data.skipped] == ["../secret.jpg", "p2.jpg"]


def test_a_class_id_of_millions_is_refused(make: Any) -> None:
    make.write("images/p0.jpg")
    make.text("index.csv", "image,class_name,class_id", "p0.jpg,pit,1000000")
    with pytest.raises(DataError, match="class_id is 1000000"):
        open_dataset(make.root)


@pytest.mark.parametrize("name", ["train.csv", "index.csv"])
def test_a_pipe_instead_of_a_table_does_not_block(make: Any, name: str) -> None:
    make.write("images/p0.jpg")
    os.mkfifo(make.root / name)
    assert read_header(make.root / name) == ()
    with pytest.raises(DataError):
        open_dataset(make.root)


def test_a_nested_split_file_is_one_error(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    root = make.mask_folder()
    (root / "split.json").write_text("[" * 200_000)
    assert main(["data", "inspect", str(root), "--split-file", str(root / "split.json")]) == 65
    assert "split.json is not JSON: is nested too deeply" in capsys.readouterr().err


def test_manual_tables_may_have_short_rows(tmp_path: Path) -> None:
    path = tmp_path / "corrections.csv"
    path.write_text("frame,label,mask\na,good\nb,pit,m.png\n")
    assert read_rows(path, allow_short_rows=True)[0] == {"frame": "a", "label": "good", "mask": ""}
    with pytest.raises(DataError, match="fewer cells"):
        read_rows(path)


CELL = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)


@given(st.lists(st.tuples(CELL, CELL, CELL), max_size=8), st.sampled_from(",;\t|"))
def test_written_csv_is_read_back(rows: list[tuple[str, ...]], sep: str) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=sep)
    writer.writerow(["ImageId", "ClassId", "EncodedPixels"])
    writer.writerows(rows)
    found = [tuple(row.values()) for _line, row in parse_rows(out.getvalue(), "t.csv")[1]]
    # The apostrophe before what a spreadsheet would take for a formula is not of the text.
    assert found == [tuple(unescape_cell(cell.strip()) for cell in row) for row in rows]


@given(st.text(max_size=200))
def test_any_text_is_a_table_or_an_error(text: str) -> None:
    try:
        header, rows = parse_rows(text, "t.csv")
    except DataError:
        return
    assert all(set(row) <= {*header} for _line, row in rows)


@given(st.lists(st.text(max_size=12), unique=True, max_size=8), st.text(max_size=12))
def test_a_name_matches_one_file_none_or_is_refused(files: list[str], name: str) -> None:
    try:
        found = FileNameIndex(files, "t.csv").find(name)
    except DataError:
        return
    assert found is None or found in files
    if name in files:
        assert found == name
    assert normalize_name(normalize_name(name)) == normalize_name(name)


# -- masks that an index names -----------------------------------------------------------------


def index_with_masks(make: Any, *cells: str, header: str = "image,class_id,mask") -> Path:
    """p0 … with the mask of each cell; images with a cell have class 1."""
    for at in range(len(cells)):
        make.write(f"images/p{at}.png")
    make.write("masks/s0.png", make.mask(1))
    make.write("masks/s1.png", make.mask(0, 1))
    rows = [
        ",".join([f"p{at}.png", *(["01"[bool(cell)]] * ("class_id" in header)), cell])
        for at, cell in enumerate(cells)
    ]
    make.text("index.csv", header, *rows)
    return make.root


@pytest.mark.parametrize(
    "spelling", ["masks/s{}.png", "s{}.png", "s{}", "masks\\s{}.png", "./masks/S{}.PNG"]
)
@pytest.mark.parametrize("header", ["image,class_id,mask", "image,class_id,Mask_Path"])
def test_an_index_names_the_masks_which_images_may_share(
    make: Any, spelling: str, header: str
) -> None:
    cells = ["" if at < 0 else spelling.format(at) for at in (0, 1, -1, 0, 1, -1)]
    data = open_dataset(index_with_masks(make, *cells, header=header))
    assert (data.layout, data.has_masks, data.skipped) == ("indexed", True, ())
    blocks = [make.mask(1), make.mask(0, 1), make.mask()]
    for at, sample in enumerate(data.samples):
        assert (sample.read_mask(40, 64) == blocks[at % 3]).all(), sample.name
        assert sample.is_defective == (at % 3 < 2)


def test_an_index_without_labels_names_the_masks(make: Any) -> None:
    root = index_with_masks(make, "s0.png", "", "s1.png", "s0.png", header="image,mask")
    data = open_dataset(root)
    assert [sample.is_defective for sample in data.samples] == [True, False, True, True]
    assert (data.samples[3].read_mask(40, 64) == make.mask(1)).all()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("masks/s9.png", "the mask 'masks/s9.png' does not exist"),
        ("../s0.png", "the mask '../s0.png' does not exist"),
        ("1", "the mask '1' does not exist"),
        ("t", "the mask 't' may be masks/t.bmp and masks/t.png"),
    ],
)
def test_a_mask_that_an_index_names_and_that_cannot_be_found(
    make: Any, cell: str, message: str
) -> None:
    root = index_with_masks(make, "s0", "s1", cell)
    for suffix in ("bmp", "png"):
        make.write(f"masks/t.{suffix}", make.mask(1))
    with pytest.raises(DataError, match=message) as at:
        open_dataset(root)
    assert str(at.value.where).endswith("index.csv:4")
    assert "relative to index.csv" in str(at.value.remedy)


def test_a_mask_in_the_index_and_one_of_the_stem_are_refused(make: Any) -> None:
    root = index_with_masks(make, "s0", "s1", "")
    make.write("masks/p0.png", make.mask(1))
    with pytest.raises(DataError, match=r"two masks could belong to one image: masks/p0\.png and"):
        open_dataset(root)


def test_masks_of_an_index_without_an_image_are_listed(make: Any) -> None:
    make.indexed()
    make.write("masks/other.png", make.mask(1))
    data = open_dataset(make.root)
    assert ("masks/other.png", "is a mask without an image") in [
        (one.name, one.reason) for one in data.skipped
    ]
    for at in range(9):
        make.write(f"masks/other{at}.png", make.mask(1))
    with pytest.raises(DataError, match=r"masks have no image: masks/other0\.png") as at_fault:
        open_dataset(make.root)
    assert "a column mask" in str(at_fault.value.remedy)
