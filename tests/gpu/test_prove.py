"""The proof on a GPU, as tests: one a step. Without a GPU each skips and says what it lacks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.gpu import prove


@pytest.mark.timeout(prove.STEP_S + 30)
@pytest.mark.parametrize("name", prove.STEPS)
def test_step(name: str) -> None:
    step = prove.run(name)
    if folder := os.environ.get("EDGEINSPECT_GPU_REPORT"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.json").write_text(json.dumps(step.figures))
    if not step.ran:
        pytest.skip(step.words)
    assert step.held, step.words
