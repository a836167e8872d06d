"""How a training reports its progress."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from edgeinspect.learning.train.recipe import TrainingRecipe

STEPS_STAGE = "train"
"""The stage of the training steps."""


class StageProgress(Protocol):
    """Called with each step of a stage; stages appear in order of first report.

    `loss` is that of a training step, 0 for any other work; `score` the best validation score so
    far, NaN without one. `is_due` asks for a line at once, as where a validation has just been
    made.
    """

    def __call__(
        self,
        stage: str,
        done: int,
        total: int,
        loss: float = 0.0,
        score: float = math.nan,
        *,
        is_due: bool = False,
    ) -> None: ...


def ignore_progress(*_values: object, **_options: object) -> None:
    """Report nothing; a `StageProgress`."""


@dataclass(frozen=True, slots=True)
class PrefixedProgress:
    """Puts a word before the name of each stage; a `StageProgress`."""

    prefix: str
    on_progress: StageProgress

    def __call__(self, stage: str, *values: Any, **options: Any) -> None:
        self.on_progress(f"{self.prefix} {stage}", *values, **options)


class StepReport:
    """Passes on the steps of one training; has the signature of `fit.StepProgress`."""

    def __init__(
        self, on_progress: StageProgress, recipe: TrainingRecipe, stage: str = STEPS_STAGE
    ) -> None:
        self._on_progress, self._recipe, self._stage = on_progress, recipe, stage

    def start(self, done: int) -> None:
        """Report the first step; not 0 if the training is resumed."""
        self._on_progress(self._stage, done, self._recipe.steps)

    def __call__(self, step: int, loss: float, best: float) -> None:
        every = self._recipe.validate_every
        is_validated = bool(every) and step % every == 0
        self._on_progress(self._stage, step, self._recipe.steps, loss, best, is_due=is_validated)
