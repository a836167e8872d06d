"""Read settings: how the images of one camera or one data set are decoded.

A file of 16 bits may hold 10, 12, 14 or 16 significant bits, and a single file does not show
which. The depth is therefore declared, or found over a whole data set, and every image is
checked against it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeinspect.config import INVALID, ConfigValidator, yaml_document
from edgeinspect.domain import Pixels
from edgeinspect.errors import ConfigError, DataError
from edgeinspect.imaging.formats.image_info import ImageFileError, ImageInfo

BIT_DEPTHS = (8, 10, 12, 14, 16)
BitDepth = Literal[8, 10, 12, 14, 16]
ColorOrder = Literal["mono", "bgr", "rgb"]
DECLARATION_FILE = "reading.yaml"
"""File beside the images, or in the folder above, with the read settings of all of them."""

COLOR_AS_STORED = "stored"
"""Value of `color`: grey stays grey, colour is blue, green, red."""


class ReadDeclaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a `reading.yaml`."""

    bits: BitDepth | None = None
    """Bit depth of the camera, for every image."""
    flat_end: bool = False
    """Accept images that end in rows of zeros or of grey 128; see docs/reference/data.md."""


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How all images of one camera or data set are decoded."""

    color: str = COLOR_AS_STORED
    """`mono`, `bgr`, `rgb` or `stored`."""
    bits: int | None = None
    """8, 10, 12, 14 or 16. None: not declared; files of 16 bits are refused."""
    flat_end: bool = False
    """See `ReadDeclaration`."""

    def convert(self, image: NDArray[np.uint8] | NDArray[np.uint16], info: ImageInfo) -> Pixels:
        """Convert decoded pixels to 8 bits and to `color`.

        Args:
            image: (h, w, 1) or (h, w, 3), as `image_file.decode_native` returns it.
            info: The headers of its file.

        Raises:
            ImageFileError: Its depth is not that of these settings.
        """
        self._check_depth(image, info)
        pixels = to_8_bits(image, self.bits or 8)
        return pixels if self.color == COLOR_AS_STORED else to_color_order(pixels, self.color)

    def _check_depth(self, image: NDArray[np.uint8] | NDArray[np.uint16], info: ImageInfo) -> None:
        if info.bits == 8:
            if self.bits not in (None, 8):
                raise ImageFileError(
                    f"has 8 bits per pixel, its camera has {self.bits}",
                    remedy="Remove the file, or correct `bits`",
                )
            return
        top = int(image.max(initial=0))
        if self.bits is None:
            raise ImageFileError(
                f"has 16 bits per pixel, and the depth of its camera is not declared (its "
                f"brightest pixel is {top}, which fits in {smallest_bit_depth(top)} bits)",
                remedy="Set `bits: 10`, 12, 14 or 16, as the camera has",
            )
        if info.significant_bits is not None and info.significant_bits != self.bits:
            raise ImageFileError(
                f"states {info.significant_bits} bits, its camera has {self.bits}",
                remedy="Correct `bits`",
            )
        if top >= 1 << self.bits:
            raise ImageFileError(
                f"has a pixel of {top}, above the {self.bits} bits of its camera",
                remedy="Correct `bits`: 16 if the file uses its upper bits",
            )


def smallest_bit_depth(value: int) -> int:
    """Return the smallest of 8, 10, 12, 14 and 16 bits that holds a value."""
    return next(bits for bits in BIT_DEPTHS if value < 1 << bits or bits == BIT_DEPTHS[-1])


def to_8_bits(image: NDArray[np.uint8] | NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """Return an image shifted from `bits` to 8 bits, values above `bits` saturated.

    An image of 8 bits is returned unchanged.
    """
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    shifted: NDArray[np.uint8] = np.minimum(image >> (bits - 8), 255).astype(np.uint8)
    return shifted


def to_channels(image: NDArray[np.uint8], channels: int) -> Pixels:
    """Convert (h, w, 1 or 3) to 1 channel (luma of blue, green, red) or 3 (grey repeated)."""
    if image.shape[2] == channels:
        return image
    if channels == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)[:, :, None]
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)


def to_color_order(image: NDArray[np.uint8], color: str) -> Pixels:
    """Convert (h, w, 1) grey or (h, w, 3) blue, green, red to `mono`, `bgr` or `rgb`."""
    pixels = to_channels(image, 1 if color == "mono" else 3)
    if color == "rgb" and image.shape[2] == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
    return pixels


def load_declaration(folder: Path) -> ReadDeclaration:
    """Load `reading.yaml` from a folder of images, or from the folder above.

    Raises:
        DataError: It cannot be read, or has faults; all of them are listed.
    """
    for parent in (folder, folder.absolute().parent):
        path = parent / DECLARATION_FILE
        if os.path.lexists(path):  # a pipe or a broken link is an error, not an absent file
            return _parse_declaration(path)
    return ReadDeclaration()


def _parse_declaration(path: Path) -> ReadDeclaration:
    where = str(path)
    try:
        root, faults = yaml_document.parse_yaml(yaml_document.read_text(path), where)
        collector = ConfigValidator()
        collector.faults.extend(faults)
        declaration = collector.validate_struct(root, ReadDeclaration, "")
        if collector.faults or declaration is INVALID:
            raise ConfigError(collector.faults, where=where)
    except ConfigError as error:
        raise DataError(
            "cannot be used: " + "; ".join(map(str, error.faults)),
            where=where,
            remedy="Its keys are `bits` and `flat_end`",
        ) from error
    assert isinstance(declaration, ReadDeclaration)
    return declaration
