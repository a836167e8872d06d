"""Two models on the same pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.arrays import ImageArrays
from edgeinspect.learning.evaluate.comparison import (
    PairedComparison,
    compare_inspectors,
    compare_results,
)
from edgeinspect.learning.evaluate.metrics.paired_tests import mcnemar_p_value
from edgeinspect.learning.evaluate.offline_inspector import OfflineInspector
from edgeinspect.learning.evaluate.open_model import build_inspector, load_engine
from edgeinspect.storage.model_store import ModelStore
from tests import graphs
from tests.unit.learning.evaluate.small_datasets import make_image, make_result

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra cpu)")


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[OfflineInspector]:
    limits = {name: {"score": 0.01, "area_px": 40} for name in graphs.CLASSES}
    graphs.install(
        tmp_path, graphs.segmenter(), name="tiny-seg", kind="segmenter", thresholds=limits
    )
    made = build_inspector(load_engine("tiny-seg", "ort", store=ModelStore(tmp_path)))
    yield made
    made.close()


def pictures() -> ImageArrays:
    drawn = [make_image(kind, seed) for seed, kind in enumerate(["sound", "dark", "bright"] * 4)]
    masks = np.stack([mask for _image, mask in drawn])
    return ImageArrays(
        np.stack([image for image, _mask in drawn])[..., None],
        masks,
        masks.reshape(len(masks), -1).any(axis=1),
        [f"p{i}" for i in range(len(drawn))],
        graphs.CLASSES,
    )


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_against_all_outcomes(only_a: int, only_b: int) -> None:
    flips, seen = only_a + only_b, abs(only_a - only_b)
    row = [1.0]
    for _ in range(flips):  # Pascal's triangle, halved at each step
        row = [(a + b) / 2 for a, b in zip([0.0, *row], [*row, 0.0], strict=True)]
    as_far = sum(p for k, p in enumerate(row) if abs(2 * k - flips) >= seen)
    assert mcnemar_p_value(only_a, only_b) == pytest.approx(as_far)


def test_mcnemar_is_right_where_floats_overflow() -> None:
    assert mcnemar_p_value(2000, 2000) == pytest.approx(1.0)
    assert 0 <= mcnemar_p_value(0, 3000) < 1e-300


def test_a_model_equals_itself(judge: OfflineInspector) -> None:
    found = compare_inspectors(judge, judge, pictures())
    assert (found.agreement_ratio, found.pixel_agreement_ratio) == (1.0, 1.0)
    assert found.differing == ()
    assert found.escapes is not None
    assert (found.escapes.only_a, found.escapes.only_b, found.escapes.p_value) == (0, 0, 1.0)
    assert [each.name for each in found.dice] == ["dark", "bright", "mean"]
    for each in (*found.dice, *found.iou):
        assert (each.difference, each.low, each.high) == (0.0, 0.0, 0.0)
        assert each.a == 1.0  # the tiny segmenter sees these defects exactly


def test_what_differs_is_named(judge: OfflineInspector, tmp_path: Path) -> None:
    limits = {name: {"score": 0.01, "area_px": 100_000} for name in graphs.CLASSES}
    graphs.install(tmp_path, graphs.segmenter(), name="blind", kind="segmenter", thresholds=limits)
    blind = build_inspector(load_engine("blind", "ort", store=ModelStore(tmp_path)))
    found = compare_inspectors(judge, blind, pictures())
    assert found.escapes is not None
    assert found.overkills is not None
    assert (found.escapes.only_a, found.escapes.only_b) == (0, 8)
    assert found.escapes.p_value == pytest.approx(2 / 2**8)
    assert found.escapes.rate.difference == 1.0
    assert found.overkills.rate.difference == 0.0
    assert {row.name for row in found.differing} == {f"p{i}" for i in range(12) if i % 3}
    assert found.agreement_ratio == pytest.approx(4 / 12)
    assert found.pixel_agreement_ratio == 1.0


def test_models_of_other_frames_are_refused(judge: OfflineInspector, tmp_path: Path) -> None:
    graphs.install(
        tmp_path,
        graphs.gate(graphs.FrameShape(8, 8, 1)),
        name="small",
        shape=graphs.FrameShape(8, 8, 1),
    )
    other = build_inspector(load_engine("small", "ort", store=ModelStore(tmp_path)))
    with pytest.raises(DataError, match="takes"):
        compare_inspectors(judge, other, pictures())


def of_cells(cells: list[list[int]], prefix: str = "p") -> list:  # type: ignore[type-arg]
    return [
        make_result(
            f"{prefix}{i}",
            defective=bool(i % 2),
            rejected=bool(i % 3),
            prob=0.5,
            cells=np.array(each, np.int64).reshape(2, 2),
        )
        for i, each in enumerate(cells)
    ]


_CELLS = st.lists(st.integers(1, 50), min_size=4, max_size=4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(_CELLS, _CELLS), min_size=2, max_size=12))
def test_bootstrap_is_paired_and_seeded(pairs: list[tuple[list[int], list[int]]]) -> None:
    mine, theirs = of_cells([a for a, _b in pairs]), of_cells([b for _a, b in pairs])

    def run(a: list, b: list, seed: int = 4) -> PairedComparison:  # type: ignore[type-arg]
        return compare_results(a, b, [None] * len(a), classes=("c",), seed=seed, rounds=200)

    found, back = run(mine, theirs), run(theirs, mine)
    assert found.dice == run(mine, theirs).dice
    whole = np.sum([one.cells for one in theirs], axis=0)
    assert found.dice[0].b == pytest.approx(2 * whole[1, 1] / (whole[1].sum() + whole[:, 1].sum()))
    for there, here in zip(found.dice, back.dice, strict=True):
        assert there.difference == pytest.approx(-here.difference)
        assert there.low == pytest.approx(-here.high, abs=1e-12)


def test_the_interval_of_a_rate_is_open_even_without_a_flip() -> None:
    same = [make_result(str(i), defective=True, rejected=True, prob=0.9) for i in range(30)]
    found = compare_results(same, same, [None] * 30)
    assert found.escapes is not None
    assert found.overkills is None
    assert found.escapes.rate.low < 0 < found.escapes.rate.high < 0.1


def test_other_pictures_are_refused() -> None:
    with pytest.raises(DataError, match="same pictures"):
        compare_results(of_cells([[1, 1, 1, 1]]), of_cells([[1, 1, 1, 1]], "q"), [None])
