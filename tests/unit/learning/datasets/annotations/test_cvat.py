"""CVAT's XML for images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import open_dataset

LABELS = "<label><name>pit</name></label><label><name>scar</name></label>"


def xml(*images: str, labels: str = LABELS) -> str:
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    return f"<annotations><version>1.1</version>{meta}{''.join(images)}</annotations>"


def image(index: int, inner: str = "", *, subset: str = "default", size: str = "") -> str:
    size = size or 'width="64" height="40"'
    return f'<image id="{index}" name="p{index}.png" subset="{subset}" {size}>{inner}</image>'


def mask_element(mask: np.ndarray, left: int, top: int) -> str:
    edges = np.flatnonzero(np.diff(mask.ravel(), prepend=False))
    runs = np.diff(edges, prepend=0, append=mask.size)
    height, width = mask.shape
    return (
        f'<mask label="pit" rle="{", ".join(map(str, runs))}" left="{left}" top="{top}" '
        f'width="{width}" height="{height}" z_order="0"></mask>'
    )


def write(make: Any, *images: str, **more: Any) -> None:
    for index in range(len(images)):
        make.write(f"images/p{index}.png")
    make.text("annotations.xml", xml(*images, **more))


def test_polygons_and_masks_give_the_mask(make: Any) -> None:
    mask = make.mask(1) > 0
    corner = np.random.default_rng(0).random((9, 7)) < 0.5
    write(
        make,
        image(0, '<polygon label="pit" points="4.00,8.00;4.00,19.00;11.00,19.00;11.00,8.00"/>'),
        image(1, mask_element(corner, 5, 30)),
        image(2),
    )
    data = open_dataset(make.root)
    assert (data.layout, data.classes, data.has_masks) == ("cvat", ("pit", "scar"), True)
    assert (data.samples[0].read_mask(40, 64) == mask).all()
    assert (data.samples[1].read_mask(40, 64)[30:39, 5:12] == corner).all()
    assert not data.samples[2].is_defective
    assert [sample.split for sample in data.samples] == [None] * 3
    again = open_dataset(make.root / "annotations.xml")
    assert [sample.path for sample in again.samples] == [sample.path for sample in data.samples]


@pytest.mark.parametrize(
    ("element", "pixels"),
    [
        ('<ellipse label="pit" cx="30" cy="20" rx="12" ry="6" rotation="90"/>', np.pi * 72),
        ('<polyline label="pit" points="10,20;50,20"/>', 400),
        ('<points label="pit" points="20,20;40,20"/>', 2 * np.pi * 25),
        ('<mask label="pit" rle="0, 12" left="1" top="1" width="4" height="3"/>', 12),
    ],
)
def test_other_shapes(make: Any, element: str, pixels: float) -> None:
    write(make, image(0, element))
    drawn = open_dataset(make.root).samples[0].read_mask(40, 64).sum()
    assert abs(drawn - pixels) < 0.05 * pixels + 4 * (pixels != 12)


def test_the_topmost_shape_wins(make: Any) -> None:
    first = '<polygon label="pit" z_order="2" points="4,8;4,19;11,19;11,8"/>'
    second = '<polygon label="scar" z_order="1" points="4,8;4,19;30,19;30,8"/>'
    write(make, image(0, first + second))
    mask = open_dataset(make.root).samples[0].read_mask(40, 64)
    assert (mask[10, 6], mask[10, 20]) == (1, 2)


def test_boxes_tags_and_subsets(make: Any) -> None:
    turned = '<box label="pit" xtl="20" ytl="10" xbr="40" ybr="20" rotation="90.0"/>'
    write(
        make,
        image(0, '<box label="pit" xtl="1" ytl="1" xbr="9" ybr="9"/>', subset="Train"),
        image(1, '<tag label="scar" source="manual"></tag>', subset="Validation"),
        image(2, turned, subset="Test"),
    )
    data = open_dataset(make.root)
    assert not data.has_masks
    assert [sample.split for sample in data.samples] == ["train", "val", "test"]
    assert [sample.class_ids for sample in data.samples] == [(1,), (2,), (1,)]
    filled = open_dataset(make.root, draws_boxes=True).samples
    assert filled[2].read_mask(40, 64)[5:25, 25:35].all()
    assert filled[2].read_mask(40, 64).sum() == 200
    assert (filled[1].read_mask(40, 64) == 255).all()  # defective somewhere


def test_good_tags(make: Any) -> None:
    labels = "<label><name>ok</name></label><label><name>crack</name></label>"
    write(make, image(0, '<tag label="ok"/>'), image(1, '<tag label="crack"/>'), labels=labels)
    data = open_dataset(make.root)
    assert data.classes == ("crack",)
    assert [sample.is_defective for sample in data.samples] == [False, True]


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ('<polygon label="rust" points="1,1;2,2;3,1"/>', "label 'rust', which the file does not"),
        ('<polygon label="pit" points="1,1;2,2"/>', "is a polygon of 2 points"),
        ('<polygon label="pit" points="1,1;2;3,1"/>', "points that are not x,y"),
        ('<polygon label="pit" points="1,1;2,nan;3,1"/>', "'nan', not a number"),
        ('<polygon label="pit" points="1,1;2,2;300,1"/>', "polygon 1: is outside of its image"),
        ('<box label="pit" xtl="9" ytl="1" xbr="1" ybr="9"/>', "box of negative size"),
        ('<box label="pit" xtl="9" ytl="1" xbr="10"/>', "ybr is 'missing', not a number"),
        ('<mask label="pit" rle="3, 4" left="1" top="1" width="4" height="3"/>', "7 pixels"),
        ('<mask label="pit" rle="x" left="1" top="1" width="4" height="3"/>', "rle is 'x'"),
        ('<cuboid label="pit"/>', "is a cuboid, which is not supported"),
        ('<ellipse label="pit" cx="9" cy="9" rx="-1" ry="2"/>', "ellipse of negative size"),
    ],
)
def test_faults_are_named_with_the_image(make: Any, inner: str, message: str) -> None:
    write(make, image(0, inner))
    with pytest.raises(DataError, match=rf"annotations\.xml, image p0\.png.*{message}"):
        open_dataset(make.root)


def test_sizes_videos_and_bombs_are_refused(make: Any) -> None:
    write(make, image(0, size='width="640" height="400"'))
    with pytest.raises(DataError, match="states an image of 400 x 640 px"):
        open_dataset(make.root)
    make.text("annotations.xml", xml('<track id="0"></track>', image(0)))
    with pytest.raises(DataError, match="CVAT's format for videos"):
        open_dataset(make.root)
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    make.text("annotations.xml", bomb + xml(image(0, "&b;")))
    with pytest.raises(DataError, match="has a document type or entities"):
        open_dataset(make.root)


@pytest.mark.parametrize("turn", ["", 'rotation="30.0"'])
def test_a_box_without_an_area_is_refused(make: Any, turn: str) -> None:
    """As a click makes it."""
    box = f'<box label="pit" {turn} xtl="9.00" ytl="5.00" xbr="9.00" ybr="20.00"/>'
    write(make, image(0, box), image(1))
    with pytest.raises(DataError, match=r"p0\.png.* has a box without an area"):
        open_dataset(make.root)
