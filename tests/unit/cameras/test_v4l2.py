"""V4L2 controls are written in order, read back and compared."""

from __future__ import annotations

from typing import Any

import cv2
import msgspec
import pytest

from edgeinspect.cameras.v4l2 import CONTROLS, Options, set_controls
from edgeinspect.errors import DataError


class FakeCapture:
    """A capture that limits its controls."""

    def __init__(self, **limits: float) -> None:
        self.values: dict[int, float] = {}
        self.limits = {CONTROLS.get(name, -1): value for name, value in limits.items()}

    def set(self, code: int, value: float) -> bool:
        self.values[code] = min(value, self.limits.get(code, value))
        return True

    def get(self, code: int) -> float:
        return self.values.get(code, 0.0)


def options(**more: Any) -> Options:
    return msgspec.convert(more, Options)


def test_configured_values_are_written_in_order() -> None:
    capture = FakeCapture()
    configured = options(
        width_px=640,
        height_px=480,
        fourcc="GREY",
        rate_hz=30,
        controls={"auto_exposure": 1, "exposure": 157},
    )
    set_controls(capture, configured)  # type: ignore[arg-type]
    assert list(capture.values) == [
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
        cv2.CAP_PROP_AUTO_EXPOSURE,
        cv2.CAP_PROP_EXPOSURE,
    ]


def test_differences_are_reported_with_both_values() -> None:
    capture = FakeCapture(exposure=100, gain=5)
    with pytest.raises(DataError, match=r"exposure: 157 .* 100; gain: 9 .* has 5"):
        set_controls(capture, options(controls={"exposure": 157, "gain": 9}))  # type: ignore[arg-type]


def test_an_unknown_control_is_refused() -> None:
    with pytest.raises(DataError, match="unknown control exposur"):
        set_controls(FakeCapture(), options(controls={"exposur": 1}))  # type: ignore[arg-type]
