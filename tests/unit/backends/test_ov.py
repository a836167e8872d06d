"""What only OpenVINO does to a process: its cache, and its stack for signals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeinspect.domain.clock import SystemClock
from edgeinspect.storage.model_store import ModelStore
from tests import graphs

ROOT = Path(__file__).resolve().parents[3]
RELOAD = """
import os, signal, sys, threading, time
from edgeinspect.backends import ov
from edgeinspect.domain.clock import SystemClock
from edgeinspect.storage.model_store import Store
from pathlib import Path

heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
store, options = Store(Path(sys.argv[1])), ov.Options(model="tiny-gate", threads=1)

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
sys.exit(0 if heard else 1)
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    pytest.importorskip("openvino", reason="openvino is not installed")
    graphs.install(tmp_path / "store", graphs.gate(), name="tiny-gate", kind="gate")
    return tmp_path / "store"


def test_a_signal_after_a_reload_by_another_thread_is_heard(store: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RELOAD, str(store)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_unit_s_next_start_finds_what_was_compiled(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeinspect.backends import ov

    def answer() -> bytes:
        options = ov.Options(model="tiny-gate", threads=1)
        engine = ov.build(options, SystemClock(), store=ModelStore(store))
        image = np.random.default_rng(3).integers(0, 256, engine.spec.shape.dims, np.uint8)
        outputs = [array.copy() for array in engine.infer(image)]
        engine.close()
        return b"".join(array.tobytes() for array in outputs)

    want = answer()
    unit = tmp_path / "unit"
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{unit}:/elsewhere")
    assert answer() == want
    blobs = list((unit / "openvino").glob("*.blob"))
    assert blobs
    assert answer() == want
    for blob in blobs:  # what a dead daemon left half written
        blob.chmod(0o600)
        blob.write_bytes(blob.read_bytes()[:100])
    assert answer() == want
