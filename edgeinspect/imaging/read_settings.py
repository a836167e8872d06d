"""How the pictures of one camera or one set are to be read: what no single file can tell.

A file of 16 bits may hold 10, 12, 14 or 16. A dark picture of the deeper camera looks like a
bright one of the other, so the depth is declared, or found once over a whole set, and every
picture is held to it.
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

from edgeinspect.config import INVALID, Validator, yaml_document
from edgeinspect.domain import Pixels
from edgeinspect.errors import ConfigError, DataError
from edgeinspect.imaging.formats.image_info import ImageFileError, ImageInfo

BIT_DEPTHS = (8, 10, 12, 14, 16)
BitDepth = Literal[8, 10, 12, 14, 16]
DECLARATION_FILE = "reading.yaml"
"""Beside the pictures, or in the folder above: what is to be known of all of them."""

COLOR_AS_STORED = "stored"
"""As a color: grey as grey, colour as blue, green, red."""


class ReadDeclaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in a `reading.yaml`."""

    bits: BitDepth | None = None
    """Of every picture: how many bits its camera has."""
    flat_end: bool = False
    """Uncompressed pictures may end in rows of zeros: they are black, and no fault of a copy."""


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """One way to read all pictures of a camera or a set."""

    color: str = COLOR_AS_STORED
    """`mono`, `bgr`, `rgb` or `stored`."""
    bits: int | None = None
    """8, 10, 12, 14 or 16. None: not known, so that files of 16 bits are refused."""
    flat_end: bool = False
    """See `ReadDeclaration`."""

    def convert(self, image: NDArray[np.uint8] | NDArray[np.uint16], info: ImageInfo) -> Pixels:
        """Pixels of 8 bits in the wanted order.

        Args:
            picture: (h, w, 1) or (h, w, 3), as `picture_file.decode` gives it.
            form: What its file said.

        Raises:
            FormError: It has another depth than this reading.
        """
        self._check_depth(image, info)
        pixels = to_8_bits(image, self.bits or 8)
        if self.color == COLOR_AS_STORED:
            return pixels
        if self.color == "mono":
            if pixels.shape[2] == 1:
                return pixels
            return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.uint8)[:, :, None]
        if pixels.shape[2] == 1:
            return np.repeat(pixels, 3, axis=2)
        return np.ascontiguousarray(pixels[:, :, ::-1]) if self.color == "rgb" else pixels

    def _check_depth(self, image: NDArray[np.uint8] | NDArray[np.uint16], info: ImageInfo) -> None:
        if info.bits == 8:
            if self.bits not in (None, 8):
                raise ImageFileError(
                    f"has 8 bits a pixel, its camera has {self.bits}",
                    remedy="Take it out, or say the right `bits`",
                )
            return
        top = int(image.max(initial=0))
        if self.bits is None:
            raise ImageFileError(
                f"has 16 bits a pixel, of which its camera uses an unknown number (its "
                f"brightest pixel is {top}, which fits in {smallest_bit_depth(top)})",
                remedy="Say `bits: 10`, 12, 14 or 16, as the camera has them",
            )
        if info.significant_bits is not None and info.significant_bits != self.bits:
            raise ImageFileError(
                f"says that it has {info.significant_bits} bits, its camera has {self.bits}",
                remedy="Say the right `bits`",
            )
        if top >= 1 << self.bits:
            raise ImageFileError(
                f"has a pixel of {top}, above the {self.bits} bits of its camera",
                remedy="Say the right `bits`: 16, where the file holds them in its upper bits",
            )


def smallest_bit_depth(value: int) -> int:
    """The smallest of 8, 10, 12, 14, 16 that holds a value."""
    return next(bits for bits in BIT_DEPTHS if value < 1 << bits or bits == BIT_DEPTHS[-1])


def to_8_bits(image: NDArray[np.uint8] | NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """A picture of `bits` shifted down to 8; one of 8 bits as it is.

    Values above `bits` saturate.
    """
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    shifted: NDArray[np.uint8] = np.minimum(image >> (bits - 8), 255).astype(np.uint8)
    return shifted


def load_declaration(folder: Path) -> ReadDeclaration:
    """What `reading.yaml` says in a folder of pictures, or else in the one above.

    Raises:
        DataError: It cannot be read, or has faults; all of them are listed.
    """
    for place in (folder, folder.absolute().parent):
        path = place / DECLARATION_FILE
        if os.path.lexists(path):  # a pipe or a link to nowhere is no declaration, and an error
            return _parse_declaration(path)
    return ReadDeclaration()


def _parse_declaration(path: Path) -> ReadDeclaration:
    where = str(path)
    try:
        root, faults = yaml_document.parse_yaml(yaml_document.read_text(path), where)
        collector = Validator()
        collector.faults.extend(faults)
        found = collector.validate_struct(root, ReadDeclaration, "")
        if collector.faults or found is INVALID:
            raise ConfigError(collector.faults, where=where)
    except ConfigError as error:
        raise DataError(
            "cannot be used: " + "; ".join(map(str, error.faults)),
            where=where,
            remedy="It may hold `bits` and `flat_end`",
        ) from error
    assert isinstance(found, ReadDeclaration)
    return found
