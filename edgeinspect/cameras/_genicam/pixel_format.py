"""Converts a camera's buffers to uint8 (h, w, c), without a copy where possible.

Names are those of the GenICam Pixel Format Naming Convention 2.4 (PFNC). For more than 8 bits
the levels that become 0 and 255 must be configured: a guess would make the image of a 12-bit
camera that uses the lower half too dark, or clip it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import cv2
import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edgeinspect.domain import Pixels
from edgeinspect.errors import DataError
from edgeinspect.imaging import ColorOrder


class LevelRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The levels that are mapped to 0 and 255, linearly between them."""

    black: Annotated[int, Meta(ge=0, le=65_535)]
    """This level and lower ones become 0."""
    white: Annotated[int, Meta(ge=1, le=65_535)]
    """This level and higher ones become 255."""


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """One supported PFNC format."""

    name: str
    code: int
    """32-bit PFNC value, as in the stream."""
    channels: int = 1
    depth_bits: int = 8
    bayer_pattern: str = ""
    """Colours of the first two rows, such as `RGGB`; empty if not a mosaic."""
    channel_order: str = ""
    """`rgb` or `bgr` for interleaved colour."""

    @property
    def bytes_per_px(self) -> int:
        """Return the bytes of one pixel with all channels."""
        return self.channels * (2 if self.depth_bits > 8 else 1)


def _bayer_formats(depth_bits: int, codes: tuple[int, int, int, int]) -> list[PixelFormat]:
    tiles = ("GRBG", "RGGB", "GBRG", "BGGR")
    return [
        PixelFormat(f"Bayer{tile[:2]}{depth_bits}", code, depth_bits=depth_bits, bayer_pattern=tile)
        for tile, code in zip(tiles, codes, strict=True)
    ]


PIXEL_FORMATS = (
    PixelFormat("Mono8", 0x01080001),
    PixelFormat("Mono10", 0x01100003, depth_bits=10),
    PixelFormat("Mono12", 0x01100005, depth_bits=12),
    PixelFormat("Mono14", 0x01100025, depth_bits=14),
    PixelFormat("Mono16", 0x01100007, depth_bits=16),
    *_bayer_formats(8, (0x01080008, 0x01080009, 0x0108000A, 0x0108000B)),
    *_bayer_formats(10, (0x0110000C, 0x0110000D, 0x0110000E, 0x0110000F)),
    *_bayer_formats(12, (0x01100010, 0x01100011, 0x01100012, 0x01100013)),
    *_bayer_formats(16, (0x0110002E, 0x0110002F, 0x01100030, 0x01100031)),
    PixelFormat("RGB8", 0x02180014, channels=3, channel_order="rgb"),
    PixelFormat("BGR8", 0x02180015, channels=3, channel_order="bgr"),
)
FORMATS_BY_NAME = {form.name: form for form in PIXEL_FORMATS}
LEGACY_NAMES = {"RGB8Packed": "RGB8", "BGR8Packed": "BGR8"}
"""Names before PFNC of the same formats. (`Mono12Packed` is a different format.)"""
FORMATS_BY_CODE = {form.code: form for form in PIXEL_FORMATS}

_DEMOSAIC_CODES = {
    "RGGB": (cv2.COLOR_BayerRGGB2BGR, cv2.COLOR_BayerRGGB2RGB, cv2.COLOR_BayerRGGB2GRAY),
    "GRBG": (cv2.COLOR_BayerGRBG2BGR, cv2.COLOR_BayerGRBG2RGB, cv2.COLOR_BayerGRBG2GRAY),
    "GBRG": (cv2.COLOR_BayerGBRG2BGR, cv2.COLOR_BayerGBRG2RGB, cv2.COLOR_BayerGBRG2GRAY),
    "BGGR": (cv2.COLOR_BayerBGGR2BGR, cv2.COLOR_BayerBGGR2RGB, cv2.COLOR_BayerBGGR2GRAY),
}
_COLOR_CODES = {
    ("rgb", "bgr"): cv2.COLOR_RGB2BGR,
    ("bgr", "rgb"): cv2.COLOR_BGR2RGB,
    ("rgb", "mono"): cv2.COLOR_RGB2GRAY,
    ("bgr", "mono"): cv2.COLOR_BGR2GRAY,
}


class PixelConverter:
    """Converts buffers of one format and size. For one thread.

    Args:
        pixel_format: Format of the camera's buffers.
        height_px: Rows of a frame.
        width_px: Pixels of a row.
        color: Colour order of the models; None: grey from grey, BGR from colour.
        levels: For formats of more than 8 bits.
        where: The camera, for errors.

    Raises:
        DataError: `levels` is absent for a format of more than 8 bits, or the format cannot be
            converted to `color`.
    """

    def __init__(
        self,
        pixel_format: PixelFormat,
        height_px: int,
        width_px: int,
        color: ColorOrder | None,
        levels: LevelRange | None,
        where: str = "",
    ) -> None:
        natural: ColorOrder = (
            "bgr" if pixel_format.bayer_pattern or pixel_format.channels == 3 else "mono"
        )
        self.pixel_format = pixel_format
        self.color: ColorOrder = color or natural
        self.shape = (height_px, width_px, 1 if self.color == "mono" else 3)
        self.size_bytes = height_px * width_px * pixel_format.bytes_per_px
        self._raw_shape = (height_px, width_px, pixel_format.channels)
        self._level_table = _build_level_table(pixel_format, levels, where)
        self._demosaic_code: int | None = None
        self._color_code: int | None = None
        if pixel_format.bayer_pattern:
            self._demosaic_code = _DEMOSAIC_CODES[pixel_format.bayer_pattern][
                ("bgr", "rgb", "mono").index(self.color)
            ]
        elif pixel_format.channel_order and pixel_format.channel_order != self.color:
            self._color_code = _COLOR_CODES[pixel_format.channel_order, self.color]
        elif natural == "mono" and self.color != "mono":
            raise DataError(
                f"sends {pixel_format.name}, which has no colour",
                where=where,
                remedy="Set `color: mono`, or choose another PixelFormat",
            )

    @property
    def is_view(self) -> bool:
        """Return True if frames are views of the camera's memory."""
        return (
            self._level_table is None and self._demosaic_code is None and self._color_code is None
        )

    def view(self, data: NDArray[np.uint8]) -> Pixels:
        """Return the buffer as (h, w, c), sharing its memory; only if `is_view`."""
        return data[: self.size_bytes].reshape(self.shape)

    def convert(self, data: NDArray[np.uint8], out: Pixels) -> None:
        """Convert one buffer into `out`, uint8 of `shape`."""
        raw = data[: self.size_bytes]
        height_px, width_px, channels = self._raw_shape
        image: NDArray[np.uint8]
        if self._level_table is not None:
            deep = raw.view("<u2").reshape(height_px, width_px)
            grey = out[:, :, 0] if self._demosaic_code is None else np.empty(deep.shape, np.uint8)
            np.take(self._level_table, deep, out=grey, mode="clip")
            image = grey
        else:
            image = raw.reshape(height_px, width_px, channels)
        code = self._demosaic_code if self._demosaic_code is not None else self._color_code
        if code is not None:
            cv2.cvtColor(image, code, dst=out)


def find_format(name: str, where: str) -> PixelFormat:
    """Return the format of a name.

    Raises:
        DataError: The format is not supported; the supported ones are listed.
    """
    pixel_format = FORMATS_BY_NAME.get(LEGACY_NAMES.get(name, name))
    if pixel_format is None:
        raise DataError(
            f"sends {name or 'an unknown pixel format'}, which is not supported",
            where=where,
            remedy=f"Set PixelFormat to one of {', '.join(FORMATS_BY_NAME)}",
        )
    return pixel_format


def _build_level_table(
    pixel_format: PixelFormat, levels: LevelRange | None, where: str
) -> NDArray[np.uint8] | None:
    """Return the 8-bit value of every level; None for formats of 8 bits."""
    if pixel_format.depth_bits == 8:
        return None
    if levels is None:
        top = (1 << pixel_format.depth_bits) - 1
        raise DataError(
            f"sends {pixel_format.name}, and `levels` is not configured",
            where=where,
            remedy=f"For its full range: levels: {{black: 0, white: {top}}}",
        )
    if levels.white <= levels.black:
        raise DataError(
            f"levels: white {levels.white} is not above black {levels.black}", where=where
        )
    level = np.arange(1 << 16, dtype=np.float64)
    scaled = (level - levels.black) * 255.0 / (levels.white - levels.black)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
