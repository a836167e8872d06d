from __future__ import annotations

import pytest

from edgeinspect.learning.evaluate.metrics.decisions import measure_decisions
from tests.unit.learning.evaluate.small_datasets import make_result


def test_decisions_by_hand() -> None:
    decisions = (
        [(True, True)] * 7 + [(True, False)] * 3 + [(False, True)] * 2 + [(False, False)] * 8
    )
    result = measure_decisions(
        [make_result(str(i), is_defective=d, is_rejected=r) for i, (d, r) in enumerate(decisions)]
    )
    assert (result.defective_rejected, result.defective_passed) == (7, 3)
    assert (result.sound_rejected, result.sound_passed) == (2, 8)
    assert result.accuracy.value == 0.75
    assert result.precision.value == pytest.approx(7 / 9)
    assert result.recall.value == 0.7
    assert result.f1 == pytest.approx(2 * (7 / 9) * 0.7 / (7 / 9 + 0.7))
    assert result.escape.value == 0.3
    assert result.overkill.value == 0.2
