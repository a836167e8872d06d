"""The default recipe of a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests import needs

needs.library("torch")

from edgeinspect.learning.train import defaults
from edgeinspect.learning.train.plan import TrainingConfig, TrainingFacts, default_recipe

GATE = TrainingConfig("gate", Path("data"), Path("out"), "part")
FACTS = TrainingFacts((288, 288), 800, 190, has_masks=False, has_good=True, has_encoder=True)


def test_many_validation_images_are_validated_on_less_often():
    few = default_recipe(GATE, FACTS)
    many = default_recipe(GATE, replace(FACTS, validation=1900))
    assert many.steps == few.steps
    assert few.steps // few.validate_every >= 11
    assert many.steps // many.validate_every == 3


@pytest.mark.parametrize("size", [(128, 128), (288, 288), (512, 1024)])
def test_the_work_is_the_same_for_any_size(size):
    recipe = default_recipe(GATE, replace(FACTS, size=size))
    work_mpx = recipe.steps * recipe.batch * size[0] * size[1] / 1e6
    assert work_mpx == pytest.approx(defaults.GATE.work_mpx, rel=0.01)


def test_few_images_get_fewer_steps_and_many_get_more():
    usual = default_recipe(GATE, FACTS).steps
    assert default_recipe(GATE, replace(FACTS, train=40)).steps < usual
    many = default_recipe(GATE, replace(FACTS, train=defaults.MANY_IMAGES + 1)).steps
    assert many == pytest.approx(defaults.MANY_IMAGES_FACTOR * usual, rel=0.01)
