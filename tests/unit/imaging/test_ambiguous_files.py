"""Files that programs read in different ways: read as their format says, or refused with words."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.imaging.formats.stored_bit_depth import read_stored_bit_depth
from edgeinspect.imaging.formats.tiff import SIGNATURES
from edgeinspect.imaging.image_file import ReadSettings, decode_native, read_image, read_image_bytes
from edgeinspect.imaging.mask_file import COLOR_FLAG, read_mask_values
from edgeinspect.system.regular_file import _NonBlockingFile

RNG = np.random.default_rng(12)
RGB = RNG.integers(0, 256, (12, 16, 3), np.uint8)
GREY = RNG.integers(1, 256, (64, 100), np.uint8)
RED, GREEN, BLUE = (RGB[:, :, at].astype(np.uint32) for at in range(3))


def shown(data: bytes) -> np.ndarray:
    """(h, w, 3) red, green, blue."""
    picture = decode_native(data)[0]
    return picture[:, :, ::-1] if picture.shape[2] == 3 else np.repeat(picture, 3, axis=2)


def remedied(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        decode_native(data)
    assert caught.value.remedy


# -- BMP of 16 and 32 bits ---------------------------------------------------------------


def bmp(values: np.ndarray, bits: int, masks: tuple[int, ...], header_bytes: int = 40) -> bytes:
    """From bottom to top, with masks in or behind the header."""
    way = 3 if masks else 0
    head = struct.pack(
        "<IiiHHIIiiII", header_bytes, values.shape[1], values.shape[0], 1, bits, way, 0, 0, 0, 0, 0
    )
    head += struct.pack(f"<{len(masks)}I", *masks)
    head += bytes(max(0, header_bytes - len(head)))
    body = values[::-1].astype("<u2" if bits == 16 else "<u4").tobytes()
    start = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + body


@pytest.mark.parametrize("header_bytes", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("shifts", [(16, 8, 0), (0, 8, 16), (24, 16, 8), (8, 16, 24)])
def test_colours_of_a_bmp_lie_where_its_masks_say(
    shifts: tuple[int, int, int], header_bytes: int
) -> None:
    values = RED << shifts[0] | GREEN << shifts[1] | BLUE << shifts[2]
    masks = tuple(0xFF << each for each in shifts)
    assert np.array_equal(shown(bmp(values, 32, masks, header_bytes)), RGB)


@pytest.mark.parametrize(
    "widths", [(5, 6, 5), (5, 5, 5), (4, 4, 4), (3, 3, 2)], ids=lambda each: "".join(map(str, each))
)
@pytest.mark.parametrize("turned", [False, True], ids=["rgb", "bgr"])
def test_few_bits_of_a_bmp_are_spread_over_8(widths: tuple[int, int, int], turned: bool) -> None:
    """So that white is white: 255, not 248."""
    tops = [(1 << each) - 1 for each in widths]
    few = [channel * top // 255 for channel, top in zip((RED, GREEN, BLUE), tops, strict=True)]
    at, values, masks = 0, np.zeros_like(RED), [0, 0, 0]
    for place in (0, 1, 2) if turned else (2, 1, 0):
        values |= few[place] << at
        masks[place] = tops[place] << at
        at += widths[place]
    wanted = [(one * 255 + top // 2) // top for one, top in zip(few, tops, strict=True)]
    assert np.array_equal(shown(bmp(values, 16, tuple(masks))), np.dstack(wanted))
    if widths == (5, 5, 5) and not turned:
        assert np.array_equal(shown(bmp(values, 16, ())), np.dstack(wanted))


@pytest.mark.parametrize("alpha", [255, 128, 0])
def test_transparency_of_a_bmp_counts_where_its_header_names_it(alpha: int) -> None:
    values = RED << 16 | GREEN << 8 | BLUE | np.uint32(alpha << 24)
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    assert np.array_equal(shown(bmp(values, 32, ())), RGB), "filling"
    if alpha == 255:
        assert np.array_equal(shown(bmp(values, 32, masks, 124)), RGB)
    else:
        remedied(bmp(values, 32, masks, 124), "transparent")


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ((0x3FF << 20, 0x3FF << 10, 0x3FF), "more than 8 bits a colour"),
        ((0xFF0000, 0xFF00, 0xFF00), "makes no sense"),
        ((0xF0F000, 0xF00, 0xFF), "makes no sense"),
        ((0, 0xFF00, 0xFF), "makes no sense"),
    ],
)
def test_masks_that_make_no_sense_are_refused(masks: tuple[int, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        decode_native(bmp(RED, 32, masks))


# -- orientation --------------------------------------------------------------------------


def exif(kind: int, turn: int, order: str = "<") -> bytes:
    code = {1: "B3x", 3: "H2x", 4: "I", 6: "b3x", 8: "h2x", 9: "i"}[kind]
    entry = struct.pack(order + "HHI", 0x112, kind, 1) + struct.pack(order + code, turn)
    head = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    return head + struct.pack(order + "H", 1) + entry + bytes(4)


def jpeg(*segments: bytes) -> bytes:
    plain = cv2.imencode(".jpg", GREY, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    parts = [b"\xff\xe1" + struct.pack(">H", 2 + len(each)) + each for each in segments]
    return bytes(plain[:2] + b"".join(parts) + plain[2:])


def chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def png(*chunks: bytes) -> bytes:
    plain = cv2.imencode(".png", GREY)[1].tobytes()
    return bytes(plain[:33] + b"".join(chunks) + plain[33:])


TURNED = np.rot90(GREY, -1)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [1, 3, 4, 6, 8, 9])
def test_an_orientation_may_be_any_whole_number(kind: int, order: str) -> None:
    data = exif(kind, 6, order)
    assert np.array_equal(decode_native(png(chunk(b"eXIf", data)))[0][:, :, 0], TURNED)
    picture, form = decode_native(jpeg(b"Exif\0\0" + data))
    assert (form.orientation, picture.shape[:2]) == (6, TURNED.shape)


def test_a_second_part_of_exif_does_not_turn_it_back() -> None:
    assert (
        decode_native(jpeg(b"Exif\0\0" + exif(3, 6), b"Exif\0\0the rest of it"))[1].orientation == 6
    )


def test_exif_in_a_png_may_begin_as_in_a_jpeg() -> None:
    assert decode_native(png(chunk(b"eXIf", b"Exif\0\0" + exif(3, 8))))[1].orientation == 8


def in_text(turn: int) -> bytes:
    data = (b"Exif\0\0" + exif(3, turn)).hex().encode()
    return b"\nexif\n%8d\n" % (len(data) // 2) + data[:72] + b"\n" + data[72:] + b"\n"


XMP = b'<rdf:Description tiff:Orientation="%d"/>'
KEY = b"Raw profile type exif\0"
ELSEWHERE = {
    "jpeg": lambda turn: jpeg(b"http://ns.adobe.com/xap/1.0/\0" + XMP % turn),
    "png": lambda turn: png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % turn)),
    "tEXt": lambda turn: png(chunk(b"tEXt", KEY + in_text(turn))),
    "zTXt": lambda turn: png(chunk(b"zTXt", KEY + b"\0" + zlib.compress(in_text(turn)))),
    "iTXt": lambda turn: png(chunk(b"iTXt", KEY + b"\1\0\0\0" + zlib.compress(in_text(turn)))),
}


@pytest.mark.parametrize("place", ELSEWHERE)
def test_an_orientation_that_only_some_programs_heed_is_refused(place: str) -> None:
    assert decode_native(ELSEWHERE[place](1))[1].orientation == 1
    remedied(ELSEWHERE[place](6), "orientation of 6 in its (XMP|text) and none in EXIF")


def test_exif_counts_before_xmp() -> None:
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + XMP % 6
    assert decode_native(jpeg(b"Exif\0\0" + exif(3, 1), xmp))[1].orientation == 1


def test_a_text_that_unpacks_without_end_costs_little() -> None:
    pack = zlib.compressobj(9)
    large = b"".join(pack.compress(bytes(1 << 20)) for _ in range(256)) + pack.flush()
    assert decode_native(png(chunk(b"zTXt", KEY + b"\0" + large)))[1].orientation == 1


# -- more than one picture, or less -------------------------------------------------------


def test_a_second_jpeg_behind_the_first_is_refused_and_a_preview_is_not() -> None:
    small = cv2.imencode(".jpg", GREY[:8, :8])[1].tobytes()
    remedied(jpeg() + jpeg(), "second picture behind")
    remedied(small + jpeg(), "second picture behind")
    remedied(jpeg() + bytes(100) + small + jpeg(), "second picture behind")
    for behind in (small, bytes(5000), b"\xff\xd8\xff", b"what a camera writes behind"):
        assert np.array_equal(decode_native(jpeg() + behind)[0], decode_native(jpeg())[0])


PGM = b"P5\n%d %d\n255\n" % (GREY.shape[1], GREY.shape[0])


@pytest.mark.parametrize(
    "data",
    [
        PGM + GREY.tobytes() + PGM + GREY.tobytes(),
        PGM.replace(b"\n", b"\r\n") + GREY.tobytes(),
        PGM[:-1] + b" # made by\n" + GREY.tobytes(),
    ],
    ids=["two", "CR LF", "comment"],
)
def test_a_pnm_of_another_length_is_refused(data: bytes) -> None:
    assert np.array_equal(decode_native(PGM + GREY.tobytes())[0][:, :, 0], GREY)
    remedied(data, "bytes more than its header says")


def test_a_value_above_the_highest_is_refused() -> None:
    remedied(PGM.replace(b"255", b"100") + GREY.tobytes(), "above its highest value of 100")


def test_zeros_between_blocks_of_a_file_are_a_hole() -> None:
    """A copy by several threads; black rows that begin elsewhere are black."""
    picture = RNG.integers(1, 256, (300, 200), np.uint8)
    data = cv2.imencode(".bmp", picture)[1].tobytes()
    holed = data[:8192] + bytes(12288) + data[8192 + 12288 :]
    with pytest.raises(DataError, match=r"has 12288 zeros from byte 8192 on.*flat_end"):
        decode_native(holed)
    assert decode_native(holed, flat_end=True)[0].shape == (300, 200, 1)
    picture[100:200] = 0
    assert np.array_equal(
        decode_native(cv2.imencode(".bmp", picture)[1].tobytes())[0][:, :, 0], picture
    )


def test_a_hole_in_a_jpeg_within_a_tiff_is_seen() -> None:
    noise = RNG.integers(0, 256, (256, 400), np.uint8)
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 7, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 256]
    data = cv2.imencode(".tif", noise, options)[1].tobytes()
    assert data[:4] in SIGNATURES
    assert decode_native(data)[0].shape == (256, 400, 1)
    middle = data.index(b"\xff\xda") + 20_000
    remedied(data[:middle] + bytes(5000) + data[middle + 5000 :], "zeros among its coded pixels")


def test_a_progressive_jpeg_without_its_last_scans_is_not_judged() -> None:
    data = cv2.imencode(".jpg", GREY, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert decode_native(data)[0].shape == (64, 100, 1)
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 3
    for start in starts[1:]:
        remedied(data[:start] + b"\xff\xd9", "without all of its scans")


def test_a_hole_over_the_headers_of_scans_is_seen() -> None:
    noise = RNG.integers(0, 256, (256, 400, 3), np.uint8)
    data = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    for at in range(1000, len(data) - 5000, 997):
        with pytest.raises(DataError):
            decode_native(data[:at] + bytes(4096) + data[at + 4096 :])


def test_a_hole_in_a_deflated_tiff_is_seen_by_its_checksum() -> None:
    noise = RNG.integers(0, 16, (256, 400), np.uint8)
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 8, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 64]
    data = cv2.imencode(".tif", noise, options)[1].tobytes()
    assert np.array_equal(decode_native(data)[0][:, :, 0], noise)
    for at in range(1000, len(data) - 5000, 997):
        with pytest.raises(DataError):
            decode_native(data[:at] + bytes(4096) + data[at + 4096 :])


# -- masks --------------------------------------------------------------------------------


def test_a_mask_is_read_by_the_masks_of_its_bmp(tmp_path: Path) -> None:
    """A decoder that takes the fourth byte for transparency would find no defect at all."""
    path = tmp_path / "mask.bmp"
    wanted = np.where(
        (RED == GREEN) & (GREEN == BLUE), RED, COLOR_FLAG | RED << 16 | GREEN << 8 | BLUE
    )
    for shifts in ((16, 8, 0), (0, 8, 16)):
        values = RED << shifts[0] | GREEN << shifts[1] | BLUE << shifts[2]
        path.write_bytes(bmp(values, 32, tuple(0xFF << each for each in shifts)))
        assert np.array_equal(read_mask_values(path), wanted)
    path.write_bytes(bmp(values, 32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), 124))
    with pytest.raises(DataError, match="transparent throughout") as caught:
        read_mask_values(path)
    assert caught.value.remedy


def test_a_mask_that_programs_read_in_different_ways_is_refused(tmp_path: Path) -> None:
    """What the decoder makes of them may be all background: a defect that nobody labelled."""
    png_in_tiff = tiff(34933)
    for name, data, words in (
        ("a.tif", png_in_tiff, "packed in a way that is not read"),
        ("b.pgm", PGM.replace(b"\n", b"\r\n") + GREY.tobytes(), "bytes more than its header"),
        ("c.jpg", jpeg() + jpeg(), "second picture"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DataError, match=words) as caught:
            read_mask_values(path)
        assert caught.value.remedy
        assert caught.value.where == str(path)
    plain = tmp_path / "d.pgm"
    plain.write_bytes(b"P2\n2 1\n255\n0 7\n")
    assert read_mask_values(plain).tolist() == [[0, 7]]
    plain.write_bytes(b"P2\n# ids, that a decoder spreads over 0 to 255\n2 1\n3\n0 1\n")
    with pytest.raises(DataError, match="plain text"):
        read_mask_values(plain)


def tiff(way: int) -> bytes:
    """8 x 4 px, packed in one way, with bytes that mean nothing."""
    tags = [(256, 8), (257, 4), (258, 8), (259, way), (262, 1), (273, 200), (278, 4), (279, 32)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    return head.ljust(200, b"\1") + bytes(range(1, 33))


# -- files that are no files --------------------------------------------------------------


def test_a_file_that_has_nothing_now_is_an_error() -> None:
    """`/proc/kmsg` and its like say that they are regular, and never end."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        with io.BufferedReader(_NonBlockingFile(reading, "rb")) as file:
            for read_it in (lambda: file.read(10), file.read):
                with pytest.raises(BlockingIOError) as caught:
                    read_it()
                assert caught.value.errno == errno.EAGAIN
    finally:
        os.close(writing)


def test_of_a_long_file_that_is_no_picture_little_is_read(tmp_path: Path) -> None:
    """A sparse file of 400 MiB, which takes no room on its disk."""
    for name, start, words in (
        ("zeros.png", b"", "nothing but zeros"),
        ("head.png", png(), "longer .* than a picture of 6400 px can be"),
        ("head.jpg", jpeg()[:400], "longer"),
        ("text.png", b"no picture", "not a picture"),
    ):
        path = tmp_path / name
        path.write_bytes(start)
        os.truncate(path, 400 << 20)
        with pytest.raises(DataError, match=words) as caught:
            read_image(path, ReadSettings("mono", 8))
        assert caught.value.where == str(path)
    path = tmp_path / "large.pgm"
    large = RNG.integers(1, 256, (2500, 2500), np.uint8)
    path.write_bytes(b"P5 2500 2500 255\n" + large.tobytes())
    assert len(read_image_bytes(path)) == path.stat().st_size
    assert read_stored_bit_depth(path) is not None
