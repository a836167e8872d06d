"""One test per step of `verify`. Without a GPU each is skipped with its reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.gpu import verify


@pytest.mark.timeout(verify.STEP_S + 30)
@pytest.mark.parametrize("name", verify.STEPS)
def test_step(name: str) -> None:
    step = verify.run(name)
    if folder := os.environ.get("EDGEINSPECT_GPU_REPORT"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.json").write_text(json.dumps(step.figures))
    if not step.ran:
        pytest.skip(step.message)
    assert step.passed, step.message
