"""The side buffer: images are stored only while they are requested, completely or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeinspect.storage.shared_memory.side_buffer import (
    REQUEST_TIMEOUT_NS,
    SideBuffer,
    SideBufferReader,
)

NOW_NS = 100 * REQUEST_TIMEOUT_NS


def image(value: int, *dims: int) -> np.ndarray:
    return np.full(dims or (4, 6, 1), value, np.uint8)


def test_nothing_is_stored_unless_it_is_requested(tmp_path: Path) -> None:
    path = tmp_path / "top.aside"
    line = SideBuffer(path)
    assert not line.store(1, image(1), NOW_NS)
    reader = SideBufferReader(path, 2, 64)
    assert not line.store(2, image(2), NOW_NS)
    reader.request(NOW_NS)
    assert line.store(3, image(3), NOW_NS + 1)
    stored = reader.read(3)
    assert stored is not None
    assert np.array_equal(stored, image(3))
    assert reader.read(2) is None
    assert not line.store(4, image(4), NOW_NS + REQUEST_TIMEOUT_NS + 1)
    reader.request(NOW_NS)
    reader.close()
    assert not path.exists()
    assert not line.store(5, image(5), NOW_NS)


def test_other_sizes_fit_and_too_large_ones_do_not(tmp_path: Path) -> None:
    reader = SideBufferReader(tmp_path / "a", 2, 64)
    reader.request(NOW_NS)
    line = SideBuffer(tmp_path / "a")
    assert line.store(1, image(7, 2, 5, 3), NOW_NS)
    assert not line.store(2, image(7, 65, 1, 1), NOW_NS)
    assert not line.store(3, np.zeros((4, 4), np.uint8), NOW_NS)
    assert not line.store(4, np.zeros((0, 4, 1), np.uint8), NOW_NS)
    stored = reader.read(1)
    assert stored is not None
    assert stored.shape == (2, 5, 3)


def test_the_oldest_image_is_overwritten_and_not_mistaken_for_another(tmp_path: Path) -> None:
    reader = SideBufferReader(tmp_path / "a", 2, 64)
    reader.request(NOW_NS)
    line = SideBuffer(tmp_path / "a")
    for seq in (1, 2, 3):
        assert line.store(seq, image(seq), NOW_NS)
    assert reader.read(1) is None
    for seq in (2, 3):
        stored = reader.read(seq)
        assert stored is not None
        assert np.array_equal(stored, image(seq))


def test_a_second_recorder_takes_over_and_a_foreign_file_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a"
    first = SideBufferReader(path, 2, 64)
    first.request(NOW_NS)
    line = SideBuffer(path)
    assert line.store(1, image(1), NOW_NS)
    second = SideBufferReader(path, 2, 64)
    later_ns = NOW_NS + 2 * REQUEST_TIMEOUT_NS
    second.request(later_ns)
    assert line.store(2, image(2), later_ns)
    assert second.read(2) is not None
    path.unlink()
    path.write_bytes(b"nonsense" * 100)
    assert not line.store(3, image(3), later_ns + 2 * REQUEST_TIMEOUT_NS)
