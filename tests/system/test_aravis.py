"""A complete line with a GigE Vision camera on sockets: rate, losses, reconnection, triggers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from edgeinspect.cameras import aravis
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, SystemClock
from edgeinspect.domain.frame import Grab, Part
from edgeinspect.domain.verdict import Decision, Reason
from edgeinspect.errors import CameraLostError, DataError
from edgeinspect.ports import Camera
from edgeinspect.wire.requests import CommandResult, TriggerRequest, decode_reply, encode_body
from tests.fake_camera import DEVICE, fake_camera
from tests.faults.harness import SHAPE, RunningLine, wait_for

TRIGGERS = int(os.environ.get("EDGEINSPECT_TRIGGERS", "60"))
RATE_HZ = 50
TIMEOUT_MS = 200
"""Default of `capture.timeout_ms`."""


def make(**more: Any) -> Camera:
    options = {
        "device": DEVICE,
        "Width": SHAPE.width_px,
        "Height": SHAPE.height_px,
        "packet_resend": False,  # not supported by the fake camera
        "AcquisitionFrameRate": 100,
    }
    return aravis.build(msgspec.convert(options | more, aravis.Options), SystemClock())


def software(**more: Any) -> Camera:
    return make(TriggerMode="On", TriggerSource="Software", AcquisitionFrameRate=1000, **more)


def test_rate_is_kept_and_every_frame_has_a_verdict(tmp_path: Path) -> None:
    """Uses the camera's time stamps, as the fake camera is late on a busy machine."""
    with fake_camera():
        rig = RunningLine(tmp_path, camera=make(AcquisitionFrameRate=RATE_HZ), budget_ms=5000)
        rig.line.start()
        wait_for(lambda: len(rig.verdicts) >= 3 * RATE_HZ)
        counts = rig.stop()
    ids = [verdict.camera_frame_id for verdict in rig.verdicts]
    assert ids == list(range(ids[0], ids[0] + len(ids))), (
        "each frame that the camera counted has a verdict"
    )
    inspected = [verdict for verdict in rig.verdicts if verdict.decision is not Decision.NO_VERDICT]
    assert {verdict.clock_source for verdict in inspected} == {"camera"}
    stamps_ns = [verdict.captured_at_utc_ns for verdict in rig.verdicts]
    rate_hz = (len(ids) - 1) * NS_PER_S / (stamps_ns[-1] - stamps_ns[0])
    assert 0.5 * RATE_HZ <= rate_hz <= 1.1 * RATE_HZ, rate_hz
    # A busy machine may lose some frames, but not most.
    assert counts.passed + counts.reject >= 0.5 * counts.captured
    assert not rig.failures


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_dead_camera_is_detected_and_reconnected(tmp_path: Path, how: str) -> None:
    with fake_camera() as peer:
        capture = "{reconnect: {attempts: 0, first_ms: 50, max_ms: 200}}"
        rig = RunningLine(tmp_path, camera=make(), budget_ms=500, capture=capture)
        (camera,) = rig.line.capture_threads
        rig.line.start()
        wait_for(lambda: len(rig.verdicts) >= 30)
        died = time.monotonic()
        peer.kill() if how == "kill" else peer.signal(signal.SIGSTOP)
        wait_for(lambda: camera.state == "lost")
        assert time.monotonic() - died < 4, "the library reports it after 5 s"
        waited_ms = (
            camera.grab_monitor._silence_monitor.silence_ns / NS_PER_MS
        )  # however busy the machine is
        assert TIMEOUT_MS <= waited_ms < TIMEOUT_MS + 120, waited_ms
        assert rig.line.alarms.check() == (False, "camera top is lost")
        peer.start() if how == "kill" else peer.signal(signal.SIGCONT)
        wait_for(lambda: camera.state == "live", 45)
        seen = len(rig.verdicts)
        wait_for(lambda: len(rig.verdicts) > seen + 20)
        rig.stop()
    assert not rig.failures


def test_each_lost_or_incomplete_frame_is_a_verdict(tmp_path: Path) -> None:
    """Four packets per frame, 2 % lost; the ids show which frames the camera sent."""
    with fake_camera(lost_per_thousand=20):
        camera = make()
        rig = RunningLine(tmp_path, camera=camera, budget_ms=500)
        rig.line.start()
        wait_for(lambda: len(rig.verdicts) >= 300)
        counts = rig.stop()
    ids = [verdict.camera_frame_id for verdict in rig.verdicts]
    assert sorted(ids) == list(range(min(ids), max(ids) + 1)), (
        "each frame that the camera sent, once"
    )
    lost = [verdict for verdict in rig.verdicts if verdict.reason is Reason.CAPTURE_LOST]
    assert all(verdict.decision is Decision.NO_VERDICT for verdict in lost)
    assert len(lost) == counts.reasons["capture_lost"] >= 5
    own = camera.counts
    assert own.frames + own.incomplete + own.missing >= len(ids)
    assert own.incomplete + own.missing >= len(lost) > 0
    assert own.copied_bytes == 0


@pytest.mark.parametrize("lost_per_thousand", [0, 40])
def test_triggers_and_parts_match(tmp_path: Path, lost_per_thousand: int) -> None:
    """The camera counts each trigger, so its frame id identifies the part independently."""
    triggers = TRIGGERS
    with fake_camera(lost_per_thousand):
        rig = RunningLine(tmp_path, camera=software(trigger_timeout_ms=300), budget_ms=500)
        rig.line.start()
        wait_for(lambda: rig.line.capture_threads[0].state == "live")
        with trigger_socket(rig.line.replay_server.address) as ask:
            seqs = []
            for index in range(triggers):
                seqs.append(
                    ask(
                        TriggerRequest(camera="top", part_id=str(index), encoder_count=10 * index)
                    ).seq
                )
                wait_for(lambda done=index: len(rig.verdicts) > done)
        rig.stop()
    assert [verdict.part_id for verdict in rig.verdicts] == [
        str(index) for index in range(triggers)
    ]
    pairs = list(zip(seqs, rig.verdicts, strict=True))
    assert all(seq in (None, verdict.seq) for seq, verdict in pairs), "the seq of its verdict"
    assert seqs.count(None) <= triggers // 4  # a machine stalled for 400 ms
    inspected = [v for v in rig.verdicts if v.reason is not Reason.CAPTURE_LOST]
    offsets = {v.camera_frame_id - int(v.part_id or -1) for v in inspected}
    assert len(offsets) == 1, "parts and frames do not match"
    assert all(v.encoder_count == 10 * int(v.part_id or -1) for v in rig.verdicts)
    assert (len(inspected) == triggers) == (lost_per_thousand == 0)


def test_triggers_of_a_dead_camera_are_lost() -> None:
    with fake_camera() as peer:
        camera = software()
        camera.open()
        camera.trigger(Part("before"))
        got = take(camera)
        assert got.part == Part("before")
        camera.release(got)
        peer.signal(signal.SIGSTOP)
        started = time.monotonic()
        for name in ("a", "b", "c"):
            camera.trigger(Part(name))
        assert time.monotonic() - started < 1.0, "a trigger does not wait for the camera"
        lost = [take(camera) for _ in range(3)]
        assert time.monotonic() - started < 4.0, "the library reports it after 5 s"
        assert [(one.part.part_id, one.lost) for one in lost] == [
            ("a", True),
            ("b", True),
            ("c", True),
        ]
        with pytest.raises(CameraLostError, match="3 triggers in a row"):
            take(camera)
        with pytest.raises(CameraLostError):
            camera.trigger(Part("d"))
        started = time.monotonic()
        camera.close()
        assert time.monotonic() - started < 2.0, "a dead camera must not block the thread"
        peer.signal(signal.SIGCONT)


@contextmanager
def trigger_socket(address: str) -> Iterator[Callable[[TriggerRequest], CommandResult]]:
    """Return a function that sends triggers over a REQ socket."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.REQ)
    socket.rcvtimeo = 10_000
    socket.connect(address)

    def ask(request: TriggerRequest) -> CommandResult:
        socket.send(encode_body(request))
        answer = decode_reply(socket.recv())
        assert isinstance(answer, CommandResult)
        assert answer.accepted, answer.problem
        return answer

    try:
        yield ask
    finally:
        context.destroy(0)


def take(camera: Camera) -> Grab:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        got = camera.grab(50 * NS_PER_MS)
        if got is not None:
            return got
    raise AssertionError("no frame came")


def test_a_frame_is_the_receiving_buffer_until_released() -> None:
    with fake_camera():
        camera = make(buffers=4)
        camera.open()
        addresses = set()
        for _ in range(30):
            got = take(camera)
            assert got.pixels is not None
            assert not got.pixels.flags.owndata
            addresses.add(got.pixels.ctypes.data)
            camera.release(got)
        held = take(camera)
        camera.close()
        assert held.pixels is not None
        assert held.pixels.sum() >= 0  # stale, but valid memory
        camera.release(held)
    assert len(addresses) <= 4
    assert camera.counts.copied_bytes == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ExposureTime": 5}, "ExposureTimeAbs: 5 is refused .it has 10000"),
        ({"PixelFormat": "Mono12"}, "Mono12 is refused"),
        ({"PixelFormat": "Mono16"}, "GV01: sends Mono16.*white: 65535"),
        ({"features": {"Foo": 1}}, "has no feature Foo"),
        ({"features": {"DeviceModelName": "X1"}}, "DeviceModelName: X1 is refused .it has Fake"),
        ({"TriggerMode": "On", "TriggerSource": "Line7"}, "Line7 is refused"),
        ({"color": "bgr"}, "Mono8, which has no colour"),
    ],
)
def test_refused_settings_are_reported(options: dict[str, Any], message: str) -> None:
    with fake_camera():
        camera = make(**options)
        with pytest.raises(DataError, match=message):
            camera.open()
        camera = make(PixelFormat="Mono8", ExposureTime=1234.4, features={"GainRaw": 3}, OffsetX=8)
        camera.open()
        camera.close()


def test_colour_and_bit_depth(tmp_path: Path) -> None:
    with fake_camera():
        for pixel_format, more, channels in (
            ("RGB8", {"color": "rgb"}, 3),
            ("RGB8", {}, 3),
            ("BayerRG8", {}, 3),
            ("BayerRG8", {"color": "mono"}, 1),
            ("Mono16", {"levels": {"black": 0, "white": 65_535}}, 1),
        ):
            camera = make(PixelFormat=pixel_format, **more)
            camera.open()
            got = take(camera)
            assert got.pixels is not None
            assert got.pixels.shape == (SHAPE.height_px, SHAPE.width_px, channels)
            camera.release(got)
            camera.close()
            copied = camera.counts.copied_bytes
            assert (copied == 0) == (more == {"color": "rgb"})


def test_no_thread_remains(tmp_path: Path) -> None:
    with fake_camera():
        before = threading.active_count()
        for _ in range(3):
            camera = software()
            camera.open()
            camera.close()
        wait_for(lambda: threading.active_count() <= before + 1)  # the thread that closes a camera
