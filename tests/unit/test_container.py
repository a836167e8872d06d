"""The container image's PID 1, with a fake service, and the files around the image.

`benchmarks/container.py` builds the image and starts the compose file; it takes minutes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests import needs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "install" / "container"
SUPERVISOR = FOLDER / "supervisor.py"
UNITS = ROOT / "systemd"

FAKE = """#!{python} -IS
import os, signal, socket, sys, time
folder = {folder!r}
runs = os.path.join(folder, "runs")
with open(runs, "a") as log: log.write(f"{{os.getpid()}}\\n")
run = len(open(runs).read().split())
def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
signal.signal(signal.SIGHUP, lambda *_: open(os.path.join(folder, "reloaded"), "w").close())
def serve(watchdog=True, inspecting=1):
    notify("READY=1")
    notify(f"STATUS=inspecting rig\\nX_INSPECTING={{inspecting}}")
    while not stopped:
        if watchdog: notify("WATCHDOG=1")
        time.sleep(0.05)
exec(open(os.path.join(folder, "script.py")).read())
"""


@pytest.fixture(scope="module")
def supervisor() -> ModuleType:
    spec = importlib.util.spec_from_file_location("supervisor", SUPERVISOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["supervisor"] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


class Container:
    """The supervisor with a fake program in place of edgeinspect, as an ordinary process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "units").mkdir()
        program = folder / "program"
        program.write_text(FAKE.format(python=sys.executable, folder=str(folder)))
        program.chmod(0o755)
        self.environment = {
            **os.environ,
            "EDGEINSPECT_PROGRAM": str(program),
            "EDGEINSPECT_UNITS": str(folder / "units"),
            "EDGEINSPECT_STATE": str(folder / "state"),
        }
        self.process: subprocess.Popen[str] | None = None

    def start(self, script: str, unit: str = "", *arguments: str) -> None:
        (self.folder / "script.py").write_text(script)
        text = "[Service]\nType=notify\nRestartSec=50ms\nRestartPreventExitStatus=64 65 69 73 78\n"
        text += "TimeoutStopSec=5\nTimeoutAbortSec=1\n" + unit
        (self.folder / "units" / "edgeinspect@.service").write_text(text)
        self.process = subprocess.Popen(
            [sys.executable, str(SUPERVISOR), *(arguments or ("run", "rig.yaml"))],
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(15)

    @property
    def runs(self) -> list[int]:
        path = self.folder / "runs"
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def health(self) -> tuple[int, str]:
        arguments = [sys.executable, str(SUPERVISOR), "--health"]
        done = subprocess.run(
            arguments, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout.strip()

    def state(self) -> dict[str, Any]:
        path = self.folder / "state" / "state.json"
        return json.loads(path.read_text()) if path.exists() else {}


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    one = Container(tmp_path)
    yield one
    if one.process is not None:
        one.process.kill()
        one.process.communicate()
        for pid in one.runs:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def wait_for(condition: Callable[[], Any], timeout_s: float = 20) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


# -- PID 1 -----------------------------------------------------------------------------------


def test_a_line_is_healthy_while_it_inspects_and_ends_in_order(container: Container) -> None:
    container.start("serve()")
    wait_for(lambda: container.health() == (0, "inspecting rig"))
    assert container.stop() == 0
    assert len(container.runs) == 1


def test_a_line_that_runs_and_does_not_inspect_is_unhealthy(container: Container) -> None:
    container.start("serve(inspecting=0)")
    wait_for(lambda: container.state().get("inspecting") == "0")
    wait_for(lambda: container.state()["phase"] == "running")
    assert container.health()[0] == 1


@pytest.mark.parametrize("how", ["sys.exit(75)", "os.kill(os.getpid(), 9)", "sys.exit(70)"])
def test_what_a_restart_mends_is_restarted(container: Container, how: str) -> None:
    container.start(f"{how} if run < 3 else serve()")
    wait_for(lambda: container.health()[0] == 0)
    assert len(container.runs) == 3
    assert container.state()["restarts"] == 2


@pytest.mark.parametrize("code", [64, 65, 69, 73, 78])
def test_what_a_restart_does_not_mend_stays_failed_until_it_is_corrected(
    container: Container, code: int
) -> None:
    container.start(f"sys.exit({code}) if run == 1 else serve()")
    wait_for(lambda: container.state().get("phase") == "failed")
    time.sleep(0.5)
    assert len(container.runs) == 1
    status, text = container.health()
    assert status == 1
    assert text.startswith(f"exit code {code}: ")
    assert container.process is not None
    container.process.send_signal(signal.SIGHUP)
    wait_for(lambda: container.health()[0] == 0)
    assert container.stop() == 0


def test_a_failed_service_passes_its_code_on_when_the_container_is_stopped(
    container: Container,
) -> None:
    container.start("sys.exit(78)")
    wait_for(lambda: container.state().get("phase") == "failed")
    assert container.stop() == 78


def test_a_stalled_service_is_ended_and_started_again(container: Container) -> None:
    container.start("serve(watchdog=run > 1)", "WatchdogSec=500ms\n")
    wait_for(lambda: len(container.runs) == 2 and container.health()[0] == 0)
    container.stop()
    assert container.process is not None
    assert container.process.stderr is not None
    said = container.process.stderr.read()
    assert "does not notify its watchdog: ended by SIGABRT" in said
    assert "ended by signal 6, restarting" in said


def test_a_stopped_process_is_killed_after_the_abort(container: Container) -> None:
    container.start("serve()", "WatchdogSec=500ms\n")
    wait_for(lambda: container.health()[0] == 0)
    os.kill(container.runs[0], signal.SIGSTOP)
    wait_for(lambda: len(container.runs) == 2 and container.health()[0] == 0)


def test_a_start_that_hangs_is_aborted_and_may_ask_for_time(container: Container) -> None:
    asks = 'notify("EXTEND_TIMEOUT_USEC=60000000"); time.sleep(1.5); serve()'
    container.start(f"if run == 1: time.sleep(60)\nelse: {asks}", "TimeoutStartSec=1\n")
    wait_for(lambda: container.health()[0] == 0)
    assert len(container.runs) == 2


def test_hangup_reloads_a_running_service(container: Container) -> None:
    container.start("serve()")
    wait_for(lambda: container.health()[0] == 0)
    assert container.process is not None
    container.process.send_signal(signal.SIGHUP)
    wait_for((container.folder / "reloaded").exists)
    assert len(container.runs) == 1


def test_what_a_dead_service_leaves_running_is_ended(container: Container) -> None:
    left = "import subprocess; p = subprocess.Popen(['sleep', '100'])\n"
    left += "open(os.path.join(folder, 'left'), 'w').write(str(p.pid)); sys.exit(70)"
    container.start(f"if run > 1: serve()\n{left}")
    wait_for(lambda: container.health()[0] == 0)
    pid = int((container.folder / "left").read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_service_that_ignores_the_stop_is_killed_in_time(container: Container) -> None:
    container.start("notify('READY=1'); [time.sleep(1) for _ in range(60)]", "TimeoutStopSec=1\n")
    wait_for(lambda: container.state().get("phase") == "running")
    assert container.stop() == 128 + signal.SIGKILL


def test_a_stop_is_not_put_off_by_a_watchdog_that_is_notified(container: Container) -> None:
    script = "notify('READY=1')\nwhile True: notify('WATCHDOG=1'); time.sleep(0.05)"
    container.start(script, "TimeoutStopSec=1\nWatchdogSec=60\n")
    wait_for(lambda: container.state().get("phase") == "running")
    assert container.stop() == 128 + signal.SIGKILL


@pytest.fixture
def unstarted(
    supervisor: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A supervisor of `sleep` in this process, whose loop does not run."""
    monkeypatch.setattr(supervisor, "PROGRAM", shutil.which("sleep"))
    monkeypatch.setattr(supervisor, "STATE", tmp_path)
    one = supervisor.Supervisor(["60"], supervisor.read_policy(UNITS / "edgeinspect@.service"))
    yield one
    if one._child is not None:
        one._child.kill()
        one._child.wait()


def test_a_signal_to_a_service_that_has_just_ended_does_not_hide_its_end(unstarted: Any) -> None:
    unstarted._start()
    pid = unstarted._child.pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: _is_zombie(pid))
    unstarted._reload()
    unstarted._stop_requested = True  # it need not be started again
    unstarted._reap()
    assert unstarted._child is None
    assert unstarted._exit_code == 128 + signal.SIGKILL


def test_a_stop_while_the_service_is_being_started_reaches_it(unstarted: Any) -> None:
    unstarted._request_stop()
    unstarted._start()
    assert unstarted._child.wait(20) == -signal.SIGTERM
    unstarted._child = None


def test_another_command_is_executed_in_place(container: Container) -> None:
    container.start("sys.exit(5)", "", "check", "rig.yaml")
    assert container.process is not None
    assert container.process.wait(10) == 5
    assert container.runs == [container.process.pid]


def test_without_a_service_the_health_is_bad(container: Container) -> None:
    assert container.health()[0] == 1


def test_the_policy_is_read_from_the_units(supervisor: ModuleType) -> None:
    line = supervisor.read_policy(UNITS / "edgeinspect@.service")
    assert line.permanent == {64, 65, 69, 73, 78}
    assert (line.restart_s, line.start_s, line.stop_s) == (0.05, 180, 15)
    assert (line.watchdog_s, line.abort_s) == (5, 2)
    for unit in set(supervisor.SERVICES.values()):
        assert supervisor.read_policy(UNITS / unit).permanent == line.permanent, unit


# -- the image -------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    text = (FOLDER / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(None, 1)[1]) for line in joined.splitlines() if line]


def test_what_the_image_copies_exists_and_is_in_its_context() -> None:
    allowed = [
        line[1:]
        for line in (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    for name, arguments in instructions():
        if name != "COPY" or "--from=" in arguments:
            continue
        for source in [word for word in arguments.split() if not word.startswith("--")][:-1]:
            found = list(ROOT.glob(source))
            assert found, source
            for path in found:
                inside = path.relative_to(ROOT)
                assert any(
                    inside.match(pattern) or str(inside) == pattern for pattern in allowed
                ), inside


def test_the_image_has_no_build_tools_and_no_root() -> None:
    stages: list[list[tuple[str, str]]] = []
    for instruction in instructions():
        if instruction[0] == "FROM":
            stages.append([])
        if stages:
            stages[-1].append(instruction)
    final = stages[-1]
    for _, arguments in [*stages[0], *final]:
        assert not re.search(r"\b(pip|venv|gcc|build-essential|git)\b", arguments), arguments
    names = [name for name, _ in final]
    assert dict(final)["USER"] == "${ID}:${ID}"
    assert "HEALTHCHECK" in names
    assert dict(final)["ENTRYPOINT"] == '["/usr/lib/edgeinspect/supervisor.py"]'
    assert all(
        "--require-hashes" in a
        for _, a in stages[1]
        if "install/locks/line.txt" in a and "pip" in a
    )


def compose() -> dict[str, Any]:
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def own_services() -> dict[str, dict[str, Any]]:
    services = compose()["services"]
    return {name: one for name, one in services.items() if "edgeinspect" in one["image"]}


def test_services_have_only_what_they_need() -> None:
    for name, one in own_services().items():
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["restart"] == ("no" if name == "tools" else "unless-stopped"), name
        writable = {v.split(":")[0] for v in one["volumes"] if not v.endswith(":ro")}
        expected = {"line": {"ring", "ledger"}, "tools": {"models"}}.get(name, {name})
        assert writable == expected, name
        assert "ports" not in one, name
    ids = [one.get("user", "7480:7480").split(":")[0] for one in own_services().values()]
    assert len(set(ids)) == len(ids)


def test_a_line_has_more_time_to_stop_than_its_unit(supervisor: ModuleType) -> None:
    for name, one in own_services().items():
        unit = supervisor.find_unit(one["command"])
        if unit is None:
            continue
        grace_s = supervisor.parse_span(one["stop_grace_period"])
        assert grace_s > supervisor.read_policy(UNITS / unit).stop_s, name


def test_the_files_that_the_compose_file_names_exist() -> None:
    loaded = compose()
    for name, one in loaded["services"].items():
        for volume in one["volumes"]:
            source, _ = volume.split(":")[:2]
            if source.startswith("."):
                assert (FOLDER / source).exists(), (name, source)
            else:
                assert source in loaded["volumes"], (name, source)
        for file in [
            word for word in one.get("command", []) if word.startswith("/etc/edgeinspect")
        ]:
            if name != "gateway":
                assert (ROOT / "examples/service" / Path(file).name).exists(), file
    assert loaded["volumes"]["ring"]["driver_opts"]["o"] == "mode=0750,uid=7480,gid=7480"


def test_grafana_finds_the_dashboard_and_its_data() -> None:
    service = compose()["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in service["volumes"])
    provisioning = FOLDER / "grafana" / "provisioning"
    provider = yaml.safe_load((provisioning / "dashboards/edgeinspect.yaml").read_text())
    path = provider["providers"][0]["options"]["path"]
    assert mounts["../../examples/grafana"] == path
    home = service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).parent == Path(path)
    dashboard = json.loads((ROOT / "examples/grafana" / Path(home).name).read_text())
    source = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())
    (one,) = source["datasources"]
    # The dashboard's variable takes the default data source of this type.
    variable = dashboard["templating"]["list"][0]
    assert (variable["type"], variable["query"]) == ("datasource", one["type"])
    assert one["isDefault"] is True
    listen = next(w for w in compose()["services"]["prometheus"]["command"] if "listen" in w)
    assert one["url"].removeprefix("http://") == listen.split("=")[1]


def test_prometheus_scrapes_the_address_of_the_example_hmi() -> None:
    from edgeinspect.services.hmi.config import HmiConfig

    config = yaml.safe_load((FOLDER / "prometheus/prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    # Alert rules name the job.
    assert job["job_name"] == "edgeinspect"
    (target,) = job["static_configs"][0]["targets"]
    assert target == HmiConfig(schema=1, line="x").bind
    assert config["rule_files"] == ["alerts.yaml"]


@pytest.mark.container
def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    needs.program("promtool")
    shutil.copy(FOLDER / "prometheus/prometheus.yaml", tmp_path)
    shutil.copy(ROOT / "examples/prometheus/alerts.yaml", tmp_path)
    arguments = ["promtool", "check", "config", str(tmp_path / "prometheus.yaml")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "13 rules found" in done.stdout
