"""The bank, the choice of its entries, and the cells that count."""

from __future__ import annotations

import pytest

from tests import needs

torch = needs.library("torch")

from edgeinspect.learning.train.anomaly.anomaly_map import AnomalyMap
from edgeinspect.learning.train.anomaly.cell_features import (
    CellFeatures,
    CellMethod,
    Descriptors,
    cells_inside,
    choose_cell_px,
    local_mean,
)
from edgeinspect.learning.train.anomaly.coreset import farthest_points
from edgeinspect.learning.train.anomaly.memory_bank import MemoryBank
from edgeinspect.learning.train.encoders.encoder import IMAGENET, SYMMETRIC
from tests.unit.learning.train.anomaly.tiny_encoder import TinyEncoder


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_distance_is_that_to_the_nearest_entry():
    entries, cells = random(300, 7), random(50, 7, seed=2)
    bank = MemoryBank(entries)
    expected = torch.cdist(cells, entries).square().min(dim=1)
    assert torch.allclose(bank(cells), expected.values, atol=1e-4)


def test_a_coreset_has_an_entry_in_every_cluster_however_rare():
    centers = 100 * random(20, 5)
    frequent = centers[0] + 0.1 * random(2000, 5, seed=2)
    rare = centers[1:] + 0.1 * random(19, 5, seed=3)
    cells = torch.cat([frequent, rare])
    chosen = cells[farthest_points(cells, 20)]
    assert torch.cdist(centers, chosen).min(dim=1).values.max() < 1.0


def test_a_coreset_is_the_same_each_time_and_has_no_copies():
    cells = random(400, 5)
    first = farthest_points(cells, 100)
    assert torch.equal(first, farthest_points(cells, 100))
    assert len(set(first.tolist())) == 100
    assert len(farthest_points(torch.ones(50, 3), 10)) == 1
    assert len(farthest_points(torch.ones(50, 3).index_fill(0, torch.tensor([7]), 2.0), 10)) == 2


def test_cells_of_a_letterbox_border_are_outside():
    image = torch.zeros(1, 1, 64, 96)
    image[:, :, 13:52, 21:] = 100.0
    image[:, :, 30, 50] = 0.0  # a black pixel of the part
    inside = cells_inside(image, 8)[0, 0] > 0.5
    assert inside.shape == (8, 12)
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    # Less than half of the cells that begin at 8 and 16 is in the image, half of that at 48 is.
    assert (rows[0], rows[-1]) == (2, 6)
    assert (columns[0], columns[-1]) == (3, 11)
    assert bool(inside[2:7, 3:].all())


def test_frames_that_are_no_multiple_of_a_cell_keep_their_last_cells():
    image = torch.full((1, 3, 20, 10), 9.0)
    assert torch.equal(cells_inside(image, 8), torch.ones(1, 1, 3, 2))
    assert not cells_inside(torch.zeros(1, 3, 32, 32), 16).any()


@pytest.mark.parametrize("cell_px", [8, 16])
@pytest.mark.parametrize("size", [(64, 64), (72, 40), (50, 70)])
def test_features_and_the_cells_inside_have_one_grid(cell_px: int, size: tuple[int, int]):
    image = torch.full((1, 1, *size), 50.0)
    features = CellFeatures(TinyEncoder(), 1, cell_px)(image)
    assert features.shape[1] == 24
    assert features.shape[2:] == cells_inside(image, cell_px).shape[2:]


def test_small_frames_have_finer_cells():
    assert choose_cell_px(256, 256) == 8
    assert choose_cell_px(512, 512) == 16


def test_a_small_frame_has_the_features_of_the_frame_twice_as_large():
    image = 255 * random(1, 1, 64, 48).sigmoid()
    large = torch.nn.functional.interpolate(image, scale_factor=2, mode="bilinear")
    small = CellFeatures(TinyEncoder(), 1, 8)(image)
    assert torch.allclose(small, CellFeatures(TinyEncoder(), 1, 16)(large))


def test_cells_beyond_the_border_count_as_good_ones():
    """Those at the border have features of the encoder's padding: they count less, not more."""
    describe = Descriptors(torch.zeros(3), torch.ones(3), CellMethod())
    anomaly_map = AnomalyMap(describe, MemoryBank(torch.zeros(1, 3)))
    features, inside = torch.ones(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
    values = anomaly_map(features, inside)[0, 0]
    assert values.max() == pytest.approx(float(values[8, 8])) == pytest.approx(1.0)  # sqrt(4) - 1
    assert 0.5 < values[0, 8] < 0.8
    assert values[0, 0] == pytest.approx(float(values[0, 8]) ** 2, abs=1e-5)
    inside[:, :, :, :4] = 0.0
    values = anomaly_map(features, inside)[0, 0]
    assert not values[:, :4].any()
    assert 0.5 < values[8, 4] < 0.8
    assert values[8, 8] == pytest.approx(1.0)


def test_standardised_values_are_limited():
    center, spread = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])
    features = torch.tensor([[3.0, 1e6], [2.0, -1e6]]).reshape(1, 2, 1, 2)
    values = Descriptors(center, spread, CellMethod())(features)
    assert values.tolist() == [[1.0, 0.0], [3.0, -3.0]]
    assert Descriptors(center, spread, CellMethod(limit=2.0))(features).abs().max() == 2.0


def test_the_place_of_a_cell_is_part_of_its_descriptor():
    describe = Descriptors(torch.zeros(3), torch.ones(3), CellMethod(has_position=True))
    values = describe(random(1, 3, 2, 5))
    assert values.shape == (10, describe.width) == (10, 11)
    assert values[0, 3:].tolist() == [pytest.approx(-2.45)] * 8
    assert values[-1, 3:].tolist() == [pytest.approx(2.45)] * 8
    assert values[4, 3:5].tolist() == [pytest.approx(-2.45), pytest.approx(2.45)]


def test_the_local_mean_leaves_out_what_is_beyond_the_edge():
    features = random(2, 5, 6, 9)
    expected = torch.nn.functional.avg_pool2d(features, 3, 1, 1, count_include_pad=False)
    assert torch.allclose(local_mean(features), expected, atol=1e-6)


@pytest.mark.parametrize("statistics", [SYMMETRIC, IMAGENET])
def test_a_grey_frame_has_the_features_of_three_equal_channels(statistics, monkeypatch):
    monkeypatch.setattr(TinyEncoder, "statistics", statistics)
    grey = 255 * random(1, 1, 64, 48).sigmoid()
    grey_features = CellFeatures(TinyEncoder(), 1, 8)(grey)
    three = grey.expand(-1, 3, -1, -1)
    assert torch.allclose(grey_features, CellFeatures(TinyEncoder(), 3, 8)(three), atol=1e-4)
