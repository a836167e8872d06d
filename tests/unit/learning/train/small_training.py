"""A small training as a separate program, for tests that kill it or run it in two processes.

small_training.py whole|slow|plain RUN WEIGHTS
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeinspect.learning.datasets.arrays import load_strip
from edgeinspect.learning.train import distributed
from edgeinspect.learning.train import fit as fitting
from edgeinspect.learning.train.checkpoint import RunFolder
from edgeinspect.learning.train.networks import SmallGate
from edgeinspect.learning.train.recipe import TrainingRecipe
from edgeinspect.learning.train.tasks import GateTask


class PlainNet(nn.Module):
    """Without batch norm and dropout, whose results depend on the split of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 5, 4)
        self.coarse = nn.Conv2d(8, 1, 1)
        self.head = nn.Linear(8, 1)

    def forward(self, image: Any) -> Any:
        x = torch.relu(self.first(image / 255))
        return self.head(x.mean(dim=(2, 3))).squeeze(1), self.coarse(x)


def main() -> None:
    kind, folder, target = sys.argv[1], RunFolder(Path(sys.argv[2])), Path(sys.argv[3])
    distributed.set_thread_count(1)
    strips = load_strip(5, 10, height_px=48, width_px=112)
    recipe = TrainingRecipe(12, batch=6, crop_width_px=32, validate_every=4, seed=3)
    fitting._SAVE_INTERVAL_S = 0.0
    with distributed.process_group():
        torch.manual_seed(3)
        net = PlainNet() if kind == "plain" else SmallGate(widths=(16, 16, 16, 16, 16))
        state = None
        if distributed.rank() == 0:
            state = folder.start_or_resume({"recipe": recipe.to_document()}, resume=True)
        average = fitting.fit(
            net,
            GateTask(strips),
            strips,
            recipe,
            validation=strips,
            run_folder=folder,
            state=state,
            progress=lambda step, loss, best: time.sleep(0.1 if kind == "slow" else 0),
        )
        if distributed.rank() == 0:
            torch.save(average.state_dict(), target)


if __name__ == "__main__":
    main()
