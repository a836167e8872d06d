"""Images written by other programs are read with exact pixels, or refused.

The result must not depend on the version of OpenCV, whose versions differ (docs/reference/data.md).
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.imaging import ReadSettings, read_image
from edgeinspect.imaging.formats.detection import read_stored_bit_depth, verify_image
from edgeinspect.imaging.image_file import decode_native
from edgeinspect.imaging.mask_file import COLOR_FLAG, read_mask_values

FILES = Path(__file__).parents[2] / "images"
HEIGHT, WIDTH = 20, 26
Y, X = np.mgrid[:HEIGHT, :WIDTH]
BGR = np.stack([(X * 5 + Y * 7) % 256, Y * 12, X * 9], -1).astype(np.uint8)
GREY = (X * 6 + Y * 5 + 3).astype(np.uint8)[:, :, None]
DEEP_12 = GREY.astype(np.uint16) * 16 + 5
DEEP_16 = GREY.astype(np.uint16) * 257

READ = {
    "grey": (
        GREY,
        """pillow-grey.png pillow-la-opaque.png pillow-packbits.tif pillow.pgm
        netpbm-grey.bmp netpbm-white0.tif tifffile-grey.tif tifffile-white0.tif
        tifffile-white0-lzw.tif tifffile-tiled.tif tifffile-strips.tif tifffile-la.tif
        libtiff-big.tif pillow-greypalette.png cjpeg-restart.jpg""",
    ),
    "rgb": (
        BGR,
        """pillow-rgb.png pillow-rgba-opaque.png pillow-rgba-opaque.tif
        pillow-rgba-opaque.bmp gm-rgba.bmp pillow-deflate.tif pillow-lzw.tif pillow.ppm
        netpbm-interlace.png netpbm-os2.bmp own-topdown.bmp imageio-rgb.bmp tifffile-planar.tif
        libtiff-tiled.tif libtiff-separate.tif ffmpeg-rgb.tif pillow-progressive.jpg jpeg-in.png
        cjpeg-rgb.jpg libtiff-jpeg.tif ffmpeg-bgra.bmp tifffile-separate-8-lzw.tif
        tifffile-reduced-below.tif""",
    ),
    "12 bits": (
        DEEP_12,
        """pillow-12.png own-4095.pgm tifffile-12in16.tif
        tifffile-packed12.tif""",
    ),
    "10 bits": (DEEP_12 >> 2, "netpbm-1023.pgm tifffile-packed10.tif"),
    "14 bits": (DEEP_12 << 2, "tifffile-packed14.tif"),
    "16 bits": (
        DEEP_16,
        """pillow-16.png pillow-16.tif pillow-16.pgm imageio-16.png
        tifffile-16-be.tif tifffile-big.tif tifffile-lzw-16.tif tifffile-tiled-deflate-16.tif
        tifffile-white0-16.tif libtiff-lsb.tif""",
    ),
    "12 bits spread over 16 bits": (
        (DEEP_12.astype(np.uint32) * 65535 + 2047) // 4095,
        "pypng-12.png",
    ),
    "16 bits, colour": (BGR.astype(np.uint16) * 257, "tifffile-rgb16.tif"),
    "1 bit": (
        np.where(GREY > 128, 255, 0).astype(np.uint8),
        "pillow-1bit.png pillow-1bit.bmp pillow-1bit.tif",
    ),
    "4 bits": ((GREY.astype(int) * 15 + 127) // 255 * 17, "netpbm-4bit.png"),
}
CASES = [(name, what) for what, (_pixels, names) in READ.items() for name in names.split()]
REFUSED = {
    "pillow-rgba.png": "transparent",
    "pillow-rgba.tif": "transparent",
    "netpbm-trns.png": "transparent",
    "pillow-palette.gif": "is a GIF",
    "pillow.webp": "is a WebP",
    "pillow-apng.png": "animation",
    "pillow-pages.tif": "one page",
    "pillow-cmyk.jpg": "CMYK",
    "pillow-cmyk.tif": "CMYK",
    "gm-cmyk.jpg": "CMYK",
    "pillow-float.tif": "floating-point",
    "tifffile-f16.tif": "floating-point",
    "pillow-i32.tif": "signed",
    "tifffile-int16.tif": "signed",
    "tifffile-u32.tif": "32 bits",
    "tifffile-zstd.tif": "unsupported compression",
    "pillow-1bit-g4.tif": "unsupported compression",
    "ffmpeg-yuv.tif": "YCbCr",
    "netpbm-1000.pgm": "maximum value of 1000",
    "netpbm-plain.pgm": "plain-text",
    "gm-rle.bmp": "run-length",
    "pillow-mpo.jpg": "second image",
    "exiftool-xmp6.jpg": "orientation of 6 in its XMP",
    "tifffile-separate-16-lzw.tif": "separate planes",
    "tifffile-reduced-first.tif": "reduced image first",
}


@pytest.mark.parametrize(("name", "what"), CASES)
def test_pixels_are_those_that_were_written(name: str, what: str) -> None:
    image, info = decode_native((FILES / name).read_bytes())
    expected = READ[what][0]
    assert image.shape == expected.shape
    assert image.dtype == (np.uint8 if "bits" not in what or what == "4 bits" else np.uint16)
    is_lossy = info.format == "jpeg" or name == "libtiff-jpeg.tif"
    difference = np.abs(image.astype(int) - expected.astype(int)).max()
    assert difference <= (3 if is_lossy else 0)
    stored = read_stored_bit_depth(FILES / name)
    assert stored is not None
    assert (stored.bits, stored.significant_bits) == (info.bits, info.significant_bits)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_a_palette_is_applied(suffix: str) -> None:
    shown, _info = decode_native((FILES / "pillow-palette-shown.png").read_bytes())
    image, _info = decode_native((FILES / f"pillow-palette.{suffix}").read_bytes())
    assert np.array_equal(image, shown)


def test_set_bits_of_a_bitmap_are_black() -> None:
    """In PBM 1 is black; in TIFF it depends on a tag."""
    drawn, _info = decode_native((FILES / "netpbm.pbm").read_bytes())
    assert set(np.unique(drawn)) == {0, 255}
    assert drawn[0, 0, 0] == 0
    assert drawn[-1, -1, 0] == 255
    inverted, _info = decode_native((FILES / "netpbm-1bit-white0.tif").read_bytes())
    assert np.array_equal(inverted, drawn)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_the_orientation_of_an_image_is_applied(orientation: int, suffix: str) -> None:
    """By the EXIF standard: the positions of the first row and column for each value."""
    grey = GREY[:, :, 0]
    expected = {
        2: grey[:, ::-1],
        3: grey[::-1, ::-1],
        4: grey[::-1],
        5: grey.T,
        6: np.rot90(grey, -1),
        7: grey[::-1, ::-1].T,
        8: np.rot90(grey),
    }[orientation]
    image, info = decode_native((FILES / f"pillow-turn{orientation}.{suffix}").read_bytes())
    assert info.orientation == orientation
    assert image.shape[:2] == expected.shape
    assert np.abs(image[:, :, 0].astype(int) - expected).max() <= (3 if suffix == "jpg" else 0)
    assert image.flags.c_contiguous


OTHER_AS_MASK = {
    "pillow-greypalette.png",
    "netpbm-4bit.png",  # indices, and unscaled values of 4 bits
    "cjpeg-restart.jpg",
    "pillow-progressive.jpg",
    "jpeg-in.png",
    "cjpeg-rgb.jpg",
    "libtiff-jpeg.tif",
    "tifffile-rgb16.tif",
}


@pytest.mark.parametrize("name", [name for name, _what in CASES if name not in OTHER_AS_MASK])
def test_mask_values_are_the_pixels_of_the_image(name: str) -> None:
    """A decoder that misreads is_lossy bits would shift or scale the ids."""
    image, _info = decode_native((FILES / name).read_bytes())
    wide = image.astype(np.int32)
    if wide.shape[2] == 1:
        expected = np.where(wide[:, :, 0] == 0xFFFF, 255, wide[:, :, 0])
    else:
        blue, green, red = (wide[:, :, at] for at in range(3))
        grey = (blue == green) & (green == red)
        expected = np.where(grey, blue, COLOR_FLAG | red << 16 | green << 8 | blue)
    assert np.array_equal(read_mask_values(FILES / name), expected)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_orientation_of_a_mask_is_applied(orientation: int, suffix: str) -> None:
    """After half a orientation no other check would reveal the wrong position of a defect."""
    path = FILES / f"pillow-turn{orientation}.{suffix}"
    image, _info = decode_native(path.read_bytes())
    assert np.array_equal(read_mask_values(path), image[:, :, 0])


def test_the_orientation_of_a_jpeg_mask_is_applied(tmp_path: Path) -> None:
    drawn = np.zeros((32, 48), np.uint8)
    drawn[:8, :16] = 255
    plain = cv2.imencode(".jpg", drawn)[1].tobytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIII", 0x112, 3, 1, 3, 0)
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    path = tmp_path / "a.jpg"
    path.write_bytes(plain[:2] + segment + plain[2:])
    assert np.array_equal(read_mask_values(path), drawn[::-1, ::-1])


def test_a_jpeg_mask_in_a_tiff_is_refused() -> None:
    """JPEG compression blurs ids."""
    with pytest.raises(DataError, match="its values are lost") as caught:
        read_mask_values(FILES / "libtiff-jpeg.tif")
    assert caught.value.remedy


@pytest.mark.parametrize(("name", "message"), REFUSED.items())
def test_unsupported_files_are_refused(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_image(FILES / name, ReadSettings("mono", 8))
    assert caught.value.where == str(FILES / name)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["cjpeg-arithmetic.jpg", "pillow-420.jpg", "gm-orient6.jpg"])
def test_other_jpeg_encodings_are_read(name: str) -> None:
    image, _info = decode_native((FILES / name).read_bytes())
    expected = np.rot90(GREY, -1) if "orient" in name else BGR
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected.astype(int)).mean() < 8


def test_every_sample_file_is_read_or_refused() -> None:
    named = {name for name, _what in CASES} | set(REFUSED)
    rest = {path.name for path in FILES.iterdir() if path.suffix not in (".md", ".py")} - named
    for name in rest:
        decode_native((FILES / name).read_bytes())


# -- cut off ------------------------------------------------------------------------------

READABLE = sorted(
    path.name
    for path in FILES.iterdir()
    if path.suffix not in (".md", ".py") and path.name not in REFUSED
)


@pytest.mark.parametrize("name", READABLE)
def test_a_truncated_file_is_refused(name: str) -> None:
    data = (FILES / name).read_bytes()
    complete, _info = decode_native(data)
    for length in sorted({*range(0, len(data), max(1, len(data) // 97)), len(data) - 1}):
        try:
            image, _info = decode_native(data[:length])
        except DataError:
            continue
        assert np.array_equal(image, complete), f"{length} of {len(data)} bytes are enough"


@pytest.mark.parametrize("name", READABLE)
def test_a_file_filled_up_with_zeros_is_refused(name: str) -> None:
    """As from a copy that allocates the file first. Two rows of zeros are accepted as black."""
    data = (FILES / name).read_bytes()
    complete, info = decode_native(data)
    for length in sorted({*range(0, len(data), max(1, len(data) // 97)), len(data) - 1}):
        try:
            image, _info = decode_native(data[:length] + bytes(len(data) - length))
        except DataError:
            continue
        if name.startswith(("pillow-1bit", "netpbm.pbm", "netpbm-1bit")):
            continue  # bitmaps, where black ends are common
        assert image.shape == complete.shape, f"{length} of {len(data)} bytes"
        changed = image != complete
        rows = int(changed.any(axis=(1, 2) if info.orientation < 5 else (0, 2)).sum())
        assert rows <= (3 if info.pixel_ranges else 1), (
            f"{length} of {len(data)} bytes: {rows} rows"
        )


def jpeg(image: np.ndarray, *options: int) -> bytes:
    return bytes(cv2.imencode(".jpg", image, list(options))[1].tobytes())


NOISE = np.random.default_rng(3).integers(0, 256, (256, 400), np.uint8)


def test_a_jpeg_that_ends_early_is_refused() -> None:
    """Decoders silently fill the rest with grey if the end marker is there."""
    data = jpeg(NOISE)
    assert decode_native(data)[0].shape == (256, 400, 1)
    closed = data[: len(data) // 2] + b"\xff\xd9"
    with pytest.raises(DataError, match="plain grey 128"):
        decode_native(closed)
    assert decode_native(closed, flat_end=True)[0].shape == (256, 400, 1)


def test_a_jpeg_with_a_missing_block_is_refused() -> None:
    data = jpeg(NOISE)
    middle = len(data) // 2
    with pytest.raises(DataError, match="zeros within its scan data"):
        decode_native(data[:middle] + bytes(4096) + data[middle + 4096 :])


def test_restart_markers_are_counted() -> None:
    data = jpeg(NOISE, cv2.IMWRITE_JPEG_RST_INTERVAL, 10)
    verify_image(data)
    last = data.rfind(b"\xff\xd5")
    with pytest.raises(DataError, match="restart markers"):
        verify_image(data[:last] + b"\xff\xd9")


def test_a_thumbnail_does_not_end_a_jpeg() -> None:
    small, large = jpeg(NOISE[:32, :32]), jpeg(NOISE)
    segment = b"thumbnail\0" + small
    both = large[:2] + b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment + large[2:]
    assert np.array_equal(decode_native(both)[0], decode_native(large)[0])
    with pytest.raises(DataError, match="without its end"):
        decode_native(both[: len(both) // 2])


def test_a_png_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray((FILES / "pillow-grey.png").read_bytes())
    at = data.index(b"IDAT") + 20
    data[at] ^= 1
    with pytest.raises(DataError, match="checksum"):
        decode_native(bytes(data))


@pytest.mark.parametrize("suffix", [".bmp", ".pgm"])
def test_black_at_the_end_may_be_declared(suffix: str) -> None:
    image = NOISE.copy()
    image[-5:] = 0
    image[:5] = 0  # a BMP begins at the bottom
    data = cv2.imencode(suffix, image)[1].tobytes()
    with pytest.raises(DataError, match=r"5 rows of zeros.*flat_end"):
        decode_native(data)
    assert np.array_equal(decode_native(data, flat_end=True)[0][:, :, 0], image)
    black = cv2.imencode(suffix, np.zeros_like(image))[1].tobytes()
    with pytest.raises(DataError, match="nothing but zeros"):
        decode_native(black)
    assert not decode_native(black, flat_end=True)[0].any()


def test_damaged_files_raise_only_data_errors() -> None:
    rng = np.random.default_rng(8)
    for name in READABLE:
        data = bytearray((FILES / name).read_bytes())
        for _ in range(30):
            broken = bytearray(data)
            for at in rng.integers(0, min(len(data), 400), 4):
                broken[at] = int(rng.integers(0, 256))
            try:
                decode_native(bytes(broken), pixels_max=1_000_000)
            except DataError:
                continue


# -- hostile files ------------------------------------------------------------------------


def tiff(tags: dict[int, tuple[int, int, int]], tail: bytes) -> bytes:
    """Encode a little-endian TIFF: a directory of {tag: (type, count, value)} and a tail."""
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + tail


def test_hostile_files_are_refused() -> None:
    """Each would take minutes or gigabytes to decode."""
    grey = (FILES / "pillow-grey.png").read_bytes()
    at = grey.index(b"IDAT") - 4
    empty = struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))
    small = jpeg(NOISE[:16, :16])
    scan = small.index(b"\xff\xda")
    strips = 1 << 18
    start = 8 + 2 + 12 * 7 + 4
    offsets = struct.pack("<I", start + 8 * strips) * strips
    counts = struct.pack("<I", 4000) * strips
    overlapping = tiff(
        {
            256: (4, 1, 8),
            257: (4, 1, strips),
            258: (3, 1, 8),
            259: (3, 1, 32773),
            273: (4, strips, start),
            278: (4, 1, 1),
            279: (4, strips, start + 4 * strips),
        },
        offsets + counts + b"\x01" * 4000,
    )
    hostile = {
        "a run of fill bytes": b"\xff\xd8" + b"\xff" * 3_000_000,
        "fill bytes among pixels": small[: scan + 20] + b"\xff" * 3_000_000,
        "a million segments": small[:2] + b"\xff\xfe\0\2" * 1_000_000 + small[2:],
        "a million restarts": small[: scan + 20] + b"\xff\xd0" * 1_000_000 + b"\xff\xd9",
        "a million chunks": grey[:at] + empty * 1_000_000 + grey[at:],
        "overlapping strips": overlapping,
        "a million values": tiff({258: (3, 1 << 22, 20)}, bytes(1 << 23)),
    }
    for data in hostile.values():
        with pytest.raises(DataError):
            decode_native(data)


def test_zeros_are_counted_over_many_blocks() -> None:
    image = np.full((3000, 1000), 7, np.uint8)
    image[1500:] = 0
    head = b"P5 1000 3000 255\n"
    with pytest.raises(DataError, match="1500 rows of zeros"):
        decode_native(head + image.tobytes())
    image[-1, -1] = 1
    assert np.array_equal(decode_native(head + image.tobytes())[0][:, :, 0], image)
