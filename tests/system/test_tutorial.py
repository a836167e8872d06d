"""The tutorial, word for word: each command of its page, in an empty folder, and what it shows."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.system.machine import Machine, missing_requirement
from tests.system.test_systemd import leftovers, roomy_folder
from tests.system.tutorial_page import Step, missing_lines, read_steps

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/tutorial/images_to_rejects.md"
COMMAND_TIMEOUT_S = 1800
OUTPUT_TIMEOUT_S = 60
_NAMESPACE = """
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
python3 - <<'EOF'
import fcntl, socket, struct
with socket.socket() as one:  # SIOCSIFFLAGS: IFF_UP
    fcntl.ioctl(one, 0x8914, struct.pack("16sh", b"lo", 1))
EOF
echo ready; exec sleep infinity
"""


class Reader:
    """A reader of the page: one terminal for commands, and one for each that runs on.

    As root, in network and shared memory of its own: the page's ports and the name of its line
    are free there, and nothing is left behind.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.terminals: dict[str, subprocess.Popen[bytes]] = {}
        self._seen: dict[str, int] = {}
        self._holder: subprocess.Popen[str] | None = None
        bin_folder = Path(sys.executable).parent
        self.environment = {
            "PATH": f"{bin_folder}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder.parent),
            "LANG": "C.UTF-8",
            "COLUMNS": "100",
            "OMP_WAIT_POLICY": "passive",  # a PC that runs tests is busy with other work too
            "XDG_CACHE_HOME": str(folder.parent / "cache"),
            "PYTHONPATH": str(ROOT),
        }
        if os.geteuid() == 0 and shutil.which("unshare") and shutil.which("nsenter"):
            self._holder = subprocess.Popen(
                ["unshare", "--net", "--mount", "bash", "-ec", _NAMESPACE],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._holder.stdout is not None
            assert self._holder.stdout.readline() == "ready\n"
        else:
            check_free()

    def _arguments(self, command: str) -> list[str]:
        shell = ["bash", "-euo", "pipefail", "-c", command]
        if self._holder is None:
            return shell
        return ["nsenter", f"--target={self._holder.pid}", "--net", "--mount", *shell]

    def run(self, command: str) -> str:
        """Run a block of commands to its end; return what it prints."""
        done = subprocess.run(
            self._arguments(f"cd {self.folder}\n{command}"),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str, command: str) -> None:
        """Start the last command of a block in a terminal of its own; the others run before."""
        assert name not in self.terminals, f"terminal {name} is in use"
        *before, last = command.strip().split("\n")
        script = "\n".join([f"cd {self.folder}", *before, f"exec {last}"])
        with self._log(name).open("ab") as log:
            self.terminals[name] = subprocess.Popen(
                self._arguments(script),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def expect(self, name: str, step: Step) -> None:
        """Wait until the shown lines have appeared, in this order, after those already seen."""
        until = time.monotonic() + OUTPUT_TIMEOUT_S
        while True:
            lines = self._log(name).read_text(errors="replace").splitlines()
            new = "\n".join(lines[self._seen.get(name, 0) :])
            missing = missing_lines(step.shown, new, step.likeness, gaps=True)
            if not missing:
                self._seen[name] = len(lines)
                return
            child = self.terminals.get(name)
            if time.monotonic() > until or (child is not None and child.poll() is not None):
                shown = f"page, line {step.line}: terminal {name} did not show {missing}, but:"
                raise AssertionError(f"{shown}\n{new}")
            time.sleep(0.1)

    def stop(self, name: str) -> None:
        """Press Ctrl-C in a terminal."""
        child = self.terminals.pop(name)
        assert child.poll() is None, self._log(name).read_text()
        child.send_signal(signal.SIGINT)
        assert child.wait(60) in (0, 130), self._log(name).read_text()

    def close(self) -> None:
        for child in self.terminals.values():
            child.send_signal(signal.SIGTERM)
        for child in self.terminals.values():
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
            assert self._holder.stdout is not None
            self._holder.stdout.close()

    def _log(self, name: str) -> Path:
        return self.folder.parent / f"{name}.log"


def check_free() -> None:
    """Skip where the page's ports or its line's name are in use."""
    for port in (5020, 8480):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port} is in use, and only root can make a network of its own")
    if Path(f"/dev/shm/edgeinspect-{os.geteuid()}/washers.spool").exists():
        pytest.skip("a line `washers` exists on this PC")


def compare(step: Step, run: Callable[[], str], *, gaps: bool = False) -> None:
    """Run a step until its output is the shown one: once, or for a while if it may take one."""
    until = time.monotonic() + (OUTPUT_TIMEOUT_S if step.is_eventual else 0)
    while True:
        printed = run()
        missing = missing_lines(step.shown, printed, step.likeness, gaps=gaps)
        if not step.shown or not missing:
            return
        assert time.monotonic() < until, (
            f"page, line {step.line}: not printed {missing}, but:\n{printed}"
        )
        time.sleep(0.2)


def follow(one: Reader, steps: list[Step]) -> None:
    """Do what the page says, and compare what it shows."""
    for step in steps:
        began = time.monotonic()
        if step.kind == "run":
            compare(step, lambda step=step: one.run(step.command))  # type: ignore[misc]
        elif step.kind == "start":
            one.start(step.terminal, step.command)
        elif step.kind == "stop":
            one.stop(step.terminal)
        if step.terminal and step.shown:
            one.expect(step.terminal, step)
        took_s = time.monotonic() - began
        if took_s > 1:
            what = step.command.strip().partition("\n")[0] or f"{step.kind} {step.terminal}"
            print(f"line {step.line}: {took_s:.0f} s: {what}")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader who has followed the page up to the services; the line and its HMI still run."""
    needs.library("torch")
    needs.library("pymodbus")
    folder = tmp_path_factory.mktemp("reader")
    (folder / "washers").mkdir()
    began = time.monotonic()
    one = Reader(folder / "washers")
    try:
        follow(one, [s for s in read_steps(PAGE) if s.kind not in ("set-up", "service")])
        print(f"the whole page: {time.monotonic() - began:.0f} s")
        yield one
    finally:
        one.close()
        shutil.rmtree(folder)


pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


def test_the_plc_got_the_rejects(followed: Reader) -> None:
    """What the peer took is what the ledger has, one by one: results, decisions, codes."""
    printed = (followed.folder.parent / "plc.log").read_text().splitlines()
    results = [line.removeprefix("result ") for line in printed if line.startswith("result ")]
    expected = []
    for row in verdicts(followed):
        code = "" if row["decision"] == "PASS" else f", code {row['reject_code']}"
        expected.append(f"{row['seq']}: {row['decision']}{code}")
    assert results == expected[1:]  # the first one was before the gateway
    assert sum("REJECT, code 11" in line for line in results) >= 4


def test_the_line_decides_as_evaluate_counts(followed: Reader) -> None:
    printed = followed.run(
        "edgeinspect evaluate --line washers.yaml --data tomorrow --split all --json"
    )
    rates = json.loads(printed)["decisions"]
    names = {path.name for path in (followed.folder / "tomorrow/images").iterdir()}
    last = {row["label"]: row["decision"] for row in verdicts(followed)}
    assert set(last) == names
    escapes = [n for n, d in last.items() if d == "PASS" and not n.startswith("good")]
    overkills = [n for n, d in last.items() if d == "REJECT" and n.startswith("good")]
    assert len(escapes) == rates["escape"]["hits"]
    assert len(overkills) == rates["overkill"]["hits"]


def test_the_hmi_shows_the_last_reject(followed: Reader) -> None:
    newest = verdicts(followed)[-1]
    assert newest["decision"] == "REJECT"
    ask = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
    address = f"http://127.0.0.1:8480/api/verdict/{newest['seq']}"
    shown = json.loads(followed.run(f'python -c "{ask}" {address}'))
    assert "dent-004.png" in json.dumps(shown)
    assert followed.run(f'python -c "{ask}" http://127.0.0.1:8480/api/state')


def verdicts(one: Reader) -> list[dict[str, str]]:
    """Return the ledger's rows, the oldest first."""
    one.run("edgeinspect ledger export washers.yaml --csv verdicts.csv")
    with (one.folder / "verdicts.csv").open(newline="", encoding="utf-8") as file:
        return sorted(csv.DictReader(file), key=lambda row: int(row["seq"]))


def test_services(followed: Reader) -> None:
    """The last part of the page, on a PC with a real systemd."""
    missing = missing_requirement() or (needs.missing_program("dpkg-deb"))
    if missing:
        pytest.skip(f"no machine with systemd: {missing}")
    folder = Path(tempfile.mkdtemp(dir=roomy_folder()))
    try:
        machine = Machine(folder / "machine", lower_root=leftovers(folder / "leftovers"))
        home = machine.upper / "home/reader"
        (home / "edgeinspect/dist").mkdir(parents=True)
        build = [sys.executable, "install/deb.py", "--fast", "--unlocked", "--out", str(folder)]
        done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        shutil.move(done.stdout.strip(), home / "edgeinspect/dist")
        (home / "edgeinspect/.venv").symlink_to(Path(sys.executable).parents[1])
        shutil.copytree(followed.folder, home / "washers")
        options = machine.upper / "etc/dpkg/dpkg.cfg.d/test"
        options.parent.mkdir(parents=True)
        options.write_text("force-unsafe-io\nno-triggers\n")
        with machine:
            for step in read_steps(PAGE):
                if step.kind == "service":
                    command = f"export HOME=/home/reader; set -e; {step.command}"
                    run = lambda command=command: machine.run(command, timeout_s=180)  # noqa: E731
                    compare(step, run, gaps=True)
    finally:
        shutil.rmtree(folder)


def test_nothing_of_the_page_is_left_out() -> None:
    """Each command that a reader sees is a step of one of the two tests."""
    text = PAGE.read_text(encoding="utf-8")
    steps = read_steps(PAGE)
    shown = text.count("\n```sh\n")
    assert shown == sum(bool(step.command) for step in steps) > 10
    assert text.count("\n```text\n") == sum(bool(step.shown) for step in steps)
    kinds = {step.kind for step in steps}
    assert kinds == {"set-up", "run", "start", "output", "stop", "service"}
