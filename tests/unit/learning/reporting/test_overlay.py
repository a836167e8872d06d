from __future__ import annotations

from base64 import b64decode

import cv2
import numpy as np

from edgeinspect.learning.reporting.overlay import (
    jpeg_data_uri,
    overlay_class_map,
    stretch_contrast,
)


def test_an_overlay_shows_a_single_pixel() -> None:
    image = np.full((256, 1600, 1), 100, np.uint8)
    mask = np.zeros((256, 1600), np.uint8)
    plain = overlay_class_map(image, mask, 1000)
    mask[100, 700] = 3
    marked = overlay_class_map(image, mask, 1000)
    assert marked.shape == (160, 1000, 3)
    rows, columns = np.nonzero((marked != plain).any(axis=2))
    assert rows.size > 8
    assert abs(rows.mean() - 62.5) < 3
    assert abs(columns.mean() - 437.5) < 3


def test_stretching_keeps_the_order_of_gray_levels() -> None:
    dull = np.random.default_rng(1).normal(60, 5, (64, 64, 1)).astype(np.uint8)
    assert stretch_contrast(dull).std() > 2 * dull.std()
    order = np.argsort(dull, axis=None, kind="stable")
    assert (np.diff(stretch_contrast(dull).ravel()[order].astype(int)) >= 0).all()
    full = np.linspace(0, 255, 4096).astype(np.uint8).reshape(64, 64, 1)
    assert stretch_contrast(full) is full
    black = np.zeros((8, 8, 1), np.uint8)
    assert stretch_contrast(black) is black


def test_jpeg_data_uris_decode() -> None:
    image = np.full((20, 30, 3), 77, np.uint8)
    head, _comma, data = jpeg_data_uri(image).partition(",")
    assert head == "data:image/jpeg;base64"
    back = cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert back is not None
    assert np.abs(back.astype(int) - 77).max() < 4
