"""The capture thread: every image, and every frame that is missing, opens a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeinspect.domain.camera import CameraCounts
from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.frame import Grab, Part, challenge_part
from edgeinspect.domain.verdict import Reason, Verdict
from edgeinspect.errors import CameraLostError, DataError
from edgeinspect.pipeline.capture.camera_thread import CaptureThread
from edgeinspect.pipeline.capture.image_checks import ImageLimits
from edgeinspect.pipeline.verdicts.open_frames import SlotOwner
from edgeinspect.ports import Camera
from edgeinspect.testing.doubles import ScriptedCamera
from tests.flow.line_harness import SHAPE, LineHarness

Script = Sequence[Grab | Exception | None]
LOST = CameraLostError("unplugged")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., LineHarness]]:
    made: list[LineHarness] = []

    def make(**settings: Any) -> LineHarness:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(LineHarness(folder, **settings))
        return made[-1]

    yield make
    for harness in made:
        harness.close()


@pytest.fixture
def harness(make: Callable[..., LineHarness]) -> LineHarness:
    return make()


def thread_of(
    harness: LineHarness, camera: Camera, ended: list[CaptureThread] | None = None, **rules: Any
) -> CaptureThread:
    """Return a capture thread of another camera or with other rules."""
    return CaptureThread(
        camera=camera,
        ring=harness.ring,
        rules=replace(harness.capture.rules, **rules),
        frame_queue=harness.frame_queue,
        guard=harness.guard,
        closer=harness.closer,
        clock=harness.clock,
        on_end=(lambda thread: None) if ended is None else ended.append,
    )


def frame(harness: LineHarness, frame_id: int, **fields: Any) -> Grab:
    return replace(harness.grab(), camera_frame_id=frame_id, **fields)


def verdicts(harness: LineHarness) -> list[Verdict | None]:
    return [harness.verdict(seq) for seq in range(1, harness.spool.last_seq + 1)]


def reasons(harness: LineHarness) -> list[Reason | None]:
    return [verdict and verdict.reason for verdict in verdicts(harness)]


# -- the thread ----------------------------------------------------------------------------


def test_it_ends_with_its_camera_and_releases_every_grab(harness: LineHarness) -> None:
    camera = ScriptedCamera([frame(harness, 1), None, frame(harness, 2)])
    ended: list[CaptureThread] = []
    thread = thread_of(harness, camera, ended)
    thread.run()
    assert (thread.state, thread.error, ended) == ("finished", None, [thread])
    assert (camera.open_count, camera.leased_count) == (1, 0)
    assert (thread.frame_count, len(harness.frame_queue)) == (2, 2)
    assert thread.counts == CameraCounts(frames=2)


def test_a_lost_camera_is_retried_with_longer_pauses_and_then_given_up(
    harness: LineHarness,
) -> None:
    ended: list[CaptureThread] = []
    thread = thread_of(harness, ScriptedCamera([LOST] * 9), ended, attempts_max=6)
    began_ns = harness.clock.now_ns()
    thread.run()
    assert (thread.state, thread.error, ended) == ("lost", LOST, [thread])
    pauses_ms = (1, 2, 4, 8, 10, 10)  # doubled, up to `max_pause_ns`
    assert harness.clock.now_ns() - began_ns == sum(pauses_ms) * NS_PER_MS


def test_a_frame_resets_the_number_of_losses(harness: LineHarness) -> None:
    script: list[Grab | Exception | None] = []
    for index in range(5):
        script += [LOST, LOST, frame(harness, index + 1)]
    camera = ScriptedCamera(script)
    thread = thread_of(harness, camera, attempts_max=2)
    thread.run()
    assert (thread.state, thread.frame_count, camera.open_count) == ("finished", 5, 11)


@pytest.mark.parametrize("has_delivered", [False, True])
def test_unusable_data_is_an_error_only_at_the_start(
    harness: LineHarness, has_delivered: bool
) -> None:
    class Reopened(ScriptedCamera):
        def open(self) -> None:
            super().open()
            if not has_delivered or self.open_count > 1:
                raise DataError("holds no image")

    thread = thread_of(harness, Reopened([frame(harness, 1), LOST]), attempts_max=2)
    if has_delivered:
        thread.run()
        assert thread.state == "lost"
        assert str(thread.error) == "holds no image"
    else:
        with pytest.raises(DataError):
            thread.run()


def test_a_stop_ends_it_while_it_retries_and_while_it_captures(harness: LineHarness) -> None:
    for script in ([LOST] * 100, [None] * 100):
        camera = ScriptedCamera(script)
        thread = thread_of(harness, camera, attempts_max=0)
        camera.close = thread.stop  # type: ignore[method-assign]
        if script[0] is None:
            thread.stop()
        thread.run()
        assert thread.state in ("lost", "stopped")


def test_progress_counts_every_wait_for_the_camera(harness: LineHarness) -> None:
    thread = thread_of(harness, ScriptedCamera([None, None, frame(harness, 1)]))
    thread.run()
    assert thread.progress_count == 4


# -- frames that are missing ---------------------------------------------------------------


def test_a_step_of_the_frame_counter_opens_the_missing_frames(harness: LineHarness) -> None:
    thread = thread_of(harness, ScriptedCamera([frame(harness, 4), frame(harness, 7)]))
    thread.run()
    assert reasons(harness) == [None, Reason.CAPTURE_LOST, Reason.CAPTURE_LOST, None]
    lost = verdicts(harness)[1]
    assert lost is not None
    assert (lost.camera_frame_id, lost.detail) == (5, "counted by the camera, not received")
    assert thread.counts == CameraCounts(frames=2, missing=2)


def test_a_reopened_camera_may_count_from_the_beginning(harness: LineHarness) -> None:
    thread = thread_of(harness, ScriptedCamera([frame(harness, 4), LOST, frame(harness, 900)]))
    thread.run()
    assert reasons(harness) == [None, None]


class ReportingCamera(ScriptedCamera):
    """Reports lost frames itself, and counts."""

    reports_lost_frames = True
    temperature_reads = 0

    @property
    def counts(self) -> CameraCounts:
        return CameraCounts(frames=40, resends=2)

    def read_temperature(self) -> float | None:
        self.temperature_reads += 1
        raise CameraLostError("no answer")


def test_a_camera_that_reports_losses_is_trusted(harness: LineHarness) -> None:
    lost = Grab(None, 5, harness.clock.now_ns(), problem="2 packets are missing", lost=True)
    thread = thread_of(harness, ReportingCamera([frame(harness, 4), lost, frame(harness, 9)]))
    thread.run()
    assert reasons(harness) == [None, Reason.CAPTURE_LOST, None]
    assert thread.counts == CameraCounts(frames=40, resends=2), "its own counters"


def test_the_temperature_is_read_while_the_camera_delivers(harness: LineHarness) -> None:
    camera = ReportingCamera([])
    thread = thread_of(harness, camera)
    thread.read_temperature()
    assert camera.temperature_reads == 0
    thread.state = "live"
    thread.read_temperature()
    assert camera.temperature_reads == 1, "its error is that of the next grab"
    thread_of(harness, ScriptedCamera([])).read_temperature()


# -- one frame -----------------------------------------------------------------------------


def test_an_accepted_frame_waits_with_a_copy_of_its_pixels(harness: LineHarness) -> None:
    grab = harness.grab(7)
    assert grab.pixels is not None
    accepted = harness.capture.accept(grab)
    grab.pixels[:] = 99
    assert accepted.slot_owner is SlotOwner.QUEUE
    assert accepted.pixels.flat[0] == 7
    assert accepted.deadline_ns == grab.captured_at_ns + 100 * NS_PER_MS


def test_a_lost_frame_has_a_budget_from_now_on(harness: LineHarness) -> None:
    lost = Grab(None, 1, harness.clock.now_ns(), problem="incomplete", lost=True)
    harness.clock.advance(NS_PER_MS * 500)
    accepted = harness.capture.accept(lost)
    assert accepted.deadline_ns == harness.clock.now_ns() + 100 * NS_PER_MS
    assert reasons(harness) == [Reason.CAPTURE_LOST]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"pixels": None, "problem": "cannot be decoded"}, Reason.CAPTURE_ERROR),
        ({"pixels": np.zeros((4, 4, 1), np.uint8)}, Reason.SHAPE),
        ({"pixels": np.zeros((8, 16, 3), np.uint8)}, Reason.SHAPE),
        ({"pixels": np.zeros(SHAPE.dims, np.uint8)}, Reason.CAPTURE_HEALTH),
    ],
)
def test_what_cannot_be_inspected_is_closed_and_holds_no_slot(
    harness: LineHarness, fields: dict[str, Any], reason: Reason
) -> None:
    limits = ImageLimits(dark_level=3, bright_level=252, frozen_frames=0)
    thread = thread_of(harness, harness.camera, image_limits=limits)
    thread.accept(frame(harness, 1, **fields))
    assert reasons(harness) == [reason]
    assert harness.ring.free_slots == harness.ring.slots
    assert len(harness.frame_queue) == 0


@pytest.mark.parametrize(("overload", "closed"), [("drop_oldest", 1), ("drop_newest", 5)])
def test_without_a_free_slot_one_frame_is_dropped(
    make: Callable[..., LineHarness], overload: str, closed: int
) -> None:
    harness = make(slots=4, overload=overload)
    for _ in range(5):
        harness.capture.accept(harness.grab())
    assert [seq for seq in range(1, 6) if harness.verdict(seq)] == [closed]
    verdict = harness.verdict(closed)
    assert verdict is not None
    assert verdict.reason is Reason.OVERRUN


def test_an_image_that_cannot_be_inspected_drops_no_other_frame(harness: LineHarness) -> None:
    limits = ImageLimits(dark_level=3, bright_level=252, frozen_frames=0)
    thread = thread_of(harness, harness.camera, image_limits=limits)
    for _ in range(4):
        harness.capture.accept(harness.grab())
    thread.accept(harness.grab())  # black
    assert reasons(harness) == [None] * 4 + [Reason.CAPTURE_HEALTH]


def test_block_waits_for_a_slot_before_it_asks_the_camera(
    make: Callable[..., LineHarness],
) -> None:
    harness = make(slots=1, overload="block")
    harness.capture.accept(harness.grab())
    camera = ScriptedCamera([harness.grab()])
    thread = thread_of(harness, camera)
    leased: list[int] = []

    def wait_until(_at_ns: int) -> bool:
        leased.append(camera.leased_count)
        if len(leased) % 3 == 0:  # until then no slot is free
            harness.run_worker()
        return False

    thread._slot_released.wait_until = wait_until  # type: ignore[method-assign]
    thread.run()
    assert leased == [0] * 6
    assert (thread.state, thread.frame_count) == ("finished", 1)
    assert harness.closer.counters.counts().passed == 2, "no frame was dropped"


# -- triggers and challenge parts ----------------------------------------------------------


class TriggeredCamera(ScriptedCamera):
    """Delivers a frame for each trigger, the last trigger first."""

    def trigger(self, part: Part) -> None:
        if part.part_id == "refused":
            raise CameraLostError("not open")
        pixels = np.zeros(SHAPE.dims, np.uint8)
        self._script.insert(0, Grab(pixels, len(self._script) + 1, 0, part))


def test_each_trigger_gets_the_seq_of_its_own_frame(harness: LineHarness) -> None:
    camera = TriggeredCamera([])
    thread = thread_of(harness, camera)
    first, second = thread.trigger(Part("plate")), thread.trigger(Part("plate"))
    with pytest.raises(CameraLostError):
        thread.trigger(Part("refused"))
    assert (first.seq, second.seq) == (None, None)
    thread.run()
    assert (first.seq, second.seq) == (2, 1), "equal parts, told apart by the trigger's id"


def test_a_challenge_image_is_a_simulated_frame(harness: LineHarness) -> None:
    thread = thread_of(harness, ScriptedCamera([frame(harness, 7), frame(harness, 8)]))
    thread.inject_challenge(np.full(SHAPE.dims, 200, np.uint8), "pit.png")
    thread.run()
    harness.run_worker()
    verdict = harness.verdict(1)
    assert verdict is not None
    assert (verdict.simulated, verdict.label) == (True, "pit.png")
    assert verdict.part_id == challenge_part("pit.png").part_id
    assert reasons(harness)[1:] == [None, None], "it does not count as a frame of the camera"


def test_the_audit_counts_frames_and_no_challenge_images(harness: LineHarness) -> None:
    thread = harness.capture
    thread.trigger_audit.add_plc_count(1, 1 << 16, NS_PER_MS, harness.clock.now_ns())
    thread.accept(harness.grab())
    thread.accept(replace(harness.grab(), part=challenge_part("pit.png")))
    assert len(thread.trigger_audit._exposures_ns) == 1
