"""The Ansible role on a PC with a real systemd: from nothing to an inspecting line, and its faults.

Ansible runs on the PC itself (`connection: local`), in a process of its own. One machine for all,
in the order of this file: each test leaves the line running.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import needs
from tests.system.machine import Machine, missing_requirement
from tests.system.test_systemd import leftovers, roomy_folder
from tests.unit.test_install import make_wheel

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "install" / "ansible"
ROLE = FOLDER / "roles" / "edgeinspect_line"
UNIT = "edgeinspect@press1"
FILE = "/etc/edgeinspect/press1.yaml"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.container]

INVENTORY: dict[str, Any] = {
    "lines": {
        "hosts": {"press-01": {"ansible_connection": "local", "ansible_host": "127.0.0.1"}},
        "vars": {
            "ansible_python_interpreter": "/usr/bin/python3",
            "edgeinspect_line_name": "press1",
            "edgeinspect_line_template": f"{FOLDER}/inventory/templates/line.yaml.j2",
            "edgeinspect_line_hmi_template": "/inventory/hmi.yaml.j2",
            "edgeinspect_line_archive_template": f"{FOLDER}/inventory/templates/archive.yaml.j2",
            "edgeinspect_line_wheels": ["/inventory/acme-1-py3-none-any.whl"],
            "edgeinspect_line_models": [{"name": "strip-gate", "version": 2}],
            "edgeinspect_line_ports": [{"port": 5590, "from": ["10.20.0.0/16", "fd00::/8"]}],
            "edgeinspect_line_ntp_servers": ["10.20.0.2"],
            "edgeinspect_line_cpus": "0",
            "edgeinspect_line_backup_folder": "/srv/backup",
            "edgeinspect_line_prometheus_host": "press-01",
            "edgeinspect_line_metrics_address": "127.0.0.1:8480",
            "edgeinspect_line_keys": True,
            "edgeinspect_line_ready_s": 30,
            "line_camera": {"type": "synthetic", "rate_hz": 5, "pictures": 8, "seed": 1},
            "line_budget_ms": 3000,
            "line_suspect_at": 0.0403,
        },
    }
}
HMI = """\
schema: 1
line: /etc/edgeinspect/{{ edgeinspect_line_name }}.yaml
curve:
  secret: /etc/edgeinspect/keys/local/hmi.key_secret
  server: /etc/edgeinspect/keys/server.key
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    missing = missing_requirement() or (needs.missing_program("dpkg-deb"))
    if missing:
        pytest.skip(f"no machine with systemd: {missing}")
    needs.library("ansible")
    folder = Path(tempfile.mkdtemp(dir=roomy_folder()))
    try:
        one = Machine(folder / "machine", lower_root=leftovers(folder / "leftovers"))
        build = [sys.executable, "install/deb.py", "--fast", "--out", str(folder)]
        done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (one.upper / "dist").mkdir()
        shutil.move(done.stdout.strip(), one.upper / "dist")
        options = one.upper / "etc/dpkg/dpkg.cfg.d/test"
        options.parent.mkdir(parents=True)
        options.write_text("force-unsafe-io\nno-triggers\n")
        inventory = one.upper / "inventory"
        inventory.mkdir()
        if shutil.which("nft") is None:
            del INVENTORY["lines"]["vars"]["edgeinspect_line_ports"]
        (inventory / "hosts.yaml").write_text(yaml.safe_dump(INVENTORY))
        (one.upper / "etc/prometheus/edgeinspect").mkdir(parents=True)
        (inventory / "hmi.yaml.j2").write_text(HMI)
        make_wheel(inventory, "acme", "1", "numpy>=1")
        with one:
            yield one
    finally:
        shutil.rmtree(folder)


class Result:
    """One run of the playbook."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.output = done.stdout + done.stderr
        recap = re.findall(r"^press-01 +: (.*)$", self.output, flags=re.MULTILINE)
        assert recap, self.output[-3000:]
        self.counts = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", recap[-1])}


def play(machine: Machine, options: str = "", **variables: Any) -> Result:
    values = {"edgeinspect_line_package": "/dist/edgeinspect_*.deb"} | variables
    machine.path("/inventory/extra.json").write_text(json.dumps(values))
    command = f"cd {FOLDER} && HOME=/root ANSIBLE_HOME=/tmp/ansible ANSIBLE_NOCOLOR=1 "
    command += f"{sys.executable} -m ansible playbook -i /inventory/hosts.yaml site.yaml "
    command += f"-e @/inventory/extra.json {options}"
    return Result(machine.call(command, timeout_s=600))


def pid(machine: Machine) -> str:
    return machine.show(UNIT, "MainPID")


def status(machine: Machine) -> str:
    return machine.show(UNIT, "StatusText")


def applied(machine: Machine) -> dict[str, str]:
    text = machine.run(f"cat /var/lib/edgeinspect-fleet/{UNIT}.service.json")
    state: dict[str, str] = json.loads(text)
    return state


def test_a_check_of_a_bare_pc_changes_nothing(machine: Machine) -> None:
    result = play(machine, "--check --diff")
    assert result.code == 0, result.output[-3000:]
    assert result.counts["changed"] > 0
    assert machine.call("test -e /opt/edgeinspect -o -e /var/lib/edgeinspect-fleet").returncode == 1


def test_a_bare_pc_becomes_an_inspecting_line(machine: Machine) -> None:
    result = play(machine)
    assert result.code == 0, result.output[-3000:]
    assert status(machine) == "inspecting press1"
    assert machine.show(UNIT, "UnitFileState") == "enabled"
    assert machine.show("edgeinspect-hmi@press1", "ActiveState") == "active"
    assert machine.show("edgeinspect-gateway@press1", "ActiveState") == "inactive"
    assert machine.run(f"stat -c %U:%G:%a {FILE}").strip() == "root:edgeinspect:640"
    secret = "/etc/edgeinspect/keys/server.key_secret"
    assert machine.run(f"stat -c %U:%a {secret}").strip() == "root:600"
    assert "Storage=persistent" in machine.run("cat /etc/systemd/journald.conf.d/edgeinspect.conf")
    assert machine.call("test -d /var/log/journal").returncode == 0
    models = json.loads(machine.run("edgeinspect models list --json"))
    assert "strip-gate/2" in str(models)
    assert applied(machine)["config"] == machine.run(f"cat {FILE}")


def test_what_surrounds_the_line_is_set_up(machine: Machine) -> None:
    added = machine.run("/opt/edgeinspect/bin/python -c 'import acme; print(acme.__file__)'")
    assert added.startswith("/opt/edgeinspect/local/")
    assert applied(machine)["additions"] == "acme==1"
    assert machine.show("edgeinspect-archive@press1", "ActiveState") == "active"
    assert machine.run(f"taskset -p {pid(machine)}").split()[-1] == "1"
    assert machine.show("edgeinspect-backup@press1.timer", "ActiveState") == "active"
    machine.run("systemctl start edgeinspect-backup@press1")
    saved = machine.run("ls /srv/backup/press-01").split()
    assert saved == ["press1.files.tar.gz", "press1.ledger.sqlite"]
    target = yaml.safe_load(machine.run("cat /etc/prometheus/edgeinspect/press-01.yaml"))
    assert target == [{"targets": ["127.0.0.1:8480"], "labels": {"pc": "press-01"}}]
    if "edgeinspect_line_ports" in INVENTORY["lines"]["vars"]:
        rules = machine.run("nft list table inet edgeinspect")
        assert "tcp dport 5590 ip saddr 10.20.0.0/16 accept" in rules
        assert "tcp dport 5590 ip6 saddr fd00::/8 accept" in rules
        assert re.search(r"tcp dport 5590 counter packets \d+ bytes \d+ drop", rules)


@pytest.mark.parametrize("action", ["start", "restart", "reload", "stop"])
def test_the_firewall_of_the_pc_leaves_the_ports_restricted(machine: Machine, action: str) -> None:
    """It removes every table, those of others too, with `flush ruleset`."""
    if "edgeinspect_line_ports" not in INVENTORY["lines"]["vars"]:
        pytest.skip("nftables is not installed: apt-get install nftables")
    machine.run(f"systemctl {action} nftables")
    assert "tcp dport 5590" in machine.run("nft list table inet edgeinspect")


def test_a_second_run_changes_nothing(machine: Machine) -> None:
    before = pid(machine)
    result = play(machine)
    assert result.code == 0, result.output[-3000:]
    assert result.counts["changed"] == 0, re.findall(r"TASK.*\n(?:.*\n)?changed", result.output)
    assert pid(machine) == before


def test_a_wrong_file_is_refused_before_it_is_written(machine: Machine) -> None:
    before = pid(machine), machine.run(f"cat {FILE}")
    result = play(machine, line_suspect_at="nine")
    assert result.code != 0
    assert "decide.gate.suspect_at" in result.output
    assert (pid(machine), machine.run(f"cat {FILE}")) == before
    assert status(machine) == "inspecting press1"


def test_an_interrupted_run_is_completed_by_the_next_one_with_a_reload(machine: Machine) -> None:
    before = pid(machine)
    # As after a run that died between the file and the reload; and a key that all can read, a
    # client that nobody admitted.
    machine.run(f"sed -i 's/0.0403/0.05/' {FILE}")
    machine.run("chmod 644 /etc/edgeinspect/keys/server.key_secret")
    machine.run("cp /etc/edgeinspect/keys/server.key /etc/edgeinspect/keys/clients/spy.key")
    result = play(machine, line_suspect_at=0.05)
    assert result.code == 0, result.output[-3000:]
    assert pid(machine) == before
    assert "suspect_at: 0.05" in applied(machine)["config"]
    log = machine.run(f"journalctl --no-pager -o cat -u {UNIT}")
    assert "engine.changed" in log
    secret = "/etc/edgeinspect/keys/server.key_secret"
    assert machine.run(f"stat -c %a {secret}").strip() == "600"
    assert machine.call("test -e /etc/edgeinspect/keys/clients/spy.key").returncode == 1


def test_a_line_that_does_not_inspect_gets_its_previous_file_back(machine: Machine) -> None:
    nowhere = {"type": "folder", "path": "/nowhere", "pace": "rate", "rate_hz": 5, "color": "mono"}
    result = play(machine, line_suspect_at=0.05, line_camera=nowhere, edgeinspect_line_ready_s=5)
    assert result.code != 0
    assert "The previous file is in use again" in result.output
    assert status(machine) == "inspecting press1"
    assert "/nowhere" not in machine.run(f"cat {FILE}")


def test_an_older_package_is_refused(machine: Machine) -> None:
    machine.run("touch /dist/edgeinspect_0.0.1_amd64.deb")
    result = play(machine)
    assert result.code != 0
    assert "must be one file, and is 2" in result.output
    result = play(machine, edgeinspect_line_package="/dist/edgeinspect_0.0.1_amd64.deb")
    assert result.code != 0
    assert "is older" in result.output
    assert status(machine) == "inspecting press1"


# -- without a machine -----------------------------------------------------------------------


def role_files(pattern: str) -> list[Path]:
    return sorted(ROLE.glob(pattern))


def test_every_key_has_a_default_and_a_description() -> None:
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yaml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    required = {name for name, one in options.items() if one.get("required")}
    defaults = yaml.safe_load((ROLE / "defaults/main.yaml").read_text())
    assert set(defaults) == set(options) - required
    assert all(one["description"] for one in options.values())


def test_only_modules_of_ansible_itself_are_used() -> None:
    for path in [*role_files("tasks/*.yaml"), *role_files("handlers/*.yaml"), FOLDER / "site.yaml"]:
        for name in re.findall(r"^ +([a-z_]+\.[a-z_.]+):", path.read_text(), flags=re.MULTILINE):
            assert name.startswith("ansible.builtin."), (path, name)


def test_reloadable_sections_are_those_of_the_line() -> None:
    from edgeinspect.services.daemon import reload

    variables = yaml.safe_load((ROLE / "vars/main.yaml").read_text())
    assert set(variables["edgeinspect_line_reloadable"]) == reload._RELOADABLE_SECTIONS


def test_the_backup_is_that_of_the_package() -> None:
    """The role sets folder and time of the package's units, and nothing else."""
    units = ROOT / "systemd" / "backup"
    for kind, keys in (
        ("service", {"RequiresMountsFor", "Environment"}),
        ("timer", {"OnCalendar"}),
    ):
        text = (ROLE / f"templates/backup.{kind}.conf.j2").read_text()
        assert set(re.findall(r"^(\w+)=", text, flags=re.MULTILINE)) == keys
        assert (units / f"edgeinspect-backup@.{kind}").exists()
    unit = (units / "edgeinspect-backup@.service").read_text()
    folder = (ROLE / "templates/backup.service.conf.j2").read_text()
    assert "Environment=BACKUP_FOLDER=" in unit
    assert "Environment=BACKUP_FOLDER=" in folder


def test_the_example_inventory_has_ten_lines_and_valid_files(tmp_path: Path) -> None:
    jinja2 = needs.library("jinja2")
    hosts = yaml.safe_load((FOLDER / "inventory/hosts.yaml").read_text())
    lines = hosts["all"]["children"]["lines"]["hosts"]
    assert len(lines) == 10
    common = yaml.safe_load((FOLDER / "inventory/group_vars/lines.yaml").read_text())
    values = {
        **common,
        "ansible_managed": "by Ansible",
        "edgeinspect_line_name": "press01",
        "edgeinspect_line_drop_ins": [],
        "ansible_host": "10.20.1.11",
        "inventory_hostname": "press-01",
        "line_plc": "10.20.1.100",
    }
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["to_json"] = json.dumps
    for has_keys in (False, True):
        for name in ("line", "gateway", "archive", "hmi"):
            template = (FOLDER / f"inventory/templates/{name}.yaml.j2").read_text()
            text = environment.from_string(template).render(values, edgeinspect_line_keys=has_keys)
            if name == "hmi":
                text = re.sub(
                    r"^line: .*$", f"line: {tmp_path}/line.yaml", text, flags=re.MULTILINE
                )
            (tmp_path / f"{name}.yaml").write_text(text)
            check = [sys.executable, str(ROLE / "files/validate.py"), name]
            if name == "line":
                check = [sys.executable, "-m", "edgeinspect", "check", "--no-open"]
            path = str(tmp_path / f"{name}.yaml")
            done = subprocess.run([*check, path], capture_output=True, text=True, check=False)
            assert done.returncode == 0, (name, has_keys, done.stderr)
