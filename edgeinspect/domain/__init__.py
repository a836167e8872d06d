"""The data types of a line: clock, frame, model, verdict, alarm. No input or output."""

from edgeinspect.domain.alarm import Alarm, AlarmCode, alarm_code
from edgeinspect.domain.camera import FRAME_NOT_RECEIVED, CameraCounts, FrameGapDetector
from edgeinspect.domain.clock import (
    NS_PER_MS,
    NS_PER_S,
    NS_PER_US,
    STALL_NS,
    Clock,
    SystemClock,
    read_utc_offset_ns,
)
from edgeinspect.domain.frame import (
    NO_PART,
    TRIGGER_EXPIRED,
    ClockSource,
    FrameShape,
    Grab,
    Letterbox,
    Part,
    Pixels,
    challenge_part,
)
from edgeinspect.domain.latency import LatencyEstimate, LatencyHistogram
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.model import (
    BASE_CONTRACT,
    EXTENDED_CONTRACT,
    KINDS_ONLY,
    MODEL_CONTRACTS,
    Decides,
    LearnedFrom,
    ModelId,
    ModelKind,
    ModelSpec,
    Precision,
    model_outputs,
    model_ref,
)
from edgeinspect.domain.numbers import Count, DurationUs, ImageSidePx, Int64, PlcWord, UtcNs
from edgeinspect.domain.part_verdict import PartMember, PartVerdict, combine_decisions
from edgeinspect.domain.plc import (
    CAUSE_DEAD_EPOCH,
    CAUSE_LATE,
    CAUSE_LOST,
    CAUSE_NOT_PASSED_BEFORE,
    CAUSE_PART_ID,
    CAUSE_TRIGGER_REFUSED,
    CAUSE_UNKNOWN,
    CAUSES,
    NO_COMMANDS,
    PART_ID_BYTES,
    UINT32,
    PlcCommands,
    PlcError,
    PlcInputs,
    PlcOutcome,
    PlcResult,
    ProcessImage,
    TriggerRefusal,
)
from edgeinspect.domain.text import fits_utf8, has_control_characters, number_of
from edgeinspect.domain.verdict import (
    VERDICT_SCHEMA,
    Assessment,
    Box,
    Decision,
    KindProb,
    LetterboxRef,
    ModelRef,
    Reason,
    Region,
    StageTimes,
    Verdict,
    model_name,
)

__all__ = [
    # alarm
    "Alarm",
    "AlarmCode",
    "alarm_code",
    # camera
    "FRAME_NOT_RECEIVED",
    "CameraCounts",
    "FrameGapDetector",
    # clock
    "NS_PER_MS",
    "NS_PER_S",
    "NS_PER_US",
    "STALL_NS",
    "Clock",
    "SystemClock",
    "read_utc_offset_ns",
    # frame
    "NO_PART",
    "TRIGGER_EXPIRED",
    "ClockSource",
    "FrameShape",
    "Grab",
    "Letterbox",
    "Part",
    "Pixels",
    "challenge_part",
    # latency
    "LatencyEstimate",
    "LatencyHistogram",
    # manual clock
    "ManualClock",
    # model
    "BASE_CONTRACT",
    "EXTENDED_CONTRACT",
    "KINDS_ONLY",
    "MODEL_CONTRACTS",
    "Decides",
    "LearnedFrom",
    "ModelId",
    "ModelKind",
    "ModelSpec",
    "Precision",
    "model_outputs",
    "model_ref",
    # numbers
    "Count",
    "DurationUs",
    "ImageSidePx",
    "Int64",
    "PlcWord",
    "UtcNs",
    # part verdict
    "PartMember",
    "PartVerdict",
    "combine_decisions",
    # plc
    "CAUSES",
    "CAUSE_DEAD_EPOCH",
    "CAUSE_LATE",
    "CAUSE_LOST",
    "CAUSE_NOT_PASSED_BEFORE",
    "CAUSE_PART_ID",
    "CAUSE_TRIGGER_REFUSED",
    "CAUSE_UNKNOWN",
    "NO_COMMANDS",
    "PART_ID_BYTES",
    "UINT32",
    "PlcCommands",
    "PlcError",
    "PlcInputs",
    "PlcOutcome",
    "PlcResult",
    "ProcessImage",
    "TriggerRefusal",
    # text
    "fits_utf8",
    "has_control_characters",
    "number_of",
    # verdict
    "VERDICT_SCHEMA",
    "Assessment",
    "Box",
    "Decision",
    "KindProb",
    "LetterboxRef",
    "ModelRef",
    "Reason",
    "Region",
    "StageTimes",
    "Verdict",
    "model_name",
]
