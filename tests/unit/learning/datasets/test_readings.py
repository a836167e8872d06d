"""A folder is read completely in one layout, or refused; masks are never read as images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeinspect.cli.main import main
from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.vocabulary import is_mask_folder, is_visualization_folder


def bad(data: Dataset) -> list[str]:
    return [sample.name for sample in data.samples if sample.is_defective]


def spots(data: Dataset) -> int:
    """Return the defect pixels of all images."""
    return sum(int((sample.read_mask(40, 64) > 0).sum()) for sample in data.samples)


@pytest.mark.parametrize(
    ("name", "mask", "drawing"),
    [
        ("masks", True, False),
        ("mask_dir", True, False),
        ("Masks_png", True, False),
        ("SegmentationClass", True, False),
        ("SegmentationClassPNG", True, False),
        ("SegmentationClassVisualization", True, True),
        ("SegmentationObject", True, True),
        ("ground_truth", True, False),
        ("GroundTruth", True, False),
        ("train_labels", True, False),
        ("gt", True, False),
        ("overlay", False, True),
        ("images", False, False),
        ("solder_mask_damage", False, False),
        ("missing_label", False, False),
        ("ground", False, False),
        ("ok", False, False),
        ("segregation", False, False),
    ],
)
def test_meaning_of_folder_names(name: str, mask: bool, drawing: bool) -> None:
    assert (is_mask_folder(name), is_visualization_folder(name)) == (mask, drawing)


def voc(make: Any, png: str) -> Path:
    for index in range(4):
        make.write(f"JPEGImages/p{index}.jpg")
        make.write(f"{png}/p{index}.png", make.mask(*[2] * (index % 2)))
        make.write(f"SegmentationClassVisualization/p{index}.jpg")
        make.write(f"SegmentationObject/p{index}.png", make.mask(7))
    make.text("class_names.txt", "_background_", "pit", "scar")
    return Path(make.root)


@pytest.mark.parametrize("png", ["SegmentationClass", "SegmentationClassPNG"])
def test_labelmes_voc_in_both_forms(make: Any, png: str) -> None:
    data = open_dataset(voc(make, png))
    assert (data.layout, data.classes) == ("mask_folder", ("pit", "scar"))
    assert [sample.class_ids for sample in data.samples] == [(), (2,), (), (2,)]
    assert data.skipped == ()


@pytest.mark.parametrize("where", ["masks/crack/{}.png", "masks/{}.png", "mask/crack/{}_mask.png"])
def test_classes_with_a_folder_of_masks(make: Any, where: str) -> None:
    for index in range(4):
        make.write(f"good/{index:03}.png")
        make.write(f"crack/{index:03}.png")
        make.write(where.format(f"{index:03}"), make.mask(1, value=255))
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("class_masks", ("crack",))
    assert bad(data) == [f"crack/{index:03}.png" for index in range(4)]
    assert spots(data) == 4 * 96


def test_anomalibs_folder(make: Any) -> None:
    for index in range(4):
        make.write(f"normal_dir/{index}.png")
        make.write(f"abnormal_dir/{index + 50}.png")
        make.write(f"mask_dir/{index + 50}.png", make.mask(1, value=255))
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("class_masks", ("abnormal_dir",))
    assert len(data) == 8
    assert spots(data) == 4 * 96


def test_a_mask_that_matches_two_classes_is_refused(make: Any) -> None:
    for index in range(3):
        for name in ("good", "crack", "hole"):
            make.write(f"{name}/{index}.png")
        make.write(f"masks/{index}.png", make.mask(1, value=255))
    with pytest.raises(DataError, match=r"could belong to 0\.png in crack/ or in hole/"):
        open_dataset(make.root)


def test_masks_under_any_name_are_not_a_class(make: Any) -> None:
    for index in range(4):
        make.write(f"ok/{index}.png")
        make.write(f"crack/c{index}.png")
        make.write(f"binary/c{index}.png", make.mask(1, value=255))
    with pytest.raises(DataError, match=r"binary/ has masks of the images in the other"):
        open_dataset(make.root)
    assert open_dataset(make.root, "class_folder").classes == ("binary", "crack")


def test_uniform_images_of_other_names_may_be_a_class(make: Any) -> None:
    for index in range(4):
        make.write(f"ok/{index}.png")
        make.write(f"empty/e{index}.png", np.full((40, 64), 3, np.uint8))
    assert open_dataset(make.root).classes == ("empty",)


def test_a_defect_class_may_be_named_like_a_mask(make: Any) -> None:
    make.class_folder("ok", "solder_mask_damage", count=3)
    assert open_dataset(make.root).classes == ("solder_mask_damage",)


def test_reading_a_folder_in_part_is_refused(make: Any) -> None:
    make.mask_folder(count=6)
    make.class_folder("ok", "bad", count=6)
    with pytest.raises(
        DataError, match=r"only in part by layout mask_folder.*skips bad/ \(6\), ok/ \(6\)"
    ):
        open_dataset(make.root)
    data = open_dataset(make.root, "mask_folder")
    assert (len(data), len(data.skipped)) == (6, 12)
    assert all(one.is_intentional for one in data.skipped)


def test_two_folders_of_masks_are_refused(make: Any) -> None:
    make.mask_folder()
    make.write("labels/p0.png", make.mask(1))
    with pytest.raises(DataError, match="two mask folders: labels/ and masks/"):
        open_dataset(make.root)


def test_two_masks_of_an_image_are_refused(make: Any) -> None:
    make.mask_folder()
    make.write("masks/P1_mask.PNG", make.mask(1, value=255))
    with pytest.raises(DataError, match=r"p1\.jpg has two masks"):
        open_dataset(make.root)


def test_masks_are_found_in_other_spellings(make: Any) -> None:
    for index in range(6):
        make.write(f"images/Teil_{index}.JPG")
        make.write(f"masks/TEIL_{index}.png", make.mask(*[1] * (index % 2), value=255))
    assert [sample.is_defective for sample in open_dataset(make.root).samples] == [False, True] * 3


def test_masks_of_other_images_are_refused(make: Any) -> None:
    make.mask_folder(count=4)
    for index in range(3):
        make.write(f"masks/q{index}.png", make.mask(1, value=255))
    with pytest.raises(DataError, match=r"3 of 7 masks have no image: masks/q0\.png"):
        open_dataset(make.root)


def test_one_image_under_two_suffixes_is_read_once(make: Any) -> None:
    for index in range(4):
        pixels = make.pixels()
        make.write(f"images/p{index}.bmp", pixels)
        make.write(f"images/p{index}.jpg", pixels)
        make.write(f"masks/p{index}.png", make.mask(*[1] * (index % 2), value=255))
    data = open_dataset(make.root)
    assert [sample.name for sample in data.samples] == [f"p{i}.bmp" for i in range(4)]
    assert bad(data) == ["p1.bmp", "p3.bmp"]
    assert [one.name for one in data.skipped] == [f"p{i}.jpg" for i in range(4)]


def test_two_suffixes_with_two_labels_are_refused(make: Any) -> None:
    for name in ("p0.bmp", "p0.jpg", "p1.jpg"):
        make.write(f"train_images/{name}")
    make.text("train.csv", "ImageId,ClassId,EncodedPixels", "p0.jpg,1,9 12")
    with pytest.raises(DataError, match=r"p0\.bmp is good, p0\.jpg defective"):
        open_dataset(make.root)


def test_classes_that_differ_in_capitals_are_refused(make: Any) -> None:
    make.class_folder("ok", "Crack", above="train/", count=2)
    make.class_folder("ok", "crack", above="test/", count=2)
    with pytest.raises(DataError, match="has the classes 'Crack' and 'crack'"):
        open_dataset(make.root)


# -- public sets ------------------------------------------------------------------------------


def test_mvtec_ad_2(make: Any) -> None:
    for index in range(3):
        for place in (
            "train/good",
            "validation/good",
            "test_public/good",
            "test_public/bad",
            "test_private",
            "test_private_mixed",
        ):
            make.write(f"{place}/{index:03}_regular.png")
        make.write(
            f"test_public/ground_truth/bad/{index:03}_regular_mask.png", make.mask(1, value=255)
        )
    data = open_dataset(make.root)
    assert (data.layout, data.classes, len(data)) == ("mvtec", ("bad",), 12)
    assert bad(data) == [f"test_public/bad/{index:03}_regular.png" for index in range(3)]
    assert {sample.split for sample in data.samples} == {"train", "val", "test"}
    assert (len(data.skipped), spots(data)) == (6, 3 * 96)


def test_mvtec_loco(make: Any) -> None:
    for index in range(3):
        for place in ("train/good", "validation/good", "test/good", "test/logical_anomalies"):
            make.write(f"{place}/{index:03}.png")
        for part in range(2):
            mask = np.roll(make.mask(1, value=236 + index), 20 * part, axis=1)
            make.write(f"ground_truth/logical_anomalies/{index:03}/{part:03}.png", mask)
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("mvtec", ("logical_anomalies",))
    assert spots(data) == 3 * 2 * 96


def test_btad(make: Any) -> None:
    for index in range(3):
        for place in ("train/ok", "test/ok", "test/ko"):
            make.write(f"{place}/{index:04}.bmp")
        make.write(f"ground_truth/ko/{index:04}.png", make.mask(1, value=255))
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("mvtec", ("ko",))
    assert len(bad(data)) == 3


def test_dagm(make: Any) -> None:
    for split in ("Train", "Test"):
        for index in range(4):
            make.write(f"Class1/{split}/{index:04}.PNG")
            if index < 1:
                make.write(f"Class1/{split}/Label/{index:04}_label.PNG", make.mask(1, value=255))
        make.text(f"Class1/{split}/Label/Labels.txt", "1")
    data = open_dataset(make.root)
    assert (data.layout, data.classes, len(data)) == ("mask_folder", ("defect",), 8)
    assert {sample.split for sample in data.samples if sample.is_defective} == {"train", "test"}
    assert spots(data) == 2 * 96


def test_visa(make: Any) -> None:
    for index in range(4):
        make.write(f"Data/Images/Normal/{index:04}.JPG")
        make.write(f"Data/Images/Anomaly/{index:03}.JPG")
        make.write(f"Data/Masks/Anomaly/{index:03}.png", make.mask(1 + index % 2))
    make.text("image_anno.csv", "image,label,mask")
    data = open_dataset(make.root)
    assert (data.layout, data.classes) == ("mask_folder", ("class_1", "class_2"))
    assert len(bad(data)) == 4


def test_splits_of_visa(make: Any) -> None:
    rows = []
    for index in range(4):
        split = "train" if index < 2 else "test"
        make.write(f"candle/Data/Images/Normal/{index:04}.JPG")
        rows.append(f"candle,{split},normal,candle/Data/Images/Normal/{index:04}.JPG,")
        make.write(f"candle/Data/Images/Anomaly/{index:03}.JPG")
        make.write(f"candle/Data/Masks/Anomaly/{index:03}.png", make.mask(1))
        rows.append(
            f"candle,test,anomaly,candle/Data/Images/Anomaly/{index:03}.JPG,"
            f"candle/Data/Masks/Anomaly/{index:03}.png"
        )
    make.text("split_csv/1cls.csv", "object,split,label,image,mask", *rows)
    data = open_dataset(make.root / "candle")
    splits = [sample.split for sample in data.samples]
    assert (splits.count("train"), splits.count("test")) == (2, 6)
    make.text("split_csv/1cls.csv", "object,split,label,image,mask", "candle,x,normal,a.JPG,")
    with pytest.raises(DataError, match=r"1cls\.csv:2: has no split"):
        open_dataset(make.root / "candle")


def visa(make: Any) -> None:
    """Write VisA's object `candle`, and its table of splits."""
    rows = []
    for index in range(8):
        make.write(f"candle/Data/Images/Normal/{index:04}.JPG")
        rows.append(f"candle,train,normal,candle/Data/Images/Normal/{index:04}.JPG,")
        image = f"candle/Data/Images/Anomaly/{index:03}.JPG"
        mask = f"candle/Data/Masks/Anomaly/{index:03}.png"
        make.write(image)
        make.write(mask, make.mask(1))
        rows.append(f"candle,test,anomaly,{image},{mask}")
    make.text("split_csv/1cls.csv", "object,split,label,image,mask", *rows)


def test_a_table_of_visa_that_contradicts_the_folders_is_refused(make: Any) -> None:
    visa(make)
    table = make.root / "split_csv/1cls.csv"
    text = table.read_text()
    assert len(bad(open_dataset(make.root / "candle"))) == 8
    table.write_text(
        text.replace(
            "test,anomaly,candle/Data/Images/Anomaly/003.JPG",
            "test,normal,candle/Data/Images/Anomaly/003.JPG",
        )
    )
    message = r"1 image has another label in 1cls\.csv:9 .*003\.JPG: 'normal', but it is defective"
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(make.root / "candle")
    assert "--layout mask_folder reads the folders" in caught.value.remedy
    data = open_dataset(make.root / "candle/Data", "mask_folder")
    assert any("1 image has another label" in note for note in data.notes)


@pytest.mark.parametrize(
    ("old", "new"), [("Normal/0003", "Anomaly/0003"), ("Anomaly/003", "Normal/003")]
)
def test_an_image_of_visa_that_was_moved_is_refused(make: Any, old: str, new: str) -> None:
    visa(make)
    images = make.root / "candle/Data/Images"
    (images / f"{old}.JPG").rename(images / f"{new}.JPG")
    mask = make.root / f"candle/Data/Masks/{old}.png"
    mask.unlink(missing_ok=True)
    with pytest.raises(DataError, match="1 image has another label in 1cls"):
        open_dataset(make.root / "candle")


def test_images_that_the_table_of_visa_lacks_have_no_split(make: Any) -> None:
    visa(make)
    make.write("candle/Data/Images/Normal/0009.JPG")
    data = open_dataset(make.root / "candle")
    assert [sample.name for sample in data.samples if sample.split is None] == ["0009.JPG"]
    assert "1 image is not in VisA's table of splits: without a split" in data.notes


def test_labels_of_visa_that_contradict_the_folders_are_refused(make: Any) -> None:
    visa(make)
    rows = [
        *(f"candle/Data/Images/Normal/{index:04}.JPG,normal," for index in range(8)),
        *(f"candle/Data/Images/Anomaly/{index:03}.JPG,bent," for index in range(7)),
    ]
    make.text("candle/image_anno.csv", "image,label,mask", *rows)
    assert len(bad(open_dataset(make.root / "candle"))) == 8
    make.text(
        "candle/image_anno.csv",
        "image,label,mask",
        *rows,
        "candle/Data/Images/Anomaly/007.JPG,normal,",
    )
    with pytest.raises(DataError, match=r"007\.JPG: 'normal', in the folder of Anomaly"):
        open_dataset(make.root / "candle")


@pytest.mark.parametrize(
    ("labels", "is_refused"),
    [(("ok", "ng"), False), (("ng", "ok"), True), (("ok", "ok"), False), (("done", "ok"), False)],
)
def test_a_table_that_contradicts_the_masks_is_refused(
    make: Any, labels: tuple[str, str], is_refused: bool
) -> None:
    make.mask_folder()
    rows = [f"p{index}.jpg,{labels[index % 2]}" for index in range(4)]
    make.text("labels.csv", "image,status", *rows)
    if is_refused:
        with pytest.raises(DataError, match=r"4 images.*'ng', but its mask has no defect"):
            open_dataset(make.root)
    else:
        assert len(bad(open_dataset(make.root))) == 2


VIA = {"p0.jpg": {"regions": [{"shape_attributes": {}}]}}
CREATE_ML = [{"image": "p0.jpg", "annotations": [{"label": "pit", "coordinates": {}}]}]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("via_region_data.json", json.dumps(VIA), "VGG Image Annotator's JSON.*COCO"),
        ("_annotations.createml.json", json.dumps(CREATE_ML), "CreateML's JSON.*Export COCO"),
        ("annotations/default.json", '{"dm_format_version": "1.0"}', "Datumaro's own JSON.*datum"),
        ("annotations.xml", "<annotations><track id='0'>", "CVAT's XML for videos.*for images"),
        ("train/pits.tfrecord", "", "TFRecord files"),
        ("_classes.csv", "filename, pit, scar\np0.jpg, 1, 0\n", "Roboflow's table of labels"),
    ],
)
def test_unsupported_formats_are_named(make: Any, file: str, text: str, message: str) -> None:
    make.write("images/train/p0.jpg")
    make.text(file, text)
    with pytest.raises(DataError, match=message):
        open_dataset(make.root)


def test_label_studios_masks_are_named(make: Any) -> None:
    for index in range(3):
        make.write(f"images/p{index}.png")
        make.write(f"masks/task-{index}-annotation-{index}-by-1-tag-pit-0.png", make.mask(1))
    with pytest.raises(
        DataError, match="no mask has the stem of an image; found Label Studio's PNG masks"
    ):
        open_dataset(make.root)


LABELME = {"version": "5.4.1", "shapes": [], "imagePath": "def_front_0.jpeg"}


def test_labels_of_a_few_images_in_class_folders_are_refused(make: Any) -> None:
    """Those without labels would count as good."""
    make.class_folder(count=3)
    make.text("def_front/def_front_0.json", json.dumps(LABELME))
    with pytest.raises(DataError, match=r"no JSON file and would count as good.*class_folder"):
        open_dataset(make.root)
    assert len(bad(open_dataset(make.root, "class_folder"))) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 300_000, "p0.json is not JSON"),
        ('"' * 100_000, "p0.json is not JSON"),
        ('{"imagePath": "", "shapes": ' + "9" * 5000, "is not labelme's JSON"),
        ('{"imagePath": "", "shapes": [], "other": ' + "[" * 200_000, "is nested too deeply"),
        ('{"imagePath": "p0.jpg", "shapes": [{"label": NaN}]}', "is not labelme's JSON"),
    ],
)
def test_hostile_json_is_refused(make: Any, text: str, message: str) -> None:
    make.write("p0.jpg")
    make.text("p0.json", text)
    with pytest.raises(DataError, match=message):
        open_dataset(make.root)


def test_inspect_lists_what_is_skipped(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(30):
        pixels = make.pixels()
        make.write(f"images/p{index}.bmp", pixels)
        make.write(f"images/p{index}.jpg", pixels)
        make.write(f"masks/p{index}.png", make.mask(*[1] * (index % 2), value=255))
    assert main(["data", "inspect", str(make.root), "--no-duplicates"]) == 0
    out = capsys.readouterr().out
    assert "p0.jpg: is p0.bmp again, under another suffix" in out
    assert "... and 10 more" in out
    assert "30 images are skipped" in out
    assert main(["data", "inspect", str(make.root), "--no-duplicates", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["left_out"]) == 30


@pytest.mark.parametrize("name", ["{0}.jpg.png", "{0}.JPG.png", "{0}.jpg_mask.png", "{0}_mask.png"])
@pytest.mark.parametrize("folder", ["masks/", ""])
def test_a_mask_may_have_its_images_full_name(make: Any, name: str, folder: str) -> None:
    for index in range(6):
        make.write(f"images/p{index}.jpg")
        make.write(f"{folder or 'images/'}{name.format(f'p{index}')}", make.mask(index % 2) * 255)
    data = open_dataset(make.root)
    assert data.classes == ("defect",)
    assert [sample.is_defective for sample in data.samples] == [False, True] * 3


def test_a_class_may_follow_its_images_full_name(make: Any) -> None:
    for index in range(4):
        make.write(f"images/p{index}.jpg")
        make.write(f"masks/p{index}.jpg_crack.png", make.mask(1) * 255)
        make.write(f"masks/p{index}.jpg_pit.png", make.mask(0))
    data = open_dataset(make.root)
    assert data.classes == ("crack", "pit")
    assert {sample.class_ids for sample in data.samples} == {(1,)}
