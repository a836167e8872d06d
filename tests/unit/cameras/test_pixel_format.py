"""Conversion of camera buffers: scaling, mosaics, colour orders, and views without a copy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.cameras._genicam.pixel_format import (
    FORMATS_BY_NAME,
    PIXEL_FORMATS,
    LevelRange,
    PixelConverter,
    PixelFormat,
    find_format,
)
from edgeinspect.errors import DataError


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@given(st.data())
def test_levels_are_scaled_as_configured(bits: int, data: st.DataObject) -> None:
    top = (1 << bits) - 1
    black = data.draw(st.integers(0, top - 1))
    white = data.draw(st.integers(black + 1, top))
    levels = data.draw(st.lists(st.integers(0, top), min_size=6, max_size=6))
    converter = PixelConverter(
        FORMATS_BY_NAME[f"Mono{bits}"], 2, 3, None, LevelRange(black=black, white=white)
    )
    raw = np.array(levels, "<u2").view(np.uint8)
    out = np.empty(converter.shape, np.uint8)
    assert not converter.is_view
    converter.convert(raw, out)
    expected = [min(max((level - black) / (white - black), 0), 1) * 255 for level in levels]
    assert np.abs(out.reshape(-1) - np.array(expected)).max() <= 0.5
    assert set(out.reshape(-1)[np.array(levels) <= black]) <= {0}
    assert set(out.reshape(-1)[np.array(levels) >= white]) <= {255}


def test_more_than_8_bits_require_levels() -> None:
    with pytest.raises(DataError, match=r"levels: \{black: 0, white: 4095\}"):
        PixelConverter(FORMATS_BY_NAME["Mono12"], 2, 2, None, None)
    with pytest.raises(DataError, match="not above black"):
        PixelConverter(FORMATS_BY_NAME["Mono12"], 2, 2, None, LevelRange(black=9, white=9))


@pytest.mark.parametrize(("name", "color"), [("Mono8", None), ("BGR8", "bgr"), ("RGB8", "rgb")])
def test_a_matching_format_is_a_view(name: str, color: str | None) -> None:
    converter = PixelConverter(FORMATS_BY_NAME[name], 2, 3, color, None)  # type: ignore[arg-type]
    raw = np.arange(64, dtype=np.uint8)
    assert converter.is_view
    assert np.shares_memory(converter.view(raw), raw)


@pytest.mark.parametrize(
    "pixel_format",
    [pixel_format for pixel_format in PIXEL_FORMATS if pixel_format.bayer_pattern],
    ids=lambda f: f.name,
)
def test_red_is_red_in_every_mosaic(pixel_format: PixelFormat) -> None:
    levels = (
        LevelRange(black=0, white=(1 << pixel_format.depth_bits) - 1)
        if pixel_format.depth_bits > 8
        else None
    )
    full = (1 << pixel_format.depth_bits) - 1
    tile = np.array([full if color == "R" else 0 for color in pixel_format.bayer_pattern]).reshape(
        2, 2
    )
    raw = np.tile(tile, (4, 4)).astype("<u2" if pixel_format.depth_bits > 8 else np.uint8)
    out = np.empty((8, 8, 3), np.uint8)
    PixelConverter(pixel_format, 8, 8, "bgr", levels).convert(raw.reshape(-1).view(np.uint8), out)
    assert out[4, 4].tolist() == [0, 0, 255]
    PixelConverter(pixel_format, 8, 8, "rgb", levels).convert(raw.reshape(-1).view(np.uint8), out)
    assert out[4, 4].tolist() == [255, 0, 0]


def test_legacy_names_are_known() -> None:
    assert find_format("BGR8Packed", "C1") is FORMATS_BY_NAME["BGR8"]
    with pytest.raises(DataError, match="Mono12Packed, which is not supported"):
        find_format("Mono12Packed", "C1")


def test_grey_to_colour_and_unknown_formats_are_refused() -> None:
    with pytest.raises(DataError, match="no colour"):
        PixelConverter(FORMATS_BY_NAME["Mono8"], 2, 2, "bgr", None)
    with pytest.raises(DataError, match=r"YUV422_8, which is not supported.*Mono8"):
        find_format("YUV422_8", "C1")
