"""The training loop: killed, in several processes, on a full disk, with a NaN loss."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs

torch = needs.library("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.errors import DataError, OutputError, UsageError
from edgeinspect.learning.datasets.arrays import ImageArrays, load_strip
from edgeinspect.learning.train.augment import AugmentSettings, augment_image
from edgeinspect.learning.train.checkpoint import RunFolder, TrainingState
from edgeinspect.learning.train.distributed import set_thread_count
from edgeinspect.learning.train.fit import fit, learning_rate
from edgeinspect.learning.train.losses import segmentation_loss
from edgeinspect.learning.train.plan import apply_settings
from edgeinspect.learning.train.recipe import TrainingRecipe
from edgeinspect.learning.train.sampler import BatchSampler
from edgeinspect.learning.train.tasks import GateTask

ROOT = Path(__file__).resolve().parents[4]
RUNNER = Path(__file__).with_name("small_training.py")


@pytest.fixture(scope="module")
def strips() -> ImageArrays:
    return load_strip(5, 10, height_px=48, width_px=112)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def run(*arguments: str, command: tuple[str, ...] = (sys.executable,)) -> None:
    subprocess.run([*command, str(RUNNER), *arguments], env=environment(), check=True, timeout=100)


def weights(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def test_killed_and_resumed_gives_the_same_weights(tmp_path: Path) -> None:
    run("whole", str(tmp_path / "a"), str(tmp_path / "a.pt"))
    child = subprocess.Popen(
        [sys.executable, str(RUNNER), "slow", str(tmp_path / "b"), str(tmp_path / "b.pt")],
        env=environment(),
    )
    checkpoint = tmp_path / "b" / "checkpoint.pt"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.15)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    done = RunFolder(tmp_path / "b").load().step
    assert 0 < done < 12, "killed in the middle"
    run("whole", str(tmp_path / "b"), str(tmp_path / "b.pt"))
    first, second = weights(tmp_path / "a.pt"), weights(tmp_path / "b.pt")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_equal_one_with_the_whole_batch(tmp_path: Path) -> None:
    run("plain", str(tmp_path / "a"), str(tmp_path / "one.pt"))
    run(
        "plain",
        str(tmp_path / "b"),
        str(tmp_path / "two.pt"),
        command=(
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
        ),
    )
    one, two = weights(tmp_path / "one.pt"), weights(tmp_path / "two.pt")
    worst = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert worst < 2e-5, worst


@pytest.mark.parametrize("kind", ["ce+dice", "ce+tversky", "ce+lovasz", "focal+dice"])
def test_every_loss_decreases_towards_the_label(kind: Any) -> None:
    target = torch.zeros(2, 8, 8, dtype=torch.int64)
    target[0, 2:5, 2:5] = 1
    target[1, 4:, :] = 2
    correct = torch.nn.functional.one_hot(target, 3).permute(0, 3, 1, 2).float() * 8
    values = [
        float(segmentation_loss(correct * confidence, target, torch.ones(3), kind))
        for confidence in (-1.0, 0.0, 0.3, 1.0)
    ]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.05
    logits = (correct * 0.1).requires_grad_()
    segmentation_loss(logits, target, torch.ones(3), kind).backward()
    assert torch.isfinite(logits.grad).all()
    assert float(logits.grad.abs().sum()) > 0


def test_a_sample_depends_on_seed_step_and_index_alone(strips: ImageArrays) -> None:
    recipe = TrainingRecipe(10, batch=4, crop_height_px=16, crop_width_px=16)
    whole = BatchSampler(strips, recipe).draw(7, range(4))
    part = BatchSampler(strips, recipe).draw(7, [2])
    assert torch.equal(whole[0][2:3], part[0])
    assert torch.equal(whole[1][2:3], part[1])
    assert not torch.equal(whole[0], BatchSampler(strips, recipe).draw(8, range(4))[0])


def test_the_last_steps_are_on_whole_images(strips: ImageArrays) -> None:
    recipe = TrainingRecipe(10, batch=4, crop_height_px=16, crop_width_px=16, whole_ratio=0.2)
    sampler = BatchSampler(strips, recipe)
    assert sampler.draw(7, range(sampler.batch_size(7)))[0].shape == (4, 1, 16, 16)
    assert sampler.draw(8, range(sampler.batch_size(8)))[0].shape == (2, 1, 48, 112)


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        AugmentSettings,
        flip_x=st.booleans(),
        flip_y=st.booleans(),
        transpose=st.booleans(),
        rotate_deg=st.sampled_from([0.0, 10.0]),
        scale=st.sampled_from([0.0, 0.2]),
        gamma=st.sampled_from([0.0, 0.4]),
        gradient=st.sampled_from([0.0, 30.0]),
        blur=st.sampled_from([0.0, 1.0]),
        noise=st.sampled_from([0.0, 5.0]),
    ),
    st.sampled_from([1, 3]),
    st.integers(0, 99),
)
def test_augmentation_keeps_mask_and_image_aligned(
    augment: AugmentSettings, channels: int, seed: int
) -> None:
    image = np.full((24, 24, channels), 60, np.uint8)
    mask = np.zeros((24, 24), np.uint8)
    image[4:12, 4:9], mask[4:12, 4:9] = 200, 2
    before = image.copy()
    changed, moved = augment_image(image, mask, augment, np.random.default_rng(seed))
    assert np.array_equal(image, before), "the original is unchanged"
    assert changed.dtype == np.float32
    assert changed.shape == image.shape
    assert set(np.unique(moved)) <= {0, 2}
    if (moved > 0).sum() > 4:
        assert changed[moved > 0].mean() > changed[moved == 0].mean() + 20


def test_rates_rise_and_fall() -> None:
    for schedule in ("onecycle", "cosine"):
        recipe = TrainingRecipe(100, schedule=schedule)  # type: ignore[arg-type]
        rates = [learning_rate(recipe, step) for step in range(100)]
        assert np.argmax(rates) in (14, 15)
        assert rates[-1] < 1e-3 * max(rates)
        assert min(rates) > 0


class NanLossTask(GateTask):
    """Returns NaN in its third step."""

    steps = 0

    def loss(self, net: Any, images: Any, masks: Any, labels: Any) -> Any:
        self.steps += 1
        value = super().loss(net, images, masks, labels)
        return value * (math.nan if self.steps == 3 else 1.0)


def small_net() -> Any:
    from edgeinspect.learning.train.networks import SmallGate

    torch.manual_seed(1)
    return SmallGate(widths=(16, 16, 16, 16, 16))


def test_a_nan_loss_names_its_step(strips: ImageArrays) -> None:
    with pytest.raises(DataError, match="nan at step 2"):
        fit(small_net(), NanLossTask(strips), strips, TrainingRecipe(5, batch=2))


class ScriptedScoreTask(GateTask):
    """Returns scores from a list."""

    scores: list[float]

    def score(self, net: Any, images: Any, device: Any) -> float:
        return self.scores.pop(0)


def test_the_best_weights_are_kept_and_patience_stops(strips: ImageArrays) -> None:
    set_thread_count(1)
    task = ScriptedScoreTask(strips)
    task.scores = [0.1, 0.9, 0.3, 0.2, 0.5, 0.6]
    state = TrainingState()
    recipe = TrainingRecipe(12, batch=2, validate_every=2, patience=2)
    net = fit(small_net(), task, strips, recipe, validation=strips, state=state)
    assert (state.step, state.best_score) == (8, 0.9)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in state.best.items())


def test_a_run_resumes_only_with_the_same_settings(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.save(folder.start_or_resume({"steps": 5, "recipe": {"batch": 2}}, resume=False))
    with pytest.raises(OutputError, match="--resume"):
        folder.start_or_resume({"steps": 5, "recipe": {"batch": 2}}, resume=False)
    with pytest.raises(DataError, match=r"recipe\.batch was 2, is 3"):
        folder.start_or_resume({"steps": 5, "recipe": {"batch": 3}}, resume=True)
    folder.checkpoint.write_bytes(b"truncated")
    with pytest.raises(DataError, match="cannot be read"):
        folder.start_or_resume({"steps": 5, "recipe": {"batch": 2}}, resume=True)


def test_a_full_disk_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.start_or_resume({}, resume=False)
    folder.save(TrainingState(step=3))

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="cannot be written"):
        folder.save(TrainingState(step=4))
    assert folder.load().step == 3
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"run.json", "checkpoint.pt", "curve.csv"}


def test_settings_over_a_recipe() -> None:
    recipe = apply_settings(TrainingRecipe(5), ["batch=8", "augment.noise=1.5", "loss=ce+lovasz"])
    assert (recipe.batch, recipe.augment.noise, recipe.loss) == (8, 1.5, "ce+lovasz")
    assert replace(recipe, batch=16) != recipe
    for wrong in ("batch", "nothing=1", "batch=x", "augment=1", "loss=hinge"):
        with pytest.raises(UsageError):
            apply_settings(TrainingRecipe(5), [wrong])
