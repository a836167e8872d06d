"""PLC, Modbus link, gateway, line: never a frame for a part that may have gone, never two, and
never a pass of what was shown as not passed, in whatever order things are written, killed,
stopped and continued.

Everything that decides is real: the link's inputs and contacts, the gateway's watch, memory
and screen, the line's expiry. The sockets, threads and processes between them are moved by hand.
"""

from __future__ import annotations

import struct
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

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
TALKS = 3
"""Scans of a read and a write after which a PLC is known to speak in every cycle."""


@dataclass
class Belt:
    """One part, as it was."""

    wished_at_ns: int
    frames: int = 0
    shown: list[bool] = field(default_factory=list)
    """Whether each of its results was shown as a pass."""


@dataclass
class Gateway:
    """One life of a gateway, with the server in it."""

    inputs: ModbusServerInputs
    watch: TriggerValidator
    screen: PartOutcomePolicy
    memory: PartMemory
    contact: PeerActivity | None = None
    left_at_ns: int | None = None
    looked_at_ns: int = 0
    look_at_ns: int = 0
    asking: tuple[FrameRequest, bool] | None = None
    """What was sent and not yet answered; True if the line has it."""
    answers: list[TriggerAnswer] = field(default_factory=list)
    arrived: deque[tuple[int, str] | None] = field(default_factory=deque)
    """What lies in the socket: id and part as the PLC sent them; None is a request to read."""
    given_up: bool = False
    """The PLC has hung up on a gateway that did not answer."""


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.folder = tempfile.TemporaryDirectory()
        self.trigger_id, self.part, self.named = 0, "", 0
        self.belt: dict[str, Belt] = {"": Belt(0)}
        self.asked_as: dict[str, int] = {"": 0}
        """The trigger id of each part."""
        self.triggered: list[tuple[int, str]] = []
        """What a frame was taken of."""
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
            TriggerValidator(memory.last_trigger, MAX_AGE_NS, self.is_again(memory)),
            PartOutcomePolicy(memory, self.clock),
            memory,
            looked_at_ns=self.clock.now_ns(),
            look_at_ns=self.clock.now_ns(),
        )
        self.gateway_stopped = False

    def is_again(self, memory: PartMemory) -> Callable[[int, str], bool]:
        def heard(trigger_id: int, part_id: str) -> bool:
            now_ns = self.clock.now_ns()
            return memory.save_trigger(trigger_id, digest_part_id(part_id), now_ns, 0) is not None

        return heard

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
        self.line_turns()

    # -- time -----------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 20, 100, 240, 310, 600, 2000]))
    def nothing_is_said_for(self, ms: int) -> None:
        """Nobody writes; who is not stopped turns."""
        for _ in range(max(1, ms * MS // SCAN_NS)):
            self.clock.advance(min(ms * MS, SCAN_NS))
            self.line_turns()
            self.server_turns()

    # -- the PLC --------------------------------------------------------------------

    @rule()
    def next_part(self) -> None:
        """A part stands at the camera; the program wants a frame of it."""
        self.named += 1
        self.part = f"part-{self.named}"
        self.belt[self.part] = Belt(self.clock.now_ns())
        self.trigger_id = max([self.trigger_id, *self.asked_as.values()]) % 0xFFFF + 1
        self.asked_as[self.part] = self.trigger_id

    @rule(scans=st.integers(TALKS, 12))
    def plc_scans(self, scans: int) -> None:
        """It writes its whole block every scan, on its connection, if it has one."""
        for _ in range(scans):
            self.clock.advance(SCAN_NS)
            self.line_turns()
            gateway = self.gateway
            if gateway is None:
                continue
            if gateway.given_up:
                continue
            if gateway.contact is None:
                gateway.contact = PeerActivity("plc", gateway.left_at_ns)
            if self.gateway_stopped:  # its time-out will end this connection
                gateway.arrived.append((self.trigger_id, self.part) if self.named % 2 else None)
                gateway.given_up = True
                continue
            gateway.arrived.extend((None, (self.trigger_id, self.part)))
            self.server_turns()

    @rule()
    def plc_hangs_up(self) -> None:
        gateway = self.gateway
        if gateway is not None and gateway.contact is not None and not self.gateway_stopped:
            heard_at_ns = gateway.inputs.remove_peer(gateway.contact)
            gateway.left_at_ns = heard_at_ns or gateway.left_at_ns
            gateway.contact = None
            gateway.arrived.clear()

    @rule()
    def plc_starts_again(self) -> None:
        """Its memory is zero."""
        self.trigger_id, self.part = 0, ""

    @precondition(lambda self: len(self.triggered) > 1)
    @rule(data=st.data(), scans=st.integers(TALKS, 5), back=st.booleans())
    def plc_writes_a_trigger_of_before(self, data: st.DataObject, scans: int, back: bool) -> None:
        """An older memory of it, or of a second controller; then maybe its own again."""
        now = self.trigger_id, self.part
        self.trigger_id, self.part = data.draw(st.sampled_from(self.triggered))
        self.plc_scans(scans)
        if back:
            self.trigger_id, self.part = now
            # Nobody can tell a wish from one that stood in the other memory meanwhile.
            self.belt[self.part].wished_at_ns = self.clock.now_ns()
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
                self.plc_takes_a_result("")

    @rule(parts=st.integers(1, 3))
    def a_quiet_while(self, parts: int) -> None:
        """Everything runs, and each part is taken once."""
        self.run(parts, 20)

    @rule(
        fault=st.sampled_from(["gateway", "line"]),
        scans=st.sampled_from([0, TALKS]),
        ms=st.sampled_from([20, 100, 310, 2000]),
    )
    def stopped_while_a_part_stands_there(self, fault: str, scans: int, ms: int) -> None:
        self.run(1, 20)
        if fault == "line":
            self.line_stopped = True
        else:
            self.gateway_stopped = True
        self.next_part()
        self.plc_scans(scans)
        self.nothing_is_said_for(ms)
        self.gateway_stopped = self.line_stopped = False
        self.plc_scans(5)

    @rule(
        scans=st.sampled_from([0, TALKS]),
        ms=st.sampled_from([20, 310, 2000]),
        triggered=st.booleans(),
    )
    def killed_while_a_part_stands_there(self, scans: int, ms: int, triggered: bool) -> None:
        self.run(1, 20)
        if triggered:
            self.next_part()
            self.plc_scans(scans)
        if self.gateway is not None:
            self.kill_gateway()
        if not triggered:
            self.next_part()
        self.nothing_is_said_for(ms)
        self.start_gateway()
        self.plc_scans(5)
        while self.results and self.gateway is not None:
            self.plc_takes_a_result("")

    # -- the gateway ----------------------------------------------------------------

    def server_turns(self) -> None:
        gateway, now_ns = self.gateway, self.clock.now_ns()
        if gateway is None or self.gateway_stopped:
            return
        gateway.looked_at_ns, gateway.look_at_ns = gateway.look_at_ns, now_ns
        contact = gateway.contact
        while gateway.arrived and contact is not None:
            message = gateway.arrived.popleft()
            contact.record_message(now_ns, gateway.looked_at_ns)
            if message is not None:
                words = struct.pack(">HHIi32s", 0, message[0], 0, 0, message[1].encode())
                gateway.inputs.write(0, words, contact)
            contact.record_answered()
        if gateway.given_up:
            gateway.given_up = False
            self.plc_hangs_up()
        self.gateway_turns(gateway)

    def gateway_turns(self, gateway: Gateway) -> None:
        memory = gateway.memory
        if gateway.asking is not None:
            ask, _heard = gateway.asking
            if self.clock.now_ns() >= ask.expires_at_ns + 450 * MS:
                self.conclude(gateway, ask, None)
            return
        found = gateway.watch.check(gateway.inputs.commands(), self.clock.now_ns())
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
            gateway.asking = found, False
            request = TriggerRequest(
                camera="top",
                part_id=found.commands.trigger_part_id,
                expires_monotonic_ns=found.expires_at_ns,
                boot_id=boot_id.boot_id(),
            )
            self.queue.append((request, gateway))
            self.line_turns()

    def conclude(self, gateway: Gateway, ask: FrameRequest, accepted: bool | None) -> None:
        part = digest_part_id(ask.commands.trigger_part_id)
        if accepted is None:
            gateway.memory.save_not_passed(part, NotPassedReason.REFUSED, self.clock.now_ns(), 0)
        elif accepted:
            gateway.memory.clear_refused(part)
        state = TriggerState.ACCEPTED if accepted else TriggerState.REFUSED
        gateway.memory.save_last_trigger(LastTrigger(ask.trigger_id, state, part_digest=part))
        gateway.answers.append(TriggerAnswer(ask.trigger_id, not accepted))
        gateway.asking = None

    @precondition(lambda self: self.gateway is not None and not self.gateway_stopped)
    @rule(killed_after=st.sampled_from(["", "shown", "noted"]))
    def plc_takes_a_result(self, killed_after: str) -> None:
        """Show the next; a gateway killed before it has written shows it once more."""
        if not self.results:
            return
        assert self.gateway is not None
        part, good = self.results[0]
        result = PlcResult(1, 7, PlcOutcome.PASS if good else PlcOutcome.REJECT, 10, part_id=part)
        shown = self.gateway.screen.apply(result)
        self.belt[part].shown.append(shown.outcome is PlcOutcome.PASS)
        if killed_after != "shown":
            self.gateway.screen.record_shown(part, shown)
            if killed_after != "noted":
                self.results.popleft()
                return
        self.kill_gateway()

    # -- the line -------------------------------------------------------------------

    def line_turns(self) -> None:
        if self.line_stopped:
            return
        looked_at_ns = self.expiry.begin_poll()
        while self.queue:
            request, gateway = self.queue.popleft()
            now_ns = self.clock.now_ns()
            taken = now_ns < self.expiry.expires_at_ns(request)
            if taken:
                part = request.part_id or ""
                belt = self.belt[part]
                # A silence of just the longest is none yet, so the bound itself may be met.
                assert now_ns - belt.wished_at_ns <= MAX_AGE_NS + SCAN_NS, "a stale frame"
                assert belt.frames == 0, "a second frame of the same part"
                belt.frames += 1
                self.triggered.append((self.asked_as[part], part))
                self.results.append((part, self.named % 3 == 0))
            if gateway is self.gateway and gateway.asking is not None:
                self.conclude(gateway, gateway.asking[0], taken)
        self.expiry.record_empty(looked_at_ns)

    # -- what must hold -------------------------------------------------------------

    @rule(good=st.booleans())
    def somebody_else_takes_a_frame(self, good: bool) -> None:
        """A person at the page, or another camera, with the part's own id."""
        if self.part and len(self.results) < 20:
            self.results.append((self.part, good))

    @invariant()
    def no_part_passes_after_it_did_not(self) -> None:
        for part, belt in self.belt.items():
            assert sorted(belt.shown, reverse=True) == belt.shown, part

    @invariant()
    def each_trigger_has_one_answer(self) -> None:
        if self.gateway is not None:
            ids = [answer.trigger_id for answer in self.gateway.answers]
            assert all(one != other for one, other in pairwise(ids))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
