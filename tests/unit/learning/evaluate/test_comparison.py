"""Two models on the same images."""

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
from edgeinspect.learning.evaluate.offline_inspector import OfflineInspector
from edgeinspect.learning.evaluate.open_model import build_inspector, load_engine
from edgeinspect.storage.model_store import ModelStore
from tests import graphs, needs
from tests.unit.learning.evaluate.small_datasets import make_image, make_result

needs.library("onnxruntime")


@pytest.fixture
def inspector(tmp_path: Path) -> Iterator[OfflineInspector]:
    limits = {name: {"score": 0.01, "area_px": 40} for name in graphs.CLASSES}
    graphs.install(
        tmp_path, graphs.segmenter(), name="tiny-seg", kind="segmenter", thresholds=limits
    )
    built = build_inspector(load_engine("tiny-seg", "ort", store=ModelStore(tmp_path)))
    yield built
    built.close()


def make_images() -> ImageArrays:
    labelled = [make_image(kind, seed) for seed, kind in enumerate(["good", "dark", "bright"] * 4)]
    masks = np.stack([mask for _image, mask in labelled])
    return ImageArrays(
        np.stack([image for image, _mask in labelled])[..., None],
        masks,
        masks.reshape(len(masks), -1).any(axis=1),
        [f"p{i}" for i in range(len(labelled))],
        graphs.CLASSES,
    )


def test_a_model_equals_itself(inspector: OfflineInspector) -> None:
    comparison = compare_inspectors(inspector, inspector, make_images())
    assert (comparison.agreement_ratio, comparison.pixel_agreement_ratio) == (1.0, 1.0)
    assert comparison.differing == ()
    assert comparison.escapes is not None
    assert (comparison.escapes.only_a, comparison.escapes.only_b, comparison.escapes.p_value) == (
        0,
        0,
        1.0,
    )
    assert [each.name for each in comparison.dice] == ["dark", "bright", "mean"]
    for each in (*comparison.dice, *comparison.iou):
        assert each.difference == 0.0
        assert each.low < 0 < each.high  # so few images do not prove it
        assert each.a == 1.0  # the tiny segmenter finds these defects exactly


def test_differing_images_are_listed(inspector: OfflineInspector, tmp_path: Path) -> None:
    limits = {name: {"score": 0.01, "area_px": 100_000} for name in graphs.CLASSES}
    graphs.install(tmp_path, graphs.segmenter(), name="blind", kind="segmenter", thresholds=limits)
    blind = build_inspector(load_engine("blind", "ort", store=ModelStore(tmp_path)))
    comparison = compare_inspectors(inspector, blind, make_images())
    assert comparison.escapes is not None
    assert comparison.overkills is not None
    assert (comparison.escapes.only_a, comparison.escapes.only_b) == (0, 8)
    assert comparison.escapes.p_value == pytest.approx(2 / 2**8)
    assert comparison.escapes.rate.difference == 1.0
    assert comparison.overkills.rate.difference == 0.0
    assert {row.name for row in comparison.differing} == {f"p{i}" for i in range(12) if i % 3}
    assert comparison.agreement_ratio == pytest.approx(4 / 12)
    assert comparison.pixel_agreement_ratio == 1.0


def test_models_with_different_frames_are_rejected(
    inspector: OfflineInspector, tmp_path: Path
) -> None:
    graphs.install(
        tmp_path,
        graphs.gate(graphs.FrameShape(8, 8, 1)),
        name="small",
        shape=graphs.FrameShape(8, 8, 1),
    )
    other = build_inspector(load_engine("small", "ort", store=ModelStore(tmp_path)))
    with pytest.raises(DataError, match="takes"):
        compare_inspectors(inspector, other, make_images())


def results_with(confusions: list[list[int]], prefix: str = "p") -> list:  # type: ignore[type-arg]
    return [
        make_result(
            f"{prefix}{i}",
            is_defective=bool(i % 2),
            is_rejected=bool(i % 3),
            prob=0.5,
            confusion=np.array(each, np.int64).reshape(2, 2),
        )
        for i, each in enumerate(confusions)
    ]


_COUNTS = st.lists(st.integers(1, 50), min_size=4, max_size=4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(_COUNTS, _COUNTS), min_size=2, max_size=12))
def test_bootstrap_is_paired_and_seeded(pairs: list[tuple[list[int], list[int]]]) -> None:
    results_a, results_b = (
        results_with([a for a, _b in pairs]),
        results_with([b for _a, b in pairs]),
    )

    def run(a: list, b: list, seed: int = 4) -> PairedComparison:  # type: ignore[type-arg]
        return compare_results(a, b, [None] * len(a), classes=("c",), seed=seed, rounds=200)

    comparison, reverse = run(results_a, results_b), run(results_b, results_a)
    assert comparison.dice == run(results_a, results_b).dice
    whole = np.sum([one.confusion for one in results_b], axis=0)
    assert comparison.dice[0].b == pytest.approx(
        2 * whole[1, 1] / (whole[1].sum() + whole[:, 1].sum())
    )
    for forward, backward in zip(comparison.dice, reverse.dice, strict=True):
        assert forward.difference == pytest.approx(-backward.difference)
        assert forward.low == pytest.approx(-backward.high, abs=1e-12)


def test_the_interval_of_a_rate_is_not_empty_without_discordant_pairs() -> None:
    same = [make_result(str(i), is_defective=True, is_rejected=True, prob=0.9) for i in range(30)]
    comparison = compare_results(same, same, [None] * 30)
    assert comparison.escapes is not None
    assert comparison.overkills is None
    assert comparison.escapes.rate.low < 0 < comparison.escapes.rate.high < 0.1


def test_results_of_different_images_are_rejected() -> None:
    with pytest.raises(DataError, match="same images"):
        compare_results(results_with([[1, 1, 1, 1]]), results_with([[1, 1, 1, 1]], "q"), [None])
