"""Fitting: AdamW, a schedule, an average of the weights, and nothing left to chance."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import ImageArrays
from edgeinspect.learning.train import distributed
from edgeinspect.learning.train.checkpoint import RunFolder, TrainingState, load_state_into
from edgeinspect.learning.train.recipe import Recipe
from edgeinspect.learning.train.sampler import BatchSampler
from edgeinspect.learning.train.tasks import TrainingTask

StepProgress = Callable[[int, float, float], None]
"""Told (steps done, loss, best validation score or NaN)."""

_SAVE_INTERVAL_S = 60.0


def fit(
    net: nn.Module,
    task: TrainingTask,
    images: ImageArrays,
    recipe: Recipe,
    *,
    validation: ImageArrays | None = None,
    run_folder: RunFolder | None = None,
    state: TrainingState | None = None,
    progress: StepProgress = lambda step, loss, best: None,
) -> nn.Module:
    """Train a network, or go on with a training.

    Args:
        net: Its weights are the start; it is changed.
        task: What for.
        images: To learn from.
        recipe: How.
        validation: Chooses the best of the averaged weights; the last ones without it.
        folder: Where the state is kept, each minute and at the end.
        state: To go on from.
        progress: Told after each step.

    Returns:
        The network with averaged weights, on the CPU, in eval mode.

    Raises:
        DataError: The loss became NaN, or `state` is of another network.
        StorageError: The state cannot be written.

    The same weights come out of a training that was killed and resumed: images, dropout
    and schedule depend on the step alone.
    """
    checkpoint = run_folder.checkpoint if run_folder is not None else None
    loop = TrainingLoop(net, task, images, recipe, validation, state or TrainingState(), checkpoint)
    saved_at = time.monotonic()
    while not loop.state.done:
        loss = loop.step()
        progress(loop.state.step, loss, loop.best)
        due = time.monotonic() - saved_at > _SAVE_INTERVAL_S
        if run_folder is not None and distributed.rank() == 0 and (due or loop.state.done):
            run_folder.save(loop.snapshot())
            saved_at = time.monotonic()
    return loop.result()


class TrainingLoop:
    """The training between two steps."""

    def __init__(
        self,
        net: nn.Module,
        task: TrainingTask,
        images: ImageArrays,
        recipe: Recipe,
        validation: ImageArrays | None,
        state: TrainingState,
        checkpoint: Path | None,
    ) -> None:
        self.state = state
        self._task, self._recipe, self._validation = task, recipe, validation
        self._sampler = BatchSampler(images, recipe)
        self._device = distributed.compute_device()
        if state.net:
            load_state_into(net, state.net, checkpoint)
        self._net = net.to(self._device, memory_format=torch.channels_last).train()
        self._average = copy.deepcopy(self._net)
        for weights in (state.best, state.average):  # the best now, not after hours of training
            if weights:
                load_state_into(self._average, weights, checkpoint)
        self._average.eval()
        self._distributed_net = distributed.wrap_distributed(self._net)
        self._optimizer = torch.optim.AdamW(
            self._net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        if state.optimizer:
            load_state_into(self._optimizer, state.optimizer, checkpoint)
        half = self._device.type == "cuda"
        self._autocast_dtype = (
            torch.bfloat16 if half and torch.cuda.is_bf16_supported() else torch.float16
        )
        self._scaler = torch.amp.GradScaler(
            "cuda", enabled=half and self._autocast_dtype is torch.float16
        )

    @property
    def best(self) -> float:
        """The best validation score; NaN before the first look."""
        return self.state.best_score if self.state.best else math.nan

    def step(self) -> float:
        """One step; returns the loss of the whole batch."""
        recipe, step = self._recipe, self.state.step
        rate = learning_rate(recipe, step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        size = self._sampler.batch_size(step)
        mine = range(distributed.rank(), size, distributed.process_count())
        images, masks, labels = (part.to(self._device) for part in self._sampler.draw(step, mine))
        images = images.contiguous(memory_format=torch.channels_last)
        torch.manual_seed(recipe.seed * 1_000_003 + step * 101 + distributed.rank())
        with torch.autocast(
            self._device.type, dtype=self._autocast_dtype, enabled=self._device.type == "cuda"
        ):
            loss = self._task.loss(self._distributed_net, images, masks, labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(
                f"the loss became {value} at step {step}",
                remedy="Lower the learning rate, and look for pictures that are all one grey",
            )
        self._optimizer.zero_grad(set_to_none=True)
        # Each process has its part of the loss, and the gradients are averaged, not added.
        self._scaler.scale(loss * distributed.process_count()).backward()
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self._net.parameters(), recipe.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._update_average(min(recipe.average_decay, (step + 1) / (step + 10)))
        self.state.step += 1
        self._validate(value, rate)
        return value

    def _validate(self, loss: float, rate: float) -> None:
        """Validate when it is time, and decide whether to go on."""
        state, recipe = self.state, self._recipe
        last = state.step >= recipe.steps
        due = recipe.validate_every and state.step % recipe.validate_every == 0
        score = math.nan
        if self._validation is not None and (last or due):
            with torch.no_grad():
                score = self._task.score(self._average, self._validation, self._device)
            score = distributed.broadcast_from_first(score)
            state.looks_since_best += 1
            if score > state.best_score or not state.best:
                state.best_score, state.looks_since_best = score, 0
                state.best = _copy_state(self._average)
        if last or score == score or state.step % 20 == 0:
            state.curve.append((state.step, loss, rate, score))
        state.done = last or bool(recipe.patience and state.looks_since_best >= recipe.patience)

    def _update_average(self, decay: float) -> None:
        with torch.no_grad():
            pairs = zip(
                self._average.state_dict().values(), self._net.state_dict().values(), strict=True
            )
            for kept, new in pairs:
                if kept.dtype.is_floating_point:
                    kept.lerp_(new, 1 - decay)
                else:
                    kept.copy_(new)

    def snapshot(self) -> TrainingState:
        """The state with all weights in it."""
        self.state.net = _copy_state(self._net)
        self.state.average = _copy_state(self._average)
        self.state.optimizer = self._optimizer.state_dict()
        return self.state

    def result(self) -> nn.Module:
        """The averaged network, the best of those that were looked at."""
        if self.state.best:
            self._average.load_state_dict(self.state.best)
        return self._average.to("cpu").eval()


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of a step: linear or cosine up, cosine down."""
    warm = max(1, round(recipe.steps * recipe.warm_up_ratio))
    top = recipe.learning_rate
    if step < warm:
        if recipe.schedule == "cosine":
            return top * (step + 1) / warm
        return top * (0.04 + 0.96 * (1 - math.cos(math.pi * step / warm)) / 2)
    left = (step - warm) / max(1, recipe.steps - warm)
    return top * max(1e-5, (1 + math.cos(math.pi * left)) / 2)


def _copy_state(net: nn.Module) -> dict[str, Any]:
    return {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}
