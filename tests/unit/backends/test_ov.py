"""Effects of OpenVINO on the process: its cache, and its signal stack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeinspect.domain.clock import SystemClock
from edgeinspect.errors import ModelError, exit_code_of
from edgeinspect.storage.model_store import ModelStore
from tests import graphs, needs

ROOT = Path(__file__).resolve().parents[3]
RELOAD = """
import os, signal, sys, threading, time
from edgeinspect.backends import ov
from edgeinspect.domain.clock import SystemClock
from edgeinspect.storage.model_store import ModelStore
from pathlib import Path

received = []
signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
store, options = ModelStore(Path(sys.argv[1])), ov.Options(model="tiny-gate", threads=1)

def reload():
    global engine
    fresh = ov.build(options, SystemClock(), store=store)
    engine.close()
    engine = fresh

engine = ov.build(options, SystemClock(), store=store)
thread = threading.Thread(target=reload)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.01)
sys.exit(0 if received else 1)
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    needs.library("openvino")
    graphs.install(tmp_path / "store", graphs.gate(), name="tiny-gate", kind="gate")
    return tmp_path / "store"


def test_a_signal_after_a_reload_by_another_thread_is_handled(store: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RELOAD, str(store)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_compiled_models_are_reused_by_the_next_start_of_a_unit(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeinspect.backends import ov

    def infer_once() -> bytes:
        options = ov.Options(model="tiny-gate", threads=1)
        engine = ov.build(options, SystemClock(), store=ModelStore(store))
        image = np.random.default_rng(3).integers(0, 256, engine.spec.shape.dims, np.uint8)
        outputs = [array.copy() for array in engine.infer(image)]
        engine.close()
        return b"".join(array.tobytes() for array in outputs)

    expected = infer_once()
    unit = tmp_path / "unit"
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{unit}:/elsewhere")
    assert infer_once() == expected
    blobs = list((unit / "openvino").glob("*.blob"))
    assert blobs
    assert infer_once() == expected
    for blob in blobs:  # partly written by a killed daemon
        blob.chmod(0o600)
        blob.write_bytes(blob.read_bytes()[:100])
    assert infer_once() == expected


@pytest.mark.parametrize(("readers", "code"), [("jax tflite ir", 75), ("onnx ir", 65)])
def test_a_reader_that_found_no_memory_is_not_a_corrupt_model(
    store: Path, monkeypatch: pytest.MonkeyPatch, readers: str, code: int
) -> None:
    """Seen with too little memory: OpenVINO could not map its library for ONNX files."""
    from edgeinspect.backends import ov

    class Core:
        def read_model(self, path: str) -> None:
            raise RuntimeError(
                f'Unable to read the model: "{path}" Please check that model format: ".onnx" is '
                f"supported and the model is correct. Available frontends: {readers}"
            )

    monkeypatch.setattr(ov, "_shared_core", lambda _make: Core())
    with pytest.raises(ModelError, match="cannot be loaded") as refused:
        ov.build(ov.Options(model="tiny-gate"), SystemClock(), store=ModelStore(store))
    assert exit_code_of(refused.value) == code
