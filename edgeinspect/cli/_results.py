"""Types of the documents that `--json` prints, except those that another module defines.

They are a contract with programs: a key keeps its name, type and unit; keys may be added. The
`schema` of a document changes its number when that does not hold.
"""

from __future__ import annotations

from typing import Any

import msgspec


class VersionResult(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.version/1"):
    """`version`: the installed version, its plugins and models."""

    edgeinspect: str
    """Version of this package."""
    python: str
    platform: str
    """Kernel, processor and C library."""
    backends: dict[str, PluginResult]
    cameras: dict[str, PluginResult]
    plclinks: dict[str, PluginResult]
    store: StoreResult


class PluginResult(msgspec.Struct, kw_only=True):
    """A plugin, and whether it can be used."""

    available: bool
    reason: str | None
    """Why it is not available."""
    packages: dict[str, str]
    """Version of each package that it uses."""


class StoreResult(msgspec.Struct, kw_only=True):
    """The model store of this machine."""

    root: str
    models: dict[str, list[int]]
    """Name to its versions."""


class CheckReport(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.check/1"):
    """`check`: whether a line can run on this PC."""

    file: str
    passed: bool
    """True if there is no problem. Without opening (`--no-open`), the file alone."""
    exit_code: int
    line: str | None = None
    """None if the configuration is invalid; so are the following."""
    config_hash: str | None = None
    opened: bool = False
    """False with `--no-open`: models and cameras were not opened."""
    running: bool = False
    """True if the line runs: its addresses and memory were not checked."""
    budget_ms: float | None = None
    models_p99_ms: float | None = None
    """Time of all models together; None if not measured."""
    cameras: list[CheckedCamera] = []
    models: list[CheckedModel] = []
    verdicts: str | None = None
    """Address of the verdicts."""
    replay: str | None = None
    """Address of requests."""
    rules: list[RejectRule] = []
    problems: list[Problem] = []
    notes: list[str] = []


class CheckedCamera(msgspec.Struct, kw_only=True):
    """A camera of a line."""

    name: str
    type: str
    failed: bool
    found: str
    """What was found when it was opened."""


class CheckedModel(msgspec.Struct, kw_only=True):
    """A model of a line."""

    role: str
    """`gate` or `segmenter`."""
    backend: str
    failed: bool
    found: str
    model: str | None = None
    """Name, version and hash; None if it was not loaded."""
    precision: str | None = None
    frame: str | None = None
    """Size of the frames that it takes."""
    p50_ms: float | None = None
    p99_ms: float | None = None


class RejectRule(msgspec.Struct, kw_only=True):
    """A rule of `decide`."""

    rule: str
    """`gate: suspect`, `gate: reject`, `gate: reject, no time left`, or a class."""
    score: float
    area_px: float | None = None
    area_mm2: float | None = None
    severity: int | None = None
    reject_code: int | None = None


class Problem(msgspec.Struct, kw_only=True):
    """One error, as it would be reported if it stood alone."""

    text: str
    exit_code: int


class DoctorReport(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.doctor/1"):
    """`doctor`: how this PC is set up."""

    passed: bool
    """True if the exit code is 0."""
    exit_code: int
    counts: dict[str, int]
    """Number of diagnostics by `state`."""
    diagnostics: list[DiagnosticResult]


class DiagnosticResult(msgspec.Struct, kw_only=True):
    """One check."""

    check: str
    """Name of the check, as `processor.governor`; stable."""
    state: str
    """`good`, `warn`, `bad`, or `none` if it does not apply."""
    found: str
    remedy: str
    """Empty if nothing is needed."""


class LedgerVerification(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.ledger_verification/1"
):
    """`ledger verify`: whether every frame has exactly one verdict."""

    holds: bool
    ledger: str
    spool: str | None
    """None if the spool was not checked."""
    epochs: list[EpochResult]
    problems: list[str]
    notes: list[str]
    skipped: int
    """Seqs that were skipped because the spool had been lost."""
    removed: int
    """Verdicts that retention removed."""


class EpochResult(msgspec.Struct, kw_only=True):
    """One run of the daemon."""

    epoch: int
    started_at: str | None
    """UTC, ISO 8601."""
    started_at_utc_ns: int | None
    ended_at: str | None
    """None while it runs, and after a `kill -9`."""
    ended_at_utc_ns: int | None
    first_seq: int
    last_seq: int
    captured: int
    passed: int
    reject: int
    no_verdict: int
    late: int
    """Results that came after the deadline."""
    gaps: int
    """Missing seqs."""
    damaged: int
    holds: bool


class LedgerRow(msgspec.Struct, kw_only=True):
    """`ledger query`: a verdict, one per line. `--whole` prints the verdict as published."""

    epoch: int
    seq: int
    captured_at: str
    """UTC, ISO 8601."""
    captured_at_utc_ns: int
    camera: str
    decision: str
    reason: str
    part_id: str | None
    encoder_count: int | None
    defect_prob: float | None
    reject_code: int
    classes: str
    """Classes of the fatal regions, separated by commas."""
    degraded: bool
    """True if the gate decided alone for lack of time."""
    simulated: bool
    """True for a challenge part."""
    total_us: int
    """From capture to verdict."""
    gate: str | None
    gate_calibration: str | None
    segmenter: str | None
    segmenter_calibration: str | None
    config_hash: str | None
    label: str | None
    """The camera's name for the image, such as a file name."""


class LedgerEvent(msgspec.Struct, kw_only=True):
    """`ledger events`: an event other than a verdict, one per line."""

    at: str
    """UTC, ISO 8601."""
    at_utc_ns: int
    epoch: int
    kind: str
    actor: str
    detail: Any
    """An object whose keys depend on the kind; a text if it is damaged."""


class LedgerExport(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.ledger_export/1"
):
    """`ledger export`: what was written."""

    verdicts: int
    file: str
    format: str
    """`csv` or `parquet`."""


class LedgerCopyResult(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.ledger_copy/1"
):
    """`ledger backup` and `ledger restore`: the file that was written."""

    path: str
    size_bytes: int
    verdicts: int
    last_seq: int
    last_at: str | None
    """Time of the last verdict; UTC, ISO 8601. None without verdicts."""
    last_utc_ns: int | None
    holds: bool
    """False if the ledger itself has problems."""
    problems: list[str]
    skipped: tuple[int, int] | None = None
    """First and last number that a restored line does not use; None if there are none."""


class ArchivedFrame(msgspec.Struct, kw_only=True):
    """`archive list`: a frame, one per line."""

    name: str
    epoch: int
    seq: int
    camera: str
    captured_at: str
    """UTC, ISO 8601."""
    captured_at_utc_ns: int
    kind: str
    label: str
    """Class of the worst region."""
    decision: str
    reason: str
    defect_prob: float | None
    size_bytes: int
    path: str
    """Path of its record, relative to the archive."""


class ArchiveLoss(msgspec.Struct, kw_only=True):
    """`archive list --lost`: frames of one hour without an image, one object per line."""

    hour: str
    """Its beginning; UTC, ISO 8601."""
    kind: str
    why: str
    frames: int


class ArchiveExport(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.archive_export/1"
):
    """`archive export`: the data set that was written."""

    folder: str
    images: int
    defective: int
    classes: list[str]
    notes: list[str]


class ArchiveCheck(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.archive_check/1"
):
    """`archive check`: whether every image is as it was saved."""

    intact: int
    broken: list[str]
    """Records that are unreadable or do not match their image."""
    unindexed: int
    """Frames that the index does not have yet."""


class ClientKeys(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.keys/1"):
    """`keys list`: the clients admitted to a line."""

    folder: str
    clients: list[ClientKey]


class ClientKey(msgspec.Struct, kw_only=True):
    """A client's key."""

    client: str
    public_key: str


class ModelList(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.models/1"):
    """`models list`: versions and their states."""

    store: str
    models: list[ModelEntry]


class ModelEntry(msgspec.Struct, kw_only=True):
    """One version of a model."""

    model: str
    """NAME/VERSION."""
    state: str
    """`live`, `shadow` or `candidate`."""
    was_live: bool
    problem: str
    """Why it is refused; empty if it is valid."""
    manifest: dict[str, Any] | None
    """The content of manifest.yaml; None if it is refused."""


class ModelDetails(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.model/1"):
    """`models show`: one version, and its model's history."""

    model: str
    folder: str
    state: str
    manifest: dict[str, Any]
    history: list[ModelChange]
    """The oldest first."""


class ModelChange(msgspec.Struct, kw_only=True):
    """A change of a model's state."""

    at: str
    """UTC, ISO 8601."""
    who: str
    did: str
    version: int
    live: int
    """The live version after it."""
    why: str


class ModelVerification(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.model_verification/1"
):
    """`models verify`: whether files, owners and outputs are as recorded."""

    passed: bool
    models: list[VerifiedModel]


class VerifiedModel(msgspec.Struct, kw_only=True):
    """The result of one version."""

    model: str
    passed: bool
    found: str


class ShadowResults(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.shadow/1"):
    """`models shadow`: comparisons of one version with what was live."""

    model: str
    comparisons: list[ShadowPair]


class ShadowPair(msgspec.Struct, kw_only=True):
    """A version in shadow and the live models, on the same frames."""

    live: str
    shadow: str
    frames: int
    both_reject: int
    only_live_rejects: int
    only_shadow_rejects: int
    classes: dict[str, Any]
    """Class to `both`, `only_live`, `only_shadow`."""
    differing: int
    """Frames that differ in decision or defect classes."""
    seqs: list[int]
    """The newest of them, at most 1000."""
    p99_us: int
    last_at: str
    """UTC, ISO 8601."""


class ModelRemoval(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.model_removal/1"
):
    """`models gc`: versions that are not needed any more."""

    removed: bool
    """False without `--yes`: nothing was removed."""
    versions: list[str]
    freed_bytes: int


class ModelImport(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.model_import/1"
):
    """`models import`: the version that was written, and its proof."""

    model: str
    folder: str
    notes: list[str]
    """What was inferred from the file."""
    samples: int
    tolerance: float
    largest_errors: dict[str, float]
    """Output to the largest difference from the original network."""
    result: str
    """What it says about the samples."""
    warning: str
    """Why the result is doubtful; empty if it is not."""


class BuiltModels(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.build/1"):
    """`models build`: plans, or FP16 versions."""

    plans: list[BuiltPlan]
    versions: list[Fp16Version]


class BuiltPlan(msgspec.Struct, kw_only=True):
    """A TensorRT plan."""

    name: str
    path: str
    plan_bytes: int | None = None
    """None, as the following, for a plan that was only inspected."""
    built_at: str | None = None
    """UTC, ISO 8601."""
    build_s: float | None = None
    typing: str | None = None
    tensorrt: str | None = None
    layers: list[PlanLayer] = []
    """With `--inspect`."""
    precision_ratios: dict[str, float] = {}
    """Data type to the ratio of convolutions and products that read it, with `--inspect`."""


class PlanLayer(msgspec.Struct, kw_only=True):
    """A layer of a plan with its data types."""

    name: str
    kind: str
    inputs: list[str]
    outputs: list[str]


class Fp16Version(msgspec.Struct, kw_only=True):
    """An FP16 version of a model."""

    model: str
    """NAME/VERSION."""
    parent: str
    folder: str
    float32_layers: list[str]
    checks: list[AcceptanceResultRow]


class AcceptanceResultRow(msgspec.Struct, kw_only=True):
    """One limit of an acceptance."""

    name: str
    before: float
    after: float
    passed: bool
    text: str


class CalibrationOutcome(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.calibration_outcome/1"
):
    """`calibrate`: the INT8 version, or why it is refused; more is in its report.json."""

    id: str
    parent: str
    accepted: bool
    reason: str
    model: str | None
    """NAME/VERSION of the candidate; None if it is refused."""
    folder: str | None
    report: str
    """Path of the HTML report."""
    method: str
    checks: list[AcceptanceResultRow]
    layers: list[LayerSensitivity]
    """The most sensitive first."""
    float_layers: list[str]
    drift: list[str]
    """How the frames differ from the reference."""
    skipped: dict[str, str]
    """Unusable images, and why."""


class LayerSensitivity(msgspec.Struct, kw_only=True):
    """What INT8 costs in one layer."""

    layer: str
    signal_db: float
    distance_int8: float
    """Error of the output with this layer alone in INT8."""
    distance_recovered: float
    """Gain with this layer alone in float."""


class TrainingOutcome(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.training/1"
):
    """`train`: the trained models."""

    models: list[TrainedModel]
    skipped: dict[str, str]
    """Unusable images, and why."""
    comparison: str | None = None
    """With `--compare`: path of comparison.json."""


class TrainedModel(msgspec.Struct, kw_only=True):
    """A trained model."""

    name: str
    folder: str
    accuracy: dict[str, Any]
    """On the test split, as in its manifest."""


class DatasetInspection(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.data/1"):
    """`data inspect`: what a data set contains, and its problems."""

    path: str
    layout: str
    images: int
    bits: int
    """Bit depth of the images."""
    colored: int
    """Images in colour."""
    has_masks: bool
    classes: list[str]
    counts: dict[str, dict[str, int]]
    """Class to split to number of images; `good` is one of the classes."""
    pixels: dict[str, int]
    """Class to the number of its pixels in all masks."""
    sizes: list[ImageSizeCount]
    """The most frequent first."""
    unusable: list[NamedReason]
    """Images and masks that cannot be read or do not fit."""
    left_out: list[NamedReason]
    """Files that are not part of the set."""
    empty_masks: list[str]
    duplicates: list[DuplicatePair]
    across_splits: list[list[str]]
    """Duplicates that are in two splits, in pairs."""
    findings: list[DatasetFindingResult]


class ImageSizeCount(msgspec.Struct, kw_only=True):
    """Number of images of one size."""

    height_px: int
    width_px: int
    count: int


class NamedReason(msgspec.Struct, kw_only=True):
    """A file, and why it is not used."""

    name: str
    why: str


class DuplicatePair(msgspec.Struct, kw_only=True):
    """Two images of the same scene."""

    names: list[str]
    exact: bool
    correlation: float


class DatasetFindingResult(msgspec.Struct, kw_only=True):
    """A finding about the set as a whole."""

    level: str
    """`error`, `warning` or `note`."""
    what: str
    remedy: str


class DatasetSplit(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.data_split/1"
):
    """`data split`: the split that was written."""

    file: str
    images: int
    counts: dict[str, dict[str, int]]
    """Class to split to number of images; `good` is one of the classes."""


class RescoreOutcome(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.rescore/1"):
    """`rescore`: the completed run; results.csv has a row per frame."""

    folder: str
    frames: int
    without_result: int
    summary: dict[str, Any]
    """The content of summary.json."""


class RecordOutcome(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.record/1"):
    """`record`: what was recorded."""

    out: str
    frames: int
    without_image: int
    missed: int
    """Verdicts that the recorder did not get."""
    end_reason: str


class RunOutcome(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.run/1"):
    """`run`: the counts when the line ended."""

    line: str
    captured: int
    passed: int
    reject: int
    no_verdict: int
    late: int
    degraded: int
    reasons: dict[str, int]
    """Of no verdict."""


class DemoOutcome(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.demo/1"):
    """`demo`: counts, truth and times."""

    captured: int
    passed: int
    reject: int
    no_verdict: int
    late: int
    degraded: int
    reasons: dict[str, int]
    received: int
    """Verdicts received on the wire."""
    truth: dict[str, int]
    """What the generator knows: `defective`, `clean`, `escapes`, `overkills`, …"""
    latency_us: dict[str, int]
    """From capture to verdict: `p50`, `p99`, `p999`, `max`, …"""
    engine_us: dict[str, int]
    overhead_us: dict[str, int]
    past_deadline_us: dict[str, int]
    budget_ms: float
    rate_hz: float
    backend: str


class ExplanationOutcome(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.explanation/1"
):
    """`explain`: the drawn images; the same as its explain.json."""

    model: str
    method: str | None
    how: str
    notes: list[str]
    pictures: list[Any]
