"""A line and its HMI as real processes, for system tests."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgeinspect.system.user_file import Role, UserFile
from tests.system.plant import free_port, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
PASSWORD = "four unlike words here"


@dataclass
class ReceivedResponse:
    """The response to an HTTP request."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class HmiHarness:
    """`edgeinspect run` and `edgeinspect hmi` on loopback, with a ledger and two users."""

    def __init__(self, folder: Path, **page: Any) -> None:
        self.folder = folder
        self.port = free_port()
        self.ledger = folder / "ledger"
        self.challenge_folder = folder / "challenge"
        self.challenge_folder.mkdir()
        for name in ("clean.png", "scratches.png"):
            shutil.copy(ROOT / "examples" / "pictures" / name, self.challenge_folder / name)
        self.line_file, self.hmi_file = folder / "strip.yaml", folder / "strip.hmi.yaml"
        line = yaml.safe_load((ROOT / "examples" / "strip.yaml").read_text(encoding="utf-8"))
        line["cameras"]["top"] |= {"pictures": 8, "rate_hz": 8}
        line["budget_ms"] = 2_000  # tolerates a busy PC
        line["act_by"] = {"travel_ms": 4_000}
        line["capture"]["challenge_folder"] = str(self.challenge_folder)
        line["publish"] |= {
            "verdicts": f"tcp://127.0.0.1:{free_port()}",
            "replay": f"tcp://127.0.0.1:{free_port()}",
        }
        line["spool"] = {"folder": str(folder / "memory")}
        line["ledger"] = {"folder": str(self.ledger)}
        self.line_file.write_text(yaml.safe_dump(line), encoding="utf-8")
        config = {
            "schema": 1,
            "line": str(self.line_file),
            "bind": f"127.0.0.1:{self.port}",
            "users": str(folder / "users.json"),
            "nice": 0,
            "live_hz": 3,  # eight images at 8 Hz: each is shown
            **page,
        }
        self.hmi_file.write_text(yaml.safe_dump(config), encoding="utf-8")
        users = UserFile(folder / "users.json")
        users.add_or_update("anna", Role.OPERATOR, PASSWORD)
        users.add_or_update("otto", Role.ENGINEER, PASSWORD)
        self.daemon_process = self._start("run", self.line_file)
        self.hmi_process = self._start("hmi", self.hmi_file)
        wait_for(lambda: self.state() == "inspecting", 60, "the HMI to show the line inspected")

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _start(self, command: str, file: Path) -> subprocess.Popen[bytes]:
        with (self.folder / f"{command}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "edgeinspect", command, str(file), "--log-format", "json"],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def restart_daemon(self) -> None:
        """Start the daemon again after it was killed."""
        self.daemon_process.wait(10)
        self.daemon_process = self._start("run", self.line_file)

    def request(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str = ""
    ) -> ReceivedResponse:
        """Send one request; the path is not normalised."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = dict(headers or {})
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method or ("GET" if data is None else "POST"), path, data, sent)
            got = connection.getresponse()
            return ReceivedResponse(
                got.status, {k.lower(): v for k, v in got.getheaders()}, got.read()
            )
        finally:
            connection.close()

    def state(self) -> str:
        """Return the state of the line by the HMI; empty while it does not respond."""
        try:
            told: str = self.request("/api/state").json()["state"]
        except (OSError, http.client.HTTPException):
            return ""
        return told

    def login(self, name: str) -> dict[str, str]:
        """Log in and return the session's headers."""
        answer = self.request("/api/login", {"name": name, "password": PASSWORD})
        assert answer.status == 200, answer.body
        cookie = answer.headers["set-cookie"].partition(";")[0]
        return {"Cookie": cookie, "X-CSRF-Token": answer.json()["csrf"]}

    def close(self) -> None:
        """Stop both processes."""
        for child in (self.hmi_process, self.daemon_process):
            if child.poll() is None:
                child.send_signal(signal.SIGCONT)
                child.terminate()
        until = time.monotonic() + 20
        for child in (self.hmi_process, self.daemon_process):
            try:
                child.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(10)

    def logs(self) -> str:
        """Return the end of both logs."""
        return "\n".join(
            (self.folder / f"{name}.log").read_text(encoding="utf-8")[-2_000:]
            for name in ("run", "hmi")
        )
