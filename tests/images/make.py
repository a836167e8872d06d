"""Makes the pictures of this folder, each by the program that its name begins with.

The tests only read them. To make them anew: `pip install pillow tifffile imagecodecs imageio
pypng`, `apt install netpbm libtiff-tools graphicsmagick ffmpeg libjpeg-turbo-progs exiftool`, then
`python make.py FOLDER`.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v3
import numpy as np
import png
import tifffile
from PIL import Image

HEIGHT, WIDTH = 20, 26
Y, X = np.mgrid[:HEIGHT, :WIDTH]
RGB = np.stack([X * 9, Y * 12, (X * 5 + Y * 7) % 256], -1).astype(np.uint8)
GREY = (X * 6 + Y * 5 + 3).astype(np.uint8)
DEEP_12 = GREY.astype(np.uint16) * 16 + 5
DEEP_16 = GREY.astype(np.uint16) * 257
OPAQUE = np.full_like(GREY, 255)


def by_pillow(out: Path) -> None:
    def save(name: str, pixels: np.ndarray, **options: Any) -> None:
        Image.fromarray(pixels).save(out / f"pillow-{name}", **options)

    save("grey.png", GREY)
    save("rgb.png", RGB)
    save("12.png", DEEP_12)
    save("16.png", DEEP_16)
    save("16.tif", DEEP_16)
    save("16.pgm", DEEP_16)
    save("la-opaque.png", np.dstack([GREY, OPAQUE]))
    for suffix in ("png", "tif", "bmp"):
        save(f"rgba-opaque.{suffix}", np.dstack([RGB, OPAQUE]))
    holed = OPAQUE.copy()
    holed[3:5, 3:5] = 10
    save("rgba.png", np.dstack([RGB, holed]))
    save("rgba.tif", np.dstack([RGB, holed]))
    few = Image.fromarray(RGB).quantize(64)
    few.convert("RGB").save(out / "pillow-palette-shown.png")
    for suffix in ("png", "bmp", "tif", "gif"):
        few.save(out / f"pillow-palette.{suffix}")
    Image.fromarray(GREY).convert("P").save(out / "pillow-greypalette.png")
    for suffix in ("png", "bmp", "tif"):
        save(f"1bit.{suffix}", GREY > 128)
    save("1bit-g4.tif", GREY > 128, compression="group4")
    for turn in range(2, 9):
        exif = Image.Exif()
        exif[0x112] = turn
        save(f"turn{turn}.jpg", GREY, exif=exif, quality=100)
        save(f"turn{turn}.png", GREY, exif=exif)
        save(f"turn{turn}.tif", GREY, tiffinfo={274: turn})
    print_colours = Image.fromarray(RGB).convert("CMYK")
    print_colours.save(out / "pillow-cmyk.jpg")
    print_colours.save(out / "pillow-cmyk.tif")
    save("progressive.jpg", RGB, progressive=True, quality=100, subsampling=0)
    save("420.jpg", RGB, quality=95)
    for way in ("deflate", "lzw"):
        save(f"{way}.tif", RGB, compression=f"tiff_{way}")
    save("packbits.tif", GREY, compression="packbits")
    save("float.tif", GREY.astype(np.float32))
    save("i32.tif", GREY.astype(np.int32))
    Image.fromarray(RGB).save(out / "pillow.ppm")
    Image.fromarray(GREY).save(out / "pillow.pgm")
    Image.fromarray(RGB).save(out / "pillow.webp")
    for name in ("pages.tif", "apng.png"):
        save(name, GREY, save_all=True, append_images=[Image.fromarray(255 - GREY)])


def by_tifffile(out: Path) -> None:
    def save(name: str, pixels: np.ndarray, **options: Any) -> None:
        tifffile.imwrite(out / f"tifffile-{name}.tif", pixels, metadata=None, **options)

    alpha = {"extrasamples": ["unassalpha"], "planarconfig": "contig"}
    save("grey", GREY)
    save("white0", 255 - GREY, photometric="miniswhite")
    save("white0-16", 65_535 - DEEP_16, photometric="miniswhite")
    save("white0-lzw", 255 - GREY, photometric="miniswhite", compression="lzw")
    save("12in16", DEEP_12)
    save("16-be", DEEP_16, byteorder=">")
    save("rgb16", RGB.astype(np.uint16) * 257, photometric="rgb")
    save("packed10", DEEP_12 >> 2, bitspersample=10)
    save("packed12", DEEP_12, bitspersample=12)
    save("packed14", DEEP_12 << 2, bitspersample=14)
    save("int16", DEEP_12.astype(np.int16))
    save("u32", DEEP_12.astype(np.uint32))
    save("f16", GREY.astype(np.float16))
    save("tiled", GREY, tile=(16, 16))
    save("tiled-deflate-16", DEEP_16, tile=(16, 16), compression="zlib", predictor=True)
    save("planar", np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate")
    save("big", DEEP_16, bigtiff=True)
    save("lzw-16", DEEP_16, compression="lzw")
    save("zstd", DEEP_16, compression="zstd")
    save("strips", GREY, rowsperstrip=3)
    save("la", np.dstack([GREY, OPAQUE]), photometric="minisblack", **alpha)


def by_programs(out: Path) -> None:
    def run(*command: str, given: bytes = b"", to: str = "") -> bytes:
        done = subprocess.run(command, input=given, capture_output=True, check=True)
        if to:
            (out / to).write_bytes(done.stdout)
        return done.stdout

    pgm, ppm = (out / "pillow.pgm").read_bytes(), (out / "pillow.ppm").read_bytes()
    deep = b"P5\n%d %d\n4095\n" % (WIDTH, HEIGHT) + DEEP_12.astype(">u2").tobytes()
    (out / "own-4095.pgm").write_bytes(deep)
    run("pnmtopng", "-interlace", given=ppm, to="netpbm-interlace.png")
    run("pnmtopng", "-transparent", "=black", given=pgm, to="netpbm-trns.png")
    run("pnmtopng", given=run("pamdepth", "15", given=pgm), to="netpbm-4bit.png")
    run("pamdepth", "1023", given=deep, to="netpbm-1023.pgm")
    run("pamdepth", "1000", given=pgm, to="netpbm-1000.pgm")
    run("ppmtobmp", "-os2", given=ppm, to="netpbm-os2.bmp")
    run("ppmtobmp", "-windows", given=pgm, to="netpbm-grey.bmp")
    run("pnmtoplainpnm", given=pgm, to="netpbm-plain.pgm")
    bits = run("pgmtopbm", "-threshold", given=pgm, to="netpbm.pbm")
    run("pnmtotiff", "-miniswhite", given=pgm, to="netpbm-white0.tif")
    run("pnmtotiff", "-miniswhite", given=bits, to="netpbm-1bit-white0.tif")
    run("cjpeg", "-arithmetic", "-quality", "100", given=ppm, to="cjpeg-arithmetic.jpg")
    run("cjpeg", "-restart", "1B", "-quality", "100", given=pgm, to="cjpeg-restart.jpg")
    run("cjpeg", "-rgb", "-quality", "100", given=ppm, to="cjpeg-rgb.jpg")
    for name, source, options in (
        ("tiled", "pillow-lzw", "-t -w 16 -l 16"),
        ("big", "tifffile-grey", "-8"),
        ("separate", "pillow-lzw", "-p separate"),
        ("jpeg", "pillow-lzw", "-c jpeg:r:95"),
        ("lsb", "tifffile-16-be", "-f lsb2msb"),
    ):
        run("tiffcp", *options.split(), f"{out}/{source}.tif", f"{out}/libtiff-{name}.tif")
    for name, source, options in (
        ("gm-rle.bmp", "pillow-rgb.png", "-type Palette -colors 64 -compress RLE"),
        ("gm-rgba.bmp", "pillow-rgba-opaque.png", ""),
        ("gm-cmyk.jpg", "pillow-rgb.png", "-colorspace CMYK"),
        ("gm-orient6.jpg", "pillow-turn6.jpg", ""),
    ):
        run("gm", "convert", *options.split(), f"{out}/{source}", f"{out}/{name}")
    for name, form in (("rgb.tif", "rgb24"), ("yuv.tif", "yuv420p"), ("grey.png", "gray")):
        run(
            "ffmpeg",
            "-loglevel",
            "error",
            "-y",
            "-i",
            f"{out}/pillow-rgb.png",
            "-pix_fmt",
            form,
            f"{out}/ffmpeg-{name}",
        )


def of_other_meanings(out: Path) -> None:
    """Where readers differ: masks of colours, several pictures, an orientation in two places."""

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    for form in ("rgb565le", "rgb555le", "bgra"):
        run(
            "ffmpeg",
            "-loglevel",
            "error",
            "-y",
            "-i",
            f"{out}/pillow-rgb.png",
            "-pix_fmt",
            form,
            f"{out}/ffmpeg-{form}.bmp",
        )
    two = Image.fromarray(RGB)
    two.save(out / "pillow-mpo.jpg", "MPO", save_all=True, append_images=[two], quality=95)
    Image.fromarray(GREY).save(out / "exiftool-xmp6.jpg", quality=100)
    run(
        "exiftool",
        "-overwrite_original",
        "-n",
        "-XMP-tiff:Orientation=6",
        f"{out}/exiftool-xmp6.jpg",
    )
    with (out / "pypng-12.png").open("wb") as file:
        png.Writer(WIDTH, HEIGHT, greyscale=True, bitdepth=12).write(file, DEEP_12.tolist())
    for name, pixels in (("separate-8", RGB), ("separate-16", RGB.astype(np.uint16) * 257)):
        tifffile.imwrite(
            out / f"tifffile-{name}-lzw.tif",
            np.moveaxis(pixels, -1, 0),
            metadata=None,
            photometric="rgb",
            planarconfig="separate",
            compression="lzw",
        )
    with tifffile.TiffWriter(out / "tifffile-reduced-first.tif") as tiff:
        tiff.write(RGB[::2, ::2], subifds=1, subfiletype=1, photometric="rgb", metadata=None)
        tiff.write(RGB, subfiletype=0, photometric="rgb", metadata=None)
    with tifffile.TiffWriter(out / "tifffile-reduced-below.tif") as tiff:
        tiff.write(RGB, subifds=1, photometric="rgb", metadata=None)
        tiff.write(RGB[::2, ::2], subfiletype=1, photometric="rgb", metadata=None)


def by_hand(out: Path) -> None:
    """What none of them writes: a BMP from top to bottom; a JPEG under another name."""
    row_bytes = (WIDTH * 3 + 3) // 4 * 4
    filling = bytes(row_bytes - WIDTH * 3)
    body = b"".join(row[:, ::-1].tobytes() + filling for row in RGB)
    head = struct.pack("<IHHI", 54 + len(body), 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, -HEIGHT, 1, 24, 0, len(body), 2835, 2835, 0, 0)
    (out / "own-topdown.bmp").write_bytes(b"BM" + head + info + body)
    (out / "jpeg-in.png").write_bytes((out / "pillow-progressive.jpg").read_bytes())


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    by_pillow(folder)
    by_tifffile(folder)
    imageio.v3.imwrite(folder / "imageio-rgb.bmp", RGB)
    imageio.v3.imwrite(folder / "imageio-16.png", DEEP_16)
    by_programs(folder)
    of_other_meanings(folder)
    by_hand(folder)
