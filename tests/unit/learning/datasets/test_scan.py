"""Scanning a data set: every planted problem is found, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.errors import OutputError
from edgeinspect.imaging.class_colors import class_color_bgr
from edgeinspect.learning.datasets import contact_sheet as sheet_module
from edgeinspect.learning.datasets.contact_sheet import draw_contact_sheet, write_contact_sheet
from edgeinspect.learning.datasets.duplicates import (
    MIN_CORRELATION,
    DuplicatePair,
    _count_bits,
    duplicate_groups,
    find_duplicates,
    fingerprint_image,
)
from edgeinspect.learning.datasets.findings import check_dataset
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.scan import DatasetScan, scan_dataset
from edgeinspect.learning.datasets.split import split_dataset


def texture(seed: int, height_px: int = 96, width_px: int = 96) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 236, (12, 12), np.uint8)
    return np.asarray(cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_CUBIC))


def dihedral(pixels: np.ndarray, way: int) -> np.ndarray:
    turned = np.rot90(pixels, way % 4)
    return np.ascontiguousarray(np.fliplr(turned) if way > 3 else turned)


def messages(found: DatasetScan) -> str:
    return "\n".join(f"{one.level}: {one.message}" for one in check_dataset(found))


# -- duplicates --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", range(8))
def test_a_rotated_brighter_compressed_duplicate_is_found(way: int) -> None:
    images = [texture(seed)[:, :, None] for seed in range(30)]
    copy = np.clip(dihedral(texture(7), way) * 0.8 + 15, 0, 255).astype(np.uint8)
    packed = cv2.imencode(".jpg", copy, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    images.append(np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.uint8)[:, :, None])
    (pair,) = find_duplicates([fingerprint_image(image) for image in images])
    assert (pair.first, pair.second, pair.is_exact) == (7, 30, False)
    assert pair.correlation > 0.93


def test_equal_pixels_are_exact_duplicates_and_others_are_not() -> None:
    images = [texture(seed)[:, :, None] for seed in (1, 2, 3, 2)]
    assert find_duplicates([fingerprint_image(image) for image in images]) == [
        DuplicatePair(1, 3, True, 1.0)
    ]


def test_images_without_contrast_are_duplicates_only_if_equal() -> None:
    rng = np.random.default_rng(3)
    flat = [rng.integers(100, 103, (64, 64, 1), np.uint8) for _ in range(4)]
    assert find_duplicates([fingerprint_image(image) for image in flat]) == []
    assert len(find_duplicates([fingerprint_image(image) for image in [*flat, flat[0]]])) == 1


def test_another_shape_is_not_a_duplicate() -> None:
    square, strip = texture(1)[:, :, None], texture(1, 32, 200)[:, :, None]
    assert find_duplicates([fingerprint_image(square), fingerprint_image(strip)]) == []


def casting(seed: int) -> np.ndarray:
    """The same part at nearly the same place, with its own grain."""
    rng = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(rng.normal(size=(150, 150)), (0, 0), 1.5)
    part = np.zeros((150, 150), np.float32)
    cv2.circle(part, (75, 75), 60, 100, -1)
    cv2.circle(part, (75, 75), 15, -30, -1)
    move = np.float32([[1, 0, 0], [0, 1, 0]])
    move[:, 2] = rng.uniform(-4, 4, 2)
    part = cv2.warpAffine(part, move, (150, 150))
    return np.clip(90 + part + 25 * grain / grain.std(), 0, 255).astype(np.uint8)


def test_similar_castings_are_not_duplicates() -> None:
    images = [casting(seed)[:, :, None] for seed in range(40)]
    images.append(np.ascontiguousarray(np.rot90(images[11])))
    images[-1] = (images[-1] * 0.9).astype(np.uint8)
    found = find_duplicates([fingerprint_image(image) for image in images])
    assert [(pair.first, pair.second) for pair in found] == [(11, 40)]


def screw(seed: int) -> np.ndarray:
    """A long dark part at one of eight angles on a bright ground, each with its own grain."""
    rng = np.random.default_rng(seed)
    image = 180 + rng.normal(0, 3, (192, 192)).astype(np.float32)
    part = np.zeros((192, 192), np.float32)
    cv2.rectangle(part, (86, 20), (106, 170), 1, -1)
    cv2.rectangle(part, (72, 20), (120, 40), 1, -1)
    turn = cv2.getRotationMatrix2D((96, 96), seed % 8 * 40 + rng.uniform(-1, 1), 1)
    turn[:, 2] += rng.uniform(-2, 2, 2)
    part = cv2.warpAffine(part, turn, (192, 192))
    scratches = cv2.GaussianBlur(rng.normal(size=(192, 192)), (0, 0), 1)
    image -= part * (110 + 20 * scratches / scratches.std())
    return np.clip(image, 0, 255).astype(np.uint8)


def test_pieces_of_one_product_at_one_angle_are_not_duplicates() -> None:
    images = [screw(seed)[:, :, None] for seed in range(64)]
    prints = [fingerprint_image(image) for image in images]
    thumbnails = np.stack([each.thumbnail for each in prints])
    alike = np.einsum("nij,mij->nm", thumbnails, thumbnails)[np.triu_indices(64, 1)]
    assert (alike > MIN_CORRELATION).sum() > 20, "their thumbnails must be alike"
    assert find_duplicates(prints) == []
    copy = (dihedral(screw(7), 5) * 0.9).astype(np.uint8)
    found = find_duplicates([*prints, fingerprint_image(copy[:, :, None])])
    assert [(pair.first, pair.second) for pair in found] == [(7, 64)]


@pytest.mark.slow
def test_different_screws_of_a_public_set_are_not_duplicates(shared_data: Path) -> None:
    root = shared_data / "mvtec_screw"
    if not root.is_dir():
        pytest.skip("the public set is not here")
    found = scan_dataset(open_dataset(root))
    assert not found.leaks()
    assert {
        tuple(found.images[i].sample.path.stem for i in (pair.first, pair.second))
        for pair in found.duplicates
    } >= {("053", "173")}
    assert len(found.duplicates) <= 3


def test_duplicate_groups_are_transitive() -> None:
    pairs = [
        DuplicatePair(0, 4, True, 1),
        DuplicatePair(4, 9, False, 1),
        DuplicatePair(2, 3, True, 1),
    ]
    assert duplicate_groups(pairs) == [(0, 4, 9), (2, 3)]


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_bits_are_counted_without_numpy_2(values: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(np, "bitwise_count", raising=False)
        counted = _count_bits(np.asarray(values, np.uint64))
    assert counted.tolist() == [bin(value).count("1") for value in values]


# -- findings -----------------------------------------------------------------------------


def test_a_valid_set_has_notes_only(make: Any) -> None:
    found = scan_dataset(split_dataset(open_dataset(make.mask_folder(count=20)), 1))
    assert {one.level for one in check_dataset(found)} <= {"note"}
    assert not found.broken
    assert found.duplicates == ()
    assert found.sizes == [((40, 64), 20)]
    assert [seen.defect_px for seen in found.images[:2]] == [0, 96]


def test_all_planted_problems_are_found(make: Any) -> None:
    root = make.indexed()
    lines = (root / "index.csv").read_text().splitlines()
    more = []
    for name, class_name, class_id, split_name in (
        ("cut", "free", 0, "train"),
        ("turned", "pit", 1, "train"),
        ("empty", "pit", 1, "train"),
        ("liar", "free", 0, "train"),
        ("copy", "free", 0, "test"),
        ("twin", "scar", 2, "test"),
    ):
        more.append(f"{name}.png,{class_name},{class_id},x{name},{split_name}")
        make.write(f"images/{name}.png")
    make.text("index.csv", *lines, *more)
    (root / "images/cut.png").write_bytes((root / "images/cut.png").read_bytes()[:-40])
    make.write("masks/turned.png", np.zeros((64, 40), np.uint8))
    make.write("masks/empty.png", make.mask())
    make.write("masks/liar.png", make.mask(2))
    make.write("masks/twin.png", make.mask(2))
    original = cv2.imread(str(root / "images/t1.jpg"), cv2.IMREAD_GRAYSCALE)
    make.write("images/copy.png", original)  # t1 is a pit in train: two problems
    second = cv2.imread(str(root / "images/t2.jpg"), cv2.IMREAD_GRAYSCALE)
    make.write("images/twin.png", np.ascontiguousarray(second[::-1]))  # t2 is in val
    found = scan_dataset(open_dataset(root))
    text = messages(found)
    for line in (
        "warning: 1 image cannot be read: cut.png",
        "warning: 1 mask cannot be used: turned.png: ",
        "warning: 1 defective image has no defect pixel: empty.png",
        "warning: 1 mask contradicts its label: liar.png",
        "warning: 1 exact duplicate is in two splits, such as copy.png and t1.jpg",
        "warning: 1 exact duplicate is labelled both good and defective, such as copy.png",
        "warning: 1 near duplicate (rotated, mirrored, other exposure) in two splits",
    ):
        assert line in text
    assert len(found.duplicates) == 2


def test_groups_across_splits_are_found(make: Any) -> None:
    root = make.indexed()
    text = (root / "index.csv").read_text().replace("g0train", "g").replace("g0test", "g")
    (root / "index.csv").write_text(text)
    assert "warning: 1 groups are in both train and test" in messages(
        scan_dataset(open_dataset(root))
    )


def test_more_than_a_fifth_broken_is_an_error(make: Any) -> None:
    root = make.class_folder(count=3)
    (root / "ok_front/ok_front_0.jpeg").write_bytes(b"")
    (root / "def_front/def_front_0.jpeg").write_bytes(b"")
    assert messages(scan_dataset(open_dataset(root))).startswith("error: 2 images cannot be read")


def test_inverted_masks_and_missing_classes_are_found(make: Any) -> None:
    for index in range(4):
        make.write(f"images/p{index}.jpg")
        make.write(f"masks/p{index}.png", 1 - make.mask(1) if index else make.mask(1))
    data = open_dataset(make.root, classes=["pit", "scar"])
    text = messages(scan_dataset(data))
    assert "in 3 images most pixels are defects" in text
    assert "class 'scar' has no pixels" in text
    assert "every image is defective" in text


def inverted_at(make: Any, folder: str, mask: str, inverted: set[int]) -> None:
    """Write 12 images with masks of a small defect, or none; those of some are inverted."""
    small = np.zeros((40, 64), np.uint8)
    small[10:14, 20:30] = 255
    for index in range(12):
        make.write(f"{folder}/p{index}.png")
        right = small if index % 3 else np.zeros_like(small)
        make.write(mask.format(index), 255 - right if index in inverted else right)


@pytest.mark.parametrize(
    ("folder", "mask"),
    [
        ("images", "masks/p{}.png"),
        ("images", "images/p{}_mask.png"),
        ("test/crack", "ground_truth/crack/p{}_mask.png"),
    ],
)
def test_a_few_inverted_masks_are_named(make: Any, folder: str, mask: str) -> None:
    inverted_at(make, folder, mask, {3, 7})
    if folder != "images":
        for index in range(4):
            make.write(f"train/good/g{index}.png")
            make.write(f"test/good/h{index}.png")
    data = open_dataset(make.root)
    names = ", ".join(mask.format(index) for index in (3, 7))
    assert [note for note in data.notes if "may be inverted" in note] == [
        f"2 masks mark most of the image up to its borders, others small areas: {names} "
        "may be inverted"
    ]
    text = messages(scan_dataset(data))
    assert "warning: in 2 images most pixels up to the borders are defects" in text
    assert "p3.png, p7.png" in text
    assert "may be inverted" not in text


def test_inverted_masks_of_an_index_are_named(make: Any) -> None:
    inverted_at(make, "images", "masks/p{}.png", {4})
    rows = [f"p{index}.png,{int(index % 3 > 0)}" for index in range(12)]
    make.text("index.csv", "image,defective", *rows)
    assert any("masks/p4.png may be inverted" in note for note in open_dataset(make.root).notes)


def test_large_defects_that_leave_a_border_are_not_called_inverted(make: Any) -> None:
    inverted_at(make, "images", "masks/p{}.png", set())
    large = np.zeros((40, 64), np.uint8)
    large[:, 10:] = 255
    make.write("masks/p3.png", large)
    data = open_dataset(make.root)
    assert not any("inverted" in note for note in data.notes)
    assert "inverted" not in messages(scan_dataset(data))


def test_masks_whose_background_has_a_name_are_not_called_inverted(make: Any) -> None:
    for index in range(8):
        make.write(f"images/p{index}.png")
        mask = make.mask(1)
        make.write(f"masks/p{index}.png", 2 - mask if index == 1 else mask)
    make.text("_classes.csv", "Pixel Value, Class", "1, pit", "2, background")
    data = open_dataset(make.root)
    assert data.classes == ("pit",)
    assert not any("inverted" in note for note in data.notes)


def test_kinds_can_be_learned_from_a_set_without_good_images(make: Any) -> None:
    make.class_folder("crack", "dent")
    text = messages(scan_dataset(open_dataset(make.root)))
    assert "every image is defective: a gate can tell their kinds apart, not whether" in text
    assert "cannot be trained" not in text


def test_a_mask_that_is_no_image_is_not_called_one_of_another_size(make: Any) -> None:
    make.mask_folder(count=6)
    broken = make.root / "masks/p1.png"
    broken.write_bytes(b"")
    text = messages(scan_dataset(open_dataset(make.root)))
    assert "1 mask cannot be used: p1.jpg: " in text
    assert "not fit" not in text


def test_no_defect_at_all_is_an_error(make: Any) -> None:
    for index in range(4):
        make.write(f"images/p{index}.jpg")
        make.write(f"masks/p{index}.png", make.mask())
    assert "error: no image is defective" in messages(scan_dataset(open_dataset(make.root)))


def test_a_split_that_keeps_duplicates_together_has_no_leak(make: Any) -> None:
    for index in range(24):
        pixels = texture(index // 2)
        make.write(f"{'ok' if index < 12 else 'bad'}/p{index}.png", dihedral(pixels, index % 2))
    data = open_dataset(make.root)
    found = scan_dataset(data)
    assert len(found.duplicates) == 12
    assert scan_dataset(split_dataset(data, 1)).leaks()
    assert not scan_dataset(split_dataset(data, 1, groups=found.duplicate_groups())).leaks()


# -- the contact sheet --------------------------------------------------------------------


def test_the_sheet_shows_every_section(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make.indexed()
    (root / "images/t0.jpg").write_bytes(b"broken")
    titles: list[str] = []
    real = sheet_module._text_line
    monkeypatch.setattr(
        sheet_module, "_text_line", lambda text, *rest: titles.append(text) or real(text, *rest)
    )
    found = scan_dataset(open_dataset(root))
    image = draw_contact_sheet(found)
    assert image.shape[1:] == (1800, 3)
    assert [title.split(":")[0] for title in titles if ":" in title] == [
        "pit",
        "scar",
        "good",
        "cannot be used",
    ]
    for color in (class_color_bgr(1), class_color_bgr(2)):
        assert (image == color).all(axis=2).any()
    write_contact_sheet(tmp_path / "sheet.png", found)
    assert np.array_equal(cv2.imread(str(tmp_path / "sheet.png")), image)
    with pytest.raises(OutputError, match="cannot be written"):
        write_contact_sheet(tmp_path / "no" / "sheet.png", found)


def test_the_outline_leaves_the_defect_visible() -> None:
    frame = np.full((100, 200, 3), 90, np.uint8)
    mask = np.zeros((100, 200), np.uint8)
    mask[40:60, 50:90] = 1
    mask[20:22, 150:152] = 2
    sheet_module._draw_outlines(frame, mask, 1.0, 0, 0)
    assert (frame[40:60, 50:90] == 90).all()
    first, second = (
        (frame == color).all(axis=2) for color in (class_color_bgr(1), class_color_bgr(2))
    )
    assert first[38, 50:90].all()
    assert second[10:35, 140:165].sum() > 40  # boxed, as it is tiny


@pytest.mark.data
@pytest.mark.parametrize(("name", "leaks"), [("neu_seg", 16)])
def test_the_real_sets(shared_data: Path, name: str, leaks: int) -> None:
    found = scan_dataset(open_dataset(shared_data / name))
    assert not found.broken
    assert len(found.leaks()) == leaks


def remedies(found: DatasetScan) -> dict[str, str]:
    return {one.message.split(":")[0]: one.remedy for one in check_dataset(found)}


def test_possibly_real_black_has_another_remedy_than_deletion(make: Any) -> None:
    for index in range(4):
        pixels = texture(index)
        pixels[:6] = 0  # a BMP has its first row at the end
        make.write(f"ok/{index}.bmp", pixels)
        make.write(f"bad/{index}b.bmp", np.ascontiguousarray(pixels[:, ::-1]))
    found = scan_dataset(open_dataset(make.root))
    remedy = remedies(found)["8 images cannot be read"]
    assert "`flat_end: true` in reading.yaml" in remedy
    assert "elete" not in remedy
    (make.root / "reading.yaml").write_text("flat_end: true\n")
    assert not scan_dataset(open_dataset(make.root)).broken


def test_each_kind_of_broken_image_has_its_own_remedy(make: Any) -> None:
    root = make.class_folder(count=4)
    cut = root / "ok_front/ok_front_0.jpeg"
    cut.write_bytes(cut.read_bytes()[:-40])
    (root / "def_front/def_front_0.jpeg").write_bytes(b"GIF89a" + bytes(40))
    remedy = remedies(scan_dataset(open_dataset(root)))["2 images cannot be read"]
    assert "Copy it again (1 of them)" in remedy
    assert "Save it as PNG" in remedy


def test_a_class_spelled_differently_in_test_is_reported(make: Any) -> None:
    for split_name, bad in (("train", "scratch"), ("test", "scratches")):
        for index in range(4):
            for name in ("ok", bad):
                make.write(
                    f"{split_name}/{name}/{name}{index}.png", texture(10 * len(name) + index)
                )
    text = messages(scan_dataset(open_dataset(make.root)))
    assert "warning: train has no image of 'scratches', which val or test have" in text


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("link", "Restore what x.png links to, or remove the link; training skips them"),
        ("locked", "Grant read permission for x.png; training skips them"),
        ("damaged", "Copy it again. Training skips them"),
    ],
)
def test_the_remedy_of_files_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, remedy: str
) -> None:
    for name in ("good", "pit"):
        for at in range(8):
            path = tmp_path / name / f"{name}{at}.png"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), texture(at))
    file = tmp_path / "good/x.png"
    if kind == "damaged":
        file.write_bytes(path.read_bytes()[:200])
    else:
        file.symlink_to(tmp_path / "nowhere.png")
    if kind == "locked":  # the mode of a file does not stop the user root
        monkeypatch.setattr(Path, "is_symlink", lambda _path: False)
        monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != file)
    found = check_dataset(scan_dataset(open_dataset(tmp_path)))
    assert next(one.remedy for one in found if "cannot be read" in one.message) == remedy
