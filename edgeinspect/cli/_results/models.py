"""Versions of models: `models`, `calibrate`."""

from __future__ import annotations

from typing import Any

import msgspec


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
    """All of them are as their manifests say."""
    models: list[VerifiedModel]


class VerifiedModel(msgspec.Struct, kw_only=True):
    """The result of one version."""

    model: str
    passed: bool
    """It is as its manifest says."""
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


class AddedModel(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.model_addition/1"
):
    """`models add`: the version that was added."""

    model: str
    """NAME/VERSION."""
    folder: str
    state: str
    """`live` for the first version of a name, else `candidate`."""


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
    """The figure is within its limit."""
    text: str


class CalibrationOutcome(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.calibration_outcome/1"
):
    """`calibrate`: the INT8 version, or why it is refused; more is in its report.json."""

    id: str
    parent: str
    accepted: bool
    reason: str
    """Why it was refused; empty if it was accepted."""
    model: str | None
    """NAME/VERSION of the candidate; None if it is refused."""
    folder: str | None
    report: str
    """Path of the HTML report."""
    method: str
    checks: list[AcceptanceResultRow]
    scores: dict[str, dict[str, float]]
    """`auc`, and `mean_iou` of a segmenter, by `fp32` and `int8`; empty without labels."""
    thresholds: dict[str, Any] | None
    """Those of both models, on what INT8's were chosen, and what both reject at them; in
    `rejects` the shares of the verification frames."""
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
