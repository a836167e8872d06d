"""The retention policy: categories, quotas, sampling."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.verdict import Decision, Reason
from edgeinspect.services.archiver.config import ArchiveQuotas
from edgeinspect.services.archiver.retention_policy import (
    category_to_evict,
    classify,
    is_sampled,
    label_to_evict,
)
from edgeinspect.storage.archive.format import ArchiveCategory, verdict_label
from tests.archive_fixture import SCRATCH, config, verdict

USEFUL = [
    ArchiveCategory.SIMULATED,
    ArchiveCategory.PASS,
    ArchiveCategory.NO_VERDICT,
    ArchiveCategory.REJECT,
    ArchiveCategory.NEAR,
    ArchiveCategory.UNKNOWN,
]


def test_order_of_usefulness_matches_the_documentation() -> None:
    assert list(ArchiveCategory) == USEFUL
    assert [kind.rank for kind in USEFUL] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"decision": Decision.REJECT}, ArchiveCategory.REJECT),
        ({"decision": Decision.REJECT, "defect_prob": 0.5}, ArchiveCategory.NEAR),
        ({"decision": Decision.PASS, "defect_prob": 0.4}, ArchiveCategory.NEAR),
        ({"decision": Decision.PASS, "defect_prob": 0.61}, None),
        ({"decision": Decision.PASS, "reason": Reason.BELOW_THRESHOLDS}, ArchiveCategory.NEAR),
        ({"decision": Decision.PASS, "degraded": True}, ArchiveCategory.NEAR),
        ({"decision": Decision.REJECT, "simulated": True}, ArchiveCategory.SIMULATED),
        ({"decision": Decision.NO_VERDICT}, ArchiveCategory.NO_VERDICT),
        ({"decision": Decision.NO_VERDICT, "reason": Reason.RESTART}, ArchiveCategory.NO_VERDICT),
        ({"decision": Decision.NO_VERDICT, "reason": Reason.CAPTURE_LOST}, None),
        ({"decision": Decision.NO_VERDICT, "reason": Reason.SHAPE}, None),
        ({"decision": Decision.PASS, "defect_prob": None}, None),
    ],
)
def test_classify(tmp_path: Path, changes: dict[str, object], kind: ArchiveCategory | None) -> None:
    rules = config(tmp_path, "near: {low: 0.4, high: 0.6}\npass_ratio: 0")
    assert classify(verdict(1, **changes), rules) is kind  # type: ignore[arg-type]


def test_label_is_the_class_of_the_worst_region() -> None:
    assert verdict_label(verdict(1, Decision.REJECT)) == "scratch"
    assert verdict_label(verdict(1, Decision.REJECT, regions=())) == "gate"
    assert verdict_label(verdict(1)) == ""
    mild = [
        SCRATCH.__class__(
            **{
                **{f: getattr(SCRATCH, f) for f in SCRATCH.__struct_fields__},
                "class_name": "pit",
                "fatal": False,
            }
        )
    ]
    assert verdict_label(verdict(1, regions=(*mild, SCRATCH))) == "scratch"
    assert verdict_label(verdict(1, regions=tuple(mild))) == "pit"


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.25, 1.0])
def test_passes_are_sampled_by_hash(ratio: float) -> None:
    drawn = [seq for seq in range(20_000) if is_sampled(7, seq, ratio)]
    assert abs(len(drawn) - 20_000 * ratio) <= 5 * (20_000 * ratio * (1 - ratio)) ** 0.5
    assert drawn == [seq for seq in range(20_000) if is_sampled(7, seq, ratio)]
    for period in (2, 3, 10) if ratio == 0.25 else ():
        assert len({seq % period for seq in drawn}) == period


sizes = st.dictionaries(st.sampled_from(ArchiveCategory), st.integers(0, 100), min_size=1).filter(
    lambda held: any(held.values())
)


@given(sizes, st.integers(1, 300))
def test_evicts_the_least_useful_category_above_its_quota(
    held: dict[ArchiveCategory, int], room: int
) -> None:
    share = ArchiveQuotas().quota_of
    victim = category_to_evict(held, share, room)
    assert held[victim] > 0
    above = [kind for kind in ArchiveCategory if held.get(kind, 0) > share(kind) * room]
    if above:
        assert victim is above[0]
    else:
        assert victim is next(kind for kind in ArchiveCategory if held.get(kind, 0))


def test_evicts_the_label_with_the_most_space() -> None:
    assert label_to_evict({"pit": 3, "scratch": 9, "": 2}) == "scratch"
    assert label_to_evict({"b": 3, "a": 3}) == "b"
