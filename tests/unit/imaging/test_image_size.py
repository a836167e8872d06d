"""The size of an image by its header, and the images that must never reach a decoder."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.errors import DataError
from edgeinspect.imaging.formats.detection import check_size, read_image_size

SUFFIXES = (".png", ".jpg", ".bmp", ".tif", ".pgm", ".ppm")


def encode(suffix: str, pixels: np.ndarray) -> bytes:
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return bytes(data.tobytes())


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SUFFIXES), st.integers(1, 300), st.integers(1, 300), st.booleans())
def test_the_size_of_files_written_by_opencv(
    suffix: str, height_px: int, width_px: int, colored: bool
) -> None:
    colored = suffix == ".ppm" or (colored and suffix != ".pgm")
    pixels = np.zeros((height_px, width_px, 3) if colored else (height_px, width_px), np.uint8)
    size = read_image_size(encode(suffix, pixels))
    assert (size.height_px, size.width_px) == (height_px, width_px)
    assert size.pixels == height_px * width_px


def test_the_size_of_images_with_16_bits() -> None:
    deep = np.zeros((5, 9), np.uint16)
    for suffix in (".png", ".tif"):
        assert read_image_size(encode(suffix, deep)).pixels == 45


SAMPLES = [
    encode(suffix, np.full((20, 30, 3), 77, np.uint8)) for suffix in SUFFIXES if suffix != ".pgm"
]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=8),
    st.integers(0, 400),
)
def test_a_decoded_image_is_never_larger_than_its_header_states(
    data: bytes, changes: list[tuple[int, int]], keep: int
) -> None:
    mutated = bytearray(data)
    for at, value in changes:
        mutated[min(at, len(mutated) - 1)] = value
    mutation = bytes(mutated[: max(keep, 1)]) if keep < 100 else bytes(mutated)
    try:
        check_size(mutation, 4_000_000)
        size = read_image_size(mutation)
    except DataError:
        return
    try:
        image = cv2.imdecode(np.frombuffer(mutation, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return
    # PNM is decoded here: OpenCV takes the `#` that follows a number for its end, no comment.
    if image is not None and not mutation.startswith(b"P"):
        assert sorted(image.shape[:2]) == sorted((size.height_px, size.width_px))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([data[:12] for data in SAMPLES]), st.binary(max_size=300))
def test_any_bytes_after_a_signature_give_a_size_or_a_data_error(start: bytes, rest: bytes) -> None:
    try:
        size = read_image_size(start + rest)
    except DataError:
        return
    assert size.pixels > 0


def png_bomb(side_px: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", side_px, side_px, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def tiff(tags: dict[int, int], *, order: str = "<") -> bytes:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return head + b"".join(
        struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in sorted(tags.items())
    )


@pytest.mark.parametrize(
    "data",
    [
        png_bomb(30_000),
        tiff({256: 50_000, 257: 50_000}),
        tiff({256: 50_000, 257: 50_000}, order=">"),
        tiff({256: 10, 257: 10, 322: 32_768, 323: 32_768}),
        b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08" + struct.pack(">HH", 65_500, 65_500),
        b"P5 # a lie\n 100000\t100000 255\n",
        b"BM" + bytes(12) + struct.pack("<Iii", 40, 100_000, -100_000),
        b"II+\0\x08\0\0\0"
        + struct.pack("<QQ", 16, 2)
        + struct.pack("<HHQQ", 256, 16, 1, 1 << 40)
        + struct.pack("<HHQQ", 257, 16, 1, 1 << 40),
    ],
    ids=["png", "tiff", "tiff-be", "tiff-tile", "jpeg", "pgm", "bmp", "bigtiff"],
)
def test_a_huge_image_is_refused_by_its_header(data: bytes) -> None:
    with pytest.raises(DataError, match="more than"):
        check_size(data, 200_000_000)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"BM",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"II*\x00",
        b"P5",
        b"P5 1",
        b"RIFF",
        b"GIF89a",
        b"#?RADIANCE\n",
        b"\x00\x00\x00\x0cjP  ",
        b"MZ",
        png_bomb(0),
        tiff({256: 5}),
        b"\xff\xd8" + b"\xff\xe1\x00\x02" * 20000,
    ],
)
def test_a_file_that_is_not_an_image_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match=r"is (not an image|cut off|damaged|a .* file)"):
        check_size(data, 1000)
