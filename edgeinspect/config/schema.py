"""The configuration of a line, as types. Every field has its meaning and unit.

No reject threshold has a default: a line that rejects parts states explicitly when.
A plugin's options are defined in the plugin's file (`type:` is its name), not here.
Changes to these names are listed in docs/reference/config_changes.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

PluginTable = dict[str, Any]
"""A plugin as configured: `type:` and its options, not yet validated against the plugin."""

Ratio = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


class ConfigSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: immutable, and an unknown key is a fault."""


class ReconnectConfig(ConfigSection):
    """What to do when a camera is lost."""

    attempts: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Attempts before the daemon gives up with exit code 75; 0 means unlimited."""
    first_ms: Annotated[float, Meta(ge=1, le=60_000)] = 200
    """Pause before the first attempt; doubled for each further one."""
    max_ms: Annotated[float, Meta(ge=1, le=600_000)] = 5_000
    """Maximum pause."""


class ImageHealthConfig(ConfigSection, frozen=True):
    """Images that cannot be inspected: each is a NO_VERDICT(capture_health)."""

    dark_level: Annotated[float, Meta(ge=0, le=255)] = 3.0
    """Mean grey level below which an image is black: the lamp is off."""
    bright_level: Annotated[float, Meta(ge=0, le=255)] = 252.0
    """Mean grey level above which an image is saturated."""
    frozen_frames: Annotated[int, Meta(ge=0, le=1_000)] = 5
    """Number of consecutive frames with unchanged pixels, or an unchanged camera counter, that
    count as frozen; 0 turns the check off."""


class CaptureConfig(ConfigSection):
    """Between the camera and the ring."""

    ring_slots: Annotated[int, Meta(ge=2, le=1024)] = 8
    """Frames held at once, per camera."""
    overload: Literal["drop_oldest", "drop_newest", "block"] = "drop_oldest"
    """Which frame gets NO_VERDICT(overrun) when all slots are taken; `block` makes the
    camera wait instead and suits folders, not lines."""
    wrong_shape: Literal["no_verdict", "letterbox"] = "no_verdict"
    """What to do with an image that does not have the models' input size."""
    timeout_ms: Annotated[float, Meta(ge=1, le=600_000)] = 200
    """Maximum silence of a free-running camera before it counts as lost, or three of its
    periods if that is longer. The first frame after opening may take 2 s. Also how long a
    thread on the path of a frame, the ROUTER's thread, or the reading of a file may stall
    before the heartbeat has `inspecting: false`."""
    reconnect: ReconnectConfig = ReconnectConfig()
    health: ImageHealthConfig = ImageHealthConfig()
    challenge_folder: str | None = None
    """Folder of known defective images that `edgeinspect challenge` may send through the line."""


class OpticsConfig(ConfigSection):
    """Scale from pixels to the part's surface."""

    mm_per_px_x: Positive
    mm_per_px_y: Positive


class KindThresholds(ConfigSection, kw_only=True):
    """What to do with a part of one kind of the gate."""

    prob: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    """At or above this probability of the kind the frame is rejected. When absent, the kind only
    names a reject of the gate's other thresholds."""
    severity: Annotated[int, Meta(ge=1, le=9)]
    """1 (cosmetic) to 9 (dangerous). Of several kinds that reach `prob` the most severe one names
    the reject code."""
    reject_code: Annotated[int, Meta(ge=1, le=65_535)]


class GateThresholds(ConfigSection):
    """Thresholds on the gate's defect probability."""

    suspect_at: Ratio
    """At or above it the segmenter runs; below it the frame passes."""
    reject_at: Ratio
    """At or above it the frame is rejected whatever the segmenter finds."""
    degraded_reject_at: Ratio
    """Threshold when the gate decides alone because time is short; at most `reject_at`."""
    reject_code: Annotated[int, Meta(ge=1, le=65_535)]
    """Code of a reject by the gate alone, if its kinds have none."""
    classes: dict[str, KindThresholds] = {}
    """One rule for every kind of a gate of contract 2, or none: then rejects of all kinds have
    `reject_code`, and no severity."""


class ClassThresholds(ConfigSection, kw_only=True):
    """When a region of one class rejects the frame: it reaches all given limits."""

    score: Ratio
    """Minimum mean probability."""
    area_px: Annotated[int, Meta(ge=1)] | None = None
    """Minimum area in frame pixels. Give this or `area_mm2`, not both."""
    area_mm2: Positive | None = None
    """Minimum area in mm²."""
    severity: Annotated[int, Meta(ge=1, le=9)]
    """1 (cosmetic) to 9 (dangerous); the most severe fatal region names the reject code."""
    reject_code: Annotated[int, Meta(ge=1, le=65_535)]


class UnknownThresholds(ConfigSection, kw_only=True):
    """What to do with a part in which a good-parts model finds what good parts do not have.

    It is asked about frames that gate and segmenter pass, as far as there is time.
    """

    reject_at: Annotated[float, Meta(gt=0.0, le=1.0)]
    """At or above this score of the whole image something unknown is found."""
    area_px: Annotated[int, Meta(ge=1)] | None = None
    """Minimum area of its largest region too, in frame pixels."""
    action: Literal["reject", "review"]
    """`reject`: the frame is rejected. `review`: its decision stands; the verdict marks it for a
    person, and an archive saves it."""
    severity: Annotated[int, Meta(ge=1, le=9)] | None = None
    """1 (cosmetic) to 9 (dangerous); needed with `reject`."""
    reject_code: Annotated[int, Meta(ge=1, le=65_535)] | None = None
    """Code of its rejects; needed with `reject`."""
    required: bool = False
    """A frame without time for this model is `degraded`. When false, its verdict only says that
    the model was not asked."""


class DecisionConfig(ConfigSection):
    """The thresholds. `gate` goes with a gate, `classes` with a segmenter, `unknown` with a
    good-parts model.
    """

    gate: GateThresholds | None = None
    classes: dict[str, ClassThresholds] = {}
    """One rule for every class of the segmenter."""
    unknown: UnknownThresholds | None = None
    max_regions: Annotated[int, Meta(ge=1, le=16)] = 8
    """Regions listed in a verdict; `regions_total` counts them all."""


class EnginesConfig(ConfigSection):
    """The models. At least one of the three."""

    gate: PluginTable | None = None
    segmenter: PluginTable | None = None
    unknown: PluginTable | None = None
    """A good-parts model: a third opinion on the frames that the others pass, or alone."""


class InspectionConfig(ConfigSection):
    """The inspection workers."""

    workers: Annotated[int, Meta(ge=1, le=16)] = 1
    """Threads that inspect frames, each with its own engines."""
    keep_warm_ms: Annotated[float, Meta(ge=0, le=60_000)] = 1_000
    """Idle time after which a warm-up inference runs; 0 turns it off."""


class CameraActByConfig(ConfigSection, frozen=True):
    """Settings of a camera at another position."""

    travel_ms: Annotated[float, Meta(ge=0, le=3_600_000)] | None = None
    """Time from this camera to the ejector."""
    gate_distance_counts: Annotated[int, Meta(ge=0)] | None = None
    """Encoder counts from this camera to the ejector."""


class ActByConfig(ConfigSection):
    """When the ejector needs the verdict."""

    travel_ms: Annotated[float, Meta(ge=0, le=3_600_000)] = 0
    """Time from the camera to the ejector; 0 means the frame's deadline."""
    gate_distance_counts: Annotated[int, Meta(ge=0)] | None = None
    """Encoder counts from the camera to the ejector."""
    cameras: dict[Name, CameraActByConfig] = {}
    """Settings per camera that is at another position."""


class PartVerdictsConfig(ConfigSection, kw_only=True):
    """One verdict for a part that several cameras inspect: reject if any of them rejects, pass if
    all of them pass, otherwise no verdict, after `window_ms` at the latest.
    """

    cameras: list[Name] = []
    """Cameras that each part passes; all of the line's when empty. The trigger gives their
    frames the same part id."""
    window_ms: Annotated[float, Meta(gt=0, le=3_600_000)]
    """Time from a part's first exposure to its verdict: the travel from the first camera to the
    last, plus the budget."""


class PublishConfig(ConfigSection):
    """The wire to gateways, HMIs and archives."""

    verdicts: str | None = None
    """PUB address: verdicts, heartbeat, status. `ipc://`, the socket `<line>.verdicts` in the
    folder of the spool, when absent: only the line's user and the folder's group have access."""
    replay: str | None = None
    """ROUTER address: replay requests, acknowledgements, triggers; `<line>.replay` there when
    absent."""
    heartbeat_ms: Annotated[float, Meta(ge=5, le=10_000)] = 50
    status_ms: Annotated[float, Meta(ge=50, le=60_000)] = 1_000
    high_water_mark: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    """Messages queued for one slow subscriber before its newest are lost (it asks for replay)."""
    mask: bool = False
    """Send the run-length class map as a third part of each live message."""
    insecure: bool = False
    """Permit an address reachable from other machines without CURVE; otherwise it is refused."""
    curve: str | None = None
    """Folder with the server's key pair and `clients/`, the public keys of permitted clients."""


class SpoolConfig(ConfigSection):
    """The memory-mapped file that stores every verdict before it is sent."""

    folder: str | None = None
    """Folder of spool, rings and sockets, writable by the line's user only. When absent: the
    unit's runtime folder, or /dev/shm/edgeinspect-UID without systemd. Its content survives
    `kill -9` anywhere, a power cut only on a disk."""
    slots: Annotated[int, Meta(ge=64, le=1_000_000)] = 4_096
    """Verdicts stored for replay and recovery."""


class LedgerConfig(ConfigSection, frozen=True):
    """The SQLite file that stores every verdict."""

    folder: str = "/var/lib/edgeinspect/ledger"
    """Folder of `<line>.ledger.sqlite`; on a disk."""
    keep_days: Annotated[float, Meta(gt=0, le=36_500)] = 90
    """Verdicts are removed after this time has elapsed, regardless of wall-clock steps. Days on
    which the PC was off count if its clock is synchronised."""
    max_mib: Annotated[float, Meta(ge=1, le=10_000_000)] = 20_000
    """The oldest verdicts are removed when the file grows beyond this."""


class AlarmsConfig(ConfigSection):
    """When an alarm is raised."""

    no_verdict_in_row: Annotated[int, Meta(ge=1, le=100_000)] = 20
    degraded_in_row: Annotated[int, Meta(ge=1, le=100_000)] = 50
    reject_in_row: Annotated[int, Meta(ge=1, le=100_000)] = 50
    """Rejecting everything is never normal."""


class RealTimeConfig(ConfigSection):
    """Real-time settings of the daemon. Refused with an error when not permitted."""

    fifo_priority: Annotated[int, Meta(ge=1, le=98)] | None = None
    """SCHED_FIFO priority of capture, guard and publisher; needs CAP_SYS_NICE."""
    lock_memory: bool = False
    """mlockall; needs CAP_IPC_LOCK."""
    cpus: list[Annotated[int, Meta(ge=0, le=4096)]] = []
    """Processors that the daemon may use; empty means all."""
    switch_interval_us: Annotated[float, Meta(ge=10, le=50_000)] = 500
    """How long one Python thread may delay another."""


class LineConfig(ConfigSection):
    """One line: cameras, models, thresholds, wire."""

    schema: Literal[1]
    line: Name
    """The line's name in topics, file names and verdicts."""
    budget_ms: Annotated[float, Meta(gt=0, le=600_000)]
    """Time from capture to published verdict. One budget per line: deadlines are then in the order
    of capture, so that verdicts can be sent in order without exceeding their own deadlines."""
    cameras: dict[Name, PluginTable]
    """`name: {type: ..., options}`, at least one."""
    engines: EnginesConfig
    optics: OpticsConfig
    decide: DecisionConfig
    capture: CaptureConfig = CaptureConfig()
    inspect: InspectionConfig = InspectionConfig()
    act_by: ActByConfig = ActByConfig()
    parts: PartVerdictsConfig | None = None
    """When absent there are no verdicts per part, only per frame."""
    publish: PublishConfig = PublishConfig()
    spool: SpoolConfig = SpoolConfig()
    ledger: LedgerConfig | None = None
    """When absent there is no ledger: only what is in the spool can be verified."""
    alarms: AlarmsConfig = AlarmsConfig()
    real_time: RealTimeConfig = RealTimeConfig()
    store: str | None = None
    """Folder of the models; when absent the installed one, or the checkout's `engines/`."""
