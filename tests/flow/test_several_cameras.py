"""Several cameras on one line: parts over the wire, and whose deadlines one worker misses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.cameras.synthetic import Options, SyntheticCamera
from edgeinspect.client import Subscriber
from edgeinspect.config.loader import parse_config
from edgeinspect.domain.clock import NS_PER_US, SystemClock
from edgeinspect.domain.frame import FrameShape, Grab
from edgeinspect.domain.part_verdict import PartVerdict
from edgeinspect.domain.verdict import Decision, Verdict
from edgeinspect.pipeline.capture.camera_thread import CaptureThread
from edgeinspect.pipeline.inspection.frame_inspector import FrameInspector
from edgeinspect.pipeline.inspection.worker import InspectionWorker
from edgeinspect.pipeline.line import Line, WorkerEngines
from edgeinspect.pipeline.verdicts.deadline_guard import DeadlineGuard
from edgeinspect.pipeline.verdicts.open_frames import FrameQueue
from edgeinspect.testing.doubles import brightness_gate
from edgeinspect.wire.requests import (
    CommandResult,
    TriggerCount,
    TriggerRequest,
    decode_reply,
    encode_body,
)
from tests.faults.harness import wait_for
from tests.flow.line_harness import RULES, LineHarness
from tests.flow.line_harness import SHAPE as BENCH_SHAPE

SHAPE = FrameShape(64, 64, 1)
CONFIG = """\
schema: 1
line: rig
budget_ms: BUDGET
cameras: {top: {type: synthetic}, side: {type: synthetic}}
engines: {gate: {type: ov, model: scripted}}
optics: {mm_per_px_x: 1, mm_per_px_y: 1}
decide: {gate: {suspect_at: 0.99, reject_at: 0.99, degraded_reject_at: 0.99, reject_code: 1}}
act_by: {gate_distance_counts: 4000, cameras: {side: {gate_distance_counts: 3000}}}
parts: {window_ms: WINDOW}
publish: {verdicts: "tcp://127.0.0.1:*", replay: "tcp://127.0.0.1:*"}
spool: {folder: FOLDER, slots: 4096}
"""


class TwoCameraLine:
    """A line with two triggered cameras and a client."""

    def __init__(self, folder: Path, budget_ms: int) -> None:
        text = CONFIG.replace("FOLDER", str(folder)).replace("BUDGET", str(budget_ms))
        loaded = parse_config(text.replace("WINDOW", str(2 * budget_ms)))
        options = Options(height_px=64, width_px=64, pictures=2, pace="trigger")
        clock = SystemClock()
        self.failures: list[BaseException] = []
        self.line = Line(
            loaded.config,
            config_hash=loaded.hash,
            cameras={name: SyntheticCamera(options, clock) for name in ("top", "side")},
            worker_engines=[WorkerEngines(brightness_gate(SHAPE), None)],
            clock=clock,
            on_failure=self.failures.append,
        )
        self.ear = Subscriber(self.line.publisher.address, topics=("part.", "verdict."))
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.asker = self.context.socket(zmq.REQ)
        self.asker.rcvtimeo = 10_000
        self.asker.connect(self.line.replay_server.address)
        self.dealer = self.context.socket(zmq.DEALER)
        self.dealer.connect(self.line.replay_server.address)
        self.line.start()
        wait_for(lambda: all(capture.state == "live" for capture in self.line.capture_threads))

    def trigger(self, camera: str, part_id: str, encoder: int = 0) -> CommandResult:
        request = TriggerRequest(camera=camera, part_id=part_id, encoder_count=encoder)
        self.asker.send(encode_body(request))
        answer = decode_reply(self.asker.recv())
        assert isinstance(answer, CommandResult)
        return answer

    def receive(self, kind: type[Any]) -> Any:
        for _ in range(50):
            got = self.ear.receive(10_000)
            assert got is not None, "nothing came"
            if isinstance(got.message, kind):
                return got.message
        raise AssertionError("something else came")

    def close(self) -> None:
        self.line.stop()
        self.ear.close()
        self.context.destroy(0)
        self.line.close()
        assert not self.failures


@pytest.fixture
def two_cameras(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[TwoCameraLine]:
    two_cameras = TwoCameraLine(tmp_path, getattr(request, "param", 20_000))
    yield two_cameras
    two_cameras.close()


def test_a_part_that_both_cameras_pass_is_good(two_cameras: TwoCameraLine) -> None:
    first = two_cameras.trigger("top", "plate-1", 500)
    verdict = two_cameras.receive(Verdict)
    second = two_cameras.trigger("side", "plate-1", 1500)
    assert first.seq in (None, verdict.seq), "None if this machine stood still for 400 ms"
    part = two_cameras.receive(PartVerdict)
    assert (part.part_id, part.decision) == ("plate-1", Decision.PASS)
    assert [each.camera for each in part.members] == ["top", "side"]
    assert part.members[0].seq == verdict.seq
    assert second.seq in (None, part.members[1].seq)
    assert part.act_by_encoder == 4500, "the ejector is 4000 from one and 3000 from the other"


@pytest.mark.parametrize("two_cameras", [700], indirect=True)
def test_a_part_that_one_camera_never_saw_has_no_verdict_at_its_deadline(
    two_cameras: TwoCameraLine,
) -> None:
    two_cameras.trigger("top", "plate-2")
    two_cameras.receive(Verdict)
    part = two_cameras.receive(PartVerdict)
    assert (part.part_id, part.decision) == ("plate-2", Decision.NO_VERDICT)
    assert part.missing == ("side",)
    counts = two_cameras.line.reporter.status().camera_counts
    assert (counts["top"].frames, counts["side"].frames) == (1, 0)


def test_what_is_open_at_the_stop_has_no_verdict(two_cameras: TwoCameraLine) -> None:
    two_cameras.trigger("side", "plate-3")
    two_cameras.receive(Verdict)
    stopping = threading.Thread(target=two_cameras.line.stop)
    stopping.start()
    part = two_cameras.receive(PartVerdict)
    stopping.join()
    assert (part.decision, part.missing) == (Decision.NO_VERDICT, ("top",))


def test_a_trigger_without_a_frame_is_an_alarm(two_cameras: TwoCameraLine) -> None:
    """The PLC counts 8 triggers, then 9 with a frame, then 10 without one."""
    alarms, clock = two_cameras.line.alarms, SystemClock()

    def alarm_within(count: int, seconds: float) -> str:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not alarms.text:
            said = TriggerCount(
                camera="top", count=count, within_ms=200, read_at_utc_ns=clock.utc_ns()
            )
            two_cameras.dealer.send(encode_body(said))
            time.sleep(0.05)
        return alarms.text

    assert not alarm_within(8, 0.6)
    time.sleep(0.2)
    two_cameras.trigger("top", "plate-4")
    assert not alarm_within(9, 2.5)
    time.sleep(0.2)
    alarm = alarm_within(10, 20)
    assert alarm == "camera top: the PLC counted 1 more triggers than there are frames"


# -- whose deadlines are missed ------------------------------------------------------------


Job = tuple[int, int]
"""(release, deadline); jobs with a later release have no earlier deadline."""


def most_on_time(jobs: list[Job], needs: int) -> int:
    """Most jobs that one machine can end in time, exactly.

    With deadlines in the order of releases, those that are in time may be worked on in that
    order. So the least time at which k of the first n can be done is all there is to know.
    """
    least = [0]
    for release, deadline in sorted(jobs):
        for count in range(len(least) - 1, -1, -1):
            done = max(least[count], release) + needs
            if done > deadline:
                continue
            if count + 1 == len(least):
                least.append(done)
            else:
                least[count + 1] = min(least[count + 1], done)
    return len(least) - 1


def most_by_trying(jobs: list[Job], needs: int) -> int:
    """The same by every order of every choice."""
    for size in range(len(jobs), 0, -1):
        for order in permutations(jobs, size):
            now = 0
            for release, deadline in order:
                now = max(now, release) + needs
                if now > deadline:
                    break
            else:
                return size
    return 0


@given(st.lists(st.integers(0, 60), max_size=6), st.integers(1, 40), st.integers(1, 25))
def test_the_exact_scheduler_is_exact(releases: list[int], budget: int, needs: int) -> None:
    jobs = [(release, release + budget) for release in releases]
    assert most_on_time(jobs, needs) == most_by_trying(jobs, needs)


class WorkerSimulation:
    """Four cameras and one worker on a manual clock; frames come while the engine works."""

    def __init__(self, folder: Path, periods_us: list[int], budget_us: int, needs_us: int) -> None:
        self.harness = harness = LineHarness(folder, slots=64, budget_ms=1)
        harness.frame_queue.close()
        self.frame_queue = FrameQueue(len(periods_us))
        self.guard = DeadlineGuard(self.frame_queue, harness.closer, harness.clock)
        # Odd by some ns, so that nothing ends exactly at a deadline.
        self.needs_ns, self.budget_ns = needs_us * NS_PER_US + 7, budget_us * NS_PER_US
        self.coming: list[tuple[int, int]] = []
        self.sent = [0] * len(periods_us)
        gate = brightness_gate(BENCH_SHAPE, lambda: self.pass_until(self.now_ns + self.needs_ns))
        causes = replace(harness.closer.provenance, cameras=("top",))
        self.worker = InspectionWorker(
            frame_queue=self.frame_queue,
            closer=harness.closer,
            keep_warm_ns=0,
            inspector=FrameInspector(WorkerEngines(gate, None), RULES, causes, harness.clock),
        )
        self.worker.warm_up(16)
        self.began_ns = self.now_ns
        self.capture_threads = [self.capture(lane) for lane in range(len(periods_us))]
        self.coming = sorted(
            (self.began_ns + period_us * NS_PER_US * number + lane, lane)
            for lane, period_us in enumerate(periods_us)
            for number in range(1, 16)
        )
        self.jobs = [(at_ns, at_ns + self.budget_ns) for at_ns, _lane in self.coming]

    def capture(self, camera_index: int) -> CaptureThread:
        harness = self.harness
        return CaptureThread(
            camera=harness.camera,
            ring=harness.ring,
            frame_queue=self.frame_queue,
            guard=self.guard,
            closer=harness.closer,
            clock=harness.clock,
            rules=replace(
                harness.capture.rules, camera_index=camera_index, budget_ns=self.budget_ns
            ),
        )

    @property
    def now_ns(self) -> int:
        return self.harness.clock.now_ns()

    def pass_until(self, until_ns: int) -> None:
        """Let time pass, with the frames and deadlines that come meanwhile."""
        clock = self.harness.clock
        while self.coming_before(until_ns):
            at_ns, lane = self.coming.pop(0)
            clock.advance(at_ns - self.now_ns)
            self.guard.close_due()
            self.sent[lane] += 1
            pixels = np.full(BENCH_SHAPE.dims, 10, np.uint8)
            self.capture_threads[lane].accept(Grab(pixels, self.sent[lane], at_ns))
        clock.advance(until_ns - self.now_ns)
        self.guard.close_due()

    def coming_before(self, until_ns: int) -> bool:
        return bool(self.coming) and self.coming[0][0] <= until_ns

    def run(self) -> int:
        """Inspect all frames; return how many were in time."""
        while self.coming or len(self.frame_queue):
            frame = self.frame_queue.pop_earliest()
            if frame is not None:
                self.worker.inspect(frame)
            elif self.coming:
                self.pass_until(self.coming[0][0])
        self.pass_until(self.now_ns + self.budget_ns)
        counts = self.harness.closer.counters.counts()
        assert counts.open == 0
        assert set(counts.reasons) <= {"deadline"}
        return counts.passed


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(3_001, 40_003), min_size=4, max_size=4),
    st.integers(5_001, 60_001),
    st.integers(1_009, 15_013),
)
def test_no_order_would_miss_fewer_deadlines(
    periods_us: list[int], budget_us: int, needs_us: int
) -> None:
    with TemporaryDirectory() as folder:
        simulation = WorkerSimulation(Path(folder), periods_us, budget_us, needs_us)
        jobs = list(simulation.jobs)
        in_time = simulation.run()
        simulation.harness.ring.remove_file()
        simulation.harness.spool.release()
        simulation.frame_queue.close()
    assert in_time == most_on_time(jobs, simulation.needs_ns)
