"""No library of a line PC reports its use to its maker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs

ROOT = Path(__file__).parents[3]
# Each library keeps its reports to itself where it believes to be in a CI.
CI_VARIABLES = ("CI", "TF_BUILD", "JENKINS_URL", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY")
LOAD = """
import sys
from pathlib import Path
from edgeinspect.backends import {backend}
from edgeinspect.domain import SystemClock
from edgeinspect.storage.model_store import ModelStore
options = {backend}.Options(model="strip-gate/1")
{backend}.build(options, SystemClock(), store=ModelStore(Path("engines")))
print(sys.modules.get("openvino_telemetry"))
"""


@pytest.mark.parametrize(("backend", "library"), [("ov", "openvino"), ("ort", "onnxruntime")])
def test_a_library_writes_no_id_and_loads_no_telemetry(
    backend: str, library: str, tmp_path: Path
) -> None:
    needs.library(library)
    environment = {k: v for k, v in os.environ.items() if k not in CI_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", LOAD.format(backend=backend)],
        cwd=ROOT,
        env=environment | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "None\n"
    assert list(tmp_path.rglob("*")) == []
