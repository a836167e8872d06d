"""A machine for a test: a real systemd as PID 1 of private namespaces.

Its root is an overlay over this machine's, so it has all that is installed here and changes
nothing. It has its own processes, network, host name and cgroup tree, journald and D-Bus.
Needs root. What does not hold in it: MemoryMax, TasksMax, AllowedCPUs.

Source: namespaces(7), systemd's container interface, systemd-nspawn(1).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests import needs

ROOT = Path(__file__).resolve().parents[2]

_BOOT = """#!/bin/bash
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$D/upper,workdir=$D/work" "$D/root"
R=$D/root
mount -t proc proc $R/proc
mount -t sysfs -o ro sysfs $R/sys
mount -t cgroup2 cgroup2 $R/sys/fs/cgroup
mount --rbind /dev $R/dev
mount -t tmpfs -o mode=1777 tmpfs $R/dev/shm
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs $R/run
mount -t tmpfs -o mode=1777 tmpfs $R/tmp
# To read: what the overlay does not show.
while read -r path; do
    mkdir -p "$R$path"
    mount --bind "$path" "$R$path"
    mount -o remount,bind,ro "$R$path"
done < <(printf %s "$VISIBLE")
cd $R; mkdir -p .old; pivot_root . .old; cd /
umount -l /.old; rmdir /.old
mount --make-rshared /   # as nspawn does: LoadCredential= needs it
mount -o remount,bind,ro /proc/sys 2>/dev/null || true
exec env -i container=machine PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_PROC_CMDLINE= \\
    /lib/systemd/systemd --system --unit=machine.target --show-status=no --log-target=journal
"""
_TARGET = """[Unit]
Description=A test's machine
Requires=systemd-journald.service
Wants=dbus.socket
After=systemd-journald.service dbus.socket
AllowIsolate=yes
"""
_POWER_OFF = signal.SIGRTMIN + 14
"""Signal to systemd: power off now, stopping units in order."""


_HIDDEN = (
    "etc/edgeinspect",
    "opt/edgeinspect",
    "var/lib/edgeinspect",
    "var/cache/edgeinspect",
    "var/log/edgeinspect",
    "var/log/journal",
    "usr/share/edgeinspect",
    "usr/share/doc/edgeinspect",
    "usr/bin/edgeinspect",
    "usr/share/man/man1/edgeinspect.1.gz",
    "usr/share/bash-completion/completions/edgeinspect",
    "usr/lib/*/edgeinspect.conf",
    "etc/systemd/system/*edgeinspect*",
    "etc/systemd/system/*/*edgeinspect*",
    "usr/lib/systemd/system/*edgeinspect*",
    "var/lib/dpkg/info/edgeinspect.*",
    "var/lib/systemd/timers/*edgeinspect*",
)
_USERS = ("passwd", "group", "shadow", "gshadow")


def hide(lowers: list[Path], upper: Path) -> None:
    """Hide files of an earlier installation on this PC from the machine.

    Args:
        lowers: Its root's layers beneath, the uppermost first.
        upper: Its own layer; what is put here already stays.
    """
    for lower in lowers:
        for path in (each for pattern in _HIDDEN for each in lower.glob(pattern)):
            target = upper / path.relative_to(lower)
            if not os.path.lexists(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                os.mknod(target, stat.S_IFCHR, os.makedev(0, 0))  # a whiteout for overlayfs
    for name in _USERS:
        _rewrite(f"etc/{name}", lowers, upper, "\n", lambda line: line.startswith("edgeinspect"))
    ours = re.compile(r"^Package: edgeinspect$", re.MULTILINE)
    _rewrite("var/lib/dpkg/status", lowers, upper, "\n\n", lambda part: bool(ours.search(part)))


def _rewrite(
    name: str, lowers: list[Path], upper: Path, between: str, drop: Callable[[str], bool]
) -> None:
    """Write a text file to the upper layer without some of its parts."""
    source = next((lower / name for lower in lowers if (lower / name).is_file()), None)
    if source is None:
        return
    parts = source.read_text(encoding="utf-8").split(between)
    if any(map(drop, parts)):
        target = upper / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        target.write_text(between.join(p for p in parts if not drop(p)), encoding="utf-8")


def missing_requirement() -> str:
    """Return what is missing to boot a machine; empty if nothing is."""
    if os.geteuid() != 0:
        return "needs root"
    for name in ("unshare", "nsenter", "systemctl", "dbus-daemon", "journalctl"):
        missing = needs.missing_program(name)
        if missing:
            return missing
    if not Path("/lib/systemd/systemd").exists():
        return "systemd is not installed: apt-get install systemd"
    return ""


def _hidden_folders() -> list[Path]:
    """Return the folders of the tree and of this Python that the overlay does not show."""
    own, root_device = Path("/tmp"), Path("/").stat().st_dev
    needed = {Path(each).resolve() for each in (ROOT, sys.prefix, sys.base_prefix, *sys.path)}
    return [
        path
        for path in sorted(needed - {own})
        if path.is_dir() and (path.stat().st_dev != root_device or path.is_relative_to(own))
    ]


class Machine:
    """One booted machine. Use as a context; `run` and `start` are commands inside."""

    def __init__(self, folder: Path, lower_root: Path | None = None) -> None:
        """Start nothing. `folder` must not be on an overlay file system.

        Args:
            folder: New; for all that the machine writes.
            lower_root: What this machine's root is taken to have besides.
        """
        self.folder = folder
        self._lowers = [Path("/")] if lower_root is None else [lower_root, Path("/")]
        self.upper = folder / "upper"
        """The machine's own layer; may be filled before the boot."""
        for name in ("upper", "work", "root"):
            (folder / name).mkdir(parents=True)
        self._outer: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._cgroup = Path()
        self._own_mount: Path | None = None

    def __enter__(self) -> Machine:
        try:
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        os.kill(self._pid, _POWER_OFF)
        until = time.monotonic() + 10
        while Path(f"/proc/{self._pid}").exists() and time.monotonic() < until:
            time.sleep(0.02)
        self._end()

    def _boot(self) -> None:
        units = self.upper / "etc/systemd/system"
        units.mkdir(parents=True, exist_ok=True)
        (units / "machine.target").write_text(_TARGET)
        hide(self._lowers, self.upper)
        boot = self.folder / "boot.sh"
        boot.write_text(_BOOT)
        boot.chmod(0o755)
        self._cgroup = self._cgroup_root() / f"machine-{os.getpid()}"
        self._cgroup.mkdir()
        unshare = "unshare --pid --mount --uts --ipc --cgroup --net --fork --kill-child=SIGKILL"
        arguments = f"echo $$ > {self._cgroup}/cgroup.procs; exec {unshare} {boot}"
        with (self.folder / "console").open("wb") as console:
            self._outer = subprocess.Popen(
                ["bash", "-c", arguments],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={
                    **os.environ,
                    "D": str(self.folder),
                    "LOWER": ":".join(map(str, self._lowers)),
                    "VISIBLE": "".join(f"{path}\n" for path in _hidden_folders()),
                },
                start_new_session=True,
            )
        self._pid = self._child(self._outer.pid)
        until = time.monotonic() + 30
        state = ""
        while time.monotonic() < until:
            state = self.run("systemctl is-system-running 2>&1", check=False).strip()
            if state in ("running", "degraded"):
                return
            time.sleep(0.05)
        raise AssertionError(f"{state}: {(self.folder / 'console').read_text()[-3000:]}")

    def _cgroup_root(self) -> Path:
        arguments = ["findmnt", "-t", "cgroup2", "-n", "-o", "TARGET"]
        found = subprocess.run(
            arguments, capture_output=True, text=True, check=False
        ).stdout.split()
        if found:
            return Path(found[0])
        self._own_mount = self.folder / "cgroup"
        self._own_mount.mkdir()
        mount = ["mount", "-t", "cgroup2", "cgroup2", str(self._own_mount)]
        subprocess.run(mount, check=True)
        return self._own_mount

    @staticmethod
    def _child(pid: int) -> int:
        """Return the child of unshare: PID 1 inside."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if found:
                return int(found[0])
            time.sleep(0.01)
        raise AssertionError("no process in the namespace")

    def _end(self) -> None:
        kill = self._cgroup / "cgroup.kill"
        if kill.exists():
            kill.write_text("1")
        if self._outer is not None:
            self._outer.kill()
            self._outer.wait()
        until = time.monotonic() + 5
        while self._cgroup.name and self._cgroup.exists() and time.monotonic() < until:
            for path in sorted(self._cgroup.rglob("*"), reverse=True):
                if path.is_dir():
                    self._rmdir(path)
            self._rmdir(self._cgroup)
            time.sleep(0.02)
        if self._own_mount is not None:
            subprocess.run(["umount", str(self._own_mount)], check=False)

    @staticmethod
    def _rmdir(path: Path) -> None:
        try:
            path.rmdir()
        except OSError:  # a process in it is still exiting
            pass

    def path(self, name: str) -> Path:
        """Return the path of a file inside, as seen from outside."""
        return Path(f"/proc/{self._pid}/root", name.lstrip("/"))

    # -- inside ---------------------------------------------------------------------

    def run(self, command: str, *, check: bool = True, timeout_s: float = 60) -> str:
        """Run a shell command; return its output, and fail if it fails unless `check` is False."""
        done = self.call(command, timeout_s=timeout_s)
        output = done.stdout + done.stderr
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{output}"
        return output

    def call(self, command: str, *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a shell command; return output and exit code."""
        return subprocess.run(
            [
                "nsenter",
                "-t",
                str(self._pid),
                "-m",
                "-u",
                "-i",
                "-n",
                "-p",
                "-C",
                "-r",
                "-w",
                "bash",
                "-c",
                command,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run(f"systemctl show -P {name} {unit}").strip()
