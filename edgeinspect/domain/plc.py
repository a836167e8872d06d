"""What a PLC sees of a line, and what it says back. Plain data, the same for every protocol.

A state that must never be shown cannot be written down here: an image has a result or it
has none, a result has one outcome, and a result without a verdict cannot pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum

from edgeinspect.domain.verdict import Reason
from edgeinspect.errors import InternalError


class PlcOutcome(str, Enum):
    """What the ejector must do with a part."""

    PASS = "pass"
    REJECT = "reject"
    NEITHER = "neither"
    """Both bits 0 while results_valid is 1: only for NO_VERDICT, only where configured."""


class PlcError(IntEnum):
    """Why the gateway is not ready, or what it had to do. The lowest number wins."""

    NONE = 0
    STARTING = 1
    """No heartbeat has been heard yet."""
    HEARTBEAT_LOST = 2
    """The daemon's heartbeat stopped."""
    WIRE = 3
    """The daemon speaks another version of the wire."""
    STOPPING = 4
    """The gateway is being stopped."""
    NOT_INSPECTING = 5
    """The daemon lives, but a camera or an engine does not."""
    NOT_ENABLED = 6
    """The PLC's enable bit is 0 and the configuration demands it."""
    RENUMBERED = 7
    """The line lost its spool: result ids begin again, `numbering` has moved on."""
    RESULTS_LOST = 8
    """Results are gone for good; each is a reject."""
    ACK_TIMEOUT = 9
    """A result was not acknowledged in time and the next one was shown."""
    OVERRUN = 10
    """More results waited than the buffer is meant for: the PLC takes them too slowly."""
    NEW_JOURNAL = 11
    """The gateway began without a journal, as a spare PC does: `numbering` has moved on."""
    ACK_AHEAD = 12
    """The PLC has acknowledged an id that this gateway has not shown yet: it takes nothing
    until ids pass that one."""


CAUSES: dict[Reason, int] = {
    Reason.CLEAN: 1,
    Reason.BELOW_THRESHOLDS: 2,
    Reason.DEFECT: 10,
    Reason.GATE: 11,
    Reason.DEADLINE: 20,
    Reason.OVERRUN: 21,
    Reason.SHAPE: 22,
    Reason.CAPTURE_ERROR: 23,
    Reason.CAPTURE_HEALTH: 24,
    Reason.CAPTURE_LOST: 25,
    Reason.ENGINE_ERROR: 26,
    Reason.RESTART: 27,
    Reason.SHUTDOWN: 28,
}
"""The daemon's reasons as numbers. A number is never given a second meaning."""

CAUSE_UNKNOWN = 99
"""A reason that this gateway does not know: the daemon is newer."""
CAUSE_LATE = 101
"""The gateway's: it was a pass, but act-by had gone before it could be shown."""
CAUSE_DEAD_EPOCH = 102
"""The gateway's: it was a pass, of a daemon that is dead."""
CAUSE_LOST = 103
"""The gateway's: nobody holds the verdict any more."""

CAUSE_NOT_PASSED_BEFORE = 104
"""The gateway's: it was a pass, but this part id has been shown as one that did not pass."""
CAUSE_PART_ID = 105
"""The gateway's: the part's id does not fit into the protocol, so nobody may pass by it."""
CAUSE_TRIGGER_REFUSED = 106
"""The gateway's: it was a pass, but this part's trigger has been answered as refused."""

UINT32 = 1 << 32
PART_ID_BYTES = 32
"""Longest part id in the map's blocks, in UTF-8."""


class TriggerRefusal(IntEnum):
    """Why a trigger was not taken."""

    NONE = 0
    STALE = 1
    """It is older than it may be, or nobody can know how old it is."""
    TORN = 2
    """Id and part were not written together."""
    PART_ID = 3
    """The part's id is no text, does not fit, or has control characters."""
    LINE = 4
    """The line refused, or did not answer."""


@dataclass(frozen=True, slots=True)
class PlcResult:
    """One result as the PLC gets it."""

    seq: int
    """The frame's number on the line; the last one of a range where `covers` > 1."""
    epoch: int
    outcome: PlcOutcome
    cause: int
    """Of `CAUSES`, or the gateway's own."""
    no_verdict: bool = False
    late: bool = False
    degraded: bool = False
    simulated: bool = False
    reject_code: int = 0
    severity: int = 0
    part_id: str = ""
    part_id_unfit: bool = False
    """True if the part has an id that the protocol cannot carry; `part_id` is then empty."""
    camera: str = ""
    encoder_count: int | None = None
    act_by_encoder: int | None = None
    act_by_ms: int = 0
    """Time left until act-by when the result was first shown; 0 or less is past."""
    frames_covered: int = 1
    """Frames this result speaks for: `seq - covers + 1` to `seq`. More than 1 only for
    results that were lost together."""
    recipe_id: str = ""
    """The configuration's hash."""
    processing_us: int = 0
    """From capture to decision."""
    captured_at_utc_ns: int = 0
    """When the frame was exposed; 0 if nobody knows any more."""
    act_by_at_ns: int | None = field(default=None, compare=False)
    """Monotonic: act-by on the gateway's own clock, for links; None if nobody knows any more."""

    def __post_init__(self) -> None:
        if self.outcome is PlcOutcome.PASS and (
            self.no_verdict or self.late or self.frames_covered != 1
        ):
            raise InternalError("a result without a timely verdict would have passed")
        if self.part_id_unfit and (self.outcome is PlcOutcome.PASS or self.part_id):
            raise InternalError("a part that cannot be named would have passed")

    @property
    def result_id(self) -> int:
        """The low 32 bits of seq."""
        return self.seq % UINT32

    @property
    def is_lost(self) -> bool:
        """True if nobody holds the verdict any more."""
        return self.cause == CAUSE_LOST

    @property
    def key(self) -> str:
        """What the PLC finds the part by: part id, else encoder count, else seq."""
        if self.part_id:
            return f"part:{self.part_id}"
        if self.encoder_count is not None:
            return f"encoder:{self.encoder_count}"
        return f"seq:{self.seq}"


@dataclass(frozen=True, slots=True)
class ProcessImage:
    """Everything the PLC sees at one moment. Immutable; links swap whole images."""

    revision: int = 0
    """Counts images of this gateway process; not shown to the PLC."""
    online: bool = False
    """The daemon's heartbeat is heard. False is fail-safe: nothing is known of any part."""
    trigger_ready: bool = False
    result: PlcResult | None = None
    """The result that is valid now; None shows both pass and reject as 0."""
    last_id: int = 0
    """Shown as result id while there is no result: the last one applied."""
    overrun: bool = False
    alarm: bool = False
    heartbeat: bool = False
    """Turns over while the gateway lives."""
    error: PlcError = PlcError.NONE
    sequence_generation: int = 0
    """Moves on when result ids begin again from 1."""
    buffered: int = 0
    """Results waiting, the shown one included."""
    buffer_free: int = 0
    settings_checksum: int = 0
    epoch: int = 0
    results_total: int = 0
    """Results applied since the gateway's cursor was made."""
    lost_total: int = 0
    forced_total: int = 0
    """Results that the PLC did not acknowledge in time."""
    link_losses: int = 0
    trigger_ack: int = 0
    """The last trigger id that was answered."""
    trigger_refused: bool = False
    trigger_refusal: TriggerRefusal = TriggerRefusal.NONE
    """Why, if it was."""

    def __post_init__(self) -> None:
        if not self.online and (self.result is not None or self.trigger_ready):
            raise InternalError("an image is fail-safe and has a result at once")

    @property
    def reject_all(self) -> bool:
        return not self.online

    @property
    def results_valid(self) -> bool:
        return self.result is not None

    @property
    def passed(self) -> bool:
        return self.result is not None and self.result.outcome is PlcOutcome.PASS

    @property
    def rejected(self) -> bool:
        return self.result is not None and self.result.outcome is PlcOutcome.REJECT

    @property
    def result_id(self) -> int:
        return self.result.result_id if self.result is not None else self.last_id


@dataclass(frozen=True, slots=True)
class PlcCommands:
    """What the PLC writes."""

    enable: bool = False
    fault_reset: bool = False
    """A rising edge clears latched errors and the overrun bit."""
    results_ack: int | None = None
    """The id of the last result the PLC has taken; None until it has written one."""
    ack_after: int = -1
    """Revision of the newest image that had reached the PLC when it wrote that id; -1: none
    had, or nobody knows. An id that is older than a result is no answer to it."""
    trigger_id: int | None = None
    """A change asks for one frame of the part below; None until the PLC has written one since
    the link's memory began. What follows was written together with it."""
    trigger_encoder: int = 0
    trigger_part_id: str = ""
    trigger_problem: TriggerRefusal = TriggerRefusal.NONE
    """What is wrong with what was written."""
    trigger_since_ns: int | None = None
    """Monotonic; the PLC cannot have wanted this trigger before. None: nobody knows."""


NO_COMMANDS = PlcCommands()


@dataclass(frozen=True, slots=True)
class PlcInputs:
    """What the link knows of the PLC at one moment."""

    is_connected: bool = False
    """The PLC answers, or asks: it can see what is shown."""
    delivered_revision: int = -1
    """Revision of the newest image that reached the PLC; -1 for none."""
    commands: PlcCommands | None = None
    """What the PLC wrote last; None until it has been heard."""
    problem: str = ""
    """Why it is not connected, in words."""
