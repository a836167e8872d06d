"""Checks of the doctor, on trees of files that represent PCs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeinspect.cli.main import main
from edgeinspect.config.loader import LoadedConfig, parse_config
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.storage.shared_memory.folder import default_folder
from edgeinspect.tools.doctor import Diagnostic, DiagnosticSeverity, Host, run_checks
from edgeinspect.tools.doctor.cameras import read_camera_states
from edgeinspect.tools.doctor.network import check_network

ROOT = Path(__file__).resolve().parents[4]
GIB = 1 << 30
GOOD = {
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance",
    "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance",
    "/proc/sys/kernel/sched_rt_runtime_us": "950000",
    "/proc/sys/kernel/sched_rt_period_us": "1000000",
    "/proc/sys/net/core/rmem_max": "16777216",
    "/sys/class/net/eth0/device/x": "",
    "/sys/class/net/eth0/operstate": "up",
    "/sys/class/net/eth0/mtu": "9000",
    "/var/log/journal/x": "",
    "/var/lib/edgeinspect/ledger/x": "",
    "/run/edgeinspect/example/x": "",
    "/etc/edgeinspect/keys/server.key_secret": "",
}


class FakeHost(Host):
    """A tree of files, and values of what is not in files."""

    def __init__(self, root: Path, files: Mapping[str, str]) -> None:
        super().__init__(root)
        self.ring: tuple[int, int] | None = (4096, 4096)
        self.clock_follows: bool | None = True
        self.free = 100 * GIB
        self.command_outputs: dict[str, str] = {}
        for name, text in files.items():
            self.put(name, text)
        self.path("/etc/edgeinspect/keys/server.key_secret").chmod(0o600)

    def put(self, name: str, text: str) -> None:
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(text)

    def free_bytes(self, name: str | Path) -> int | None:
        return self.free if super().free_bytes(name) is not None else None

    def run_command(self, options: Any) -> str | None:
        return self.command_outputs.get(options[0])

    def receive_ring(self, interface: str) -> tuple[int, int] | None:
        return self.ring

    def is_clock_synchronised(self) -> bool | None:
        return self.clock_follows


@pytest.fixture
def pc(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path, GOOD)


def line(**changes: Any) -> LoadedConfig:
    """The installed example with other values."""
    config = yaml.safe_load((ROOT / "examples/service/example.yaml").read_text(encoding="utf-8"))
    config["cameras"] = {"top": {"type": "folder", "path": str(ROOT / "examples/pictures")}}
    return parse_config(yaml.safe_dump(config | changes))


def diagnose(
    pc: FakeHost, loaded: LoadedConfig | None = None, **states: str
) -> dict[str, Diagnostic]:
    diagnostics = run_checks(pc, ManualClock(), loaded, read_states=lambda _loaded: states or None)
    return {finding.check: finding for finding in diagnostics}


def test_a_well_configured_pc_has_no_problem(pc: FakeHost) -> None:
    diagnostics = diagnose(pc)
    assert {f.state for f in diagnostics.values()} <= {
        DiagnosticSeverity.OK,
        DiagnosticSeverity.SKIPPED,
    }
    assert not any(f.remedy for f in diagnostics.values())
    assert len([f for f in diagnostics.values() if f.state is DiagnosticSeverity.OK]) >= 9


def test_an_empty_tree_has_no_error(tmp_path: Path) -> None:
    diagnostics = list(run_checks(Host(tmp_path), ManualClock(), None))
    assert "bad" not in {f.state.value for f in diagnostics}


@pytest.mark.parametrize(
    ("name", "text", "check", "state", "remedy"),
    [
        (
            "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
            "powersave",
            "processor.governor",
            DiagnosticSeverity.WARNING,
            "cpupower",
        ),
        (
            "/proc/sys/kernel/sched_rt_runtime_us",
            "500000",
            "processor.realtime_share",
            DiagnosticSeverity.WARNING,
            "sched_rt_runtime_us=950000",
        ),
        (
            "/proc/sys/net/core/rmem_max",
            "212992",
            "network.socket_buffers",
            DiagnosticSeverity.WARNING,
            "net.core.rmem_max=",
        ),
        (
            "/sys/class/net/eth0/mtu",
            "1500",
            "network.eth0.mtu",
            DiagnosticSeverity.WARNING,
            "mtu 9000",
        ),
    ],
)
def test_each_wrong_setting_is_found_with_its_remedy(
    pc: FakeHost, name: str, text: str, check: str, state: DiagnosticSeverity, remedy: str
) -> None:
    assert diagnose(pc)[check].state is DiagnosticSeverity.OK
    pc.put(name, text)
    diagnostics = diagnose(pc)[check]
    assert diagnostics.state is state
    assert remedy in diagnostics.remedy


def set_ring(pc: FakeHost) -> None:
    pc.ring = (256, 4096)


def set_clock(pc: FakeHost) -> None:
    pc.clock_follows = False


def set_disk(pc: FakeHost) -> None:
    pc.free = GIB // 2


def set_journal(pc: FakeHost) -> None:
    pc.path("/var/log/journal/x").unlink()
    pc.path("/var/log/journal").rmdir()


def set_mode(pc: FakeHost) -> None:
    pc.path("/etc/edgeinspect/keys/server.key_secret").chmod(0o640)


@pytest.mark.parametrize(
    ("spoil", "check", "state"),
    [
        (set_ring, "network.eth0.ring", DiagnosticSeverity.WARNING),
        (set_clock, "time.synchronous", DiagnosticSeverity.WARNING),
        (set_disk, "storage.disk", DiagnosticSeverity.ERROR),
        (set_journal, "storage.journal", DiagnosticSeverity.WARNING),
        (set_mode, "keys.server.key_secret", DiagnosticSeverity.ERROR),
    ],
)
def test_other_problems_are_found_with_a_remedy(
    pc: FakeHost, spoil: Callable[[FakeHost], None], check: str, state: DiagnosticSeverity
) -> None:
    assert diagnose(pc)[check].state is DiagnosticSeverity.OK
    spoil(pc)
    diagnostics = diagnose(pc)[check]
    assert diagnostics.state is state
    assert diagnostics.remedy


def test_unplugged_and_wireless_cards_are_ignored(pc: FakeHost) -> None:
    pc.put("/sys/class/net/wlan0/device/x", "")
    pc.put("/sys/class/net/wlan0/wireless/x", "")
    pc.put("/sys/class/net/wlan0/operstate", "up")
    pc.put("/sys/class/net/eth1/device/x", "")
    pc.put("/sys/class/net/eth1/operstate", "down")
    pc.put("/sys/class/net/lo/operstate", "up")
    assert {f.check.split(".")[1] for f in check_network(pc, None)} == {"socket_buffers", "eth0"}


# -- requirements of a line -------------------------------------------------------------------


def test_the_network_is_skipped_for_a_line_without_packet_cameras(pc: FakeHost) -> None:
    assert diagnose(pc, line())["network"].state is DiagnosticSeverity.SKIPPED


def test_real_time_requires_its_drop_in(pc: FakeHost) -> None:
    wanting = line(real_time={"fifo_priority": 20, "lock_memory": True})
    assert diagnose(pc, wanting)["processor.realtime_limits"].state is DiagnosticSeverity.SKIPPED
    unit = (ROOT / "systemd/edgeinspect@.service").read_text(encoding="utf-8")
    pc.put("/usr/lib/systemd/system/edgeinspect@.service", unit)
    diagnostics = diagnose(pc, wanting)["processor.realtime_limits"]
    assert diagnostics.state is DiagnosticSeverity.ERROR
    assert "drop-ins/realtime.conf" in diagnostics.remedy
    assert diagnose(pc, line())["processor.realtime_limits"].state is DiagnosticSeverity.SKIPPED
    drop_in = (ROOT / "systemd/drop-ins/realtime.conf").read_text(encoding="utf-8")
    pc.put("/etc/systemd/system/edgeinspect@example.service.d/realtime.conf", drop_in)
    assert diagnose(pc, wanting)["processor.realtime_limits"].state is DiagnosticSeverity.OK


def test_the_disk_must_have_space_for_the_ledger(pc: FakeHost) -> None:
    pc.free = 10 * GIB
    small, large = ({"folder": "/var/lib/edgeinspect/ledger", "max_mib": m} for m in (5e3, 2e4))
    assert diagnose(pc, line(ledger=small))["storage.disk"].state is DiagnosticSeverity.OK
    assert diagnose(pc, line(ledger=large))["storage.disk"].state is DiagnosticSeverity.WARNING


def test_the_memory_must_have_space_for_the_spool(pc: FakeHost) -> None:
    pc.free = 80 << 20
    assert diagnose(pc, line())["storage.memory"].state is DiagnosticSeverity.ERROR
    small = {"folder": "/run/edgeinspect/example", "slots": 64}
    assert diagnose(pc, line(spool=small))["storage.memory"].state is DiagnosticSeverity.OK


def test_the_memory_is_checked_in_the_lines_folder(
    pc: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setattr(pc, "is_root", lambda: False)
    assert "/run/edgeinspect/example" in diagnose(pc, line(spool={}))["storage.memory"].found
    assert (
        default_folder().name in diagnose(pc, line(line="press", spool={}))["storage.memory"].found
    )
    monkeypatch.setattr(pc, "is_read_only", lambda name: name == "/run/edgeinspect/example")
    finding = diagnose(pc, line())["storage.memory"]
    assert finding.state is DiagnosticSeverity.ERROR
    assert "read-only" in finding.found


def test_an_encrypted_line_requires_its_key(pc: FakeHost) -> None:
    publish = {"verdicts": "tcp://*:5590", "replay": "tcp://*:5591", "curve": "/etc/nowhere"}
    diagnostics = diagnose(pc, line(publish=publish))["keys.server"]
    assert diagnostics.state in (DiagnosticSeverity.ERROR, DiagnosticSeverity.SKIPPED)
    publish["curve"] = "/etc/edgeinspect/keys"
    assert (
        diagnose(pc, line(publish=publish))["keys.server.key_secret"].state is DiagnosticSeverity.OK
    )


# -- GPU ---------------------------------------------------------------------------------

CARD = "NVIDIA L4, {persistent}, {slow}, Not Active, {limit} W, 72.00 W, {heat}\n"


@pytest.mark.parametrize(
    ("changes", "bad_checks"),
    [
        ({}, set()),
        ({"persistent": "Disabled"}, {"gpu.0.persistence"}),
        ({"slow": "Active"}, {"gpu.0.clocks"}),
        ({"heat": "91"}, {"gpu.0.clocks"}),
        ({"limit": "40.00"}, {"gpu.0.power"}),
    ],
)
def test_a_throttled_card_is_found(
    pc: FakeHost, changes: dict[str, str], bad_checks: set[str]
) -> None:
    pc.put("/proc/driver/nvidia/version", "570")
    options = {"persistent": "Enabled", "slow": "Not Active", "limit": "72.00", "heat": "50"}
    pc.command_outputs["nvidia-smi"] = CARD.format(**options | changes)
    gpu = {c: f for c, f in diagnose(pc).items() if c.startswith("gpu")}
    assert {c for c, f in gpu.items() if f.remedy} == bad_checks
    assert len(gpu) == 3


def test_a_missing_or_unresponsive_driver_is_found(pc: FakeHost) -> None:
    assert diagnose(pc)["gpu"].state is DiagnosticSeverity.SKIPPED
    engines = {"gate": {"type": "trt", "model": "a"}, "segmenter": {"type": "trt", "model": "b"}}
    assert diagnose(pc, line(engines=engines))["gpu.driver"].state is DiagnosticSeverity.ERROR
    pc.put("/proc/driver/nvidia/version", "570")
    assert diagnose(pc)["gpu.driver"].state is DiagnosticSeverity.ERROR


def test_mode_and_clocks_of_a_jetson_are_checked(pc: FakeHost) -> None:
    pc.put("/etc/nv_tegra_release", "# R36")
    pc.put("/sys/class/devfreq/17000000.gpu/min_freq", "306000000")
    pc.put("/sys/class/devfreq/17000000.gpu/max_freq", "1300500000")
    pc.command_outputs["nvpmodel"] = "NV Power Mode: 15W\n2\n"
    diagnostics = diagnose(pc)
    assert diagnostics["gpu.power_mode"].remedy == "nvpmodel -m 0"
    assert "jetson_clocks" in diagnostics["gpu.clocks"].remedy
    pc.command_outputs["nvpmodel"] = "NV Power Mode: MAXN\n0\n"
    pc.put("/sys/class/devfreq/17000000.gpu/min_freq", "1300500000")
    diagnostics = diagnose(pc)
    assert {diagnostics[c].state for c in ("gpu.power_mode", "gpu.clocks")} == {
        DiagnosticSeverity.OK
    }


# -- cameras -----------------------------------------------------------------------------


def test_a_camera_is_opened_if_no_line_runs(pc: FakeHost, tmp_path: Path) -> None:
    assert diagnose(pc, line())["camera.top"].state is DiagnosticSeverity.OK
    missing = line(cameras={"top": {"type": "folder", "path": str(tmp_path / "nowhere")}})
    diagnostics = diagnose(pc, missing)["camera.top"]
    assert diagnostics.state is DiagnosticSeverity.ERROR
    assert diagnostics.remedy


def test_a_camera_in_use_is_not_opened(pc: FakeHost, tmp_path: Path) -> None:
    missing = line(cameras={"top": {"type": "folder", "path": str(tmp_path / "nowhere")}})
    assert diagnose(pc, missing, top="live")["camera.top"].state is DiagnosticSeverity.OK
    diagnostics = diagnose(pc, missing, top="lost")["camera.top"]
    assert diagnostics.state is DiagnosticSeverity.ERROR
    assert "EI_CAMERA=top" in diagnostics.remedy


def test_without_a_status_no_line_runs() -> None:
    publish = {"verdicts": "tcp://127.0.0.1:1", "replay": "tcp://127.0.0.1:2", "status_ms": 50}
    assert read_camera_states(line(publish=publish)) is None


# -- the command -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "options", "code"),
    [
        ({"a": DiagnosticSeverity.OK, "b": DiagnosticSeverity.WARNING}, [], 0),
        ({"a": DiagnosticSeverity.OK, "b": DiagnosticSeverity.WARNING}, ["--strict"], 78),
        ({"camera.top": DiagnosticSeverity.ERROR, "b": DiagnosticSeverity.OK}, [], 75),
        ({"camera.top": DiagnosticSeverity.ERROR, "b": DiagnosticSeverity.ERROR}, [], 78),
    ],
)
def test_the_exit_code_depends_on_the_failed_checks(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    states: dict[str, DiagnosticSeverity],
    options: list[str],
    code: int,
) -> None:
    findings = [Diagnostic(name, state, "found", f"do {name}") for name, state in states.items()]
    monkeypatch.setattr("edgeinspect.cli.doctor.run_checks", lambda *_words: iter(findings))
    assert main(["doctor", *options]) == code
    assert f"do {next(iter(states))}" in capsys.readouterr().out
    assert main(["doctor", "--json", *options]) == code
    report = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == code
    assert report["passed"] == (code == 0)
    reported = report["diagnostics"]
    assert [(f["check"], f["state"]) for f in reported] == [(n, s.value) for n, s in states.items()]


def test_this_pc_can_be_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) in (0, 78)
    reported = json.loads(capsys.readouterr().out)["diagnostics"]
    assert {"processor.governor", "time.synchronous", "storage.disk"} <= {
        f["check"] for f in reported
    }
    assert all(f["remedy"] for f in reported if f["state"] in ("warn", "bad"))
