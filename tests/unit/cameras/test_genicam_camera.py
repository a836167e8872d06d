"""What every GenICam camera does, on a device that follows a script."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.cameras._genicam.camera import GenicamCamera
from edgeinspect.cameras._genicam.device import DeviceBuffer, FeatureValue, StreamStatistics
from edgeinspect.cameras._genicam.options import GenicamOptions
from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.frame import ClockSource, Grab, Part
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.errors import CameraLostError, DataError, UsageError


class ScriptedDevice:
    """Features in a table; deliveries from a list."""

    where = "C1"
    frame_id_max = 65_535

    def __init__(self, clock: ManualClock, **features: FeatureValue) -> None:
        self.clock = clock
        self.features: dict[str, FeatureValue] = {
            "PixelFormat": "Mono8",
            "Width": 4,
            "Height": 2,
            "AcquisitionFrameRate": 50.0,
            "TriggerMode": "Off",
            **features,
        }
        self.limits: dict[str, FeatureValue] = {}
        self.pending: deque[DeviceBuffer] = deque()
        self.requeued: list[object] = []
        self.written: list[str] = []
        self.is_gone = False

    def connect(self) -> None:
        self.is_gone = False

    def read(self, feature: str) -> FeatureValue | None:
        return self.features.get(feature)

    def write(self, feature: str, value: FeatureValue) -> None:
        if feature == "ReadOnly":
            raise ValueError("it cannot be written")
        self.written.append(feature)
        self.features[feature] = self.limits.get(feature, value)

    def execute(self, command: str) -> None: ...

    def start(self) -> None: ...

    def fetch_buffer(self, timeout_ns: int) -> DeviceBuffer | None:
        if self.is_gone:
            raise CameraLostError("gone", where=self.where)
        if self.pending:
            return self.pending.popleft()
        self.clock.advance(timeout_ns)
        return None

    def requeue_buffer(self, token: object) -> None:
        self.requeued.append(token)

    def stream_statistics(self) -> StreamStatistics:
        return StreamStatistics(resends=3)

    def close(self) -> None: ...

    def send(
        self, frame_id: int, *, is_complete: bool = True, device_ns: int | None = None
    ) -> None:
        self.pending.append(
            DeviceBuffer(
                token=frame_id,
                frame_id=frame_id,
                arrived_at_ns=self.clock.now_ns(),
                device_ns=device_ns,
                data=np.arange(8, dtype=np.uint8) if is_complete else None,
                height_px=2,
                width_px=4,
                pixel_format="Mono8",
                problem="" if is_complete else "incomplete",
            )
        )


def camera(options: dict[str, Any] | None = None, **features: FeatureValue) -> tuple[Any, Any]:
    clock = ManualClock()
    device = ScriptedDevice(clock, **features)
    made = GenicamCamera(device, msgspec.convert(options or {}, GenicamOptions), clock)
    return made, device


def drain(made: GenicamCamera) -> list[Grab]:
    out = []
    while (got := made.grab(NS_PER_MS)) is not None:
        out.append(got)
        made.release(got)
    return out


@given(
    st.integers(1, 70_000),
    st.lists(
        st.sampled_from(["complete", "incomplete", "missing", "twice"]), min_size=1, max_size=80
    ),
)
def test_each_frame_that_the_camera_counts_is_one_grab(first: int, fate: list[str]) -> None:
    """Includes the wrap of a 16-bit counter that skips zero."""
    made, device = camera()
    made.open()
    wire = [(first + number - 1) % 65_535 + 1 for number in range(len(fate) + 2)]
    device.send(wire[0])
    for frame_id, what in zip(wire[1:], fate, strict=False):
        if what != "missing":
            device.send(frame_id, is_complete=what != "incomplete")
        if what == "twice":
            device.send(frame_id)
    device.send(wire[-1])
    grabs = drain(made)
    ids = [grab.camera_frame_id for grab in grabs]
    assert ids == list(range(ids[0], ids[0] + len(wire)))
    assert [grab.lost for grab in grabs[1:-1]] == [
        what in ("incomplete", "missing") for what in fate
    ]
    counts = made.counts
    assert counts.frames + counts.incomplete + counts.missing == len(wire)
    assert counts.late == fate.count("twice")
    assert counts.resends == 3
    assert len(device.requeued) == len(wire) - fate.count("missing") + fate.count("twice")


def test_the_clock_source_is_reported() -> None:
    for features, options, stamp_ns, expected in (
        ({}, {}, 5, ClockSource.CAMERA),
        ({"PtpStatus": "Slave"}, {}, 5, ClockSource.PTP),
        ({"GevIEEE1588Status": "Slave"}, {}, 5, ClockSource.PTP),
        ({"PtpStatus": "Listening"}, {}, 5, ClockSource.CAMERA),
        ({"PtpStatus": "Slave"}, {"clock": "host"}, 5, ClockSource.HOST),
        ({"PtpStatus": "Slave"}, {}, None, ClockSource.HOST),
    ):
        made, device = camera(options, **features)
        made.open()
        device.send(1, device_ns=stamp_ns)
        assert drain(made)[0].clock_source is expected, features


def test_settings_are_written_in_order_and_read_back() -> None:
    options = {
        "Width": 4,
        "Height": 2,
        "OffsetX": 8,
        "ExposureTime": 1000.0,
        "Gain": 3,
        "features": {"BinningHorizontal": 2},
    }
    made, device = camera(
        options,
        OffsetX=0,
        OffsetY=0,
        ExposureTimeAbs=50.0,
        ExposureAuto="Continuous",
        Gain=0,
        BinningHorizontal=1,
    )
    made.open()
    assert device.written == [
        "BinningHorizontal",
        "OffsetX",
        "ExposureAuto",
        "ExposureTimeAbs",
        "Gain",
    ]
    device.limits = {"Gain": 2, "ExposureTimeAbs": 900.0}
    device.features |= {"Gain": 0, "ExposureTimeAbs": 1.0}
    with pytest.raises(DataError, match=r"ExposureTimeAbs: 1000 .* 900; Gain: 3 .* has 2"):
        made.open()


@pytest.mark.parametrize("word", ["On", True])
def test_on_and_off_of_yaml_are_converted_back(word: str | bool) -> None:
    options = {"TriggerMode": word, "TriggerSource": "Software", "features": {"LineMode": False}}
    made, device = camera(options, TriggerSource="Line0", LineMode="On")
    made.open()
    assert device.features["TriggerMode"] == "On"
    assert device.features["LineMode"] == "Off"
    assert made.period_ns is None
    made.close()


def test_a_read_only_feature_is_compared() -> None:
    made, _device = camera({"features": {"ReadOnly": 7}}, ReadOnly=7)
    made.open()
    made, _device = camera({"features": {"ReadOnly": 7}}, ReadOnly=8)
    with pytest.raises(DataError, match="cannot be written"):
        made.open()


def test_a_free_running_camera_accepts_no_trigger() -> None:
    made, _device = camera()
    made.open()
    with pytest.raises(UsageError, match="not triggered by software"):
        made.trigger(None)
    assert made.period_ns == 20 * NS_PER_MS


def test_a_changed_size_is_detected() -> None:
    made, device = camera()
    made.open()
    device.features["Width"] = 2
    device.send(1)
    device.pending[-1] = replace(device.pending[-1], width_px=2)
    (grab,) = drain(made)
    assert grab.lost
    assert "settings were changed" in grab.problem


def test_the_temperature_is_read_if_available() -> None:
    made, device = camera(DeviceTemperature=41.5)
    made.open()
    assert made.read_temperature() == 41.5
    device.features["DeviceTemperature"] = 43.0
    made.read_temperature()
    assert made.counts.temperature_c == 43.0
    made, _device = camera()
    made.open()
    assert made.read_temperature() is None


SOFTWARE = {"TriggerMode": "On", "TriggerSource": "Software"}


def triggered(take_time: Any = lambda clock: None, *, stamped: bool = False) -> tuple[Any, Any]:
    """Return a camera whose trigger command takes time, and delivers a frame."""
    made, device = camera(SOFTWARE | {"trigger_timeout_ms": 5000.0}, **SOFTWARE)
    sent: list[str] = []

    def execute(command: str) -> None:
        take_time(device.clock)
        sent.append(command)
        device.send(len(sent), device_ns=device.clock.now_ns() if stamped else None)

    device.execute = execute
    device.sent = sent
    made.open()
    return made, device


def expiring_part(device: Any, ms: int) -> Part:
    return Part("plate", expires_at_ns=device.clock.now_ns() + ms * NS_PER_MS)


def grab_within_deadline(made: GenicamCamera) -> Grab:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        got = made.grab(0)
        if got is not None:
            return got
    raise AssertionError("no grab")


def test_a_trigger_in_time_delivers_a_frame_with_its_part() -> None:
    made, device = triggered()
    made.trigger(expiring_part(device, 100))
    grab = grab_within_deadline(made)
    assert (grab.part.part_id, grab.lost) == ("plate", False)


def test_an_expired_trigger_is_not_sent() -> None:
    """As after a SIGSTOP before the command is sent."""
    made, device = triggered()
    part = expiring_part(device, 100)
    device.clock.advance(101 * NS_PER_MS)
    made.trigger(part)
    grab = grab_within_deadline(made)
    assert (grab.part, grab.lost, grab.pixels) == (part, True, None)
    assert "expired" in grab.problem
    assert device.sent == []
    made.trigger(expiring_part(device, 100))  # the frame counter is not affected
    assert not grab_within_deadline(made).lost


@pytest.mark.parametrize("stamped", [False, True])
def test_a_frame_after_a_slow_trigger_command_is_lost(stamped: bool) -> None:
    """After retries of several seconds, the part that the frame shows is unknown."""
    made, device = triggered(lambda clock: clock.advance(3000 * NS_PER_MS), stamped=stamped)
    made.trigger(expiring_part(device, 100))
    grab = grab_within_deadline(made)
    assert (grab.part.part_id, grab.lost, grab.pixels) == ("plate", True, None)


def test_a_frame_that_arrives_late_keeps_its_part() -> None:
    made, device = triggered()
    made.trigger(expiring_part(device, 100))
    wait_until(lambda: device.sent and not made._trigger_sender._queue)
    part = expiring_part(device, 100)
    made.grab(0)
    made.trigger(part)
    wait_until(lambda: len(device.sent) == 2 and made._triggers._pending[-1].is_sent)
    late = replace(device.pending.pop(), arrived_at_ns=device.clock.now_ns() + 500 * NS_PER_MS)
    device.pending.append(late)
    assert not grab_within_deadline(made).lost


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
