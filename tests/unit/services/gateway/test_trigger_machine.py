"""PLC, Modbus link, gateway and line in any order of writes, kills, stops and continuations.

Never a frame for a part that may have left, never two frames of a part, never a pass of a part
that was shown as not passed. The link's inputs, the gateway's validator, memory and policy and
the line's expiry are real; the test replaces the sockets, threads and processes between them.
"""

from __future__ import annotations

import struct
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.plc import PlcOutcome, PlcResult, TriggerRefusal
from edgeinspect.pipeline.publishing.trigger_expiry import TriggerExpiry
from edgeinspect.plclinks._input_age import PeerActivity
from edgeinspect.plclinks._modbus.inputs import ModbusServerInputs
from edgeinspect.services.gateway.part_memory import (
    LastTrigger,
    NotPassedReason,
    PartMemory,
    TriggerState,
    digest_part_id,
)
from edgeinspect.services.gateway.part_outcome import PartOutcomePolicy
from edgeinspect.services.gateway.trigger_validation import (
    FrameRequest,
    TriggerAnswer,
    TriggerValidator,
)
from edgeinspect.system import boot_id
from edgeinspect.wire.requests import TriggerRequest

MS = NS_PER_MS
MAX_AGE_NS = 300 * MS
SCAN_NS = 20 * MS
POLLING_SCANS = 3
"""Scans of a read and a write after which a PLC counts as polling."""


@dataclass
class BeltPart:
    """A part on the belt."""

    requested_at_ns: int
    frames: int = 0
    shown: list[bool] = field(default_factory=list)
    """Whether each of its results was shown as a pass."""


@dataclass
class Gateway:
    """One process of the gateway, with its Modbus server."""

    inputs: ModbusServerInputs
    validator: TriggerValidator
    policy: PartOutcomePolicy
    memory: PartMemory
    peer: PeerActivity | None = None
    left_at_ns: int | None = None
    polled_at_ns: int = 0
    poll_at_ns: int = 0
    requested: tuple[FrameRequest, bool] | None = None
    """The request without an answer yet; True if the line has received it."""
    answers: list[TriggerAnswer] = field(default_factory=list)
    arrived: deque[tuple[int, str] | None] = field(default_factory=deque)
    """What is in the socket: id and part as sent by the PLC; None for a read request."""
    plc_timed_out: bool = False
    """The PLC has closed the connection of a gateway that did not answer."""


class TriggerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.folder = tempfile.TemporaryDirectory()
        self.trigger_id, self.part, self.named = 0, "", 0
        self.parts: dict[str, BeltPart] = {"": BeltPart(0)}
        self.trigger_ids: dict[str, int] = {"": 0}
        """The trigger id of each part."""
        self.triggered: list[tuple[int, str]] = []
        """Triggers of which a frame was exposed."""
        self.line_stopped = self.gateway_stopped = False
        self.queue: deque[tuple[TriggerRequest, Gateway]] = deque()
        self.results: deque[tuple[str, bool]] = deque()
        """Verdicts on the spool that no gateway has applied: the part, and whether it is good."""
        self.expiry = TriggerExpiry(self.clock)
        self.gateway: Gateway | None = None
        self.start_gateway()

    def teardown(self) -> None:
        if self.gateway is not None:
            self.gateway.memory.close()
        self.folder.cleanup()

    # -- processes ------------------------------------------------------------------

    @precondition(lambda self: self.gateway is None)
    @rule()
    def start_gateway(self) -> None:
        memory = PartMemory(Path(self.folder.name) / "m", name="plc-1", capacity=64)
        last = memory.last_trigger
        if last is not None and last.state is TriggerState.REQUESTED:
            if any(last.part_digest):
                memory.save_not_passed(
                    last.part_digest, NotPassedReason.REFUSED, self.clock.now_ns(), 0
                )
            memory.save_last_trigger(
                LastTrigger(last.trigger_id, TriggerState.REFUSED, TriggerRefusal.LINE)
            )
        self.gateway = Gateway(
            ModbusServerInputs(low_word_first=False),
            TriggerValidator(memory.last_trigger, MAX_AGE_NS, self.make_is_repeat(memory)),
            PartOutcomePolicy(memory, self.clock),
            memory,
            polled_at_ns=self.clock.now_ns(),
            poll_at_ns=self.clock.now_ns(),
        )
        self.gateway_stopped = False

    def make_is_repeat(self, memory: PartMemory) -> Callable[[int, str], bool]:
        def is_repeat(trigger_id: int, part_id: str) -> bool:
            now_ns = self.clock.now_ns()
            return memory.save_trigger(trigger_id, digest_part_id(part_id), now_ns, 0) is not None

        return is_repeat

    @precondition(lambda self: self.gateway is not None)
    @rule()
    def kill_gateway(self) -> None:
        assert self.gateway is not None
        self.gateway.memory.close()
        self.gateway = None

    @precondition(lambda self: self.gateway is not None)
    @rule()
    def stop_or_continue_gateway(self) -> None:
        self.gateway_stopped = not self.gateway_stopped

    @rule()
    def stop_or_continue_line(self) -> None:
        self.line_stopped = not self.line_stopped
        self.run_line()

    # -- time -----------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 20, 100, 240, 310, 600, 2000]))
    def wait(self, ms: int) -> None:
        """Time passes; processes that are not stopped run."""
        for _ in range(max(1, ms * MS // SCAN_NS)):
            self.clock.advance(min(ms * MS, SCAN_NS))
            self.run_line()
            self.run_server()

    # -- the PLC --------------------------------------------------------------------

    @rule()
    def next_part(self) -> None:
        """A part arrives at the camera; the PLC requests a frame of it."""
        self.named += 1
        self.part = f"part-{self.named}"
        self.parts[self.part] = BeltPart(self.clock.now_ns())
        self.trigger_id = max([self.trigger_id, *self.trigger_ids.values()]) % 0xFFFF + 1
        self.trigger_ids[self.part] = self.trigger_id

    @rule(scans=st.integers(POLLING_SCANS, 12))
    def plc_scans(self, scans: int) -> None:
        """Write the whole block in every scan, if connected."""
        for _ in range(scans):
            self.clock.advance(SCAN_NS)
            self.run_line()
            gateway = self.gateway
            if gateway is None:
                continue
            if gateway.plc_timed_out:
                continue
            if gateway.peer is None:
                gateway.peer = PeerActivity("plc", gateway.left_at_ns)
            if self.gateway_stopped:  # the PLC will close this connection after a timeout
                gateway.arrived.append((self.trigger_id, self.part) if self.named % 2 else None)
                gateway.plc_timed_out = True
                continue
            gateway.arrived.extend((None, (self.trigger_id, self.part)))
            self.run_server()

    @rule()
    def plc_disconnects(self) -> None:
        gateway = self.gateway
        if gateway is not None and gateway.peer is not None and not self.gateway_stopped:
            heard_at_ns = gateway.inputs.remove_peer(gateway.peer)
            gateway.left_at_ns = heard_at_ns or gateway.left_at_ns
            gateway.peer = None
            gateway.arrived.clear()

    @rule()
    def plc_restarts(self) -> None:
        """Start with zeros in its block."""
        self.trigger_id, self.part = 0, ""

    @precondition(lambda self: len(self.triggered) > 1)
    @rule(data=st.data(), scans=st.integers(POLLING_SCANS, 5), back=st.booleans())
    def plc_writes_an_old_trigger(self, data: st.DataObject, scans: int, back: bool) -> None:
        """Write an older block, of the PLC or a second controller; then maybe its own again."""
        now = self.trigger_id, self.part
        self.trigger_id, self.part = data.draw(st.sampled_from(self.triggered))
        self.plc_scans(scans)
        if back:
            self.trigger_id, self.part = now
            # A new request cannot be distinguished from one left in the block meanwhile.
            self.parts[self.part].requested_at_ns = self.clock.now_ns()
            self.plc_scans(scans)

    def run(self, parts: int, scans: int) -> None:
        if self.gateway is None:
            self.start_gateway()
        self.gateway_stopped = self.line_stopped = False
        for _ in range(parts):
            self.plc_scans(scans)
            self.next_part()
            self.plc_scans(scans)
            while self.results and self.gateway is not None:
                self.show_a_result("")

    @rule(parts=st.integers(1, 3))
    def run_without_faults(self, parts: int) -> None:
        """Run without a fault; each part gets one frame."""
        self.run(parts, 20)

    @rule(
        fault=st.sampled_from(["gateway", "line"]),
        scans=st.sampled_from([0, POLLING_SCANS]),
        ms=st.sampled_from([20, 100, 310, 2000]),
    )
    def stop_with_a_part_at_the_camera(self, fault: str, scans: int, ms: int) -> None:
        self.run(1, 20)
        if fault == "line":
            self.line_stopped = True
        else:
            self.gateway_stopped = True
        self.next_part()
        self.plc_scans(scans)
        self.wait(ms)
        self.gateway_stopped = self.line_stopped = False
        self.plc_scans(5)

    @rule(
        scans=st.sampled_from([0, POLLING_SCANS]),
        ms=st.sampled_from([20, 310, 2000]),
        triggered=st.booleans(),
    )
    def kill_with_a_part_at_the_camera(self, scans: int, ms: int, triggered: bool) -> None:
        self.run(1, 20)
        if triggered:
            self.next_part()
            self.plc_scans(scans)
        if self.gateway is not None:
            self.kill_gateway()
        if not triggered:
            self.next_part()
        self.wait(ms)
        self.start_gateway()
        self.plc_scans(5)
        while self.results and self.gateway is not None:
            self.show_a_result("")

    # -- the gateway ----------------------------------------------------------------

    def run_server(self) -> None:
        gateway, now_ns = self.gateway, self.clock.now_ns()
        if gateway is None or self.gateway_stopped:
            return
        gateway.polled_at_ns, gateway.poll_at_ns = gateway.poll_at_ns, now_ns
        peer = gateway.peer
        while gateway.arrived and peer is not None:
            message = gateway.arrived.popleft()
            peer.record_message(now_ns, gateway.polled_at_ns)
            if message is not None:
                words = struct.pack(">HHIi32s", 0, message[0], 0, 0, message[1].encode())
                gateway.inputs.write(0, words, peer)
            peer.record_answered()
        if gateway.plc_timed_out:
            gateway.plc_timed_out = False
            self.plc_disconnects()
        self.run_gateway(gateway)

    def run_gateway(self, gateway: Gateway) -> None:
        memory = gateway.memory
        if gateway.requested is not None:
            request, _has_line = gateway.requested
            if self.clock.now_ns() >= request.expires_at_ns + 450 * MS:
                self.save_answer(gateway, request, None)
            return
        found = gateway.validator.check(gateway.inputs.commands(), self.clock.now_ns())
        if isinstance(found, TriggerAnswer):
            memory.save_last_trigger(
                LastTrigger(found.trigger_id, TriggerState.REFUSED, found.refusal)
            )
            gateway.answers.append(found)
        elif found is not None:
            part = digest_part_id(found.commands.trigger_part_id)
            memory.save_last_trigger(
                LastTrigger(found.trigger_id, TriggerState.REQUESTED, part_digest=part)
            )
            gateway.requested = found, False
            request = TriggerRequest(
                camera="top",
                part_id=found.commands.trigger_part_id,
                expires_monotonic_ns=found.expires_at_ns,
                boot_id=boot_id.boot_id(),
            )
            self.queue.append((request, gateway))
            self.run_line()

    def save_answer(self, gateway: Gateway, request: FrameRequest, accepted: bool | None) -> None:
        part = digest_part_id(request.commands.trigger_part_id)
        if accepted is None:
            gateway.memory.save_not_passed(part, NotPassedReason.REFUSED, self.clock.now_ns(), 0)
        elif accepted:
            gateway.memory.clear_refused(part)
        state = TriggerState.ACCEPTED if accepted else TriggerState.REFUSED
        gateway.memory.save_last_trigger(LastTrigger(request.trigger_id, state, part_digest=part))
        gateway.answers.append(TriggerAnswer(request.trigger_id, not accepted))
        gateway.requested = None

    @precondition(lambda self: self.gateway is not None and not self.gateway_stopped)
    @rule(killed_after=st.sampled_from(["", "shown", "noted"]))
    def show_a_result(self, killed_after: str) -> None:
        """Show the next result; a gateway killed before it has recorded it shows it again."""
        if not self.results:
            return
        assert self.gateway is not None
        part, good = self.results[0]
        result = PlcResult(1, 7, PlcOutcome.PASS if good else PlcOutcome.REJECT, 10, part_id=part)
        shown = self.gateway.policy.apply(result)
        self.parts[part].shown.append(shown.outcome is PlcOutcome.PASS)
        if killed_after != "shown":
            self.gateway.policy.record_shown(part, shown)
            if killed_after != "noted":
                self.results.popleft()
                return
        self.kill_gateway()

    # -- the line -------------------------------------------------------------------

    def run_line(self) -> None:
        if self.line_stopped:
            return
        polled_at_ns = self.expiry.begin_poll()
        while self.queue:
            request, gateway = self.queue.popleft()
            now_ns = self.clock.now_ns()
            accepted = now_ns < self.expiry.expires_at_ns(request)
            if accepted:
                part = request.part_id or ""
                belt_part = self.parts[part]
                # A silence of exactly the limit does not count yet.
                assert now_ns - belt_part.requested_at_ns <= MAX_AGE_NS + SCAN_NS, "a stale frame"
                assert belt_part.frames == 0, "a second frame of the same part"
                belt_part.frames += 1
                self.triggered.append((self.trigger_ids[part], part))
                self.results.append((part, self.named % 3 == 0))
            if gateway is self.gateway and gateway.requested is not None:
                self.save_answer(gateway, gateway.requested[0], accepted)
        self.expiry.record_empty(polled_at_ns)

    # -- invariants -----------------------------------------------------------------

    @rule(good=st.booleans())
    def another_frame_of_the_part(self, good: bool) -> None:
        """An operator or another camera requests a frame with the same part id."""
        if self.part and len(self.results) < 20:
            self.results.append((self.part, good))

    @invariant()
    def no_part_passes_after_a_reject(self) -> None:
        for part, belt_part in self.parts.items():
            assert sorted(belt_part.shown, reverse=True) == belt_part.shown, part

    @invariant()
    def each_trigger_has_one_answer(self) -> None:
        if self.gateway is not None:
            ids = [answer.trigger_id for answer in self.gateway.answers]
            assert all(one != other for one, other in pairwise(ids))


TestTriggerMachine = TriggerMachine.TestCase
TestTriggerMachine.pytestmark = [pytest.mark.slow]
TestTriggerMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
