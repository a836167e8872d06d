"""The decision: a pure function of the models' outputs and the line's thresholds.

No clock, no state, no input or output: the same outputs always give the same assessment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from edgeinspect.domain import Assessment, Box, Decision, Reason, Region
from edgeinspect.imaging import Blobs


@dataclass(frozen=True, slots=True)
class KindLimits:
    """One kind's rule; see `config.KindThresholds`."""

    name: str
    prob: float | None
    """The frame is rejected from here on; None: the kind only names a reject."""
    severity: int
    reject_code: int


@dataclass(frozen=True, slots=True)
class GateLimits:
    """The gate's thresholds; see `config.GateThresholds`."""

    suspect_at: float
    reject_at: float
    degraded_reject_at: float
    reject_code: int
    kinds: tuple[KindLimits, ...] = ()
    """One for every kind of the gate, in the order of `class_prob`."""


@dataclass(frozen=True, slots=True)
class ClassLimits:
    """One class's thresholds, its area already in frame pixels."""

    name: str
    score: float
    area_px: float
    severity: int
    reject_code: int


@dataclass(frozen=True, slots=True)
class UnknownLimits:
    """The good-parts model's rule; see `config.UnknownThresholds`."""

    name: str
    """Of its class."""
    class_id: int
    """Of its regions: the one after the segmenter's."""
    reject_at: float
    area_px: float
    """0 for any, also for none."""
    severity: int
    reject_code: int
    rejects: bool
    """False: what it finds is for review."""
    required: bool
    stride: int
    """Frame pixels per cell of its class map, each way."""


@dataclass(frozen=True, slots=True)
class DecisionRules:
    """Everything of the line that the decision depends on. Immutable."""

    gate: GateLimits | None
    classes: Mapping[int, ClassLimits]
    """By class id, one for every class of the segmenter."""
    stride: int
    """Frame pixels per class-map pixel, each way."""
    mm_per_px_x: float
    mm_per_px_y: float
    max_regions: int
    unknown: UnknownLimits | None = None


_CLEAN = Assessment(Decision.PASS, Reason.CLEAN)


def decide_by_gate(
    defect_prob: float, rules: DecisionRules, kind_probs: Sequence[float] = ()
) -> Assessment | None:
    """Return the assessment that the gate gives alone; None if the segmenter is needed.

    Without a segmenter (`rules.classes` empty) every frame is decided here.

    Args:
        defect_prob: The gate's probability.
        rules: Of the line.
        kind_probs: Of a gate that tells kinds apart: a probability for each of `gate.kinds`.
    """
    gate = rules.gate
    assert gate is not None
    reached = _reached_kind(gate, kind_probs)
    if defect_prob < gate.suspect_at and reached is None:
        return _CLEAN
    if rules.classes:
        return None
    if defect_prob >= gate.reject_at or reached is not None:
        return _reject_by_gate(gate, kind_probs, reached)
    return Assessment(Decision.PASS, Reason.BELOW_THRESHOLDS)


def decide_degraded(
    defect_prob: float, rules: DecisionRules, kind_probs: Sequence[float] = ()
) -> Assessment:
    """Return the assessment of a suspect frame without time left to segment it."""
    gate = rules.gate
    assert gate is not None
    reached = _reached_kind(gate, kind_probs)
    if defect_prob >= gate.degraded_reject_at or reached is not None:
        return _reject_by_gate(gate, kind_probs, reached, degraded=True)
    return Assessment(Decision.PASS, Reason.BELOW_THRESHOLDS, degraded=True)


def _reached_kind(gate: GateLimits, kind_probs: Sequence[float]) -> int | None:
    """Return the most severe kind that reaches its limit, the most probable of equals."""
    reached = [
        (limits.severity, prob, index)
        for index, (limits, prob) in enumerate(zip(gate.kinds, kind_probs, strict=False))
        if limits.prob is not None and prob >= limits.prob
    ]
    return max(reached)[2] if reached else None


def _reject_by_gate(
    gate: GateLimits,
    kind_probs: Sequence[float],
    reached: int | None,
    *,
    degraded: bool = False,
    regions: tuple[Region, ...] = (),
    regions_total: int = 0,
) -> Assessment:
    """Return a reject of the gate, with the code and severity of its kind if it has kinds.

    That is the kind that reached its own limit, or else the most probable one.
    """
    severity, reject_code, kind = 0, gate.reject_code, ""
    if gate.kinds and len(kind_probs):
        if reached is None:
            reached = max(range(len(gate.kinds)), key=kind_probs.__getitem__)
        limits = gate.kinds[reached]
        severity, reject_code, kind = limits.severity, limits.reject_code, limits.name
    return Assessment(
        Decision.REJECT,
        Reason.GATE,
        degraded=degraded,
        regions=regions,
        regions_total=regions_total,
        severity=severity,
        reject_code=reject_code,
        kind=kind,
    )


def decide_by_regions(
    defect_prob: float | None,
    blobs: Sequence[Blobs],
    rules: DecisionRules,
    kind_probs: Sequence[float] = (),
) -> Assessment:
    """Return the assessment with the segmenter's regions.

    A frame is a reject if any region reaches its class's score and area, or else if the gate is
    at or above `reject_at`, or one of its kinds at its own limit. The most severe fatal region
    (then the largest) gives the reject code; regions are listed fatal first, then by severity,
    then by area.
    """
    gate = rules.gate
    reached = None if gate is None else _reached_kind(gate, kind_probs)
    gate_rejects = gate is not None and (
        reached is not None or (defect_prob is not None and defect_prob >= gate.reject_at)
    )
    if not blobs and not gate_rejects:
        return Assessment(Decision.PASS, Reason.BELOW_THRESHOLDS) if rules.gate else _CLEAN
    ranked: list[tuple[bool, int, int, Blobs, int]] = []
    for group in blobs:
        limits = rules.classes[group.class_id]
        least = limits.area_px if group.score >= limits.score else float("inf")
        scale = rules.stride * rules.stride
        for index, (_x, _y, _width, _height, area) in enumerate(group.stats):
            ranked.append((area * scale >= least, limits.severity, area, group, index))
    ranked.sort(key=_rank, reverse=True)
    regions = tuple(
        _region(group, index, fatal, _SegmenterClass(rules, group.class_id), rules)
        for fatal, _severity, _area, group, index in ranked[: rules.max_regions]
    )
    if ranked and ranked[0][0]:
        limits = rules.classes[ranked[0][3].class_id]
        return Assessment(
            Decision.REJECT,
            Reason.DEFECT,
            regions=regions,
            regions_total=len(ranked),
            severity=limits.severity,
            reject_code=limits.reject_code,
        )
    if gate is not None and gate_rejects:
        return _reject_by_gate(
            gate, kind_probs, reached, regions=regions, regions_total=len(ranked)
        )
    return Assessment(
        Decision.PASS, Reason.BELOW_THRESHOLDS, regions=regions, regions_total=len(ranked)
    )


def decide_by_unknown(
    before: Assessment | None, prob: float, blobs: Sequence[Blobs], rules: DecisionRules
) -> Assessment:
    """Return the assessment with the opinion of the good-parts model.

    Something unknown is found if `prob` reaches `reject_at` and, where the rule has an area, the
    largest region reaches that. Then the frame is a reject, or its decision stands and it is
    marked for review. Whatever the model says, it never turns a reject into a pass.

    Args:
        before: What gate and segmenter decided; None if there are none.
        prob: Its score of the whole image.
        blobs: Its regions; not needed where `prob` is below `reject_at`.
        rules: Of the line.
    """
    unknown = rules.unknown
    assert unknown is not None
    before = before or _CLEAN
    if prob < unknown.reject_at:
        return before
    scale = unknown.stride * unknown.stride
    ranked = [
        (area * scale >= unknown.area_px, area, group, index)
        for group in blobs
        for index, (_x, _y, _width, _height, area) in enumerate(group.stats)
    ]
    ranked.sort(key=_rank_unknown, reverse=True)
    is_found = not unknown.area_px or bool(ranked and ranked[0][0])
    is_reject = is_found and unknown.rejects
    regions = tuple(
        _region(group, index, is_reject and is_large, unknown, rules)
        for is_large, _area, group, index in ranked[: rules.max_regions]
    )
    # A fatal one comes first; what the segmenter tolerated is cut before what nobody knows.
    regions = (*regions, *before.regions)[: rules.max_regions]
    regions_total = len(ranked) + before.regions_total
    if is_reject:
        return Assessment(
            Decision.REJECT,
            Reason.DEFECT,
            degraded=before.degraded,
            regions=regions,
            regions_total=regions_total,
            severity=unknown.severity,
            reject_code=unknown.reject_code,
            kind=unknown.name,
        )
    return replace(
        before,
        reason=Reason.BELOW_THRESHOLDS if before.reason is Reason.CLEAN else before.reason,
        regions=regions,
        regions_total=regions_total,
        review=is_found,
    )


def decide_without_unknown(before: Assessment, rules: DecisionRules) -> Assessment:
    """Return the assessment of a frame without time left for the good-parts model."""
    assert rules.unknown is not None
    return replace(before, degraded=True) if rules.unknown.required else before


def _rank(entry: tuple[bool, int, int, Blobs, int]) -> tuple[bool, int, int]:
    return entry[:3]


def _rank_unknown(entry: tuple[bool, int, Blobs, int]) -> tuple[bool, int]:
    return entry[:2]


class _RegionClass(Protocol):
    """What a region takes from the rule of its class."""

    @property
    def name(self) -> str: ...

    @property
    def class_id(self) -> int: ...

    @property
    def stride(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _SegmenterClass:
    """One of the segmenter's classes."""

    rules: DecisionRules
    class_id: int

    @property
    def name(self) -> str:
        return self.rules.classes[self.class_id].name

    @property
    def stride(self) -> int:
        return self.rules.stride


def _region(
    group: Blobs, index: int, fatal: bool, of_class: _RegionClass, rules: DecisionRules
) -> Region:
    stride = of_class.stride
    x, y, width, height, area = group.stats[index]
    x, y = x + group.left_px, y + group.top_px
    area_px = area * stride * stride
    # A class-map pixel covers stride frame pixels; its centre is half of that further in.
    centre_x, centre_y = group.centroids[index]
    centre_x = (group.left_px + centre_x + 0.5) * stride - 0.5
    centre_y = (group.top_px + centre_y + 0.5) * stride - 0.5
    return Region(
        class_id=of_class.class_id,
        class_name=of_class.name,
        score=round(group.score, 4),
        area_px=area_px,
        area_mm2=round(area_px * rules.mm_per_px_x * rules.mm_per_px_y, 3),
        box=Box(x * stride, y * stride, width * stride, height * stride),
        centroid_px=(round(centre_x, 1), round(centre_y, 1)),
        centroid_mm=(
            round(centre_x * rules.mm_per_px_x, 2),
            round(centre_y * rules.mm_per_px_y, 2),
        ),
        fatal=fatal,
    )
