"""From what a camera sends to the line's bytes: scaling, mosaics, orders, and no copy."""

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
    find_format,
)
from edgeinspect.errors import DataError


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@given(st.data())
def test_deep_grey_is_scaled_as_declared(bits: int, data: st.DataObject) -> None:
    top = (1 << bits) - 1
    black = data.draw(st.integers(0, top - 1))
    white = data.draw(st.integers(black + 1, top))
    levels = data.draw(st.lists(st.integers(0, top), min_size=6, max_size=6))
    reader = PixelConverter(
        FORMATS_BY_NAME[f"Mono{bits}"], 2, 3, None, LevelRange(black=black, white=white)
    )
    raw = np.array(levels, "<u2").view(np.uint8)
    out = np.empty(reader.shape, np.uint8)
    assert not reader.is_view
    reader.convert(raw, out)
    wanted = [min(max((level - black) / (white - black), 0), 1) * 255 for level in levels]
    assert np.abs(out.reshape(-1) - np.array(wanted)).max() <= 0.5
    assert set(out.reshape(-1)[np.array(levels) <= black]) <= {0}
    assert set(out.reshape(-1)[np.array(levels) >= white]) <= {255}


def test_deep_grey_without_a_declaration_is_refused() -> None:
    with pytest.raises(DataError, match=r"levels: \{black: 0, white: 4095\}"):
        PixelConverter(FORMATS_BY_NAME["Mono12"], 2, 2, None, None)
    with pytest.raises(DataError, match="not above black"):
        PixelConverter(FORMATS_BY_NAME["Mono12"], 2, 2, None, LevelRange(black=9, white=9))


@pytest.mark.parametrize(("name", "color"), [("Mono8", None), ("BGR8", "bgr"), ("RGB8", "rgb")])
def test_what_fits_is_a_view(name: str, color: str | None) -> None:
    reader = PixelConverter(FORMATS_BY_NAME[name], 2, 3, color, None)  # type: ignore[arg-type]
    raw = np.arange(64, dtype=np.uint8)
    assert reader.is_view
    assert np.shares_memory(reader.view(raw), raw)


@pytest.mark.parametrize(
    "form", [form for form in PIXEL_FORMATS if form.bayer], ids=lambda f: f.name
)
def test_a_red_part_is_red_through_every_mosaic(form) -> None:  # type: ignore[no-untyped-def]
    levels = LevelRange(black=0, white=(1 << form.depth_bits) - 1) if form.depth_bits > 8 else None
    full = (1 << form.depth_bits) - 1
    tile = np.array([full if color == "R" else 0 for color in form.bayer]).reshape(2, 2)
    raw = np.tile(tile, (4, 4)).astype("<u2" if form.depth_bits > 8 else np.uint8)
    out = np.empty((8, 8, 3), np.uint8)
    PixelConverter(form, 8, 8, "bgr", levels).convert(raw.reshape(-1).view(np.uint8), out)
    assert out[4, 4].tolist() == [0, 0, 255]
    PixelConverter(form, 8, 8, "rgb", levels).convert(raw.reshape(-1).view(np.uint8), out)
    assert out[4, 4].tolist() == [255, 0, 0]


def test_older_names_of_the_same_bytes_are_known() -> None:
    assert find_format("BGR8Packed", "C1") is FORMATS_BY_NAME["BGR8"]
    with pytest.raises(DataError, match="Mono12Packed, which cannot be read"):
        find_format("Mono12Packed", "C1")


def test_colour_is_not_invented_and_unknown_formats_are_named() -> None:
    with pytest.raises(DataError, match="no colour"):
        PixelConverter(FORMATS_BY_NAME["Mono8"], 2, 2, "bgr", None)
    with pytest.raises(DataError, match=r"YUV422_8, which cannot be read.*Mono8"):
        find_format("YUV422_8", "C1")
