from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import Decision
from edgeinspect.services.hmi.archive_frames import ArchiveMonitor
from edgeinspect.services.hmi.drift import (
    DriftMonitor,
    laplacian_sharpness,
    make_reference,
    stability_index,
)
from edgeinspect.services.hmi.host_sensors import HostTemperatures, read_host_state
from edgeinspect.services.hmi.metrics import Metrics, MetricSources
from edgeinspect.storage.archive.status import ArchiveStatus, write_status
from tests.unit.services.hmi.builders import (
    GATE,
    ROOT,
    make_heartbeat,
    make_line_state,
    make_status,
    make_verdict,
)

HOST = HostTemperatures({"cpu-0": 61.5}, 3, 0.8)


def measures(window: int = 300) -> Metrics:
    """Return metrics with every family present."""
    state = make_line_state(ManualClock())
    state.on_heartbeat(make_heartbeat())
    state.on_heartbeat(
        make_status(captured=20, passed=15, reject=3, no_verdict=1, open=1, late=1, degraded=2)
    )
    drift = DriftMonitor("strip", 200, 200, None)
    drift.image_stats["top"] = (92.5, 140.0)
    rng = np.random.default_rng(1)
    drift.start_model(GATE.sha256, rng.random(200).tolist())
    for score in rng.random(window):
        drift.add_score(GATE.sha256, float(score))
    with tempfile.TemporaryDirectory() as folder:
        clock = ManualClock()
        write_status(Path(folder), ArchiveStatus(at_utc_ns=clock.utc_ns(), saved=12, missed=2))
        archive = ArchiveMonitor(Path(folder), clock)
        archive.poll()
        assert archive.alarm() == ""
    sources = MetricSources(state, drift, ("top",), 150, lambda: HOST, archive_monitor=archive)
    collected = Metrics(sources)
    for seq in range(1, 20):
        decision = Decision.NO_VERDICT if seq == 19 else Decision.PASS
        one = make_verdict(seq, decision)
        state.on_verdict(one, b"", replayed=False)
        collected.on_verdict(one)
    return collected


def families(collected: Metrics) -> dict[str, object]:
    return {f.name: f for f in text_string_to_metric_families(collected.render().decode())}


def names(collected: Metrics) -> set[str]:
    """Return every name that a query may use."""
    text = collected.render().decode()
    return {s.name for f in text_string_to_metric_families(text) for s in f.samples}


def test_exports_the_daemon_status() -> None:
    text = measures().render().decode()
    for line in (
        'edgeinspect_verdicts_total{decision="PASS",line="strip"} 15.0',
        'edgeinspect_frames_captured_total{line="strip"} 20.0',
        'edgeinspect_open_frames{line="strip"} 1.0',
        'edgeinspect_no_verdicts_total{line="strip",reason="deadline"} 1.0',
        'edgeinspect_inspected{line="strip"} 1.0',
        'edgeinspect_alarm{line="strip"} 0.0',
        'edgeinspect_latency_seconds_count{line="strip"} 18.0',
        'edgeinspect_latency_seconds_bucket{le="0.0025",line="strip"}',
        'edgeinspect_temperature_celsius{sensor="cpu-0"} 61.5',
        'edgeinspect_archive_up{line="strip"} 1.0',
        'edgeinspect_archive_missed_total{line="strip"} 2.0',
        'edgeinspect_engine_info{calibration="cal-1",engine="gate"',
    ):
        if line.startswith("edgeinspect_latency_seconds_bucket"):
            assert 'le="0.15"' in text, "the budget is an edge"
        else:
            assert line in text, line
    assert 'stage="segmenter"} 0' in text, "it did not run"


def test_exports_without_any_message() -> None:
    state, drift = make_line_state(ManualClock()), DriftMonitor("strip", 200, 200, None)
    sources = MetricSources(state, drift, ("top",), 150, lambda: HostTemperatures({}, None, None))
    exported_names = names(Metrics(sources))
    assert "edgeinspect_inspected" in exported_names
    assert "edgeinspect_frames_captured_total" not in exported_names


def exported() -> set[str]:
    return names(measures())


def queried(text: str) -> set[str]:
    return set(re.findall(r"\bedgeinspect_[a-z_]+", text))


def test_dashboard_and_alerts_use_exported_metrics() -> None:
    dashboard = json.loads((ROOT / "examples/grafana/edgeinspect.json").read_text("utf-8"))
    queries = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]
    assert len(queries) > 12
    rules = yaml.safe_load((ROOT / "examples/prometheus/alerts.yaml").read_text("utf-8"))
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len(alerts) > 8
    for rule in alerts:
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["remedy"]
        assert rule["labels"]["severity"] in {"page", "ticket"}
        queries.append(rule["expr"])
    known = exported()
    for expression in queries:
        for name in queried(expression):
            assert name in known, f"{name} in {expression}"


def test_documentation_lists_every_metric() -> None:
    text = (ROOT / "docs/reference/metrics.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `(edgeinspect_[a-z_]+)`", text, flags=re.MULTILINE))
    plain = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in exported()}
    assert listed == plain


@given(st.lists(st.floats(0, 1), min_size=200, max_size=400))
@settings(deadline=None, max_examples=40)
def test_stability_index_of_the_reference_is_zero(scores: list[float]) -> None:
    reference = make_reference("x", scores)
    assert stability_index(reference, scores) == pytest.approx(0, abs=1e-9)
    assert len(reference.shares) == len(reference.edges) + 1
    assert sum(reference.shares) == pytest.approx(1)


def test_stability_index_grows_with_the_change() -> None:
    rng = np.random.default_rng(2)
    reference = make_reference("x", rng.beta(0.3, 3, 5_000).tolist())
    same = stability_index(reference, rng.beta(0.3, 3, 2_000).tolist())
    shifted = stability_index(reference, rng.beta(0.6, 3, 2_000).tolist())
    other = stability_index(reference, rng.beta(3, 0.6, 2_000).tolist())
    assert same < 0.02 < shifted < other
    assert other > 0.25


def test_reference_persists_and_belongs_to_one_gate(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    first = DriftMonitor("strip", 200, 200, tmp_path)
    first.start_model("aa", [])
    for score in rng.random(250):
        assert first.add_score("aa", float(score))
    assert first.reference is not None
    assert not first.add_score("bb", 0.5), "another gate must be begun first"
    second = DriftMonitor("strip", 200, 200, tmp_path)
    second.start_model("aa", [])
    assert second.reference == first.reference
    assert second.current_index() is None, "no window yet"
    second.start_model("bb", [])
    assert second.reference is None
    (tmp_path / "strip.aa.scores.json").write_bytes(b"{")
    second.start_model("aa", [])
    assert second.reference is None


def test_sharpness_falls_with_blur() -> None:
    rng = np.random.default_rng(4)
    sharp = rng.integers(0, 255, (64, 96, 1), np.uint8)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 1.5).reshape(64, 96, 1)
    assert laplacian_sharpness(blurred) < laplacian_sharpness(sharp) / 10


def test_reads_available_host_sensors(tmp_path: Path) -> None:
    assert read_host_state(tmp_path) == HostTemperatures({}, None, None)
    for path, text in (
        ("class/thermal/thermal_zone0/type", "x86_pkg_temp\n"),
        ("class/thermal/thermal_zone0/temp", "61500\n"),
        ("class/thermal/thermal_zone1/temp", "nonsense\n"),
        ("class/hwmon/hwmon2/name", "nvme\n"),
        ("class/hwmon/hwmon2/temp1_input", "40000\n"),
        ("class/hwmon/hwmon2/temp1_label", "Composite\n"),
        ("devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "3\n"),
        ("devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "4\n"),
        ("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "800000\n"),
        ("devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "3200000\n"),
    ):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    host = read_host_state(tmp_path)
    assert host.temperatures == {"x86_pkg_temp-0": 61.5, "nvme-Composite": 40.0}
    assert (host.throttle_count, host.min_clock_ratio) == (7, 0.25)
