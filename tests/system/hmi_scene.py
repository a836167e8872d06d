"""The page's server alone, told by the test what its line says: for states that no line is in."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from edgeinspect.domain.clock import SystemClock
from edgeinspect.domain.verdict import Decision, Verdict
from edgeinspect.services.hmi.config import load
from edgeinspect.services.hmi.http.connection_limits import Gate, Listener
from edgeinspect.services.hmi.http.server import make_server
from edgeinspect.services.hmi.service import Page
from edgeinspect.system.user_file import Role, Users
from edgeinspect.wire.messages import Status, encode
from tests.unit.services.hmi.builders import heartbeat, page_file, status, verdict

LINE = "strip-line-7-of-hall-3-south-b12"
"""As long as a line's name may be."""
USER = "anna-katharina.oberhuber-schmidt"
PASSWORD = "four unlike words"


class Stage:
    """A page on loopback whose board is filled by the test. `close` ends it."""

    def __init__(self, folder: Path, line: str = LINE, **keys: Any) -> None:
        users = Users(folder / "users.json")
        users.set(USER, Role.ENGINEER, PASSWORD)
        file = page_file(folder, users=str(folder / "users.json"), **keys)
        config = yaml.safe_load((folder / "strip.yaml").read_text(encoding="utf-8"))
        (folder / "strip.yaml").write_text(
            yaml.safe_dump({**config, "line": line}), encoding="utf-8"
        )
        self.page = Page(load(file), SystemClock())
        self.alarm = ""
        self.inspecting = True
        self.speaking = True
        gate = Gate(300, 300, lambda _address: False)
        self._server = make_server(self.page.app, gate, None)
        self.page.stream.ended = lambda: self._server.should_exit
        bound = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        self._listener = Listener(bound, gate)
        self._threads = [
            threading.Thread(target=self._server.run, args=([self._listener],)),
            threading.Thread(target=self._speak),
        ]
        for thread in self._threads:
            thread.start()

    def _speak(self) -> None:
        while not self._server.should_exit:
            if self.speaking:
                beat = heartbeat(inspecting=self.inspecting, alarm=self.alarm)
                self.page.board.hear(beat)
                self.page.board.hear(self.status())
            time.sleep(0.05)

    def status(self) -> Status:
        """What the line tells of itself once a second."""
        return status(captured=10_000_000, passed=9_999_000, reject=900, no_verdict=100)

    def judge(self, seq: int, decision: Decision = Decision.PASS, **changed: Any) -> Verdict:
        """One verdict, now."""
        import msgspec

        one = verdict(seq, decision, at_utc_ns=time.time_ns())
        one = msgspec.structs.replace(one, **changed)
        self.page.board.take(one, encode(one), replayed=False)
        return one

    def close(self) -> None:
        """End the server, and what speaks to it."""
        self._server.should_exit = True
        for thread in self._threads:
            thread.join(20)
        self._listener.close()
