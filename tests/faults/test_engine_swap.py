"""Engines changed on a running line: promoted, rolled back, reloaded, and refused."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.cameras import synthetic
from edgeinspect.client import Subscriber
from edgeinspect.config.loader import load_config
from edgeinspect.domain.clock import SystemClock
from edgeinspect.domain.frame import Pixels
from edgeinspect.domain.model import ModelId
from edgeinspect.domain.verdict import Decision, Verdict
from edgeinspect.errors import ConfigError, EngineFault, ModelError
from edgeinspect.pipeline import factory
from edgeinspect.pipeline.line import Line, WorkerEngines
from edgeinspect.services.daemon import reload
from edgeinspect.services.daemon.reload import Reloader
from edgeinspect.storage.ledger.query import read_events
from edgeinspect.storage.ledger.verification import open_ledger, verify_ledger
from edgeinspect.storage.model_store import ModelStore
from edgeinspect.storage.model_store import manifest as manifest_module
from edgeinspect.storage.shadow_results import read_comparisons
from edgeinspect.testing.doubles import ScriptedEngine, brightness_gate
from edgeinspect.wire.messages import Status
from tests import graphs, needs
from tests.faults.harness import SHAPE, RunningLine, UnpluggableCamera, wait_for

ROOT = Path(__file__).parents[2]


# -- scripted engines ---------------------------------------------------------------------


def gate(version: int, take_time: Callable[[], None] = lambda: None) -> ScriptedEngine:
    """Return a gate whose probability is its version: 0.01 for 1, 0.07 for 7."""
    engine = brightness_gate(SHAPE, take_time)
    engine._spec = version_of(engine.spec, version)
    engine._outputs = lambda image: (np.array([version / 100], np.float32),)
    return engine


def version_of(spec: Any, version: int) -> Any:
    import dataclasses

    return dataclasses.replace(spec, id=ModelId(spec.id.name, version, "0" * 64))


def test_a_hundred_swaps_and_each_verdict_names_its_models(tmp_path: Path) -> None:
    running = RunningLine(
        tmp_path,
        rate_hz=400,
        frames=1_000_000,
        budget_ms=5000,
        capture="{ring_slots: 512}",
        more=f"ledger: {{folder: {tmp_path}}}",
    )
    old: list[ScriptedEngine] = [running.engine]
    running.line.start()
    for version in range(2, 102):
        fresh = gate(version % 90)
        running.line.engine_swap.apply(
            running.line.config, f"hash-{version}", [WorkerEngines(fresh, None)]
        )
        assert old[-1].is_closed
        assert not fresh.is_closed
        old.append(fresh)
    counts = running.stop()
    assert counts.no_verdict == 0
    assert counts.late == 0
    assert not running.failures
    judged_by = {verdict.config_hash for verdict in running.verdicts}
    assert len(judged_by) > 20
    for verdict in running.verdicts:
        assert verdict.gate is not None
        if verdict.config_hash.startswith("hash-"):
            version = int(verdict.config_hash[5:]) % 90
            assert verdict.gate.version == version
            assert verdict.defect_prob == pytest.approx(version / 100, abs=1e-5)
    assert all(engine.is_closed for engine in old)
    account = verify_ledger(tmp_path / "rig.ledger.sqlite")
    assert account.is_consistent, account.problems
    with closing(open_ledger(tmp_path / "rig.ledger.sqlite")) as base:
        kinds = [event.kind for event in read_events(base, 1000)]
    assert kinds.count("engine.changed") == 100


def fails(_image: Pixels) -> Any:
    raise EngineFault("illegal address", where="gpu 0")


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda engine: setattr(engine, "_outputs", fails), "illegal address"),
        (
            lambda engine: setattr(engine, "_outputs", lambda image: (np.array([np.nan]),)),
            "gives a probability of nan",
        ),
        (
            lambda engine: setattr(engine, "_spec", brightness_gate(graphs.SHAPE).spec),
            "Other frames need a restart",
        ),
    ],
)
def test_what_fails_its_first_frames_is_refused(
    tmp_path: Path, break_it: Callable[[Any], None], words: str
) -> None:
    running = RunningLine(tmp_path, frames=1_000_000)
    running.line.start()
    bad = gate(9)
    break_it(bad)
    with pytest.raises(ModelError, match=words):
        running.line.engine_swap.apply(running.line.config, "new", [WorkerEngines(bad, None)])
    assert bad.is_closed
    assert not running.engine.is_closed
    before = running.line.closer.counters.counts().captured
    wait_for(lambda: running.line.closer.counters.counts().captured > before + 10)
    counts = running.stop()
    assert counts.passed == counts.captured
    assert {verdict.config_hash for verdict in running.verdicts} == {
        running.line.closer.provenance.config_hash
    }


def test_a_swap_during_a_hang_does_not_wait_for_the_hung_worker(tmp_path: Path) -> None:
    """The worker hangs in its old engine: deadlines are met, and it continues with the new one."""
    hang = threading.Event()
    running = RunningLine(tmp_path, rate_hz=100, frames=1_000_000, capture="{ring_slots: 64}")
    running.engine._take_time = lambda: time.sleep(0.4) if hang.is_set() else None
    running.line.start()
    wait_for(lambda: running.camera.sent_count > 10)
    hang.set()
    time.sleep(0.05)
    running.line.engine_swap.apply(running.line.config, "after", [WorkerEngines(gate(5), None)])
    assert running.engine.is_closed
    before = running.line.closer.counters.counts().passed
    wait_for(lambda: running.line.closer.counters.counts().passed > before + 20)
    counts = running.stop()
    assert counts.reasons["deadline"] > 10
    assert running.verdicts[-1].gate is not None
    assert running.verdicts[-1].gate.version == 5


def test_workers_that_differ_are_refused() -> None:
    from edgeinspect.config.loader import parse_config
    from edgeinspect.pipeline.inspection.from_config import make_frame_inspectors

    config = parse_config(
        """\
schema: 1
line: two
budget_ms: 100
cameras: {top: {type: synthetic}}
engines: {gate: {type: ov, model: scripted}}
optics: {mm_per_px_x: 1, mm_per_px_y: 1}
decide: {gate: {suspect_at: 0.9, reject_at: 0.9, degraded_reject_at: 0.9, reject_code: 1}}
"""
    ).config
    workers = [WorkerEngines(gate(1), None), WorkerEngines(gate(2), None)]
    with pytest.raises(ModelError, match="another version was promoted"):
        make_frame_inspectors(config, "hash", ("top",), workers, SystemClock())


# -- the daemon's reload, with a real store -----------------------------------------------


class ReloadableLine:
    """A running line of tiny ONNX gates, with its configuration file and its store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ModelStore(folder / "engines")
        for version in (1, 2):
            graphs.install(
                self.store.root,
                graphs.gate(SHAPE),
                version=version,
                shape=SHAPE,
                training={"run": str(version)},
            )
        self.shelf = self.store.model_versions("tiny-gate")
        self.shelf.promote(1)
        self.path = folder / "line.yaml"
        self.write()
        loaded = load_config(self.path)
        self.camera = UnpluggableCamera(100, 1_000_000)
        self.failures: list[BaseException] = []
        self.line: Line = factory.build_line(
            loaded,
            SystemClock(),
            on_failure=self.failures.append,
            on_end=lambda: None,
            cameras={"top": self.camera},
        )
        self.reloader = Reloader(self.line, loaded, self.path, ())
        self.line.start()

    def write(self, *, budget_ms: int = 10_000, suspect_at: float = 0.9) -> None:
        self.path.write_text(
            f"""\
schema: 1
line: plant
budget_ms: {budget_ms}
store: {self.store.root}
cameras: {{top: {{type: synthetic}}}}
capture: {{ring_slots: 512}}
engines: {{gate: {{type: ort, model: tiny-gate, threads: 1}}}}
optics: {{mm_per_px_x: 1, mm_per_px_y: 1}}
decide: {{gate: {{suspect_at: {suspect_at}, reject_at: 0.9, degraded_reject_at: 0.9,
  reject_code: 1}}}}
publish: {{verdicts: "tcp://127.0.0.1:*", replay: "tcp://127.0.0.1:*", status_ms: 100}}
spool: {{folder: {self.folder}/run}}
ledger: {{folder: {self.folder}/ledger}}
"""
        )

    def live(self) -> int:
        ref = self.line.closer.provenance.gate
        assert ref is not None
        return ref.version

    def stop(self) -> None:
        counts = self.line.stop()
        self.line.close()
        assert not self.failures
        assert counts.captured == counts.passed + counts.reject + counts.no_verdict
        assert counts.no_verdict == 0
        assert counts.late == 0
        account = verify_ledger(self.folder / "ledger" / "plant.ledger.sqlite")
        assert account.is_consistent, account.problems


@pytest.fixture
def reloadable(tmp_path: Path) -> Iterator[ReloadableLine]:
    needs.library("onnxruntime")
    reloadable = ReloadableLine(tmp_path)
    yield reloadable
    reloadable.stop()


def test_promote_and_roll_back_by_reload(reloadable: ReloadableLine) -> None:
    assert reloadable.live() == 1
    for _ in range(10):
        reloadable.shelf.promote(2)
        assert reloadable.reloader.reload_now()
        assert reloadable.live() == 2
        reloadable.shelf.rollback()
        assert reloadable.reloader.reload_now()
        assert reloadable.live() == 1
    reloadable.write(suspect_at=0.8)
    before = reloadable.line.closer.provenance.config_hash
    assert reloadable.reloader.reload_now()
    assert reloadable.line.closer.provenance.config_hash != before


def corrupt(reloadable: ReloadableLine) -> None:
    path = reloadable.shelf.folder / "2" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")


def tamper(reloadable: ReloadableLine) -> None:
    path = reloadable.shelf.folder / "2" / "manifest.yaml"
    path.write_text(path.read_text().replace("suspect_at: 0.5", "suspect_at: 0.99"))


def open_to_all(reloadable: ReloadableLine) -> None:
    (reloadable.shelf.folder / "2").chmod(0o777)


def own_no_graph(reloadable: ReloadableLine) -> None:
    """Its hash is right, and it is no graph."""
    folder = reloadable.shelf.folder / "2"
    (folder / "manifest.yaml").unlink()
    (folder / "model.onnx").unlink()
    folder.rmdir()
    graphs.install(reloadable.store.root, b"not a graph", version=2, shape=SHAPE)
    reloadable.shelf.promote(2)


def other_device(reloadable: ReloadableLine) -> None:
    folder = reloadable.shelf.folder / "2"
    text = (folder / "manifest.yaml").read_text()
    (folder / "manifest.yaml").write_text(text + "built: {device: NVIDIA Orin}\n")
    reloadable.shelf.promote(2)


def many_keys(reloadable: ReloadableLine) -> None:
    reloadable.write(budget_ms=500)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (corrupt, "has the SHA-256"),
        (tamper, "was changed after it was approved"),
        (open_to_all, "can be written by all users"),
        (own_no_graph, "cannot be loaded"),
        (other_device, "was built for NVIDIA Orin; this machine has NVIDIA H200"),
        (many_keys, "budget_ms: cannot be changed while the line runs"),
    ],
)
def test_bad_engines_are_refused_while_the_line_continues(
    reloadable: ReloadableLine,
    harm: Callable[[ReloadableLine], None],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(manifest_module, "gpu_names", lambda: ("NVIDIA H200",))
    reloadable.shelf.promote(2)
    harm(reloadable)
    assert not reloadable.reloader.reload_now()
    assert reloadable.live() == 1
    assert words in reloadable.line.engine_swap.problem
    wait_for(lambda: words in reloadable.line.alarms.text)
    before = reloadable.line.closer.counters.counts().passed
    wait_for(lambda: reloadable.line.closer.counters.counts().passed > before + 20)
    (reloadable.shelf.folder / "2").chmod(0o755)
    reloadable.write()
    reloadable.shelf.promote(1)
    assert reloadable.reloader.reload_now()
    wait_for(lambda: not reloadable.line.alarms.text)
    with closing(open_ledger(reloadable.folder / "ledger" / "plant.ledger.sqlite")) as base:
        wait_for(lambda: "engine.refused" in {event.kind for event in read_events(base, 100)})


def test_a_reload_that_hangs_is_an_alarm_and_inspection_continues(
    reloadable: ReloadableLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeinspect.pipeline.inspection.engine_swap._RELOAD_ALARM_NS", 50_000_000)
    free, read = threading.Event(), reload.load_config

    def hang(*arguments: Any) -> Any:
        assert free.wait(30)
        return read(*arguments)

    monkeypatch.setattr(reload, "load_config", hang)
    reloadable.reloader.start()
    try:
        reloadable.reloader.request_reload()
        wait_for(lambda: "new engines are not loaded" in reloadable.line.alarms.text)
        before = reloadable.line.closer.counters.counts().passed
        wait_for(lambda: reloadable.line.closer.counters.counts().passed > before + 20)
        assert reloadable.line.alarms.check()[0]
        free.set()
        wait_for(lambda: not reloadable.line.alarms.text)
    finally:
        free.set()
        reloadable.reloader.stop()


def test_an_unexpected_error_in_a_reload_does_not_affect_the_line(
    reloadable: ReloadableLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_args: Any) -> None:
        raise RuntimeError("out of device memory")

    monkeypatch.setattr(reload, "load_engines", explode)
    assert not reloadable.reloader.reload_now()
    assert "out of device memory" in reloadable.line.engine_swap.problem
    monkeypatch.undo()
    reloadable.path.write_text("schema: 7")
    assert not reloadable.reloader.reload_now()
    with pytest.raises(ConfigError):
        load_config(reloadable.path)


def test_the_daemon_applies_a_promotion_at_sighup(tmp_path: Path) -> None:
    """The command line as a unit runs it: promote in one process, SIGHUP to the other."""
    needs.library("onnxruntime")
    root = tmp_path / "engines"
    for version in (1, 2):
        graphs.install(root, graphs.gate(), version=version)
    ModelStore(root).model_versions("tiny-gate").promote(1)
    (tmp_path / "in").mkdir()
    for index in range(4):
        picture = np.full((32, 48), 60 + index, np.uint8)
        cv2.imwrite(str(tmp_path / "in" / f"{index}.png"), picture)
    path = tmp_path / "line.yaml"
    path.write_text(
        f"""\
schema: 1
line: hup
budget_ms: 10000
store: {root}
cameras: {{top: {{type: folder, path: {tmp_path}/in, rate_hz: 20, repeat: true}}}}
engines: {{gate: {{type: ort, model: tiny-gate, threads: 1}}}}
optics: {{mm_per_px_x: 1, mm_per_px_y: 1}}
decide: {{gate: {{suspect_at: 0.9, reject_at: 0.9, degraded_reject_at: 0.9, reject_code: 1}}}}
publish: {{verdicts: "ipc://{tmp_path}/v", replay: "ipc://{tmp_path}/r", status_ms: 100}}
spool: {{folder: {tmp_path}/run}}
"""
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "edgeinspect", "run", str(path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    subscriber = Subscriber(f"ipc://{tmp_path}/v", topics=("status",))

    def status(field: str) -> Any:
        got = subscriber.receive(200)
        return getattr(got.message, field) if got and isinstance(got.message, Status) else None

    try:
        wait_for(lambda: status("gate") == "tiny-gate/1", 60)
        ModelStore(root).model_versions("tiny-gate").promote(2)
        child.send_signal(signal.SIGHUP)
        wait_for(lambda: status("gate") == "tiny-gate/2")
        (root / "tiny-gate" / "2").chmod(0o777)
        child.send_signal(signal.SIGHUP)
        wait_for(lambda: "can be written by all users" in (status("alarm") or ""))
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    finally:
        subscriber.close()
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


# -- the shipped models -------------------------------------------------------------------


def test_the_shipped_models_swapped_under_load(tmp_path: Path) -> None:
    needs.library("openvino")
    from edgeinspect.storage.model_store.shipped_line import shipped_line_config

    clock = SystemClock()
    loaded = shipped_line_config(str(tmp_path), budget_ms=20_000, backend="ov")
    camera = synthetic.build(synthetic.Options(rate_hz=5, pictures=4), clock)
    camera.render_images()
    line = factory.build_line(
        loaded, clock, on_failure=lambda error: None, on_end=lambda: None, cameras={"top": camera}
    )
    subscriber = Subscriber(line.publisher.address, topics=("verdict",))
    line.start()
    for _ in range(2):
        reload.reload_engines(line, loaded, loaded)
    counts = line.stop()
    received: list[Verdict] = []
    while (got := subscriber.receive(200)) is not None:
        if isinstance(got.message, Verdict):
            received.append(got.message)
    subscriber.close()
    line.close()
    assert line.engine_swap.swap_count == 2
    assert counts.captured == counts.passed + counts.reject + counts.no_verdict == len(received)
    assert counts.late == 0
    assert all(v.decision is not Decision.NO_VERDICT for v in received), counts.reasons


# -- shadow -------------------------------------------------------------------------------


def rejects_all(shape: Any) -> Any:
    """Return a gate that rejects every image but a black one."""
    model = graphs.gate(shape)
    model.graph.node[-1].output[0] = "ratio"
    model.graph.node.append(graphs.helper.make_node("Sign", ["ratio"], ["defect_prob"]))
    return model


def test_a_candidate_in_shadow_has_no_effect_on_the_line(reloadable: ReloadableLine) -> None:
    graphs.install(reloadable.store.root, rejects_all(SHAPE), version=3, shape=SHAPE)
    reloadable.shelf.set_shadow(3)
    reload.restart_shadow(reloadable.line, load_config(reloadable.path))
    shadow = reloadable.line.shadow
    assert shadow is not None
    wait_for(lambda: shadow.submitted_count > 70, 60)
    reloadable.line.set_shadow(None)
    path = reloadable.folder / "ledger" / "plant.shadow.sqlite"
    (one,) = read_comparisons([path], "tiny-gate/3")
    assert one.frames >= 70
    assert one.only_shadow_rejects == one.frames == one.differing
    assert one.only_live_rejects == 0
    assert len(one.seqs) == one.frames
    assert one.live.startswith("tiny-gate/1#")
    assert read_comparisons([path], "tiny-gate/2") == []
    assert reloadable.line.closer.counters.counts().reject == 0


def test_a_shadow_that_dies_affects_no_frame(reloadable: ReloadableLine) -> None:
    reloadable.shelf.set_shadow(2)
    reload.restart_shadow(reloadable.line, load_config(reloadable.path))
    shadow = reloadable.line.shadow
    assert shadow is not None
    wait_for(lambda: shadow.submitted_count > 3, 60)
    shadow._child.kill()
    wait_for(lambda: not shadow.check_child())
    before = reloadable.line.closer.counters.counts().passed
    wait_for(lambda: reloadable.line.closer.counters.counts().passed > before + 20)


def test_a_candidate_that_is_refused_leaves_the_line_without_a_shadow(
    reloadable: ReloadableLine,
) -> None:
    reloadable.shelf.set_shadow(2)
    corrupt(reloadable)
    reload.restart_shadow(reloadable.line, load_config(reloadable.path))
    assert reloadable.line.shadow is None
