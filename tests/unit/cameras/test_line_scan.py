"""Line-scan: every row is in its frames, and lost rows keep their positions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.cameras._genicam.line_scan import LineScanCamera, LineScanOptions
from edgeinspect.domain.frame import Grab
from edgeinspect.ports import CameraFinished
from edgeinspect.testing.doubles import ScriptedCamera

WIDTH = 3


@given(
    st.integers(2, 12),
    st.data(),
    st.integers(1, 9),
    st.lists(st.sampled_from(["complete", "incomplete", "missing"]), min_size=2, max_size=30),
)
def test_rows_keep_their_positions(
    height_px: int, data: st.DataObject, block_px: int, fates: list[str]
) -> None:
    overlap_px = data.draw(st.integers(0, height_px - 1))
    fates[0] = fates[-1] = "complete"
    grabs: list[Grab | Exception | None] = []
    lost_rows: set[int] = set()
    for number, fate in enumerate(fates):
        rows = range(number * block_px, (number + 1) * block_px)
        lost_rows |= set(rows) if fate != "complete" else set()
        if fate == "missing":
            continue
        image = np.repeat(np.array([row % 251 for row in rows], np.uint8), WIDTH)
        pixels = image.reshape(block_px, WIDTH, 1) if fate == "complete" else None
        grabs.append(Grab(pixels, number + 1, 1000 * number, lost=fate == "incomplete"))
    source = ScriptedCamera(grabs, period_ns=100)
    camera = LineScanCamera(source, LineScanOptions(height_px=height_px, overlap_px=overlap_px))
    camera.open()
    frames = []
    try:
        while True:
            got = camera.grab(0)
            if got is not None:
                frames.append((got, None if got.pixels is None else got.pixels[:, 0, 0].copy()))
                camera.release(got)
    except CameraFinished:
        pass
    step = height_px - overlap_px
    total = len(fates) * block_px
    assert len(frames) == max(0, (total - height_px) // step + 1)
    for index, (got, pixel_rows) in enumerate(frames):
        rows = range(index * step, index * step + height_px)
        assert got.camera_frame_id == index + 1
        if lost_rows & set(rows):
            assert pixel_rows is None
            assert got.lost
        else:
            assert pixel_rows is not None
            assert pixel_rows.tolist() == [row % 251 for row in rows]
    assert source.leased_count == 0, "each block is released"
