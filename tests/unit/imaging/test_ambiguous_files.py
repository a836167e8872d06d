"""Image files that programs read in different ways are read by their format, or refused."""

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
from edgeinspect.imaging import ReadSettings, read_image, read_image_bytes
from edgeinspect.imaging.formats.detection import read_stored_bit_depth
from edgeinspect.imaging.formats.tiff_directory import SIGNATURES
from edgeinspect.imaging.image_file import decode_native
from edgeinspect.imaging.mask_file import COLOR_FLAG, read_mask_values
from edgeinspect.system.regular_file import _NonBlockingFile

RNG = np.random.default_rng(12)
RGB = RNG.integers(0, 256, (12, 16, 3), np.uint8)
GREY = RNG.integers(1, 256, (64, 100), np.uint8)
RED, GREEN, BLUE = (RGB[:, :, at].astype(np.uint32) for at in range(3))


def decode_rgb(data: bytes) -> np.ndarray:
    """Decode as (h, w, 3) red, green, blue."""
    image = decode_native(data)[0]
    return image[:, :, ::-1] if image.shape[2] == 3 else np.repeat(image, 3, axis=2)


def assert_refused(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        decode_native(data)
    assert caught.value.remedy


# -- BMP of 16 and 32 bits ---------------------------------------------------------------


def bmp(values: np.ndarray, bits: int, masks: tuple[int, ...], header_bytes: int = 40) -> bytes:
    """Encode a bottom-up BMP with masks in or after the header."""
    compression = 3 if masks else 0
    height_px, width_px = values.shape
    head = struct.pack("<IiiHHI", header_bytes, width_px, height_px, 1, bits, compression)
    head += bytes(20)
    head += struct.pack(f"<{len(masks)}I", *masks)
    head += bytes(max(0, header_bytes - len(head)))
    body = values[::-1].astype("<u2" if bits == 16 else "<u4").tobytes()
    start = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + body


@pytest.mark.parametrize("header_bytes", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("shifts", [(16, 8, 0), (0, 8, 16), (24, 16, 8), (8, 16, 24)])
def test_bmp_color_masks_are_applied(shifts: tuple[int, int, int], header_bytes: int) -> None:
    values = RED << shifts[0] | GREEN << shifts[1] | BLUE << shifts[2]
    masks = tuple(0xFF << each for each in shifts)
    assert np.array_equal(decode_rgb(bmp(values, 32, masks, header_bytes)), RGB)


@pytest.mark.parametrize(
    "widths", [(5, 6, 5), (5, 5, 5), (4, 4, 4), (3, 3, 2)], ids=lambda each: "".join(map(str, each))
)
@pytest.mark.parametrize("turned", [False, True], ids=["rgb", "bgr"])
def test_bmp_channels_are_scaled_to_8_bits(widths: tuple[int, int, int], turned: bool) -> None:
    """White is 255, not 248."""
    tops = [(1 << each) - 1 for each in widths]
    scaled = [channel * top // 255 for channel, top in zip((RED, GREEN, BLUE), tops, strict=True)]
    at, values, masks = 0, np.zeros_like(RED), [0, 0, 0]
    for place in (0, 1, 2) if turned else (2, 1, 0):
        values |= scaled[place] << at
        masks[place] = tops[place] << at
        at += widths[place]
    expected = [(each * 255 + top // 2) // top for each, top in zip(scaled, tops, strict=True)]
    assert np.array_equal(decode_rgb(bmp(values, 16, tuple(masks))), np.dstack(expected))
    if widths == (5, 5, 5) and not turned:
        assert np.array_equal(decode_rgb(bmp(values, 16, ())), np.dstack(expected))


@pytest.mark.parametrize("alpha", [255, 128, 0])
def test_bmp_alpha_is_used_if_its_header_has_an_alpha_mask(alpha: int) -> None:
    values = RED << 16 | GREEN << 8 | BLUE | np.uint32(alpha << 24)
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    assert np.array_equal(decode_rgb(bmp(values, 32, ())), RGB), "padding"
    if alpha == 255:
        assert np.array_equal(decode_rgb(bmp(values, 32, masks, 124)), RGB)
    else:
        assert_refused(bmp(values, 32, masks, 124), "transparent")


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ((0x3FF << 20, 0x3FF << 10, 0x3FF), "more than 8 bits per colour"),
        ((0xFF0000, 0xFF00, 0xFF00), "header is invalid"),
        ((0xF0F000, 0xF00, 0xFF), "header is invalid"),
        ((0, 0xFF00, 0xFF), "header is invalid"),
    ],
)
def test_invalid_bmp_masks_are_refused(masks: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
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


ROTATED = np.rot90(GREY, -1)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [1, 3, 4, 6, 8, 9])
def test_orientation_may_have_any_integer_type(kind: int, order: str) -> None:
    data = exif(kind, 6, order)
    assert np.array_equal(decode_native(png(chunk(b"eXIf", data)))[0][:, :, 0], ROTATED)
    image, info = decode_native(jpeg(b"Exif\0\0" + data))
    assert (info.orientation, image.shape[:2]) == (6, ROTATED.shape)


def test_a_second_exif_segment_does_not_reset_the_orientation() -> None:
    assert (
        decode_native(jpeg(b"Exif\0\0" + exif(3, 6), b"Exif\0\0the rest of it"))[1].orientation == 6
    )


def test_exif_in_a_png_may_have_the_jpeg_signature() -> None:
    assert decode_native(png(chunk(b"eXIf", b"Exif\0\0" + exif(3, 8))))[1].orientation == 8


def text_profile(turn: int) -> bytes:
    data = (b"Exif\0\0" + exif(3, turn)).hex().encode()
    return b"\nexif\n%8d\n" % (len(data) // 2) + data[:72] + b"\n" + data[72:] + b"\n"


XMP = b'<rdf:Description tiff:Orientation="%d"/>'
KEY = b"Raw profile type exif\0"
OUTSIDE_EXIF = {
    "jpeg": lambda turn: jpeg(b"http://ns.adobe.com/xap/1.0/\0" + XMP % turn),
    "png": lambda turn: png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % turn)),
    "tEXt": lambda turn: png(chunk(b"tEXt", KEY + text_profile(turn))),
    "zTXt": lambda turn: png(chunk(b"zTXt", KEY + b"\0" + zlib.compress(text_profile(turn)))),
    "iTXt": lambda turn: png(chunk(b"iTXt", KEY + b"\1\0\0\0" + zlib.compress(text_profile(turn)))),
}


@pytest.mark.parametrize("place", OUTSIDE_EXIF)
def test_an_orientation_outside_exif_is_refused(place: str) -> None:
    assert decode_native(OUTSIDE_EXIF[place](1))[1].orientation == 1
    assert_refused(OUTSIDE_EXIF[place](6), "orientation of 6 in its (XMP|text) and none in EXIF")


def test_exif_takes_precedence_over_xmp() -> None:
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + XMP % 6
    assert decode_native(jpeg(b"Exif\0\0" + exif(3, 1), xmp))[1].orientation == 1


def test_a_text_chunk_is_decompressed_only_partly() -> None:
    pack = zlib.compressobj(9)
    large = b"".join(pack.compress(bytes(1 << 20)) for _ in range(256)) + pack.flush()
    assert decode_native(png(chunk(b"zTXt", KEY + b"\0" + large)))[1].orientation == 1


# -- more than one image, or less -------------------------------------------------------


def test_a_second_jpeg_is_refused_and_a_preview_accepted() -> None:
    small = cv2.imencode(".jpg", GREY[:8, :8])[1].tobytes()
    assert_refused(jpeg() + jpeg(), "second image after its end")
    assert_refused(small + jpeg(), "second image after its end")
    assert_refused(jpeg() + bytes(100) + small + jpeg(), "second image after its end")
    for trailing in (small, bytes(5000), b"\xff\xd8\xff", b"trailing data of a camera"):
        assert np.array_equal(decode_native(jpeg() + trailing)[0], decode_native(jpeg())[0])


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
def test_a_pnm_of_wrong_length_is_refused(data: bytes) -> None:
    assert np.array_equal(decode_native(PGM + GREY.tobytes())[0][:, :, 0], GREY)
    assert_refused(data, "bytes more than its header states")


def test_a_value_above_the_maximum_is_refused() -> None:
    assert_refused(PGM.replace(b"255", b"100") + GREY.tobytes(), "above its maximum value of 100")


def test_blocks_of_zeros_are_refused() -> None:
    """As from a copy by several threads. Black rows at other positions are accepted."""
    image = RNG.integers(1, 256, (300, 200), np.uint8)
    data = cv2.imencode(".bmp", image)[1].tobytes()
    holed = data[:8192] + bytes(12288) + data[8192 + 12288 :]
    with pytest.raises(DataError, match=r"has 12288 zeros from byte 8192 on.*flat_end"):
        decode_native(holed)
    assert decode_native(holed, flat_end=True)[0].shape == (300, 200, 1)
    image[100:200] = 0
    assert np.array_equal(
        decode_native(cv2.imencode(".bmp", image)[1].tobytes())[0][:, :, 0], image
    )


def test_a_missing_block_in_a_jpeg_in_a_tiff_is_detected() -> None:
    noise = RNG.integers(0, 256, (256, 400), np.uint8)
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 7, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 256]
    data = cv2.imencode(".tif", noise, options)[1].tobytes()
    assert data[:4] in SIGNATURES
    assert decode_native(data)[0].shape == (256, 400, 1)
    middle = data.index(b"\xff\xda") + 20_000
    assert_refused(
        data[:middle] + bytes(5000) + data[middle + 5000 :], "zeros within its scan data"
    )


def test_a_progressive_jpeg_without_its_last_scans_is_refused() -> None:
    data = cv2.imencode(".jpg", GREY, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert decode_native(data)[0].shape == (64, 100, 1)
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 3
    for start in starts[1:]:
        assert_refused(data[:start] + b"\xff\xd9", "without all of its scans")


def test_a_missing_block_over_scan_headers_is_detected() -> None:
    noise = RNG.integers(0, 256, (256, 400, 3), np.uint8)
    data = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    for at in range(1000, len(data) - 5000, 997):
        with pytest.raises(DataError):
            decode_native(data[:at] + bytes(4096) + data[at + 4096 :])


def test_a_missing_block_in_a_deflated_tiff_is_detected_by_its_checksum() -> None:
    noise = RNG.integers(0, 16, (256, 400), np.uint8)
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 8, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 64]
    data = cv2.imencode(".tif", noise, options)[1].tobytes()
    assert np.array_equal(decode_native(data)[0][:, :, 0], noise)
    for at in range(1000, len(data) - 5000, 997):
        with pytest.raises(DataError):
            decode_native(data[:at] + bytes(4096) + data[at + 4096 :])


# -- masks --------------------------------------------------------------------------------


def test_color_masks_are_applied_to_mask_files(tmp_path: Path) -> None:
    """A decoder that uses the fourth byte as alpha would return background only."""
    path = tmp_path / "mask.bmp"
    expected = np.where(
        (RED == GREEN) & (GREEN == BLUE), RED, COLOR_FLAG | RED << 16 | GREEN << 8 | BLUE
    )
    for shifts in ((16, 8, 0), (0, 8, 16)):
        values = RED << shifts[0] | GREEN << shifts[1] | BLUE << shifts[2]
        path.write_bytes(bmp(values, 32, tuple(0xFF << each for each in shifts)))
        assert np.array_equal(read_mask_values(path), expected)
    path.write_bytes(bmp(values, 32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), 124))
    with pytest.raises(DataError, match="fully transparent") as caught:
        read_mask_values(path)
    assert caught.value.remedy


def test_an_ambiguous_mask_file_is_refused(tmp_path: Path) -> None:
    """A decoder may return background only, which would hide a labelled defect."""
    png_in_tiff = tiff(34933)
    for name, data, message in (
        ("a.tif", png_in_tiff, "unsupported compression"),
        ("b.pgm", PGM.replace(b"\n", b"\r\n") + GREY.tobytes(), "bytes more than its header"),
        ("c.jpg", jpeg() + jpeg(), "second image"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DataError, match=message) as caught:
            read_mask_values(path)
        assert caught.value.remedy
        assert caught.value.where == str(path)
    plain = tmp_path / "d.pgm"
    plain.write_bytes(b"P2\n2 1\n255\n0 7\n")
    assert read_mask_values(plain).tolist() == [[0, 7]]
    plain.write_bytes(b"P2\n# ids, which decoders scale to 0 to 255\n2 1\n3\n0 1\n")
    with pytest.raises(DataError, match="plain-text"):
        read_mask_values(plain)


def tiff(compression: int) -> bytes:
    """Encode 8 x 4 px with a compression tag and arbitrary data."""
    tags = {256: 8, 257: 4, 258: 8, 259: compression, 262: 1, 273: 200, 278: 4, 279: 32}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    return head.ljust(200, b"\1") + bytes(range(1, 33))


# -- special and long files ---------------------------------------------------------------


def test_a_nonblocking_file_without_data_is_an_error() -> None:
    """Files such as `/proc/kmsg` are regular, and never end."""
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


def test_only_the_start_of_a_long_file_is_read_if_it_is_not_an_image(tmp_path: Path) -> None:
    """Uses sparse files of 400 MiB."""
    for name, start, message in (
        ("zeros.png", b"", "nothing but zeros"),
        ("head.png", png(), "longer .* than an image of 6400 px can be"),
        ("head.jpg", jpeg()[:400], "longer"),
        ("text.png", b"no image", "not an image"),
    ):
        path = tmp_path / name
        path.write_bytes(start)
        os.truncate(path, 400 << 20)
        with pytest.raises(DataError, match=message) as caught:
            read_image(path, ReadSettings("mono", 8))
        assert caught.value.where == str(path)
    path = tmp_path / "large.pgm"
    large = RNG.integers(1, 256, (2500, 2500), np.uint8)
    path.write_bytes(b"P5 2500 2500 255\n" + large.tobytes())
    assert len(read_image_bytes(path)) == path.stat().st_size
    assert read_stored_bit_depth(path) is not None
