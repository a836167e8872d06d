#!/usr/bin/python3 -IS
"""PID 1 of the container image: runs one service and restarts it as its systemd unit would.

    supervisor.py run /etc/edgeinspect/line.yaml      supervise a service
    supervisor.py check /etc/edgeinspect/line.yaml    any other command is executed directly
    supervisor.py --health                            exit code 0 while the service is healthy

A container engine's restart policy distinguishes neither exit codes nor stalled processes. So the
unit file decides here too: its watchdog, its restart delay, its timeouts and the exit codes after
which a restart does not help. After such a code, and after a normal end, this process stays,
with the container unhealthy: the engine must restart containers after a power cut, and
would restart this one indefinitely if it exited. SIGHUP then starts the service again; while the
service runs, SIGHUP is passed to it and reloads it.

Only the standard library is used: it must start when the environment does not.

Source: sd_notify(3), systemd.service(5), systemd.kill(5)
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PROGRAM = os.environ.get("EDGEINSPECT_PROGRAM", "/opt/edgeinspect/bin/edgeinspect")
UNITS = Path(os.environ.get("EDGEINSPECT_UNITS", "/usr/lib/systemd/system"))
STATE = Path(os.environ.get("EDGEINSPECT_STATE", "/tmp/edgeinspect-container"))
"""Folder of the notification socket and the state file; private to the container."""

SERVICES = {
    ("run",): "edgeinspect@.service",
    ("gateway",): "edgeinspect-gateway@.service",
    ("hmi",): "edgeinspect-hmi@.service",
    ("archive", "run"): "edgeinspect-archive@.service",
    ("record",): "edgeinspect-record@.service",
}
ONE_SHOT_OPTIONS = {"--help", "--passwd", "--remove"}
"""With one of these a service's command ends by itself."""
_WAKE_S = 0.5
"""Longest wait in one call, so that signals are handled soon."""
_SPAN = re.compile(r"(\d+)\s*(ms|min|s|)")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "min": 60.0}


def main(arguments: list[str]) -> int:
    """Supervise, report the health, or execute the command."""
    if arguments == ["--health"]:
        return report_health()
    unit = find_unit(arguments)
    if unit is None or ONE_SHOT_OPTIONS.intersection(arguments):
        os.execv(PROGRAM, [PROGRAM, *arguments])
    return Supervisor(arguments, read_policy(UNITS / unit)).run()


def find_unit(arguments: list[str]) -> str | None:
    """Return the unit whose command this is; None for a command that is no service."""
    for command, unit in SERVICES.items():
        if tuple(arguments[: len(command)]) == command:
            return unit
    return None


@dataclass(frozen=True)
class Policy:
    """What a unit file says about starts, stops and restarts. Times in seconds."""

    permanent: frozenset[int]
    """Exit codes after which a restart does not help."""
    restart_s: float
    start_s: float
    """Time until the service must report that it is ready; infinite if it does not report."""
    stop_s: float
    watchdog_s: float
    """Longest time between two notifications; 0 without a watchdog."""
    abort_s: float
    """Time between SIGABRT and SIGKILL."""


def read_policy(path: Path) -> Policy:
    """Read a unit file."""
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text(encoding="utf-8"))
    service = unit["Service"]

    def seconds(name: str, default: str) -> float:
        return parse_span(service.get(name, default))

    notifies = service["Type"] == "notify"
    return Policy(
        permanent=frozenset(map(int, service["RestartPreventExitStatus"].split())),
        restart_s=seconds("RestartSec", "100ms"),
        start_s=seconds("TimeoutStartSec", "90") if notifies else float("inf"),
        stop_s=seconds("TimeoutStopSec", "90"),
        watchdog_s=seconds("WatchdogSec", "0"),
        abort_s=seconds("TimeoutAbortSec", service.get("TimeoutStopSec", "90")),
    )


def parse_span(text: str) -> float:
    """Return a time span such as `50ms`, `3min` or `1min 30s` in seconds."""
    if not re.fullmatch(rf"({_SPAN.pattern}\s*)+", text):
        raise ValueError(f"not a time span: {text!r}")
    return sum(int(number) * _SECONDS[unit] for number, unit in _SPAN.findall(text))


class Supervisor:
    """Runs one service until SIGTERM or SIGINT. Main thread only."""

    def __init__(self, arguments: list[str], policy: Policy) -> None:
        self._arguments = arguments
        self._policy = policy
        self._child: subprocess.Popen[bytes] | None = None
        self._stop_requested = False
        self._start_requested = False
        self._deadline_s = float("inf")
        """When the service counts as hung, on the monotonic clock."""
        self._fields: dict[str, str] = {}
        """What the service has reported since its start."""
        self._phase = "starting"
        self._problem = ""
        self._exit_code = 0
        self._restarts = -1

    def run(self) -> int:
        """Return the exit code of the service's last run."""
        STATE.mkdir(mode=0o700, exist_ok=True)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would have keys; LimitCORE=0
        # A signal during a wait must end it: its number is written to this pipe.
        read_end, write_end = os.pipe()
        for fd in (read_end, write_end):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._request_stop())
        signal.signal(signal.SIGHUP, lambda *_: self._reload())
        with self._open_socket() as notifications:
            self._start()
            while not (self._stop_requested and self._child is None):
                timeout_s = max(0.0, min(_WAKE_S, self._deadline_s - time.monotonic()))
                ready, _, _ = select.select([notifications, read_end], [], [], timeout_s)
                if read_end in ready:
                    os.read(read_end, 4096)
                if notifications in ready:
                    self._read_notifications(notifications)
                self._reap()
                if self._child is not None and time.monotonic() >= self._deadline_s:
                    self._abort()
        return self._exit_code

    @staticmethod
    def _open_socket() -> socket.socket:
        path = STATE / "notify"
        path.unlink(missing_ok=True)
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        opened.bind(str(path))
        opened.setblocking(False)
        return opened

    # -- start and end of the service -----------------------------------------------------

    def _start(self) -> None:
        self._start_requested = False
        self._fields, self._phase, self._problem = {}, "starting", ""
        self._restarts += 1
        self._deadline_s = time.monotonic() + self._policy.start_s
        environment = dict(os.environ, NOTIFY_SOCKET=str(STATE / "notify"))
        if self._policy.watchdog_s:
            environment["WATCHDOG_USEC"] = str(int(self._policy.watchdog_s * 1e6))
        self._write_state()
        # A session of its own: what it leaves behind is ended as a group.
        self._child = subprocess.Popen(
            [PROGRAM, *self._arguments], env=environment, start_new_session=True
        )
        if self._policy.start_s == float("inf"):
            self._set_phase("running")
        if self._stop_requested:  # while the process was being made
            self._terminate()

    def _reap(self) -> None:
        """Collect ended processes; decide what follows the end of the service."""
        ended: int | None = None
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if self._child is not None and pid == self._child.pid:
                    ended = os.waitstatus_to_exitcode(status)
        if ended is not None:
            self._service_ended(ended)
        if self._child is None and self._start_requested and not self._stop_requested:
            self._start()

    def _service_ended(self, code: int) -> None:
        assert self._child is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.returncode = code
        self._child = None
        self._deadline_s = float("inf")
        self._exit_code = 128 - code if code < 0 else code
        if self._stop_requested:
            return
        if code == 0:
            self._set_phase("ended", "the service has ended normally")
        elif code in self._policy.permanent:
            remedy = "correct the cause in the log above, then send SIGHUP to start it again"
            self._set_phase("failed", f"exit code {code}: {remedy}")
        else:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._set_phase("starting", f"ended by {how}, restarting")
            time.sleep(self._policy.restart_s)
            self._start_requested = True

    def _abort(self) -> None:
        """End a service that is hung, is not ready in time, or does not stop."""
        assert self._child is not None
        if self._stop_requested or self._phase == "aborting":
            self._send(signal.SIGKILL)
            self._deadline_s = float("inf")
            return
        what = (
            "is not ready in time" if self._phase == "starting" else "does not notify its watchdog"
        )
        self._set_phase("aborting", f"the service {what}: ended by SIGABRT")
        self._send(signal.SIGABRT)
        self._deadline_s = time.monotonic() + self._policy.abort_s

    def _request_stop(self) -> None:
        if self._stop_requested:
            return
        self._stop_requested = True
        if self._child is not None:
            self._terminate()

    def _terminate(self) -> None:
        self._send(signal.SIGTERM)
        self._deadline_s = time.monotonic() + self._policy.stop_s

    def _send(self, number: signal.Signals) -> None:
        """Send a signal to the service; one that has ended still has its number until `_reap`."""
        # Not `Popen.send_signal`: it collects a process that has ended, which `_reap` then misses.
        assert self._child is not None
        os.kill(self._child.pid, number)

    def _reload(self) -> None:
        if self._child is not None:
            self._send(signal.SIGHUP)
        elif self._phase in ("failed", "ended"):
            self._start_requested = True

    # -- what the service reports ---------------------------------------------------------

    def _read_notifications(self, notifications: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                text = notifications.recv(65536).decode("utf-8", "replace")
                fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
                self._apply(fields)

    def _apply(self, fields: dict[str, str]) -> None:
        now_s = time.monotonic()
        is_ready = "READY" in fields and self._phase == "starting"
        is_alive = is_ready or ("WATCHDOG" in fields and self._phase == "running")
        if is_alive and not self._stop_requested:  # then its deadline is that of the stop
            self._deadline_s = now_s + (self._policy.watchdog_s or float("inf"))
        extension = fields.get("EXTEND_TIMEOUT_USEC", "")
        if extension.isdigit() and self._phase in ("starting", "running"):
            self._deadline_s = max(self._deadline_s, now_s + int(extension) / 1e6)
        known = {name: fields[name] for name in ("STATUS", "X_INSPECTING") if name in fields}
        if known.items() - self._fields.items():
            self._fields.update(known)
            self._write_state()
        if is_ready:
            self._set_phase("running")

    def _set_phase(self, phase: str, problem: str = "") -> None:
        self._phase, self._problem = phase, problem
        if problem:
            print(f"edgeinspect-container: {problem}", file=sys.stderr, flush=True)
        self._write_state()

    def _write_state(self) -> None:
        state = {
            "command": self._arguments[0],
            "phase": self._phase,
            "problem": self._problem,
            "restarts": self._restarts,
            "status": self._fields.get("STATUS", ""),
            "inspecting": self._fields.get("X_INSPECTING"),
        }
        new = STATE / "state.json.new"
        new.write_text(json.dumps(state), encoding="utf-8")
        new.replace(STATE / "state.json")


def report_health() -> int:
    """Print the state; return 0 if the service runs, and a line only if it inspects."""
    try:
        state = json.loads((STATE / "state.json").read_text(encoding="utf-8"))
    except OSError as error:
        print(f"no service runs here: {error.strerror}")
        return 1
    print(state["problem"] or state["status"] or state["phase"])
    is_line = state["command"] == "run"
    is_healthy = state["phase"] == "running" and (not is_line or state["inspecting"] == "1")
    return 0 if is_healthy else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
