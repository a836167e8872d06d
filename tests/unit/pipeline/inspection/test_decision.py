"""The decision: pure, and never softer than its thresholds."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.verdict import Assessment, Decision, Reason
from edgeinspect.imaging.blobs import Blobs
from edgeinspect.pipeline.inspection.decision import (
    ClassLimits,
    DecisionRules,
    GateLimits,
    KindLimits,
    UnknownLimits,
    decide_by_gate,
    decide_by_regions,
    decide_by_unknown,
    decide_degraded,
    decide_without_unknown,
)

GATE = GateLimits(suspect_at=0.3, reject_at=0.9, degraded_reject_at=0.6, reject_code=99)
CLASSES = {
    1: ClassLimits("pit", 0.5, 40, 2, 11),
    2: ClassLimits("scratch", 0.4, 20, 7, 12),
}


def rules(gate: GateLimits | None = GATE, stride: int = 2) -> DecisionRules:
    return DecisionRules(gate, CLASSES, stride, 0.5, 0.25, 3)


def blobs(class_id: int, score: float, *areas: int) -> Blobs:
    return Blobs(class_id, score, 1, 2, [[3, 4, 3, 5, a] for a in areas], [[4.0, 6.0]] * len(areas))


def test_gate_alone_at_its_edges() -> None:
    only_gate = DecisionRules(GATE, {}, 1, 1, 1, 3)
    assert decide_by_gate(0.2999, only_gate).reason is Reason.CLEAN  # type: ignore[union-attr]
    suspect = decide_by_gate(0.3, only_gate)
    assert suspect is not None
    assert suspect.decision is Decision.PASS
    certain = decide_by_gate(0.9, only_gate)
    assert certain is not None
    assert (certain.decision, certain.reject_code) == (Decision.REJECT, 99)
    assert decide_by_gate(0.3, rules()) is None


def test_degraded_uses_the_stricter_threshold() -> None:
    assert decide_degraded(0.59, rules()).decision is Decision.PASS
    strict = decide_degraded(0.6, rules())
    assert (strict.decision, strict.degraded) == (Decision.REJECT, True)


def test_area_is_counted_in_frame_pixels() -> None:
    just_under = decide_by_regions(0.5, [blobs(1, 0.9, 9)], rules())
    just_there = decide_by_regions(0.5, [blobs(1, 0.9, 10)], rules())
    assert just_under.decision is Decision.PASS
    assert just_there.decision is Decision.REJECT
    region = just_there.regions[0]
    assert (region.area_px, region.area_mm2) == (40, 5.0)
    assert (region.box.x_px, region.box.y_px, region.box.width_px) == (8, 12, 6)
    assert region.centroid_px == (10.5, 16.5)
    assert region.centroid_mm == (5.25, 4.12)


def test_the_most_severe_fatal_region_names_the_code() -> None:
    found = decide_by_regions(0.5, [blobs(1, 0.9, 500), blobs(2, 0.5, 6)], rules())
    assert (found.reject_code, found.severity) == (12, 7)
    low_score = decide_by_regions(0.5, [blobs(1, 0.9, 500), blobs(2, 0.39, 600)], rules())
    assert low_score.reject_code == 11
    assert [region.fatal for region in low_score.regions] == [True, False]


def test_listing_is_cut_and_counted() -> None:
    found = decide_by_regions(0.5, [blobs(1, 0.9, 1, 2, 3, 4, 50)], rules())
    assert len(found.regions) == 3
    assert found.regions_total == 5
    assert found.regions[0].area_px == 200


def test_gate_above_its_reject_threshold_rejects_without_regions() -> None:
    assert decide_by_regions(0.9, [], rules()).reason is Reason.GATE
    assert decide_by_regions(0.89, [], rules()).decision is Decision.PASS
    assert decide_by_regions(None, [], rules(gate=None)).reason is Reason.CLEAN


areas_of_classes = st.lists(
    st.tuples(st.sampled_from([1, 2]), st.floats(0, 1), st.lists(st.integers(1, 200), min_size=1)),
    max_size=2,
    unique_by=lambda group: group[0],
)


@given(areas_of_classes, st.one_of(st.none(), st.floats(0, 1)))
def test_reject_exactly_when_a_limit_is_passed(
    groups: list[tuple[int, float, list[int]]], prob: float | None
) -> None:
    found = decide_by_regions(prob, [blobs(c, s, *areas) for c, s, areas in groups], rules())
    fatal = any(
        score >= CLASSES[class_id].score and area * 4 >= CLASSES[class_id].area_px
        for class_id, score, areas in groups
        for area in areas
    )
    sure = prob is not None and prob >= GATE.reject_at
    assert (found.decision is Decision.REJECT) == (fatal or sure)
    assert (found.reject_code > 0) == (found.decision is Decision.REJECT)
    assert found.regions_total == sum(len(areas) for _, _, areas in groups)


@given(areas_of_classes, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_probability_never_turns_a_reject_into_a_pass(
    groups: list[tuple[int, float, list[int]]], low: float, high: float
) -> None:
    low, high = sorted((low, high))
    measurements = [blobs(c, s, *areas) for c, s, areas in groups]
    if decide_by_regions(low, measurements, rules()).decision is Decision.REJECT:
        assert decide_by_regions(high, measurements, rules()).decision is Decision.REJECT


# -- kinds ------------------------------------------------------------------------------------

KINDS = (
    KindLimits("pit", 0.4, 2, 21),
    KindLimits("scratch", 0.3, 8, 22),
    KindLimits("stain", None, 1, 23),
)
KINDS_GATE = replace(GATE, kinds=KINDS)
NAMED_ONLY = replace(GATE, kinds=tuple(replace(k, prob=None) for k in KINDS))


def test_a_gate_reject_has_the_code_and_severity_of_its_most_probable_kind() -> None:
    found = decide_by_gate(0.95, DecisionRules(NAMED_ONLY, {}, 1, 1, 1, 3), (0.2, 0.5, 0.25))
    assert found is not None
    assert (found.reason, found.kind, found.reject_code, found.severity) == (
        Reason.GATE,
        "scratch",
        22,
        8,
    )
    assert found.reject_classes == ("scratch",)


def test_a_kind_that_reaches_its_limit_rejects_and_the_most_severe_names_the_code() -> None:
    only_gate = DecisionRules(KINDS_GATE, {}, 1, 1, 1, 3)
    alone = decide_by_gate(0.45, only_gate, (0.4, 0.05, 0.0))
    assert alone is not None
    assert (alone.decision, alone.kind) == (Decision.REJECT, "pit")
    both = decide_by_gate(0.8, only_gate, (0.5, 0.3, 0.0))
    assert both is not None
    assert (both.kind, both.reject_code, both.severity) == ("scratch", 22, 8)
    degraded = decide_degraded(0.45, only_gate, (0.4, 0.05, 0.0))
    assert (degraded.kind, degraded.degraded) == ("pit", True)
    stain = decide_by_gate(0.8, only_gate, (0.0, 0.0, 0.8))
    assert stain is not None
    assert stain.decision is Decision.PASS


def test_a_kind_may_reject_below_the_suspect_threshold() -> None:
    low = replace(GATE, kinds=(replace(KINDS[0], prob=0.1),))
    found = decide_by_gate(0.2, DecisionRules(low, {}, 1, 1, 1, 3), (0.2,))
    assert found is not None
    assert found.decision is Decision.REJECT
    with_segmenter = DecisionRules(low, CLASSES, 1, 1, 1, 3)
    assert decide_by_gate(0.2, with_segmenter, (0.2,)) is None
    assert decide_by_regions(0.2, [], with_segmenter, (0.2,)).reason is Reason.GATE


def test_fatal_regions_come_before_the_gates_kind() -> None:
    found = decide_by_regions(0.95, [blobs(1, 0.9, 500)], rules(KINDS_GATE), (0.1, 0.8, 0.05))
    assert (found.reason, found.kind, found.reject_code) == (Reason.DEFECT, "", 11)
    small = decide_by_regions(0.95, [blobs(1, 0.9, 1)], rules(KINDS_GATE), (0.1, 0.8, 0.05))
    assert (small.reason, small.kind, small.reject_code) == (Reason.GATE, "scratch", 22)
    assert small.regions_total == 1


probabilities_of_kinds = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(
    lambda values: tuple(value / max(1.0, sum(values)) for value in values)
)


@given(probabilities_of_kinds, st.sampled_from([KINDS_GATE, NAMED_ONLY]), st.booleans())
def test_kinds_reject_exactly_when_a_limit_is_reached(
    probs: tuple[float, ...], gate: GateLimits, segmented: bool
) -> None:
    prob = min(1.0, sum(probs))
    line = rules(gate) if segmented else DecisionRules(gate, {}, 1, 1, 1, 3)
    found = decide_by_gate(prob, line, probs)
    if found is None:
        found = decide_by_regions(prob, [], line, probs)
    reached = {
        kind.name
        for kind, each in zip(gate.kinds, probs, strict=True)
        if kind.prob is not None and each >= kind.prob
    }
    assert (found.decision is Decision.REJECT) == (bool(reached) or prob >= gate.reject_at)
    if found.decision is Decision.REJECT:
        named = next(kind for kind in gate.kinds if kind.name == found.kind)
        assert (found.reject_code, found.severity) == (named.reject_code, named.severity)
        if reached:
            severities = [kind.severity for kind in gate.kinds if kind.name in reached]
            assert named.name in reached
            assert named.severity == max(severities)
        else:
            assert probs[gate.kinds.index(named)] == max(probs)
    else:
        assert (found.kind, found.reject_code, found.severity) == ("", 0, 0)


@given(probabilities_of_kinds, st.floats(0, 1))
def test_kinds_never_make_the_decision_softer(probs: tuple[float, ...], prob: float) -> None:
    only_gate = DecisionRules(KINDS_GATE, {}, 1, 1, 1, 3)
    plain = decide_by_gate(prob, DecisionRules(GATE, {}, 1, 1, 1, 3))
    found = decide_by_gate(prob, only_gate, probs)
    assert plain is not None
    assert found is not None
    if plain.decision is Decision.REJECT:
        assert found.decision is Decision.REJECT


# -- the good-parts model ---------------------------------------------------------------------

UNKNOWN = UnknownLimits("unknown", 3, 0.7, 40, 6, 66, True, False, 4)
REVIEW = replace(UNKNOWN, rejects=False)


def third(limits: UnknownLimits = UNKNOWN) -> DecisionRules:
    return replace(rules(), unknown=limits)


def test_what_good_parts_do_not_have_is_rejected_with_its_own_code() -> None:
    tolerated = decide_by_regions(0.5, [blobs(1, 0.9, 1, 2)], rules())
    found = decide_by_unknown(tolerated, 0.7, [blobs(1, 0.8, 3, 2)], third())
    assert (found.decision, found.reason) == (Decision.REJECT, Reason.DEFECT)
    assert (found.severity, found.reject_code, found.reject_classes) == (6, 66, ("unknown",))
    assert found.regions_total == 4
    assert [(each.class_id, each.class_name, each.fatal) for each in found.regions] == [
        (3, "unknown", True),
        (3, "unknown", False),
        (1, "pit", False),
    ]
    assert (found.regions[0].area_px, found.regions[0].box.width_px) == (48, 12)


def test_review_leaves_the_decision_as_it_is() -> None:
    found = decide_by_unknown(None, 0.9, [blobs(1, 0.9, 3)], third(REVIEW))
    assert (found.decision, found.review, found.reject_code) == (Decision.PASS, True, 0)
    assert found.reject_classes == ()
    assert [each.fatal for each in found.regions] == [False]
    small = decide_by_unknown(None, 0.9, [blobs(1, 0.9, 2)], third(REVIEW))
    assert (small.review, small.reason) == (False, Reason.BELOW_THRESHOLDS)


def test_without_an_area_the_score_is_enough() -> None:
    found = decide_by_unknown(None, 0.7, [], third(replace(UNKNOWN, area_px=0)))
    assert (found.decision, found.regions, found.kind) == (Decision.REJECT, (), "unknown")
    assert found.reject_classes == ("unknown",)
    assert decide_by_unknown(None, 0.69, [], third()).reason is Reason.CLEAN


def test_a_required_model_that_was_not_asked_degrades() -> None:
    passed = Assessment(Decision.PASS, Reason.CLEAN)
    assert decide_without_unknown(passed, third()) is passed
    required = third(replace(UNKNOWN, required=True))
    assert decide_without_unknown(passed, required) == replace(passed, degraded=True)


passes = st.one_of(
    st.none(),
    st.lists(st.integers(1, 4), min_size=1, max_size=5).map(
        lambda areas: decide_by_regions(0.5, [blobs(2, 0.4, *areas)], rules())
    ),
)


@given(
    passes,
    st.floats(0, 1),
    st.lists(st.integers(1, 9), max_size=6),
    st.sampled_from([UNKNOWN, REVIEW, replace(UNKNOWN, area_px=0), replace(REVIEW, area_px=0)]),
)
def test_the_third_opinion(
    before: Assessment | None, prob: float, areas: list[int], limits: UnknownLimits
) -> None:
    groups = [blobs(1, prob, *areas)] if areas else []
    found = decide_by_unknown(before, prob, groups, third(limits))
    large = [area * 16 >= limits.area_px for area in areas]
    is_found = prob >= limits.reject_at and (not limits.area_px or any(large))
    was_passed = before is None or before.decision is Decision.PASS
    assert was_passed == (before is None or before.reject_code == 0)
    assert (found.decision is Decision.REJECT) == (is_found and limits.rejects)
    assert found.review == (is_found and not limits.rejects)
    assert (found.reject_code, found.severity) == (
        (66, 6) if is_found and limits.rejects else (0, 0)
    )
    before_total = before.regions_total if before is not None else 0
    listed = len(areas) if prob >= limits.reject_at else 0
    assert found.regions_total == before_total + listed
    assert len(found.regions) == min(3, found.regions_total)
    fatal = sum(each.fatal for each in found.regions)
    assert fatal == (min(3, sum(large)) if found.decision is Decision.REJECT else 0)
    flags = [each.fatal for each in found.regions]
    assert flags == sorted(flags, reverse=True)
