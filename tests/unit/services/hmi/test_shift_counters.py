"""Shift counters: plot and table agree, from wire and ledger."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.services.hmi.shift_counters import BUCKET_NS, ShiftCounters
from tests.unit.services.hmi.builders import HOUR_NS

START = 1_000 * HOUR_NS
CLASSES = st.lists(st.sampled_from(["pit", "scratch", "patch"]), max_size=3, unique=True)
JUDGED = st.fixed_dictionaries(
    {
        "after_ns": st.integers(-2 * HOUR_NS, 10 * HOUR_NS),
        "decision": st.sampled_from(["PASS", "REJECT", "NO_VERDICT"]),
        "reason": st.sampled_from(["clean", "defect", "gate", "deadline"]),
        "classes": CLASSES.map(sorted).map(tuple),
        "simulated": st.booleans(),
    }
)


def totals(shift: ShiftCounters, judged: list[dict[str, Any]]) -> None:
    for seq, one in enumerate(judged, 1):
        shift.count_verdict(
            seq,
            START + one["after_ns"],
            one["decision"],
            one["reason"],
            one["classes"],
            simulated=one["simulated"],
        )


@given(st.lists(JUDGED, max_size=60), st.integers(1, 96))
def test_every_frame_has_one_bucket_and_every_reject_one_label(
    judged: list[dict[str, Any]], quarters: int
) -> None:
    shift = ShiftCounters(START, START + quarters * BUCKET_NS - 7)
    totals(shift, judged)
    plot, table = shift.trend_payload(), shift.payload()
    buckets = plot["buckets"]
    assert (plot["start_ms"], plot["end_ms"]) == (table["start_ms"], table["end_ms"])
    for name, key in (("PASS", "pass"), ("REJECT", "reject"), ("NO_VERDICT", "no_verdict")):
        assert sum(each.get(name, 0) for each in buckets) == table[key]
    for each in buckets:
        assert sum(each["classes"].values()) == each.get("REJECT", 0)
        assert 0 <= each["index"] < quarters
    assert (
        sum(sum(each.get(n, 0) for n in ("PASS", "REJECT", "NO_VERDICT")) for each in buckets)
        == table["captured"]
        == len(judged)
    )


@given(st.lists(JUDGED, max_size=60))
def test_grouped_counts_equal_single_counts(judged: list[dict[str, Any]]) -> None:
    """Group as `LedgerHistory.count_shift` does: by bucket and kind, with the last seq of each."""
    one, grouped = (
        ShiftCounters(START, START + 8 * HOUR_NS),
        ShiftCounters(START, START + 8 * HOUR_NS),
    )
    totals(one, judged)
    groups: dict[Any, list[int]] = {}
    for seq, each in enumerate(judged, 1):
        bucket = int(each["after_ns"] / BUCKET_NS)  # SQLite's division is towards zero
        key = (bucket, each["decision"], each["reason"], each["classes"], each["simulated"])
        groups.setdefault(key, []).append(seq)
    grouped.first_seq = 1 if judged else 0
    for (bucket, decision, reason, classes, simulated), seqs in groups.items():
        grouped.count_verdict(
            max(seqs),
            START + bucket * BUCKET_NS,
            decision,
            reason,
            classes,
            simulated=simulated,
            times=len(seqs),
        )
    assert one.trend_payload() == grouped.trend_payload()
    assert one.payload() == grouped.payload()
