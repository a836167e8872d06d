"""The bit depth of a set: declared, or inferred over all images; mixed depths are errors."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.imaging.image_file import ReadSettings, read_image
from edgeinspect.imaging.read_settings import ReadDeclaration, load_declaration
from edgeinspect.learning.datasets.bit_depth import find_bit_depth

NONE = ReadDeclaration()
GREY = np.random.default_rng(4).integers(10, 256, (24, 40), np.uint8)
NOISE = np.random.default_rng(5).integers(0, 16, GREY.shape, np.uint16)
DEEP = GREY.astype(np.uint16) * 16 + NOISE


def write(folder: Path, **images: np.ndarray) -> list[Path]:
    paths = []
    for name, pixels in images.items():
        path = folder / f"{name}.png"
        assert cv2.imwrite(str(path), pixels)
        paths.append(path)
    return paths


def test_the_bit_depth_is_inferred_over_all_images(tmp_path: Path) -> None:
    paths = write(tmp_path, dark=DEEP // 8, light=DEEP)
    depth = find_bit_depth(paths, NONE, "set")
    assert depth.bits == 12
    assert f"({DEEP.max()})" in depth.note
    assert np.array_equal(read_image(paths[1], depth.read_settings())[:, :, 0], GREY)
    assert np.array_equal(read_image(paths[0], depth.read_settings())[:, :, 0], DEEP // 8 // 16)


def test_bits_in_the_upper_part_are_16(tmp_path: Path) -> None:
    paths = write(tmp_path, a=DEEP << 4, b=(DEEP // 2) << 4)
    depth = find_bit_depth(paths, NONE, "set")
    assert depth.bits == 16
    assert np.array_equal(read_image(paths[0], depth.read_settings())[:, :, 0], GREY)


def test_dark_images_in_the_upper_bits_are_ambiguous(tmp_path: Path) -> None:
    paths = write(tmp_path, a=(DEEP // 8) << 4)
    assert (DEEP // 8 << 4).max() < 1 << 14
    with pytest.raises(DataError, match=r"every 16th value.*bits: 16.*bits: 14"):
        find_bit_depth(paths, NONE, "set")
    assert find_bit_depth(paths, ReadDeclaration(bits=16), "set").bits == 16


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_8_bits_shifted_up_have_the_depth_of_the_container(tmp_path: Path, bits: int) -> None:
    """Every 4th or 16th value of a set this bright is not a dark set of 16 bits."""
    if bits == 14:
        return
    paths = write(tmp_path, a=GREY.astype(np.uint16) << (bits - 8))
    assert find_bit_depth(paths, NONE, "set").bits == bits


@pytest.mark.parametrize("share", [1, 4])
def test_very_dark_images_in_the_upper_bits_are_ambiguous_too(tmp_path: Path, share: int) -> None:
    paths = write(tmp_path, a=(GREY.astype(np.uint16) // 2 // share) << 4)
    with pytest.raises(DataError, match=r"every 16th value.*bits: 16"):
        find_bit_depth(paths, NONE, "set")


@pytest.mark.parametrize("share", [1, 4, 16])
def test_8_bits_times_257_are_16_bits_even_if_dark(tmp_path: Path, share: int) -> None:
    """As ImageMagick, ffmpeg and others convert 8 to 16 bits: both bytes are equal."""
    paths = write(tmp_path, a=(GREY // share).astype(np.uint16) * 257)
    assert find_bit_depth(paths, NONE, "set").bits == 16


def test_one_outlier_does_not_decide_the_bit_depth(tmp_path: Path) -> None:
    twelve = [np.minimum(DEEP, 3000 + number) for number in range(4)]
    odd = np.minimum(DEEP.astype(np.uint16) * 3, 9000).astype(np.uint16)
    paths = write(tmp_path, a=twelve[0], b=twelve[1], c=twelve[2], d=twelve[3], e=odd)
    with pytest.raises(DataError, match=r"1 of 5 images have 14 bits \(e.png\), the others 12"):
        find_bit_depth(paths, NONE, "set")
    assert find_bit_depth(paths, ReadDeclaration(bits=14), "set").bits == 14


def test_a_pgm_maximum_of_65535_declares_no_bit_depth(tmp_path: Path) -> None:
    """Many programs write it for every camera."""
    for name in "ab":
        head = b"P5 %d %d 65535\n" % (DEEP.shape[1], DEEP.shape[0])
        (tmp_path / f"{name}.pgm").write_bytes(head + DEEP.astype(">u2").tobytes())
    assert find_bit_depth(sorted(tmp_path.iterdir()), NONE, "set").bits == 12


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_a_declaration_that_is_not_a_file_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "reading.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere.yaml")
    with pytest.raises(DataError, match="cannot be used"):
        load_declaration(tmp_path)


def test_mixed_8_and_16_bits_are_an_error_with_names(tmp_path: Path) -> None:
    paths = write(tmp_path, a=GREY, b=DEEP, c=GREY, d=GREY)
    with pytest.raises(DataError, match=r"1 of 4 images have 16 bits \(b.png\), the others 8"):
        find_bit_depth(paths, NONE, "set")


def test_mixed_12_and_16_bits_are_an_error_with_names(tmp_path: Path) -> None:
    deeper = GREY.astype(np.uint16) * 257
    paths = write(tmp_path, a=deeper, b=DEEP, c=deeper)
    with pytest.raises(DataError, match=r"1 of 3 images have 12 bits \(b.png\), the others 16"):
        find_bit_depth(paths, NONE, "set")
    assert find_bit_depth(paths, ReadDeclaration(bits=16), "set").bits == 16, (
        "b.png may be only dark"
    )


def test_a_clipped_image_reveals_its_bit_depth(tmp_path: Path) -> None:
    clipped = np.minimum(DEEP // 2, 1023).astype(np.uint16)
    assert (clipped == 1023).sum() > 16
    paths = write(tmp_path, a=DEEP, b=clipped)
    with pytest.raises(DataError, match=r"10 bits \(b.png\)"):
        find_bit_depth(paths, NONE, "set")


def test_the_bit_depth_of_a_file_header_is_used(tmp_path: Path) -> None:
    def pgm(name: str, top: int, pixels: np.ndarray) -> Path:
        path = tmp_path / name
        head = b"P5 %d %d %d\n" % (pixels.shape[1], pixels.shape[0], top)
        path.write_bytes(head + pixels.astype(">u2").tobytes())
        return path

    dark = pgm("a.pgm", 4095, DEEP // 16)
    assert find_bit_depth([dark], NONE, "set").bits == 12
    with pytest.raises(DataError, match="declares 10 bits, but its image headers say 12"):
        find_bit_depth([dark], ReadDeclaration(bits=10), "set")
    other = pgm("b.pgm", 1023, DEEP // 4)
    with pytest.raises(DataError, match=r"images have 1[02] bits \([ab].pgm\)"):
        find_bit_depth([dark, other], NONE, "set")


def test_unreadable_images_are_ignored(tmp_path: Path) -> None:
    paths = write(tmp_path, a=DEEP, b=DEEP)
    paths[0].write_bytes(paths[0].read_bytes()[:200])
    (tmp_path / "c.png").write_text("hello")
    assert find_bit_depth([*paths, tmp_path / "c.png", tmp_path / "gone.png"], NONE, "x").bits == 12


def test_a_declaration_that_contradicts_its_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"declares 12 bits, but its images have 8: a.png"):
        find_bit_depth(write(tmp_path, a=GREY), ReadDeclaration(bits=12), "set")


def test_each_image_is_checked_against_the_bit_depth(tmp_path: Path) -> None:
    deep, shallow, upper = write(tmp_path, a=DEEP, b=GREY, c=DEEP << 4)
    with pytest.raises(DataError, match="has 8 bits per pixel, its camera has 12"):
        read_image(shallow, ReadSettings("mono", 12))
    with pytest.raises(DataError, match=r"above the 12 bits.*bits: ?`?|upper bits"):
        read_image(upper, ReadSettings("mono", 12))
    for bits in (None, 8):
        with pytest.raises(DataError, match="bits"):
            read_image(deep, ReadSettings("mono", bits))
    assert np.array_equal(read_image(deep, ReadSettings("rgb", 12)), np.dstack([GREY] * 3))


def test_the_declaration_is_beside_the_images_or_above(tmp_path: Path) -> None:
    below = tmp_path / "images"
    below.mkdir()
    assert load_declaration(below) == NONE
    (tmp_path / "reading.yaml").write_text("bits: 12\nflat_end: true\n")
    assert (
        load_declaration(below)
        == load_declaration(tmp_path)
        == ReadDeclaration(bits=12, flat_end=True)
    )
    (below / "reading.yaml").write_text("bits: 10\n")
    assert load_declaration(below) == ReadDeclaration(bits=10)
    for text, words in (
        ("bits: 11", "bits"),
        ("bit: 12", "unknown key"),
        ("- 12", "table"),
        ("bits: [", "bits|YAML|expected"),
    ):
        (below / "reading.yaml").write_text(text)
        with pytest.raises(DataError, match=words):
            load_declaration(below)


@pytest.mark.parametrize("bits", [16, 14, 12])
def test_a_declared_depth_that_no_image_uses_is_doubted(tmp_path: Path, bits: int) -> None:
    """It is applied, because some cameras are that dark, and reported."""
    paths = write(tmp_path, a=DEEP, b=DEEP // 2, c=DEEP // 3)
    depth = find_bit_depth(paths, ReadDeclaration(bits=bits), "set")
    assert depth.bits == bits
    if bits == 16:
        assert "none of 3 images uses more than 12" in depth.warning
        assert depth.warning in depth.note
    else:
        assert depth.warning == ""


def test_bits_in_the_upper_part_are_not_doubted(tmp_path: Path) -> None:
    dark = (DEEP // 32) << 4
    paths = write(tmp_path, a=dark, b=dark, c=dark)
    assert find_bit_depth(paths, ReadDeclaration(bits=16), "set").warning == ""
