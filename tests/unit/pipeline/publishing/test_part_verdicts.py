"""Parts seen by several cameras: one verdict each, never late, never good by silence."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.part_verdict import PartVerdict, combine_decisions
from edgeinspect.domain.verdict import Decision, Reason, Verdict
from edgeinspect.pipeline.publishing.part_verdicts import PARTS_MAX, PartAggregator

CAMERAS = ("top", "side", "end")
WINDOW_NS = 300 * NS_PER_MS
EPOCH = 7
REASONS = {
    Decision.PASS: Reason.CLEAN,
    Decision.REJECT: Reason.DEFECT,
    Decision.NO_VERDICT: Reason.DEADLINE,
}
decisions = st.sampled_from(list(Decision))


def verdict(
    camera: str,
    decision: Decision,
    part_id: str | None = "p",
    *,
    at_ns: int = 0,
    seq: int = 1,
    severity: int = 0,
    simulated: bool = False,
) -> Verdict:
    return Verdict(
        line="l",
        camera=camera,
        epoch=EPOCH,
        seq=seq,
        frame=seq,
        camera_frame_id=seq,
        part_id=part_id,
        captured_at_utc_ns=at_ns,
        deadline_utc_ns=at_ns,
        budget_us=1,
        act_by_utc_ns=at_ns + 1000,
        decision=decision,
        reason=REASONS[decision],
        severity=severity,
        reject_code=10 + severity,
        simulated=simulated,
    )


def book() -> PartAggregator:
    return PartAggregator("l", CAMERAS, WINDOW_NS)


@given(st.lists(decisions, max_size=3), st.booleans())
def test_a_pass_needs_every_camera(found: list[Decision], complete: bool) -> None:
    together = combine_decisions(found, complete=complete)
    assert (together is Decision.REJECT) == (Decision.REJECT in found)
    if together is Decision.PASS:
        assert complete
        assert found
        assert set(found) == {Decision.PASS}


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(CAMERAS, decisions)))
def test_the_order_of_arrival_changes_nothing(found: dict[str, Decision]) -> None:
    ends = set()
    for order in permutations(found):
        parts = book()
        out: list[PartVerdict] = []
        for camera in order:
            out += parts.add(verdict(camera, found[camera]), 0, 0, EPOCH)
        sure = len(found) == len(CAMERAS) or Decision.REJECT in found.values()
        assert len(out) == sure, "as soon as it is certain"
        assert not parts.expire(WINDOW_NS - 1, EPOCH)
        out += parts.expire(WINDOW_NS, EPOCH)
        assert len(out) == (1 if found else 0)
        ends |= {part.decision for part in out}
        assert not parts.expire(2 * WINDOW_NS, EPOCH)
        assert not len(parts)
    wanted = combine_decisions(found.values(), complete=len(found) == len(CAMERAS))
    assert ends == ({wanted} if found else set())


events = st.lists(
    st.tuples(
        st.sampled_from([f"p{n}" for n in range(6)]),
        st.sampled_from(CAMERAS),
        decisions,
        st.integers(0, 120),  # ms until the next
    ),
    max_size=60,
)


@given(events)
def test_each_part_has_one_verdict_in_time(script: list[tuple[str, str, Decision, int]]) -> None:
    parts, now_ns, out = book(), 0, []
    first: dict[str, int] = {}
    seen: dict[str, dict[str, list[Decision]]] = {}
    for part_id, camera, decision, gap_ms in script:
        if part_id in first and now_ns >= first[part_id] + WINDOW_NS:
            continue  # ids are not used again so soon
        first.setdefault(part_id, now_ns)
        seen.setdefault(part_id, {}).setdefault(camera, []).append(decision)
        closed = parts.add(verdict(camera, decision, part_id, at_ns=now_ns), now_ns, now_ns, EPOCH)
        out += [(now_ns, part) for part in closed]
        until_ns = now_ns + gap_ms * NS_PER_MS
        while (due_ns := parts.due_in_ns(now_ns)) is not None and now_ns + due_ns <= until_ns:
            now_ns += due_ns
            out += [(now_ns, part) for part in parts.expire(now_ns, EPOCH)]
        now_ns = until_ns
    out += [(now_ns, part) for part in parts.expire(1 << 62, EPOCH)]
    assert sorted(part.part_id for _, part in out) == sorted(first), "one each"
    for at_ns, part in out:
        mine = seen[part.part_id]
        assert at_ns <= first[part.part_id] + WINDOW_NS or at_ns == now_ns
        if part.decision is Decision.PASS:
            assert set(mine) == set(CAMERAS)
            assert all(Decision.PASS in each for each in mine.values())
        if any(Decision.REJECT in each for each in mine.values()):
            # Only a second frame of the same camera can be too late to matter.
            twice = any(len(each) > 1 for each in mine.values())
            assert part.decision is Decision.REJECT or twice


def test_a_pass_after_the_deadline_does_not_make_the_part_good() -> None:
    parts = book()
    for camera in CAMERAS[:2]:
        assert not parts.add(verdict(camera, Decision.PASS), 0, 0, EPOCH)
    (part,) = parts.add(verdict("end", Decision.PASS), 0, WINDOW_NS, EPOCH)
    assert part.decision is Decision.NO_VERDICT
    assert part.missing == ("end",)
    assert [member.camera for member in part.members] == ["top", "side"]


def test_the_last_pass_does_not_make_a_part_good_whose_deadline_it_brings_forward() -> None:
    """The verdict of the part's first frame arrives last, after the part's deadline."""
    parts = book()
    later_ns = WINDOW_NS // 2
    for camera in CAMERAS[1:]:
        seen = verdict(camera, Decision.PASS, at_ns=later_ns)
        assert not parts.add(seen, later_ns, later_ns, EPOCH)
    first = verdict(CAMERAS[0], Decision.PASS, at_ns=0)
    (part,) = parts.add(first, 0, WINDOW_NS, EPOCH)
    assert (part.decision, part.missing) == (Decision.NO_VERDICT, CAMERAS[:1])
    assert not parts.expire(10 * WINDOW_NS, EPOCH)


def test_a_reject_is_sent_at_once_with_the_most_severe_code() -> None:
    parts = book()
    parts.add(verdict("side", Decision.PASS, at_ns=5), 5, 5, EPOCH)
    (part,) = parts.add(verdict("top", Decision.REJECT, at_ns=9, severity=4), 9, 9, EPOCH)
    assert (part.decision, part.severity, part.reject_code) == (Decision.REJECT, 4, 14)
    assert part.missing == ("end",)
    assert part.act_by_utc_ns == 1005
    assert part.deadline_utc_ns == 5 + WINDOW_NS
    assert not parts.add(verdict("end", Decision.REJECT, severity=9), 10, 10, EPOCH)


@pytest.mark.parametrize(
    "other",
    [
        verdict("top", Decision.PASS, None),
        verdict("elsewhere", Decision.REJECT),
        verdict("top", Decision.REJECT, "challenge:a.png", simulated=True),
    ],
)
def test_frames_without_a_part_are_ignored(other: Verdict) -> None:
    parts = book()
    assert not parts.add(other, 0, 0, EPOCH)
    assert not len(parts)


def test_open_parts_are_limited() -> None:
    parts = book()
    closed = []
    for number in range(PARTS_MAX + 5):
        closed += parts.add(verdict("top", Decision.PASS, str(number)), 0, 0, EPOCH)
    assert [part.part_id for part in closed] == ["0", "1", "2", "3", "4"]
    assert {part.decision for part in closed} == {Decision.NO_VERDICT}
