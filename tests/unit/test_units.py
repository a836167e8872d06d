"""The units: no word that systemd does not know, little that a service may do, one exit table."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from edgeinspect.cli.main import COMMANDS
from edgeinspect.errors import (
    EXIT_CANTCREAT,
    EXIT_CONFIG,
    EXIT_DATAERR,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
)
from edgeinspect.services.daemon import reload
from tests import needs

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
PROGRAM = "/opt/edgeinspect/bin/edgeinspect"
LIMITS = {
    "": 20,
    "gpu": 25,
    "realtime": 25,
    "usb-camera": 25,
    "gige-camera": 25,
    "gentl": 20,
    "promote": 20,
}
"""Exposure in tenths by drop-in; 100 is a unit without any protection."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The units with a program that exists: `verify` looks for it."""
    needs.program("systemd-analyze")
    for path in [*UNITS.glob("*@.*"), *UNITS.glob("gpu/*.service"), *UNITS.glob("backup/*")]:
        text = path.read_text(encoding="utf-8").replace(PROGRAM, "/bin/true")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    return tmp_path


def analyze(*words: str, folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def instance(name: str) -> str:
    return name.replace("@.", "@press.")


def drop_in(folder: Path, name: str, service: str = "edgeinspect@.service") -> None:
    target = folder / f"{service}.d"
    target.mkdir(exist_ok=True)
    shutil.copy(UNITS / "drop-ins" / f"{name}.conf", target)


def test_verify_prints_nothing(folder: Path) -> None:
    # Any output is a fault: a misspelt key is only a warning, with exit code 0.
    paths = [str(folder / instance(p.name)) for p in sorted(folder.iterdir())]
    nvidia = folder / "edgeinspect-nvidia.service"
    text = nvidia.read_text(encoding="utf-8").replace("/usr/bin/nvidia-modprobe", "/bin/true")
    nvidia.write_text(text, encoding="utf-8")
    for name in filter(None, LIMITS):
        drop_in(folder, name)
    assert analyze("verify", "--man=no", *paths, folder=folder) == (0, "")


def test_verify_would_see_a_misspelt_word(folder: Path) -> None:
    unit = folder / "edgeinspect@.service"
    unit.write_text(unit.read_text(encoding="utf-8").replace("ProtectClock", "ProtectClok"))
    _code, said = analyze("verify", "--man=no", str(folder / instance(unit.name)), folder=folder)
    assert "ProtectClok" in said


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_little(folder: Path, name: str) -> None:
    words = ("security", "--offline=true", f"--threshold={LIMITS['']}")
    code, said = analyze(*words, str(folder / instance(name)), folder=folder)
    assert code == 0, said


@pytest.mark.parametrize("name", [name for name in LIMITS if name])
def test_a_drop_in_opens_no_more_than_it_must(folder: Path, name: str) -> None:
    drop_in(folder, name)
    words = ("security", "--offline=true", f"--threshold={LIMITS[name]}")
    code, said = analyze(*words, str(folder / "edgeinspect@press.service"), folder=folder)
    assert code == 0, said


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_restart_cannot_mend_is_not_restarted(name: str) -> None:
    text = (UNITS / name).read_text(encoding="utf-8")
    found = re.search(r"^RestartPreventExitStatus=(.*)$", text, flags=re.MULTILINE)
    assert found is not None
    want = {EXIT_USAGE, EXIT_DATAERR, EXIT_UNAVAILABLE, EXIT_CANTCREAT, EXIT_CONFIG}
    assert {int(word) for word in found[1].split()} == want


@pytest.mark.parametrize("name", SERVICES)
def test_a_signal_that_is_clean_to_systemd_leaves_no_service_down(name: str) -> None:
    """`on-failure` passes over HUP, INT and PIPE: a reload at the start would end it for good."""
    text = (UNITS / name).read_text(encoding="utf-8")
    found = re.search(r"^RestartForceExitStatus=(.*)$", text, flags=re.MULTILINE)
    assert found is not None
    assert {"SIGHUP", "SIGINT", "SIGPIPE"} == set(found[1].split())


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_a_command_that_exists(name: str) -> None:
    text = (UNITS / name).read_text(encoding="utf-8")
    for command in re.findall(rf"^Exec\w+={PROGRAM} (\w+)", text, flags=re.MULTILINE):
        assert command in COMMANDS


def test_the_backup_may_do_little(folder: Path) -> None:
    words = ("security", "--offline=true", "--threshold=45")  # root, anywhere in /var and /mnt
    code, said = analyze(*words, str(folder / "edgeinspect-backup@press.service"), folder=folder)
    assert code == 0, said


def backup_command() -> list[str]:
    """Return what the backup's unit runs to save the files, as systemd passes it on."""
    text = (UNITS / "backup" / "edgeinspect-backup@.service").read_text(encoding="utf-8")
    joined = re.sub(r"\\\n", " ", text)
    (command,) = re.findall(r"^ExecStart=(/bin/sh .*)$", joined, flags=re.MULTILINE)
    return shlex.split(command.replace("$$", "$"))


def save(root: Path, target: Path) -> int:
    """Run the backup of the files below `root`."""
    shell, options, script, name = backup_command()
    assert name == "${BACKUP_FOLDER}/%i.files.tar.gz"
    script = script.replace("cd /;", f"cd {root};")
    return subprocess.run([shell, options, script, str(target)], check=False).returncode


def members(path: Path) -> set[str]:
    with tarfile.open(path) as file:
        return set(file.getnames())


def test_a_backup_replaces_the_older_one_only_as_a_whole(tmp_path: Path) -> None:
    root, target = tmp_path / "root", tmp_path / "press.files.tar.gz"
    kept = "etc/edgeinspect/press.yaml", "var/lib/edgeinspect/engines/a/state.json"
    own = ("var/lib/edgeinspect/ledger/press.ledger.sqlite", "var/lib/edgeinspect/a.journal")
    drop_in = "etc/systemd/system/edgeinspect@press.service.d/realtime.conf"
    foreign = "etc/systemd/system/x", "var/lib/edgeinspect/archive/1.png"
    for name in (*kept, *own, *foreign):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    assert save(root, target) == 0
    assert set(kept) <= members(target)
    assert not {*own, *foreign, "opt", "etc/systemd"} & members(target)
    (root / "opt/edgeinspect/local/lib").mkdir(parents=True)
    (root / drop_in).parent.mkdir()
    (root / drop_in).touch()
    assert save(root, target) == 0
    assert {*kept, drop_in, "opt/edgeinspect/local/lib"} <= members(target)
    whole = target.read_bytes()
    shutil.rmtree(root / "etc/edgeinspect")
    assert save(root, target) != 0
    assert target.read_bytes() == whole


def test_the_target_wants_every_service() -> None:
    text = (UNITS / "edgeinspect-line@.target").read_text(encoding="utf-8")
    for name in SERVICES:
        # A recording keeps every frame for a while: a person starts it.
        assert (name.replace("@.", "@%i.") in text) != ("record" in name)
        assert "PartOf=edgeinspect-line@%i.target" in (UNITS / name).read_text(encoding="utf-8")


def test_sysusers_and_tmpfiles_can_be_read(tmp_path: Path) -> None:
    needs.program("systemd-sysusers")
    (tmp_path / "etc").mkdir()
    for words in (
        ["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "edgeinspect.sysusers")],
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(UNITS / "edgeinspect.tmpfiles")],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
    users = (tmp_path / "etc" / "passwd").read_text(encoding="utf-8")
    for user in {setting(name, "User") for name in SERVICES}:
        assert f"\n{user}:" in f"\n{users}"
    members = (tmp_path / "etc" / "group").read_text(encoding="utf-8")
    (line,) = [each for each in members.splitlines() if each.startswith("edgeinspect:")]
    assert set(line.rpartition(":")[2].split(",")) == {
        "edgeinspect-gateway",
        "edgeinspect-hmi",
        "edgeinspect-archive",
    }
    assert (tmp_path / "var/lib/edgeinspect/engines").is_dir()
    assert (tmp_path / "var/lib/edgeinspect").stat().st_mode & 0o7777 == 0o1770


def setting(name: str, key: str) -> str:
    text = (UNITS / name).read_text(encoding="utf-8")
    found: list[str] = re.findall(rf"^{key}=(.*)$", text, flags=re.MULTILINE)
    assert found, f"{name}: {key}="
    return found[-1]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_bounds_and_waits_for_the_network(name: str) -> None:
    text = (UNITS / name).read_text(encoding="utf-8")
    for key in ("MemoryMax", "TasksMax", "CPUWeight"):
        assert setting(name, key)
    assert setting(name, "StartLimitIntervalSec") == "0"
    if "PrivateNetwork=yes" not in text:
        assert "Wants=network-online.target" in text
        assert re.search(r"^After=.*\bnetwork-online\.target", text, flags=re.MULTILINE)


def test_each_service_that_talks_to_others_has_a_user_of_its_own() -> None:
    users = [setting(name, "User") for name in SERVICES if "record" not in name]
    assert len(set(users)) == len(users) == 4
    assert {setting(name, "Group") for name in SERVICES} == {"edgeinspect"}
    for name in SERVICES:  # systemd gives a state folder, with all below, to the unit's user
        assert "edgeinspect" not in setting(name, "StateDirectory").split()
    page = (UNITS / "edgeinspect-hmi@.service").read_text(encoding="utf-8")
    assert "ReadWritePaths" not in page


# -- what a reload takes -----------------------------------------------------------------


def test_a_reload_is_promised_only_where_a_unit_has_one() -> None:
    """A service without `ExecReload=` must be restarted; systemd refuses the reload."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for service in re.findall(r"systemctl reload (edgeinspect[a-z-]*)@", text):
            assert setting(f"{service}@.service", "ExecReload"), f"{page}: {service}"


def test_the_page_names_what_a_reload_takes() -> None:
    page = (ROOT / "docs/howto/install.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| (.*) \| `systemctl reload edgeinspect@NAME` \|$", page, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == reload._RELOADABLE_SECTIONS


def test_a_service_that_takes_no_reload_is_restarted_in_the_page() -> None:
    page = (ROOT / "docs/howto/install.md").read_text(encoding="utf-8")
    table = page.partition("### Reload or restart after a change")[2].partition("\n## ")[0]
    for name in set(SERVICES) - {"edgeinspect-record@.service"}:  # follows the line's file
        command = "restart " + name.replace("@.service", "@NAME`")
        assert command in table, name
