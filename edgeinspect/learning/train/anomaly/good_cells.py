"""What a bank is built from: the most different cells of each good image."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeinspect.errors import DataError
from edgeinspect.learning.train.anomaly.anomaly_map import AnomalyMap
from edgeinspect.learning.train.anomaly.cell_features import CellMethod, Descriptors
from edgeinspect.learning.train.anomaly.coreset import farthest_points, random_projection
from edgeinspect.learning.train.anomaly.feature_runner import FeatureRunner
from edgeinspect.learning.train.anomaly.memory_bank import MemoryBank

MAX_CANDIDATES = 64_000
"""Descriptors that a bank is chosen from, of all images together; bounds memory and time."""
MIN_CELLS_PER_IMAGE = 32
_STATISTICS_IMAGES = 64


@dataclass(frozen=True, slots=True)
class GoodCells:
    """Descriptors of good images, each with the number of its image."""

    descriptors: Descriptors
    candidates: Tensor
    """float32 (K, D)."""
    candidate_image: Tensor
    """int64 (K,)."""

    def build_map(self, entries: int, without: Collection[int] = ()) -> AnomalyMap:
        """Return the anomaly map of a bank of the most different candidates.

        Args:
            entries: Of the bank; fewer if there are not so many different candidates.
            without: Images that are left out.
        """
        left_out = torch.tensor(sorted(without), dtype=torch.int64)
        candidates = self.candidates[~torch.isin(self.candidate_image, left_out)]
        projection = random_projection(candidates.shape[1], seed=0)
        chosen = candidates[farthest_points(candidates @ projection, entries)]
        return AnomalyMap(self.descriptors, MemoryBank(chosen))


def collect_good_cells(
    runner: FeatureRunner,
    images: list[int],
    *,
    turned: bool,
    method: CellMethod = CellMethod(),  # noqa: B008 - frozen
    on_image: Callable[[int], None] = lambda done: None,
) -> GoodCells:
    """Reduce good images to the descriptors that banks are built from.

    Args:
        runner: Of the images.
        images: Numbers of the images to use.
        turned: Take each image in its other orientations too.
        method: Of the comparison.
        on_image: Called with the number of images done.

    Raises:
        DataError: All are black.
    """
    descriptors = measure_statistics(runner, images, method)
    projection = random_projection(descriptors.width, seed=0)
    per_image = max(MIN_CELLS_PER_IMAGE, MAX_CANDIDATES // len(images))
    candidates, owners = [], []
    for done, number in enumerate(images, 1):
        views = [runner.of_image(number), *(runner.turned(number) if turned else ())]
        for features, inside in views:
            cells = descriptors(features)[inside.flatten() > 0.5]
            if not len(cells):
                continue
            chosen = cells
            if len(cells) > per_image // len(views):
                chosen = cells[farthest_points(cells @ projection, per_image // len(views))]
            candidates.append(chosen)
            owners.append(torch.full((len(chosen),), number))
        on_image(done)
    if not candidates:
        raise DataError(
            "has good images that are all black", remedy="Check exposure and trigger of the camera"
        )
    return GoodCells(descriptors, torch.cat(candidates), torch.cat(owners))


def measure_statistics(runner: FeatureRunner, images: list[int], method: CellMethod) -> Descriptors:
    """Return descriptors by mean and deviation of each channel over some of the images."""
    step = max(1, len(images) // _STATISTICS_IMAGES)
    count, total, squares = 0, torch.zeros(1), torch.zeros(1)
    for number in images[::step][:_STATISTICS_IMAGES]:
        cells = cells_of(*runner.of_image(number)).to(torch.float64)
        count += len(cells)
        total = total + cells.sum(0)
        squares = squares + cells.square().sum(0)
    mean = total / max(1, count)
    deviation = (squares / max(1, count) - mean.square()).clamp(min=0).sqrt()
    # A channel that never changes says nothing: it must not divide by zero, nor dominate.
    floor = 1e-3 * deviation.max().clamp(min=1e-3)
    spread = deviation.clamp(min=floor).to(torch.float32)
    return Descriptors(mean.to(torch.float32), spread, method)


def cells_of(features: Tensor, inside: Tensor) -> Tensor:
    """Return (K, D) the descriptors of the cells inside, of features (1, D, h, w)."""
    return features[0].flatten(1).T[inside.flatten() > 0.5]
