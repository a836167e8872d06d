"""Every layout is read into samples; an unknown layout is an error with the requirements."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError, UsageError
from edgeinspect.imaging.run_length import encode_runs, format_runs
from edgeinspect.learning.datasets.class_names import is_good_class
from edgeinspect.learning.datasets.dataset import VOID, Dataset, Sample
from edgeinspect.learning.datasets.open import layout_names, load_layout, open_dataset


def by_name(data: Dataset) -> dict[str, Sample]:
    return {sample.name: sample for sample in data.samples}


def mask_of(sample: Sample) -> np.ndarray:
    return sample.read_mask(40, 64)


@pytest.mark.parametrize("joined", [False, True])
def test_severstal_in_both_column_forms(make: Any, joined: bool) -> None:
    data = open_dataset(make.severstal(joined))
    assert (data.layout, data.has_masks) == ("severstal", True)
    assert data.classes == ("class_1", "class_2", "class_3")[: len(data.classes)]
    found = by_name(data)
    assert {name: sample.class_ids for name, sample in found.items()} == {
        "a.jpg": (1,),
        "b.jpg": (1, 3),
        "c.jpg": (),
        "d.jpg": (),
    }
    assert [found[name].is_defective for name in sorted(found)] == [True, True, False, False]
    whole = make.mask(1, 2, 3)
    assert np.array_equal(mask_of(found["b.jpg"]), np.where(whole == 2, 0, whole))
    assert not mask_of(found["c.jpg"]).any()
    assert not mask_of(found["d.jpg"]).any()
    assert open_dataset(make.root / "train.csv").samples == data.samples


def test_severstal_takes_images_and_class_names_too(make: Any) -> None:
    make.severstal()
    (make.root / "train_images").rename(make.root / "images")
    make.text("classes.txt", "pit", "scar", "scale", "dent")
    data = open_dataset(make.root)
    assert data.classes == ("pit", "scar", "scale", "dent")
    assert by_name(data)["a.jpg"].class_name == "pit"
    assert all(sample.path.is_file() for sample in data.samples)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("5 x", "value 2 .* not an integer"),
        ("5 3 6 1", "overlaps"),
        ("9 1 5 1", "precedes"),
        ("5", "odd number"),
        ("2560 2", "outside"),
        ("5 0", "length below 1"),
    ],
)
def test_a_bad_code_names_its_row(make: Any, code: str, message: str) -> None:
    make.write("images/a.png")
    make.text("train.csv", "ImageId,ClassId,EncodedPixels", f"a.png,1,{code}")
    (sample,) = open_dataset(make.root).samples
    with pytest.raises(DataError, match=message) as caught:
        mask_of(sample)
    assert caught.value.where == "train.csv:2"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a.png,0.5,1 2"], "ClassId is '0.5'"),
        (["a.png,999,1 2"], "ClassId is '999'"),
        (["a.png,1,1 2", "a.png,1,9 2"], "repeats class 1 of a.png from train.csv:2"),
        ([",1,1 2"], "names no image"),
        (["a.png,,1 2"], "a code but no class"),
        (["a.png,1,1 2,7"], "more cells than the header"),
    ],
)
def test_a_bad_row_is_named(make: Any, rows: list[str], message: str) -> None:
    make.write("images/a.png")
    make.text("train.csv", "ImageId,ClassId,EncodedPixels", *rows)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(make.root)
    assert re.search(r"train\.csv:[23]", str(caught.value))


def test_folder_per_class_of_castings(make: Any) -> None:
    for split in ("train", "test"):
        make.class_folder(above=f"{split}/", count=2)
    data = open_dataset(make.root)
    assert (data.layout, data.classes, data.has_masks) == ("class_folder", ("def_front",), False)
    assert len(data) == 8
    for sample in data.samples:
        assert sample.is_defective == (sample.class_name == "def_front")
        assert sample.split == sample.name.split("/")[0]
        assert not mask_of(sample).any()


def test_folder_per_class_of_defects_alone(make: Any) -> None:
    make.class_folder("crazing", "inclusion", "patches", count=2, above="train/images/")
    data = open_dataset(make.root)
    assert data.classes == ("crazing", "inclusion", "patches")
    assert all(sample.is_defective and sample.split == "train" for sample in data.samples)


def test_the_user_may_name_the_good_class(make: Any) -> None:
    make.class_folder("kind_a", "kind_b", count=2)
    data = open_dataset(make.root, good_classes=["Kind_A"])
    assert data.classes == ("kind_b",)
    with pytest.raises(DataError, match="no class kind_c"):
        open_dataset(make.root, good_classes=["kind_c"])


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("ok", True),
        ("ok_front", True),
        ("OK", True),
        ("good", True),
        ("MT_Free", True),
        ("Normal", True),
        ("no_defect", True),
        ("defect-free", True),
        ("NonDefective", True),
        ("without_cracks", True),
        ("Negative", True),
        ("undamaged", True),
        ("no defects", True),
        ("def_front", False),
        ("not_ok", False),
        ("NOK", False),
        ("NG", False),
        ("no_good", False),
        ("crazing", False),
        ("defective", False),
        ("bad", False),
        ("Positive", False),
        ("token", False),
        ("broken", False),
        ("cracked", False),
        ("IO", True),
        ("iO", True),
        ("i.O.", True),
        ("i_O", True),
        ("in Ordnung", True),
        ("01_IO_links", True),
        ("Gutteile", True),
        ("fehlerfrei", True),
        ("ohne_Fehler", True),
        ("scratch_free", True),
        ("free_of_cracks", True),
        ("no_visible_defect", True),
        ("NIO", False),
        ("niO", False),
        ("n.i.O.", False),
        ("n. i. O.", False),
        ("n_i_O", False),
        ("nicht in Ordnung", False),
        ("nicht_i.O.", False),
        ("radio", False),
        ("Schlecht", False),
        ("goed", True),
        ("niet_goed", False),
        ("fout", False),
        ("dobry", True),
        ("wadliwy", False),
        ("良品", True),
        ("不良品", False),
        ("合格", True),
        ("不合格", False),
        ("正常", True),
        ("異常", False),
        ("NG_不良", False),
        ("양품", True),
        ("불량", False),
        # defects, despite words for good
        ("nok_crack", False),
        ("NOK_scratch", False),
        ("not_ok_crack", False),
        ("no_good_scratch", False),
        ("ok_ng", False),
        ("fine_pores", False),
        ("non_ferrous_crack", False),
        ("free_ferrite", False),
        ("non_conforme", False),
    ],
)
def test_meaning_of_class_names(name: str, good: bool) -> None:
    assert is_good_class(name) is good


def test_mvtec(make: Any) -> None:
    data = open_dataset(make.mvtec())
    assert (data.layout, data.classes) == ("mvtec", ("crack", "hole"))
    assert len(data) == 15
    for sample in data.samples:
        assert set(np.unique(mask_of(sample))) == {0, *sample.class_ids}
        assert sample.is_defective == bool(sample.class_ids)
    (make.root / "ground_truth/hole/001_mask.png").unlink()
    with pytest.raises(DataError, match=r"has no mask.*001_mask\.png"):
        open_dataset(make.root)


@pytest.mark.parametrize("value", [1, 255, 128, 200])
def test_mask_folder_of_binary_masks(make: Any, value: int) -> None:
    data = open_dataset(make.mask_folder(value))
    assert (data.layout, data.classes) == ("mask_folder", ("defect",))
    assert [sample.is_defective for sample in data.samples] == [False, True, False, True]
    assert np.array_equal(mask_of(data.samples[1]), make.mask(1))


def index_masks(make: Any, write: Any) -> Dataset:
    for index, classes in enumerate([(), (1,), (1, 2), (3,)]):
        make.write(f"images/p{index}.png")
        write(f"labels/p{index}_mask.png", make.mask(*classes))
    return open_dataset(make.root, classes=["pit", "scar", "scale"])


def test_mask_folder_of_class_ids(make: Any) -> None:
    data = index_masks(make, make.write)
    assert [sample.class_ids for sample in data.samples] == [(), (1,), (1, 2), (3,)]
    assert np.array_equal(mask_of(data.samples[2]), make.mask(1, 2))
    assert data.classes == ("pit", "scar", "scale")


def test_mask_folder_of_grey_rgb_masks(make: Any) -> None:
    data = index_masks(make, lambda name, mask: make.write(name, np.dstack([mask] * 3)))
    assert np.array_equal(mask_of(data.samples[2]), make.mask(1, 2))


def test_mask_folder_of_spread_greys(make: Any) -> None:
    data = index_masks(make, lambda name, mask: make.write(name, mask * 85))
    assert [sample.class_ids for sample in data.samples] == [(), (1,), (1, 2), (3,)]
    assert any("85 is pit, 170 is scar, 255 is scale" in note for note in data.notes)


COLORS = np.array([(0, 0, 0), (0, 0, 200), (0, 200, 0), (200, 0, 0)], np.uint8)


def test_mask_folder_of_colours(make: Any) -> None:
    with pytest.raises(DataError, match=r"labelmap\.txt with a line name:red,green,blue"):
        index_masks(make, lambda name, mask: make.write(name, COLORS[mask]))
    data = open_dataset(make.root)
    # Blue is the smallest value, red the largest; the colours are BGR here.
    assert data.classes == ("rgb_0000c8", "rgb_00c800", "rgb_c80000")
    assert [sample.class_ids for sample in data.samples] == [(), (3,), (2, 3), (1,)]


def palette_png(indices: np.ndarray, colors: np.ndarray) -> bytes:
    """A palette PNG, which OpenCV cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = indices.shape
    lines = b"".join(b"\0" + line.tobytes() for line in indices)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        + chunk(b"PLTE", colors[:, ::-1].tobytes())
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def test_mask_folder_of_palette_masks(make: Any) -> None:
    def write(name: str, mask: np.ndarray) -> None:
        path = make.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(palette_png(mask, COLORS))

    data = index_masks(make, write)
    assert [sample.class_ids for sample in data.samples] == [(), (1,), (1, 2), (3,)]
    assert np.array_equal(mask_of(data.samples[2]), make.mask(1, 2))


def test_mask_folder_of_one_file_per_class(make: Any) -> None:
    for index in range(3):
        make.write(f"images/p{index}.jpg")
        make.write(f"masks/p{index}_pit.png", make.mask(1, value=255) * (index != 0))
    make.write("masks/p2_deep_scar.png", np.roll(make.mask(1, value=255), 20, axis=1))
    data = open_dataset(make.root)
    assert data.classes == ("deep_scar", "pit")
    assert [sample.class_ids for sample in data.samples] == [(), (2,), (1, 2)]
    assert set(np.unique(mask_of(data.samples[2]))) == {0, 1, 2}


def test_mask_folder_of_one_folder_per_class(make: Any) -> None:
    for index in range(2):
        make.write(f"images/p{index}.jpg")
        make.write(f"masks/pit/p{index}.png", make.mask(1, value=255) * index)
    data = open_dataset(make.root)
    assert data.classes == ("pit",)
    assert [sample.class_ids for sample in data.samples] == [(), (1,)]


@pytest.mark.parametrize(
    "above",
    [
        "{split}/images|{split}/masks",
        "images/{split}|masks/{split}",
        "{split}_images|{split}_masks",
    ],
)
def test_mask_folder_below_splits(make: Any, above: str) -> None:
    for split in ("train", "valid", "test"):
        images, masks = above.format(split=split).split("|")
        make.write(f"{images}/{split}.jpg")
        make.write(f"{masks}/{split}.png", make.mask(1))
    data = open_dataset(make.root)
    assert {sample.name: sample.split for sample in data.samples} == {
        "train.jpg": "train",
        "valid.jpg": "val",
        "test.jpg": "test",
    }
    assert all(sample.is_defective for sample in data.samples)


def test_soft_edges_are_thresholded(make: Any) -> None:
    for index in range(3):
        make.write(f"images/p{index}.jpg")
        soft = cv2.GaussianBlur(make.mask(*[1] * index, value=255), (0, 0), 2)
        make.write(f"masks/p{index}.png", np.asarray(soft))
    data = open_dataset(make.root)
    assert [sample.is_defective for sample in data.samples] == [False, True, True]
    assert any("thresholded at 128" in note for note in data.notes)
    assert mask_of(data.samples[1]).sum() == pytest.approx(96, rel=0.5)


def test_unlabelled_pixels_are_void(make: Any) -> None:
    for index in range(3):
        make.write(f"images/p{index}.jpg")
        mask = make.mask(1, 2, 2)
        mask[30:] = 255
        make.write(f"masks/p{index}.png", mask)
    data = open_dataset(make.root)
    wanted = make.mask(1, 2, 2)
    wanted[30:] = VOID
    assert np.array_equal(mask_of(data.samples[0]), wanted)
    assert data.classes == ("class_1", "class_2")
    assert any("unlabelled" in note for note in data.notes)


def test_masks_without_images_and_images_without_masks_are_counted(make: Any) -> None:
    make.mask_folder()
    (make.root / "masks/p3.png").unlink()
    make.write("masks/stranger.png", make.mask(1))
    data = open_dataset(make.root)
    assert not by_name(data)["p3.jpg"].is_defective
    assert any("1 of 4 images have no mask file" in note for note in data.notes)
    assert any("1 mask has no image" in note for note in data.notes)


def test_kolektor_2(make: Any) -> None:
    for split in ("train", "test"):
        for index in range(3):
            make.write(f"{split}/1000{index}.png")
            make.write(f"{split}/1000{index}_GT.png", make.mask(*[1] * (index == 1), value=255))
    data = open_dataset(make.root)
    assert (data.layout, data.classes, len(data)) == ("mask_beside", ("defect",), 6)
    assert [sample.is_defective for sample in data.samples] == [False, True, False] * 2
    assert {sample.split for sample in data.samples} == {"train", "test"}


def test_kolektor_1(make: Any) -> None:
    for item in ("kos01", "kos02"):
        for part in range(2):
            make.write(f"{item}/Part{part}.jpg")
            mask = make.mask(*[1] * part, value=255)
            make.write(f"{item}/Part{part}_label.bmp", mask)
    data = open_dataset(make.root)
    assert (data.layout, len(data)) == ("mask_beside", 4)
    assert [sample.group for sample in data.samples] == ["kos01", "kos01", "kos02", "kos02"]
    assert [sample.is_defective for sample in data.samples] == [False, True] * 2


def test_tiles_with_masks_of_the_same_stem_in_class_folders(make: Any) -> None:
    for kind in ("MT_Free", "MT_Crack", "MT_Fray"):
        for index in range(2):
            make.write(f"{kind}/Imgs/{kind}{index}.jpg")
            make.write(
                f"{kind}/Imgs/{kind}{index}.png", make.mask(*[1] * (kind != "MT_Free"), value=255)
            )
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("mask_beside", ("MT_Crack", "MT_Fray"))
    for sample in data.samples:
        assert set(np.unique(mask_of(sample))) == {0, *sample.class_ids}
        assert sample.class_name == sample.name.rstrip("01.jpg")


def test_indexed_folder(make: Any) -> None:
    data = open_dataset(make.indexed())
    assert (data.layout, data.classes) == ("indexed", ("pit", "scar"))
    assert [sample.class_ids for sample in data.samples[:4]] == [(), (1,), (2,), (1,)]
    assert [sample.split for sample in data.samples[:4]] == ["train", "train", "val", "test"]
    assert data.samples[0].group == "g0train"
    assert np.array_equal(mask_of(data.samples[2]), make.mask(2))


def test_an_index_has_priority_over_run_lengths(make: Any) -> None:
    make.indexed()
    make.text("train.csv", "ImageId,ClassId,EncodedPixels", "t1.jpg,1,1 4")
    assert open_dataset(make.root).layout == "indexed"
    assert open_dataset(make.root, "severstal").layout == "severstal"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,pit,x,g,train", "'x' is not a number"),
        ("a.jpg,pit,-1,g,train", "-1 is below 0"),
        ("a.jpg,pit,1,g,foo", "'foo' is not a split"),
        (",pit,1,g,train", "names no image"),
        ("a.jpg,scar,1,g,train\nb.jpg,pit,1,g,train", "class 1 is 'pit' here and 'scar' above"),
        ("a.jpg,pit,1,g,train\na.jpg,pit,1,g,train", "two images named 'a.jpg'"),
    ],
)
def test_a_bad_index_row_is_named(make: Any, row: str, message: str) -> None:
    make.write("images/a.jpg")
    make.text("index.csv", "image,class_name,class_id,group,split", row)
    with pytest.raises(DataError, match=message):
        open_dataset(make.root)


# -- other files -----------------------------------------------------------------


def test_hidden_files_links_and_capitals(make: Any) -> None:
    make.class_folder(count=2)
    make.write("ok_front/LOUD.PNG")
    for junk in ("ok_front/.hidden.png", "ok_front/._x.png", ".git/x.png"):
        make.text(junk, "not an image")
    make.text("ok_front/Thumbs.db", "not an image")
    make.text("ok_front/notes.txt", "not an image")
    os.symlink(make.root, make.root / "def_front" / "loop")
    os.symlink(make.root / "nowhere", make.root / "ok_front" / "dangling")
    data = open_dataset(make.root)
    names = sorted(sample.path.name for sample in data.samples)
    assert names == [
        "LOUD.PNG",
        "def_front_0.jpeg",
        "def_front_1.jpeg",
        "ok_front_0.jpeg",
        "ok_front_1.jpeg",
    ]


def test_an_unknown_layout_lists_what_each_layout_needs(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    for name in layout_names():
        assert load_layout(name).NEEDS in str(caught.value)
    assert caught.value.exit_code == 65
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="does not have the layout 'mvtec'"):
        open_dataset(tmp_path, "mvtec")
    with pytest.raises(UsageError, match=r"no layout 'cityscapes'.*severstal"):
        open_dataset(tmp_path, "cityscapes")


def test_a_set_inside_another_folder_is_found(make: Any) -> None:
    make.class_folder(above="archive/casting/")
    data = open_dataset(make.root)
    assert data.root == make.root / "archive" / "casting"
    assert any("archive/casting" in note for note in data.notes)


def test_several_sets_are_named(make: Any) -> None:
    inner = type(make)(make.root / "bottle")
    inner.mvtec()
    type(make)(make.root / "cable").mvtec()
    with pytest.raises(DataError, match=r"several data sets.*bottle.*cable"):
        open_dataset(make.root)


def test_one_class_only_is_refused(make: Any) -> None:
    make.class_folder("ok", count=2)
    with pytest.raises(DataError, match="at least two"):
        open_dataset(make.root)
    make.class_folder("good", count=2)
    with pytest.raises(DataError, match=r"all classes are good: good, ok.*--good-class"):
        open_dataset(make.root)


@pytest.mark.data
def test_the_real_sets(shared_data: Path) -> None:
    tiles = open_dataset(shared_data / "magnetic_tile")
    assert tiles.classes == ("blowhole", "break", "crack", "fray", "uneven")
    assert (len(tiles), sum(sample.is_defective for sample in tiles.samples)) == (1344, 392)
    coded = open_dataset(shared_data / "neu_seg" / "train.csv")
    drawn = by_name(open_dataset(shared_data / "neu_seg"))
    for sample in coded.samples[::50]:
        assert np.array_equal(sample.read_mask(200, 200), drawn[sample.name].read_mask(200, 200))
        assert sample.class_ids == drawn[sample.name].class_ids


# -- every layout -------------------------------------------------------------------------


@pytest.mark.parametrize("name", layout_names())
def test_no_layout_recognises_nothing(name: str, tmp_path: Path) -> None:
    layout = load_layout(name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.csv").write_bytes(b"\xff\xfe\0")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    for path in (*tmp_path.iterdir(), tmp_path / "nowhere", tmp_path):
        assert not layout.recognise(path)


def test_the_layout_in_the_documentation_works(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).resolve().parents[4] / "docs" / "reference" / "data.md"
    (code,) = re.findall(r"<!-- example: layout -->\n```python\n(.*?)```", page.read_text(), re.S)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "named_bad.py").write_text(code)
    from edgeinspect.learning.datasets import layouts

    monkeypatch.setattr(layouts, "__path__", [*layouts.__path__, str(tmp_path / "plugins")])
    make.text("named_bad.txt", "")
    make.write("a_bad.png")
    make.write("b.png")
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("named_bad", ("defect",))
    assert [sample.is_defective for sample in data.samples] == [True, False]


def test_every_layout_is_documented() -> None:
    page = (Path(__file__).resolve().parents[4] / "docs" / "reference" / "data.md").read_text()
    for name in layout_names():
        assert f"| `{name}` |" in page


# -- incomplete indexes ----------------------------------------------------------------


def test_an_index_without_classes_is_labelled_by_masks(make: Any) -> None:
    for index in range(4):
        make.write(f"images/p{index}.jpg")
        make.write(f"masks/p{index}.png", make.mask(*[1] * (index % 2), value=255))
    make.text("index.csv", "image,split,group", *(f"p{i}.jpg,train,g{i // 2}" for i in range(4)))
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("indexed", ("defect",))
    assert [sample.is_defective for sample in data.samples] == [False, True] * 2
    assert [sample.group for sample in data.samples] == ["g0", "g0", "g1", "g1"]
    assert {sample.split for sample in data.samples} == {"train"}


def test_an_index_may_label_images_as_defective(make: Any) -> None:
    for index in range(2):
        make.write(f"images/p{index}.jpg")
    make.text("index.csv", "image,defective", "p0.jpg,0", "p1.jpg,1")
    data = open_dataset(make.root)
    assert (data.classes, data.has_masks) == (("defect",), False)
    assert [sample.is_defective for sample in data.samples] == [False, True]


def test_white_masks_take_the_class_of_their_label(make: Any) -> None:
    make.indexed()
    for index, class_id in enumerate([0, 1, 2, 1] * 2):
        if class_id:
            make.write(f"masks/t{index}.png", make.mask(1, value=255))
    data = open_dataset(make.root)
    for sample in data.samples:
        assert set(np.unique(mask_of(sample))) == {0, *sample.class_ids}


def test_images_outside_the_index_are_counted(make: Any) -> None:
    make.indexed()
    make.write("images/stranger.jpg")
    assert any("1 image is not in the index" in note for note in open_dataset(make.root).notes)


def test_codes_may_be_long(make: Any) -> None:
    mask = np.zeros((400, 400), np.uint8)
    mask[::2] = 1
    code = format_runs(encode_runs(mask))
    assert len(code) > 131_072  # the default limit of a cell
    make.write("images/a.png", make.pixels(400, 400))
    make.text("train.csv", "ImageId,ClassId,EncodedPixels", f"a.png,1,{code}")
    (sample,) = open_dataset(make.root).samples
    assert np.array_equal(sample.read_mask(400, 400), mask)


def test_per_class_masks_may_hold_the_class_id(make: Any) -> None:
    for index in range(2):
        make.write(f"images/p{index}.jpg")
        make.write(f"masks/p{index}_scar.png", make.mask(1, value=3) * index)
    data = open_dataset(make.root)
    assert [sample.class_ids for sample in data.samples] == [(), (1,)]
    assert mask_of(data.samples[1]).sum() == 96


@pytest.mark.parametrize("stray", ["preview.png", "logo.jpg", "0.png"])
def test_one_loose_image_does_not_change_the_layout(make: Any, stray: str) -> None:
    for index in range(6):
        make.write(f"good/g{index}.png")
        make.write(f"crack/{index}.png")
        make.write(f"masks/crack/{index}.png", make.mask(1, value=255))
    make.write(stray)
    data = open_dataset(make.root)
    assert (data.layout, len(data)) == ("class_masks", 12)
    assert [one.name for one in data.skipped] == [stray]
    assert sum(sample.is_defective for sample in data.samples) == 6


def test_images_beside_their_masks_may_have_a_folder_of_others_beside_them(make: Any) -> None:
    for index in range(12):
        make.write(f"{index:04}.png")
        make.write(f"Label/{index:04}_label.png", make.mask(1, value=255))
    make.write("rejects_of_the_camera/a.png")
    data = open_dataset(make.root)
    assert (data.layout, len(data)) == ("mask_folder", 12)
    assert [one.name for one in data.skipped] == ["rejects_of_the_camera/a.png"]
