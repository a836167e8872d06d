"""What a PLC reads from a line, and what it writes. Plain data, the same for every protocol.

A state that must never occur cannot be represented: a process image has a result or none, a
result has one outcome, and a result without a verdict cannot pass.
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
    """Why the gateway is not ready, or what it had to do. The lowest number has priority."""

    NONE = 0
    STARTING = 1
    """No heartbeat has been received yet."""
    HEARTBEAT_LOST = 2
    """The daemon's heartbeat stopped."""
    WIRE = 3
    """The daemon uses another version of the wire protocol."""
    STOPPING = 4
    """The gateway is stopping."""
    NOT_INSPECTING = 5
    """The daemon runs, but a camera or an engine does not work."""
    NOT_ENABLED = 6
    """The PLC's enable bit is 0 and the configuration requires it."""
    RENUMBERED = 7
    """The line lost its spool: result ids begin again, in another sequence generation."""
    RESULTS_LOST = 8
    """Results are permanently lost; each is a reject."""
    ACK_TIMEOUT = 9
    """A result was not acknowledged in time, and the next one was written."""
    OVERRUN = 10
    """More results waited than the buffer is meant for: the PLC accepts them too slowly."""
    NEW_JOURNAL = 11
    """The gateway started without a journal, as a spare PC does: another sequence generation."""
    ACK_AHEAD = 12
    """The PLC has acknowledged an id that this gateway has not written yet: it accepts no result
    until the ids have passed that one."""


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
"""The daemon's reasons as numbers. The meaning of a number never changes."""

CAUSE_UNKNOWN = 99
"""A reason that is unknown to this gateway: the daemon is newer."""
CAUSE_LATE = 101
"""Of the gateway: it was a pass, but act-by had passed before it could be written."""
CAUSE_DEAD_EPOCH = 102
"""Of the gateway: it was a pass, of a daemon that is dead."""
CAUSE_LOST = 103
"""Of the gateway: the verdict is no longer stored anywhere."""

CAUSE_NOT_PASSED_BEFORE = 104
"""Of the gateway: it was a pass, but the part id was written before as one without a pass."""
CAUSE_PART_ID = 105
"""Of the gateway: the part's id does not fit into the protocol, so the part cannot pass."""
CAUSE_TRIGGER_REFUSED = 106
"""Of the gateway: it was a pass, but the part's trigger was answered as refused."""

UINT32 = 1 << 32
PART_ID_BYTES = 32
"""Longest part id in the map's blocks, in UTF-8."""


class TriggerRefusal(IntEnum):
    """Why a trigger was refused."""

    NONE = 0
    STALE = 1
    """It is too old, or of unknown age."""
    TORN = 2
    """Its id and its part were not written together."""
    PART_ID = 3
    """The part's id is no text, does not fit, or has control characters."""
    LINE = 4
    """The line refused it, or did not answer."""


@dataclass(frozen=True, slots=True)
class PlcResult:
    """One result for the PLC."""

    seq: int
    """The frame's number on the line; the last one of a range where `frames_covered` > 1."""
    epoch: int
    outcome: PlcOutcome
    cause: int
    """Of `CAUSES`, or of the gateway."""
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
    """Time left until act-by when the result was first written; 0 or less has passed."""
    frames_covered: int = 1
    """Number of frames of this result: `seq - frames_covered + 1` to `seq`. More than 1 only for
    results that were lost together."""
    recipe_id: str = ""
    """Hash of the configuration."""
    processing_us: int = 0
    """From capture to decision."""
    captured_at_utc_ns: int = 0
    """When the frame was exposed; 0 if unknown."""
    act_by_at_ns: int | None = field(default=None, compare=False)
    """Act-by on the gateway's monotonic clock, for links; None if unknown."""

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
        """True if the verdict is no longer stored anywhere."""
        return self.cause == CAUSE_LOST


@dataclass(frozen=True, slots=True)
class ProcessImage:
    """Everything that the PLC reads at one moment. Immutable; links replace it as a whole."""

    revision: int = 0
    """Counts the images of this gateway process; not written to the PLC."""
    online: bool = False
    """The daemon's heartbeat arrives. False is fail-safe: nothing is known of any part."""
    trigger_ready: bool = False
    result: PlcResult | None = None
    """The valid result; with None both pass and reject are 0."""
    last_id: int = 0
    """The result id while there is no result: the last one that was completed."""
    overrun: bool = False
    alarm: bool = False
    heartbeat: bool = False
    """Toggles while the gateway runs."""
    error: PlcError = PlcError.NONE
    sequence_generation: int = 0
    """Advances when result ids begin again from 1."""
    buffered: int = 0
    """Number of waiting results, including the current one."""
    buffer_free: int = 0
    settings_checksum: int = 0
    epoch: int = 0
    results_total: int = 0
    """Results completed since the gateway's cursor was created."""
    lost_total: int = 0
    forced_total: int = 0
    """Results that the PLC did not acknowledge in time."""
    link_losses: int = 0
    trigger_ack: int = 0
    """The last trigger id that was answered."""
    trigger_refused: bool = False
    trigger_refusal: TriggerRefusal = TriggerRefusal.NONE
    """Why it was refused, if it was."""

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
    """The id of the last result that the PLC has accepted; None until it has written one."""
    ack_after: int = -1
    """Revision of the newest image that had reached the PLC when it wrote that id; -1 for none or
    unknown. An id that is older than a result does not acknowledge it."""
    trigger_id: int | None = None
    """A change requests one frame of the part below; None until the PLC has written one since the
    link started. The following fields were written together with it."""
    trigger_encoder: int = 0
    trigger_part_id: str = ""
    trigger_problem: TriggerRefusal = TriggerRefusal.NONE
    """What is wrong with the trigger."""
    trigger_since_ns: int | None = None
    """Monotonic; the PLC cannot have written this trigger before. None: unknown."""


NO_COMMANDS = PlcCommands()


@dataclass(frozen=True, slots=True)
class PlcInputs:
    """The state of a link at one moment."""

    is_connected: bool = False
    """The PLC replies or polls, so it reads the image."""
    delivered_revision: int = -1
    """Revision of the newest image that reached the PLC; -1 for none."""
    commands: PlcCommands | None = None
    """What the PLC wrote last; None until it has written."""
    problem: str = ""
    """Why it is not connected; empty if it is."""
