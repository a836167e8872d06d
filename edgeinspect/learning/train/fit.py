"""The training loop: AdamW, a schedule, an average of the weights; fully reproducible."""

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
from edgeinspect.learning.train.recipe import TrainingRecipe
from edgeinspect.learning.train.sampler import BatchSampler
from edgeinspect.learning.train.tasks import TrainingTask

StepProgress = Callable[[int, float, float], None]
"""Called with (steps done, loss, best validation score or NaN)."""

_SAVE_INTERVAL_S = 60.0


def fit(
    net: nn.Module,
    task: TrainingTask,
    images: ImageArrays,
    recipe: TrainingRecipe,
    *,
    validation: ImageArrays | None = None,
    run_folder: RunFolder | None = None,
    state: TrainingState | None = None,
    initialise: Callable[[], None] = lambda: None,
    progress: StepProgress = lambda step, loss, best: None,
) -> nn.Module:
    """Train a network, or resume a training.

    A training that was killed and resumed gives the same weights: images, dropout and
    schedule depend on the step alone.

    Args:
        net: Its weights are the start; it is changed.
        task: Loss and score.
        images: The training split.
        recipe: Hyperparameters.
        validation: Selects the best of the averaged weights; the last ones without it.
        run_folder: The state is saved there, each minute and at the end.
        state: To resume.
        initialise: Called before the first step of a new training, to prepare `net`.
        progress: Called after each step.

    Returns:
        The network with averaged weights, on the CPU, in eval mode.

    Raises:
        DataError: The loss became NaN, or `state` is of another network.
        StorageError: The state cannot be written.
    """
    checkpoint = run_folder.checkpoint if run_folder is not None else None
    if state is None or not state.net:
        initialise()
    loop = TrainingLoop(net, task, images, recipe, validation, state or TrainingState(), checkpoint)
    loop.validate_start()
    saved_at = time.monotonic()
    while not loop.state.done:
        loss = loop.step()
        progress(loop.state.step, loss, loop.best)
        is_due = time.monotonic() - saved_at > _SAVE_INTERVAL_S
        if run_folder is not None and distributed.rank() == 0 and (is_due or loop.state.done):
            run_folder.save(loop.snapshot())
            saved_at = time.monotonic()
    return loop.result()


class TrainingLoop:
    """Network, averaged weights and optimiser between two steps."""

    def __init__(
        self,
        net: nn.Module,
        task: TrainingTask,
        images: ImageArrays,
        recipe: TrainingRecipe,
        validation: ImageArrays | None,
        state: TrainingState,
        checkpoint: Path | None,
    ) -> None:
        self.state = state
        self._task, self._recipe, self._validation = task, recipe, validation
        self._sampler = BatchSampler(images, recipe, task.targets(images))
        self._device = distributed.compute_device()
        if state.net:
            load_state_into(net, state.net, checkpoint)
        self._net = net.to(self._device, memory_format=torch.channels_last).train()
        self._average = copy.deepcopy(self._net)
        for weights in (state.best, state.average):  # a wrong `best` fails now, not at the end
            if weights:
                load_state_into(self._average, weights, checkpoint)
        self._average.eval()
        self._distributed_net = distributed.wrap_distributed(self._net)
        self._optimizer = torch.optim.AdamW(
            _parameter_groups(self._net), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        if state.optimizer:
            load_state_into(self._optimizer, state.optimizer, checkpoint)
        self._is_cuda = self._device.type == "cuda"
        has_bf16 = self._is_cuda and torch.cuda.is_bf16_supported()
        self._autocast_dtype = torch.bfloat16 if has_bf16 else torch.float16
        self._scaler = torch.amp.GradScaler("cuda", enabled=self._is_cuda and not has_bf16)

    @property
    def best(self) -> float:
        """The best validation score; NaN before the first validation."""
        return self.state.best_score if self.state.best else math.nan

    def step(self) -> float:
        """Run one step and return the loss of the whole batch."""
        recipe, step = self._recipe, self.state.step
        rate = learning_rate(recipe, step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        size = self._sampler.batch_size(step)
        own = range(distributed.rank(), size, distributed.process_count())
        images, masks, labels = (part.to(self._device) for part in self._sampler.draw(step, own))
        images = images.contiguous(memory_format=torch.channels_last)
        torch.manual_seed(recipe.seed * 1_000_003 + step * 101 + distributed.rank())
        with torch.autocast(self._device.type, dtype=self._autocast_dtype, enabled=self._is_cuda):
            loss = self._task.loss(self._distributed_net, images, masks, labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(
                f"the loss became {value} at step {step}",
                remedy="Lower the learning rate, and look for images of a single grey level",
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

    def validate_start(self) -> None:
        """Validate a network that is prepared: training may not improve it."""
        if self.state.net or self._validation is None or not getattr(self._net, "is_fitted", False):
            return
        with torch.no_grad():
            score = self._task.score(self._average, self._validation, self._device)
        self.state.best_score = distributed.broadcast_from_first(score)
        self.state.best = _copy_state(self._average)
        self.state.curve.append((0, math.nan, 0.0, self.state.best_score))

    def _validate(self, loss: float, rate: float) -> None:
        """Validate if it is due, extend the curve, and decide whether the training is done."""
        state, recipe = self.state, self._recipe
        is_last = state.step >= recipe.steps
        is_due = recipe.validate_every and state.step % recipe.validate_every == 0
        score = math.nan
        if self._validation is not None and (is_last or is_due):
            with torch.no_grad():
                score = self._task.score(self._average, self._validation, self._device)
            score = distributed.broadcast_from_first(score)
            state.looks_since_best += 1
            if score > state.best_score or not state.best:
                state.best_score, state.looks_since_best = score, 0
                state.best = _copy_state(self._average)
        if is_last or score == score or state.step % 20 == 0:
            state.curve.append((state.step, loss, rate, score))
        state.done = is_last or bool(recipe.patience and state.looks_since_best >= recipe.patience)

    def _update_average(self, decay: float) -> None:
        with torch.no_grad():
            pairs = zip(
                self._average.state_dict().values(), self._net.state_dict().values(), strict=True
            )
            for average, current in pairs:
                if average.dtype.is_floating_point:
                    average.lerp_(current, 1 - decay)
                else:
                    average.copy_(current)

    def snapshot(self) -> TrainingState:
        """Return the state with copies of all weights."""
        self.state.net = _copy_state(self._net)
        self.state.average = _copy_state(self._average)
        self.state.optimizer = self._optimizer.state_dict()
        return self.state

    def result(self) -> nn.Module:
        """Return the averaged network, with the best validated weights."""
        if self.state.best:
            self._average.load_state_dict(self.state.best)
        return self._average.to("cpu").eval()


def learning_rate(recipe: TrainingRecipe, step: int) -> float:
    """Return the rate of a step: linear or cosine warm-up, then cosine decay."""
    warm_up = max(1, round(recipe.steps * recipe.warm_up_ratio))
    top = recipe.learning_rate
    if step < warm_up:
        if recipe.schedule == "cosine":
            return top * (step + 1) / warm_up
        return top * (0.04 + 0.96 * (1 - math.cos(math.pi * step / warm_up)) / 2)
    progress = (step - warm_up) / max(1, recipe.steps - warm_up)
    return top * max(1e-5, (1 + math.cos(math.pi * progress)) / 2)


def _parameter_groups(net: nn.Module) -> list[dict[str, Any]]:
    """Return the groups of the optimiser; a network may learn some parameters more slowly."""
    groups = getattr(net, "parameter_groups", None)
    if groups is None:
        return [{"params": list(net.parameters()), "factor": 1.0}]
    return [{"params": params, "factor": factor} for factor, params in groups() if params]


def _copy_state(net: nn.Module) -> dict[str, Any]:
    return {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}
