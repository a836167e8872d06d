"""Misleading labels are read correctly, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.findings import check_dataset
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.scan import scan_dataset


def refused(root: Path, words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_dataset(root)


def defective(data: Dataset) -> set[str]:
    return {Path(sample.name).stem for sample in data.samples if sample.is_defective}


# -- classes without a good name ----------------------------------------------------


@pytest.mark.parametrize("names", [("0", "1"), ("class_0", "class_1"), ("true", "false")])
def test_two_uninformative_class_names_need_a_good_class(make: Any, names: tuple[str, str]) -> None:
    make.class_folder(*names)
    refused(make.root, f"--good-class {min(names)} or --good-class {max(names)}")
    data = open_dataset(make.root, good_classes=[names[0]])
    assert data.classes == (names[1],)


def test_numbered_classes_are_read_with_a_warning(make: Any) -> None:
    make.class_folder("1", "2", "3")  # GC10-DET
    found = check_dataset(scan_dataset(open_dataset(make.root), with_duplicates=False))
    assert any("1, 2, 3" in one.remedy and "--good-class NAME" in one.remedy for one in found)


def test_factory_names_in_capitals_below_splits(make: Any) -> None:
    for split in ("Train", "TEST"):
        make.class_folder("IO", "NIO_Kratzer", "NIO_crack", above=f"{split}/")
    data = open_dataset(make.root)
    assert data.classes == ("NIO_Kratzer", "NIO_crack")
    assert {sample.split for sample in data.samples} == {"train", "test"}


# -- masks among the images of a class ------------------------------------------------------


def beside(make: Any, name: str, ending: str = "png") -> Path:
    for index in range(6):
        make.write(f"ok/g{index}.png")
        make.write(f"ng/p{index}.{ending}")
        make.write(f"ng/{name.format(f'p{index}')}.png", make.mask(1, value=255))
    return make.root


@pytest.mark.parametrize("name", ["{}_mask", "{}.mask", "{}_GT"])
def test_masks_beside_the_images_of_one_class_are_masks(make: Any, name: str) -> None:
    data = open_dataset(beside(make, name))
    assert (data.layout, data.classes, len(data)) == ("mask_beside", ("ng",), 12)
    assert defective(data) == {f"p{index}" for index in range(6)}
    assert (
        sum(seen.defect_px for seen in scan_dataset(data, with_duplicates=False).images) == 6 * 96
    )


def test_a_mask_is_never_read_as_its_image(make: Any) -> None:
    data = open_dataset(beside(make, "{}", "jpg"))
    assert {sample.path.suffix for sample in data.samples if sample.is_defective} == {".jpg"}


@pytest.mark.parametrize("name", ["{}_lab", "{}_defect", "mask_{}", "gt_{}"])
def test_masks_of_other_names_are_not_images(make: Any, name: str) -> None:
    refused(beside(make, name), "ng/ has masks among its images")
    assert len(open_dataset(make.root, "class_folder")) == 18


@pytest.mark.parametrize(
    "below", ["good/rejected", "good/cam1/NOK", "good/pit", "pit/ok", "pit/i.O."]
)
def test_a_folder_that_means_the_opposite_of_its_class_is_refused(make: Any, below: str) -> None:
    for index in range(3):
        make.write(f"good/{index}.png")
        make.write(f"pit/{index}.png")
        make.write(f"{below}/x{index}.png")
    with pytest.raises(DataError, match="its name means the opposite") as caught:
        open_dataset(make.root)
    assert caught.value.remedy
    assert len(open_dataset(make.root, "class_folder").samples) == 9


def test_views_of_one_part_are_its_group(make: Any) -> None:
    """Real-IAD: a folder per part below its defect class, masks of the same stem."""
    for part in range(3):
        for view in ("C1", "C2"):
            make.write(f"OK/S{part:04}/a_{part}_OK_{view}.jpg")
            make.write(f"NG/AK/S{part:04}/a_{part}_NG_AK_{view}.jpg")
            make.write(f"NG/AK/S{part:04}/a_{part}_NG_AK_{view}.png", make.mask(1, value=255))
    data = open_dataset(make.root)
    assert (data.classes, len(data)) == (("NG/AK",), 12)
    assert len({sample.group for sample in data.samples}) == 6


def test_good_images_may_have_empty_masks_beside_them(make: Any) -> None:
    """The magnetic tiles: every image has its mask, in a folder per class."""
    for index in range(6):
        make.write(f"MT_Free/Imgs/f{index}.jpg")
        make.write(f"MT_Free/Imgs/f{index}.png", make.mask())
        make.write(f"MT_Crack/Imgs/c{index}.jpg")
        make.write(f"MT_Crack/Imgs/c{index}.png", make.mask(1, value=255))
    data = open_dataset(make.root)
    assert (data.layout, len(data), data.skipped) == ("mask_beside", 12, ())
    assert defective(data) == {f"c{index}" for index in range(6)}
    assert not scan_dataset(data, with_duplicates=False).broken


# -- contents of masks --------------------------------------------------------------------------


def masked(make: Any, *masks: Any, name: str = "p{}") -> Path:
    for index, mask in enumerate(masks):
        make.write(f"images/p{index}.png")
        make.write(f"masks/{name.format(index)}.png", mask)
    return make.root


def test_a_background_that_is_not_zero_is_refused(make: Any) -> None:
    kinds = [make.mask(*kind) for kind in ((1,), (2,), (), (3,))]
    masked(make, *(np.array([3, 0, 1, 2], np.uint8)[mask] for mask in kinds))
    refused(make.root, "3 covers most of 4 of 4 masks.*background.*labelmap.txt")


def test_inverted_masks_are_refused(make: Any) -> None:
    masked(make, *(255 - make.mask(*kind, value=255) for kind in ((1,), (1,), ())))
    refused(make.root, "255 covers most of 3 of 3 masks")


def test_inverted_masks_in_class_folders_are_refused(make: Any) -> None:
    make.mvtec()
    for kind in ("crack", "hole"):
        for index in range(3):
            mask = 255 - make.mask(1, value=255)
            make.write(f"ground_truth/{kind}/{index:03}_mask.png", mask)
    refused(make.root, "255 covers most of 6 of 6 masks")


def test_a_label_map_may_declare_the_background(make: Any) -> None:
    for index, kind in enumerate(((1,), (2,), ())):
        make.write(f"JPEGImages/p{index}.jpg")
        colors = np.array([[30, 20, 10], [0, 0, 200], [0, 200, 0]], np.uint8)
        make.write(f"SegmentationClass/p{index}.png", colors[make.mask(*kind)])
    make.text("labelmap.txt", "background:10,20,30::", "pit:200,0,0::", "scar:0,200,0::")
    data = open_dataset(make.root)
    assert data.classes == ("pit", "scar")
    assert [sample.class_ids for sample in data.samples] == [(1,), (2,), ()]


def objects(make: Any, count: int, first: int = 1) -> np.ndarray:
    out = np.zeros((40, 64), np.uint16)
    for place in range(count):
        cv2.circle(out, (8 + 12 * place, 20), 4, first + place, -1)
    return out


def test_instance_ids_are_not_classes(make: Any) -> None:
    masked(make, *(objects(make, count).astype(np.uint8) for count in (2, 3, 1, 4, 0)))
    refused(make.root, "have instance ids.*classes.txt")
    make.text("classes.txt", "pit", "scar", "dent", "crack")
    assert open_dataset(make.root).classes == ("pit", "scar", "dent", "crack")


def test_instance_ids_up_to_500_are_not_classes(make: Any) -> None:
    masked(make, *(objects(make, 4, first) for first in (1, 101, 201, 401, 497)))
    refused(make.root, "have instance ids")


def test_values_that_occur_together_are_classes(make: Any) -> None:
    masked(make, *(make.mask(*kinds) for kinds in ((1, 2), (1,), (1, 2), (2, 3), ())))
    assert open_dataset(make.root).classes == ("class_1", "class_2", "class_3")


@pytest.mark.parametrize("name", ["p{}_lab", "p{}_gt_mask", "p{}_labelIds", "p{}_gtFine_labelIds"])
def test_a_word_for_masks_is_not_a_class(make: Any, name: str) -> None:
    masked(make, make.mask(1), make.mask(2), make.mask(3), make.mask(), name=name)
    data = open_dataset(make.root)
    assert data.classes == ("class_1", "class_2", "class_3")
    assert [sample.class_ids for sample in data.samples] == [(1,), (2,), (3,), ()]


def test_files_of_one_class_have_one_value(make: Any) -> None:
    for kind in ("pit", "scar"):
        masked(make, make.mask(1, 2), make.mask(), name="p{}_" + kind)
    refused(make.root, "masks of one class have several values")


@pytest.mark.parametrize("ending", ["gif", "npy", "webp"])
def test_an_unsupported_mask_does_not_make_its_image_good(make: Any, ending: str) -> None:
    masked(make, *[make.mask(1, value=255)] * 5)
    (make.root / "masks/p2.png").rename(make.root / f"masks/p2.{ending}")
    refused(make.root, rf"p2\.{ending}; p2.png would be taken as good")


def test_an_image_without_a_mask_among_empty_masks_is_skipped(make: Any) -> None:
    make.mask_folder(count=12)
    (make.root / "masks/p3.png").unlink()
    data = open_dataset(make.root)
    assert [one.name for one in data.skipped] == ["images/p3.jpg"]
    assert len(data) == 11


def test_images_of_other_formats_are_named(make: Any) -> None:
    make.class_folder("ok", "ng", count=10)
    (make.root / "ng/ng_3.jpeg").rename(make.root / "ng/ng_3.webp")
    data = open_dataset(make.root)
    assert [(one.name, one.reason) for one in data.skipped] == [
        ("ng/ng_3.webp", ".webp is not supported: save it as PNG")
    ]
    for index in range(10):
        (make.root / f"ok/ok_{index}.jpeg").rename(make.root / f"ok/ok_{index}.HEIC")
    refused(make.root, "ng_3.webp and 10 more are in a format that is not supported")


def test_roboflows_first_class_is_the_background(make: Any) -> None:
    make.write("train/a.jpg")
    make.write("train/a_mask.png", make.mask(1))
    make.text("train/_classes.csv", "Pixel Value, Class", "0, pit", "1, scar", "255, background")
    refused(make.root, "value 0 is named 'pit'")


def test_good_images_may_have_empty_masks(make: Any) -> None:
    make.mvtec()
    for index in range(3):
        make.write(f"ground_truth/good/{index:03}_mask.png", make.mask())
    assert open_dataset(make.root).classes == ("crack", "hole")
    make.write("ground_truth/good/000_mask.png", make.mask(1, value=255))
    refused(make.root, "its masks must not have defect pixels")


# -- tables -----------------------------------------------------------------------------------


def index(make: Any, *lines: str, masks: Any = None) -> Path:
    for number in range(1, len(lines)):
        make.write(f"images/p{number}.png")
        if masks:
            make.write(f"masks/p{number}.png", masks[number - 1])
    make.text("index.csv", *lines)
    return make.root


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("image,class_id", "p1.png,0.5", "p2.png,0"), "'0.5' is not a whole number"),
        (("image,defective", "p1.png,0.97", "p2.png,0.02"), "not probabilities"),
        (("image,defective", "p1.png,2", "p2.png,0"), "defective is 2"),
        (("image,class_id", "p1.png,1_0", "p2.png,0"), "'1_0' is not a number"),
        (("image,class_id", "p1.png,nan", "p2.png,0"), "'nan' is not a number"),
        (("image,label", "p1.png,pit", "p2.png,ok"), "no label column: it has image, label"),
        (("image,class_id,class_name", "p1.png,0,pit", "p2.png,1,ok"), "class_id is 0, but 'pit'"),
        (("image,class_id,class_name", "p1.png,0,", "p2.png,1,good"), "'good' means good"),
        (("image,class_name", "p1.png,pit", "p2.png,ok", "p3.png,"), "not labelled yet"),
    ],
)
def test_an_index_never_labels_good_by_mistake(
    make: Any, lines: tuple[str, ...], words: str
) -> None:
    refused(index(make, *lines), words)


def test_columns_in_capitals_and_parts_of_a_pixel_count(make: Any) -> None:
    index(make, "Image,Pit_PX,Scar_px", "p1.png,0.5,0", "p2.png,0,0")
    data = open_dataset(make.root)
    assert (data.classes, defective(data)) == (("Pit", "Scar"), {"p1"})


def test_rows_without_a_label_are_counted(make: Any) -> None:
    data = open_dataset(index(make, "image,class_name", "p1.png,pit", "p2.png,"))
    assert "1 of 2 rows have no label: taken as good" in data.notes


def test_names_without_ids_do_not_map_mask_values(make: Any) -> None:
    masks = [make.mask(1), make.mask(2), make.mask()]
    index(make, "image,class_name", "p1.png,pit", "p2.png,dent", "p3.png,ok", masks=masks)
    refused(make.root, "but not the mask value of each")
    make.text("classes.txt", "pit", "dent")
    assert open_dataset(make.root).classes == ("pit", "dent")


def test_labels_and_masks_number_classes_alike(make: Any) -> None:
    masks = [make.mask(value) for value in (1, 2, 1, 2)]
    rows = [f"p{i + 1}.png,{2 - i % 2},{('pit', 'scar')[i % 2]}" for i in range(4)]
    refused(
        index(make, "image,class_id,class_name", *rows, masks=masks),
        "4 of 4 masks have none of the classes",
    )


@pytest.mark.parametrize(
    "head",
    [
        "\n\nImageId,ClassId,EncodedPixels",
        "sep=,\nImageId,ClassId,EncodedPixels",
        "image_id,class_id,encoded_pixels",
    ],
)
def test_lines_of_spreadsheets_before_the_header_are_ignored(make: Any, head: str) -> None:
    make.severstal()
    rows = (make.root / "train.csv").read_text().splitlines()[1:]
    make.text("train.csv", head, *rows)
    assert defective(open_dataset(make.root)) == {"a", "b"}


# -- exports of other programs ----------------------------------------------------------------


def test_yolo_splits_are_not_classes(make: Any) -> None:
    """CVAT's `YOLO 1.1` and Darknet's."""
    for split in ("train", "val"):
        for number in range(3):
            make.write(f"obj_{split}_data/{split}{number}.jpg")
            make.text(f"obj_{split}_data/{split}{number}.txt", "1 0.5 0.5 0.25 0.125")
    make.text("obj.names", "pit", "scar")
    data = open_dataset(make.root)
    assert (data.layout, data.classes, data.has_masks) == ("yolo", ("pit", "scar"), False)
    assert [sample.split for sample in data.samples] == ["train"] * 3 + ["val"] * 3
    assert all(sample.class_ids == (2,) for sample in data.samples)


def test_masks_of_several_objects_are_of_one_class(make: Any) -> None:
    for number in range(3):
        make.write(f"images/p{number}.png")
        make.write(f"masks/p{number}_mask_0.png", make.mask(1, value=255))
        make.write(f"masks/p{number}_mask_1.png", make.mask(0, 1, value=255))
    data = open_dataset(make.root)
    assert (data.classes, [sample.class_ids for sample in data.samples]) == (
        ("defect",),
        [(1,)] * 3,
    )


@pytest.mark.parametrize("word", ["{number}", "{image:04x}{number:02x}f"])
def test_numbers_in_names_of_masks_are_not_classes(make: Any, word: str) -> None:
    for image in range(10):
        make.write(f"images/p{image}.png")
        for number in range(2):
            name = word.format(image=image, number=number)
            make.write(f"masks/p{image}_{name}.png", make.mask(1, value=255))
    refused(make.root, "which cannot be classes")


# -- lists of names ---------------------------------------------------------------------------


def listed(make: Any, *lines: str) -> Path:
    masked(make, make.mask(1), make.mask(2), make.mask(3), make.mask())
    make.text("classes.txt", *lines)
    return make.root


@pytest.mark.parametrize("line", ["{} {}", "{}: {}", "{}, {}", "{} = {}"])
@pytest.mark.parametrize("first", [0, 1])
def test_a_list_may_number_its_names(make: Any, line: str, first: int) -> None:
    names = ["background", "pit", "scar", "dent"]
    root = listed(make, *(line.format(i, names[i]) for i in range(first, 4)))
    assert open_dataset(root).classes == ("pit", "scar", "dent")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("none", "pit", "scar", "dent"), "'none' means no defect, but its line gives it value 1"),
        (("good", "pit", "scar", "dent"), "'good' means no defect"),
        (("pit,scar,dent",), "has one line.*one name per line"),
        (("0 pit", "1 scar", "2 dent"), "value 0 is named 'pit'"),
        (("1 pit", "1 scar", "2 dent"), "value 1 is named twice"),
        (("pit",), "does not name: 2, 3"),
    ],
)
def test_an_ambiguous_class_list_is_refused(make: Any, lines: tuple[str, ...], words: str) -> None:
    refused(listed(make, *lines), words)


def test_two_folders_of_parts_are_not_classes(make: Any) -> None:
    make.class_folder("ok", "ng", above="cap/")
    make.class_folder("ok", "ng", above="cover/")
    refused(make.root, "cap/ and cover/ both contain ng and ok, so either level")
    assert open_dataset(make.root / "cap").classes == ("ng",)


# -- masks among the images of a set with masks -----------------------------------------------


@pytest.mark.parametrize("inner", ["masks", "SegmentationClass", "old/masks", "overlay"])
def test_masks_below_the_images_are_not_good_images(make: Any, inner: str) -> None:
    make.mask_folder(count=12)
    for index in range(12):
        make.write(f"images/{inner}/{index}.png", make.mask(1, value=255))
    refused(make.root, "in a folder named as masks or visualizations")
    assert len(open_dataset(make.root, "mask_folder")) == 24, "a person's word"


@pytest.mark.parametrize("target", ["..", "../masks"])
def test_linked_masks_are_not_good_images(make: Any, target: str) -> None:
    make.mask_folder(count=12)
    (make.root / "images" / "up").symlink_to(target)
    refused(make.root, "also used as masks of the set")
    with pytest.raises(DataError, match="also used as masks of the set"):
        open_dataset(make.root, "mask_folder")


def test_masks_below_a_defect_class_are_not_images(make: Any) -> None:
    make.mvtec()
    for folder in sorted((make.root / "test").iterdir()):
        for image in sorted(folder.glob("*.png")):
            make.write(f"test/{folder.name}/masks/{image.name}", make.mask(1, value=255))
    with pytest.raises(DataError):
        open_dataset(make.root)


def test_a_truncated_table_of_codes_is_refused(make: Any) -> None:
    table = make.severstal() / "train.csv"
    whole = table.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for end in range(1, len(last)):
        table.write_bytes(whole[:-end])
        with pytest.raises(DataError):
            open_dataset(make.root)
    table.write_bytes(whole)
    assert open_dataset(make.root).layout == "severstal"


# -- masks that belong to no image ------------------------------------------------------------


def set_beside(make: Any, count: int = 24) -> list[Path]:
    masks = []
    for index in range(count):
        make.write(f"p{index}.png")
        masks.append(make.write(f"p{index}_mask.png", make.mask(1, value=255)))
    for index in range(4):
        make.write(f"g{index}.png")
    return masks


@pytest.mark.parametrize(
    "ending", ["_mask (1)", "_mask-1", "_gt2", "_mask copy", "_mask - Kopie", "m"]
)
@pytest.mark.parametrize("count", [1, 6])
def test_copies_of_masks_are_not_good_images(make: Any, ending: str, count: int) -> None:
    for index, mask in enumerate(set_beside(make)[:count]):
        mask.rename(mask.with_name(f"p{index}{ending}.png"))
    refused(make.root, f"{count} files? looks? like masks but would count as images: p0{ending[0]}")
    if ending != "m":
        with pytest.raises(DataError, match="look") as caught:
            open_dataset(make.root, "mask_beside")
        assert "NAME_mask.png" in str(caught.value.remedy)


def test_a_mask_without_its_image_is_no_good_image(make: Any) -> None:
    set_beside(make)
    (make.root / "p0.png").unlink()
    refused(make.root, "1 file looks like masks but would count as images: p0_mask.png")


def test_an_image_without_light_and_names_with_a_mask_word_are_images(make: Any) -> None:
    set_beside(make)
    make.write("dark.png", np.zeros_like(make.pixels()))
    make.write("label_on_a_bottle.png")
    assert len(open_dataset(make.root)) == 30


@pytest.mark.parametrize("layout", ["mask_beside", "mask_folder", "class_masks"])
def test_a_mask_that_is_a_folder_does_not_make_its_image_good(make: Any, layout: str) -> None:
    for index in range(6):
        images = {"mask_beside": "", "mask_folder": "images/", "class_masks": "crack/"}[layout]
        masks = {"mask_beside": "", "mask_folder": "masks/", "class_masks": "masks/crack/"}[layout]
        make.write(f"{images}p{index}.png")
        if layout == "class_masks":
            make.write(f"good/p{index}.png")
        name = f"{masks}p{index}{'' if masks else '_mask'}.png"
        if index:
            make.write(name, make.mask(1, value=255))
        else:
            (make.root / name).mkdir(parents=True)
    data = open_dataset(make.root)
    assert data.layout == layout
    scan = scan_dataset(data, with_duplicates=False)
    (broken,) = scan.broken
    assert broken.sample.path == make.root / images / "p0.png"
    assert broken.sample.is_defective
    assert "not a regular file" in broken.problem or "folder" in broken.problem
