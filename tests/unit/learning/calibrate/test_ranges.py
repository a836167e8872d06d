"""Histograms, range methods, frame selection, and checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import needs

needs.library("onnx")
needs.library("onnxruntime")

from edgeinspect.errors import DataError, ModelError
from edgeinspect.learning.calibrate.checkpoint import CalibrationCheckpoint
from edgeinspect.learning.calibrate.frames import FrameSet
from edgeinspect.learning.calibrate.qdq_placement import plan_qdq
from edgeinspect.learning.calibrate.ranges import (
    BINS,
    METHODS,
    ActivationHistogram,
    clip_value,
    clip_values,
    collect_histograms,
    ranges_csv,
)
from edgeinspect.learning.calibrate.sampling import (
    UNREADABLE,
    FrameMetrics,
    measure_frames,
    select_frames,
)
from edgeinspect.learning.onnx_graphs.graph import fold_batch_norms
from tests.unit.learning.calibrate import networks


def counted(*parts: np.ndarray) -> ActivationHistogram:
    histogram = ActivationHistogram()
    for part in parts:
        histogram.add(part.astype(np.float32))
    return histogram


@given(
    st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40), min_size=1, max_size=6
    )
)
@settings(max_examples=60, deadline=None)
def test_counts_do_not_depend_on_the_order_of_frames(frames: list[list[float]]) -> None:
    arrays = [np.array(each, np.float32) for each in frames]
    one, other = counted(*arrays), counted(*arrays[::-1])
    assert one.total == sum(map(len, frames)) == other.total
    assert (one.low, one.high, one.max_abs) == (other.low, other.high, other.max_abs)
    if one.top == other.top:
        assert (one.counts == other.counts).all()


@given(st.floats(0.001, 1e5), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_growing_gives_the_counts_of_one_pass(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    small, large = rng.normal(0, scale, 500), rng.normal(0, 40 * scale, 500)
    grown, whole = counted(small, large), counted(np.concatenate([small, large]))
    assert grown.top == whole.top
    assert (grown.counts == whole.counts).all()


def test_a_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        counted(np.array([1.0, np.nan]))


@pytest.mark.parametrize("method", METHODS)
def test_clip_values_are_between_0_and_the_largest_magnitude(method: str) -> None:
    rng = np.random.default_rng(0)
    for values in (
        rng.normal(0, 3, 9000),
        np.abs(rng.normal(0, 1e-4, 900)),
        rng.laplace(0, 1, 9000),
        np.full(100, 7.0),
        np.concatenate([np.zeros(9999), [5.0]]),
    ):
        found = clip_value(counted(values), method)
        assert 0 < found <= float(np.abs(values.astype(np.float32)).max())
    assert clip_value(counted(np.zeros(10)), method) == 0


def test_all_methods_but_minmax_clip_an_outlier() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 200_000), [200.0]])
    histogram = counted(values)
    assert clip_value(histogram, "minmax") == 200
    assert clip_value(histogram, "percentile") < 10
    assert clip_value(histogram, "entropy") < 60
    assert clip_value(histogram, "mse") < 120  # one outlier of 200 weighs as much as many steps


def test_mse_is_the_least_error_of_all_clips() -> None:
    values = np.random.default_rng(1).laplace(0, 1, 100_000).astype(np.float32)
    histogram = counted(values)

    def error(limit: float) -> float:
        step = limit / 127
        return float(np.square(np.clip(np.rint(values / step), -127, 127) * step - values).mean())

    chosen = clip_value(histogram, "mse")
    for limit in np.linspace(1.0, histogram.max_abs, 50):
        assert error(chosen) <= error(limit) * 1.02


def frames_of(count: int, seed: int = 1) -> FrameSet:
    def read(number: int) -> np.ndarray:
        rng = np.random.default_rng([seed, number])
        return rng.integers(0, 256, networks.SHAPE.dims, np.uint8)

    return FrameSet("made", [f"f{n}" for n in range(count)], read, lambda n: f"{n:064x}")


def model_and_tensors() -> tuple[object, tuple[str, ...]]:
    model = networks.segmenter()
    fold_batch_norms(model)
    return model, plan_qdq(model).tensors


def test_collecting_ranges_resumes_from_the_checkpoint(tmp_path: Path) -> None:
    model, tensors = model_and_tensors()
    whole = collect_histograms(
        model,
        tensors,
        frames_of(30),
        CalibrationCheckpoint(tmp_path / "a"),
        checkpoint_interval=4,
    )

    class Killed(BaseException):
        pass

    def dies(stage: str, done: int, total: int) -> None:
        if done == 17:
            raise Killed

    begun = CalibrationCheckpoint(tmp_path / "b")
    with pytest.raises(Killed):
        collect_histograms(model, tensors, frames_of(30), begun, dies, checkpoint_interval=4)
    seen: list[int] = []
    again = collect_histograms(
        model,
        tensors,
        frames_of(30),
        CalibrationCheckpoint(tmp_path / "b"),
        lambda stage, done, total: seen.append(done),
        checkpoint_interval=4,
    )
    assert seen[0] == 16
    assert ranges_csv(again, "mse") == ranges_csv(whole, "mse")
    assert clip_values(again, "entropy") == clip_values(whole, "entropy")


def test_a_damaged_checkpoint_is_ignored(tmp_path: Path) -> None:
    model, tensors = model_and_tensors()
    notebook = CalibrationCheckpoint(tmp_path)
    whole = collect_histograms(model, tensors, frames_of(6), notebook)
    (tmp_path / "ranges.npz").write_bytes((tmp_path / "ranges.npz").read_bytes()[:999])
    assert ranges_csv(
        collect_histograms(model, tensors, frames_of(6), notebook), "mse"
    ) == ranges_csv(whole, "mse")


def test_memory_does_not_grow_with_the_frames(tmp_path: Path) -> None:
    model, tensors = model_and_tensors()

    def size(count: int) -> int:
        notebook = CalibrationCheckpoint(tmp_path / str(count))
        collect_histograms(model, tensors, frames_of(count), notebook)
        return (tmp_path / str(count) / "ranges.npz").stat().st_size

    # The only state between two frames.
    assert size(5) == size(50) == pytest.approx(len(tensors) * BINS * 8, abs=4000)


def test_an_error_for_non_finite_activations_names_tensor_and_frame(tmp_path: Path) -> None:
    model, tensors = model_and_tensors()
    for tensor in model.graph.initializer:  # type: ignore[attr-defined]
        if tensor.name == "second_bias":
            bad = np.full(networks.CHANNELS, np.inf, np.float32)
            tensor.raw_data = bad.tobytes()
    with pytest.raises(ModelError, match=r"f0.*second_relu"):
        collect_histograms(model, tensors, frames_of(3), CalibrationCheckpoint(tmp_path))


# -- frame selection -----------------------------------------------------------------------------


def test_rare_strata_get_their_share_and_the_seed_decides() -> None:
    found = networks.random_metrics(1000)
    drawn = select_frames(found, 120, 30, seed=5)
    assert drawn == select_frames(found, 120, 30, seed=5)
    assert drawn != select_frames(found, 120, 30, seed=6)
    assert len(drawn.calibration) == 120
    assert len(drawn.held_out) == 30
    assert not set(drawn.calibration) & set(drawn.held_out)
    suspicious = (found.values[list(drawn.calibration), 2] > 0.5).mean()
    assert 0.35 < suspicious < 0.65  # a tenth of all frames, half of the strata
    assert set(found.strata()[list(drawn.calibration)]) == set(found.strata())
    assert set(found.strata()[list(drawn.held_out)]) == set(found.strata())


def test_equal_images_are_selected_once_and_unreadable_ones_never() -> None:
    found = networks.random_metrics(40)
    digests = ["same"] * 20 + [UNREADABLE] * 5 + list(found.digests[25:])
    drawn = select_frames(FrameMetrics(tuple(digests), found.values), 500, 100, seed=1)
    numbers = [*drawn.calibration, *drawn.held_out]
    assert sorted(numbers) == [0, *range(25, 40)]
    assert len(drawn.held_out) == 3
    with pytest.raises(DataError, match="too few"):
        select_frames(FrameMetrics(("same",) * 40, found.values), 10, 2, seed=1)


def test_too_many_broken_images_are_an_error(tmp_path: Path) -> None:
    frames = frames_of(10)

    def reads(worst: int) -> FrameSet:
        def read(number: int) -> np.ndarray:
            if number < worst:
                raise DataError("is cut off")
            return frames.read(number)

        return FrameSet("made", frames.names, read, frames.digest)

    found = measure_frames(reads(2), lambda image: 0.5, CalibrationCheckpoint(tmp_path / "a"))
    assert found.digests.count(UNREADABLE) == 2
    with pytest.raises(DataError, match="3 of 10"):
        measure_frames(reads(3), lambda image: 0.5, CalibrationCheckpoint(tmp_path / "b"))
