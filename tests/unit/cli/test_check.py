from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from edgeinspect.cli import check as module
from edgeinspect.cli.check import EngineTiming, time_engine
from edgeinspect.cli.main import main
from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.pipeline import start_checks
from edgeinspect.system import log
from edgeinspect.system.files import FileLock
from edgeinspect.testing.doubles import brightness_gate
from tests import graphs, needs

LINE = """\
schema: 1
line: trial
budget_ms: {budget_ms}
store: {root}/store
cameras:
  top: {{type: folder, path: {root}/pictures}}
engines:
  gate: {{type: ort, model: tiny-gate}}
  segmenter: {{type: ort, model: tiny-segmenter}}
optics: {{mm_per_px_x: 0.5, mm_per_px_y: 0.5}}
decide:
  gate: {{suspect_at: 0.3, reject_at: 0.9, degraded_reject_at: 0.6, reject_code: 1}}
  classes:
    dark: {{score: 0.5, area_px: 40, severity: 3, reject_code: 11}}
    {bright}: {{score: 0.5, area_mm2: 40, severity: 3, reject_code: 12}}
spool: {{folder: {root}/spool, slots: {slots}}}
publish: {{verdicts: "tcp://127.0.0.1:*", replay: "tcp://127.0.0.1:*"}}
"""
FILES = ["line.yaml", "pictures", "store"]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(module, "MAX_TIMED_RUNS", 5)
    yield
    log.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    needs.library("onnxruntime")
    graphs.install(tmp_path / "store", graphs.gate())
    graphs.install(tmp_path / "store", graphs.segmenter(), name="tiny-segmenter", kind="segmenter")
    (tmp_path / "pictures").mkdir()
    picture = np.zeros((graphs.SHAPE.height_px, graphs.SHAPE.width_px), np.uint8)
    cv2.imwrite(str(tmp_path / "pictures" / "a.png"), picture)
    return tmp_path


def check_line(
    root: Path, *options: str, budget_ms: float = 5_000, bright: str = "bright", slots: int = 64
) -> int:
    path = root / "line.yaml"
    text = LINE.format(root=root, budget_ms=budget_ms, bright=bright, slots=slots)
    path.write_text(text)
    return main(["check", str(path), *options])


def test_a_valid_line_can_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_line(root) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for words in (
        "line trial: 5000 ms",
        "delivers 32x48x1",
        "tiny-gate/1 fp32",
        "p99",
        "gate: suspect",
        "40 px",
        "40 mm²",
        "this line can run",
    ):
        assert words in out


def test_no_open_checks_only_the_file(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "store" / "tiny-gate" / "1" / "model.onnx").unlink()
    assert check_line(root, "--no-open") == 0
    assert "the file is valid" in capsys.readouterr().out


def test_a_budget_that_cannot_be_met_is_78(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_line(root, budget_ms=0.001) == 78
    err = capsys.readouterr().err
    assert "budget_ms: cannot be met on this machine: gate " in err
    assert "(found 0.001)" in err


def test_a_corrupt_model_is_65(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "store" / "tiny-gate" / "1" / "model.onnx"
    path.write_bytes(b"x" * path.stat().st_size)
    assert check_line(root) == 65
    assert "SHA-256" in capsys.readouterr().err


def test_classes_that_the_model_lacks_are_78(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_line(root, bright="birght") == 78
    err = capsys.readouterr().err
    assert "decide.classes.bright: required: tiny-segmenter/1 finds the classes" in err
    assert "decide.classes.birght: tiny-segmenter/1 has no such class" in err
    assert "did you mean `bright`?" in err


def test_a_missing_extra_is_69(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert check_line(root) == 69
    assert "pip install 'edgeinspect[cpu]'" in capsys.readouterr().err


def test_a_missing_camera_is_75(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "pictures" / "a.png").unlink()
    (root / "pictures").rmdir()
    assert check_line(root) == 75
    assert "pictures" in capsys.readouterr().err


def test_the_most_severe_fault_determines_the_exit_code(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "pictures" / "a.png").unlink()
    (root / "pictures").rmdir()
    (root / "store" / "tiny-gate" / "1" / "model.onnx").unlink()
    assert check_line(root, bright="birght") == 78
    assert capsys.readouterr().err.count("edgeinspect: error: ") == 3


def test_a_different_image_size_is_reported(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(root / "pictures" / "a.png"), np.zeros((10, 10), np.uint8))
    assert check_line(root) == 0
    assert "delivers 10x10x1, the models take 32x48x1" in capsys.readouterr().out


@pytest.mark.parametrize(("trained", "is_noted"), [(10, True), (12, False), (8, False)])
def test_a_bit_depth_that_differs_from_training_is_noted(
    root: Path, capsys: pytest.CaptureFixture[str], trained: int, is_noted: bool
) -> None:
    manifest = root / "store/tiny-gate/1/manifest.yaml"
    text = yaml.safe_load(manifest.read_text())
    manifest.write_text(yaml.safe_dump({**text, "training": {"run": "r", "bits": trained}}))
    picture = np.full((graphs.SHAPE.height_px, graphs.SHAPE.width_px), 3000, np.uint16)
    cv2.imwrite(str(root / "pictures" / "a.png"), picture)
    assert check_line(root, "--set", "cameras.top.bits=12") == 0
    note = "has images of 12 bits, and engines.gate was trained on 10"
    assert (note in capsys.readouterr().err) is is_noted


def test_a_spool_that_does_not_fit_is_75(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_checks, "SLOT_BYTES", 1 << 50)
    assert check_line(root) == 75
    assert "spool.folder: needs" in capsys.readouterr().err
    assert sorted(path.name for path in root.iterdir()) == FILES  # no file remains


def test_check_and_run_fail_with_the_same_code(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def both(*more: str) -> set[int]:
        words = [word for each in more for word in ("--set", each)]
        codes = {check_line(root, *words), main(["run", str(root / "line.yaml"), *words])}
        err = capfd.readouterr().err
        assert err.count("edgeinspect: error: ") == 2, err
        return codes

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        used = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        assert both(f"publish.verdicts={used}") == {75}
        assert both(f"publish.replay={used}") == {75}
    # An address that no interface has yet (TEST-NET-3) is bound; a folder cannot be made.
    there = ["--set", "publish.verdicts=tcp://203.0.113.9:*", "--set", "publish.insecure=true"]
    assert check_line(root, *there) == 0
    assert main(["run", str(root / "line.yaml"), *there]) == 0
    assert "address.missing" in capfd.readouterr().err
    (root / "file").touch()
    assert both(f"spool.folder={root}/file/spool") == {75}
    assert both(f"publish.verdicts=ipc://{root}/none/verdicts") == {78}
    assert both(f"publish.curve={root}/no-keys") == {65}
    (root / "memory").mkdir(0o750)
    line = yaml.safe_load((root / "line.yaml").read_text())["line"]
    os.mkfifo(root / "memory" / f"{line}.spool")
    assert both(f"spool.folder={root}/memory") == {78}


def test_a_running_line_is_reported(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "spool").mkdir()
    with FileLock(root / "spool" / "trial.spool.lock"):
        assert check_line(root) == 0
        assert "it is running" in capsys.readouterr().out


def test_timing_reports_the_tail() -> None:
    clock = ManualClock()
    times = iter([1_000_000] * module.WARM_UP_RUNS + [2_000_000] * 4 + [9_000_000])
    engine = brightness_gate(FrameShape(4, 4, 1), lambda: clock.advance(next(times)))
    timing = time_engine(engine, clock)
    assert timing == EngineTiming(2_000_000, 9_000_000)
    assert str(timing) == "p50 2.0 ms, p99 9.0 ms"
    assert engine.call_count == module.WARM_UP_RUNS + 5


def test_timing_of_a_slow_engine_ends() -> None:
    clock = ManualClock()
    engine = brightness_gate(FrameShape(4, 4, 1), lambda: clock.advance(module.MAX_TIMING_NS))
    time_engine(engine, clock)
    assert engine.call_count == module.WARM_UP_RUNS + 1


UNKNOWN = "  unknown: {{reject_at: 0.9, area_px: 40, {rule}}}\n"
REJECTS = "action: reject, severity: 6, reject_code: 66"


def check_with_unknown(root: Path, rule: str, budget_ms: float, *options: str) -> int:
    graphs.install_good_parts(root / "store")
    text = LINE.format(root=root, budget_ms=budget_ms, bright="bright", slots=64)
    text = text.replace("engines:\n", "engines:\n  unknown: {type: ort, model: tiny-unknown}\n")
    text = text.replace("decide:\n", f"decide:\n{UNKNOWN.format(rule=rule)}")
    (root / "line.yaml").write_text(text)
    return main(["check", str(root / "line.yaml"), *options])


def test_a_third_opinion_is_listed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_with_unknown(root, REJECTS, 5_000) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for words in ("engines.unknown", "tiny-unknown/1", "unknown ", "66"):
        assert words in out
    assert check_with_unknown(root / "again", "action: review", 5_000, "--no-open") == 0
    assert "unknown: for review" in capsys.readouterr().out


def test_a_third_opinion_need_not_fit_the_budget_unless_it_is_required(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {"tiny-gate": 4, "tiny-segmenter": 5, "tiny-unknown": 6}
    monkeypatch.setattr(
        module,
        "time_engine",
        lambda engine, clock: EngineTiming(1, times[engine.spec.id.name] * 1_000_000),
    )
    assert check_with_unknown(root, REJECTS, 10) == 0
    assert "engines.unknown will not be asked" in capsys.readouterr().err
    (root / "store" / "tiny-unknown" / "1" / "manifest.yaml").unlink()
    (root / "store" / "tiny-unknown" / "1" / "model.onnx").unlink()
    (root / "store" / "tiny-unknown" / "1").rmdir()
    assert check_with_unknown(root, f"{REJECTS}, required: true", 10) == 78
    assert "unknown 6.0 + gate 4.0 + segmenter 5.0 = 15.0 ms at p99" in capsys.readouterr().err


def test_a_gate_that_only_tells_kinds_apart_is_noted(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs.install_kinds_gate(root / "store", name="only-kinds", decides="kinds")
    text = LINE.format(root=root, budget_ms=5_000, bright="bright", slots=64)
    rules = ", ".join(
        f"{kind}: {{prob: 0.5, severity: 2, reject_code: {20 + i}}}"
        for i, kind in enumerate(graphs.KINDS)
    )
    text = text.replace("model: tiny-gate", "model: only-kinds")
    text = text.replace("reject_code: 1}", f"reject_code: 1, classes: {{{rules}}}}}")
    (root / "line.yaml").write_text(text)
    assert main(["check", str(root / "line.yaml")]) == 0
    out, err = capsys.readouterr()
    assert "cannot tell good parts from defective ones" in err
    assert "gate: bright" in out
