"""The HMI's server with messages from the test, for states that no line reaches."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from edgeinspect.domain.clock import SystemClock
from edgeinspect.domain.verdict import Decision, Verdict
from edgeinspect.services.hmi.config import load_hmi_config
from edgeinspect.services.hmi.http.connection_limits import ConnectionLimiter, LimitedListener
from edgeinspect.services.hmi.http.server import make_server
from edgeinspect.services.hmi.service import HmiService
from edgeinspect.system.user_file import Role, UserFile
from edgeinspect.wire.messages import Status, encode_message
from tests.unit.services.hmi.builders import (
    make_heartbeat,
    make_status,
    make_verdict,
    write_hmi_config,
)

LINE = "strip-line-7-of-hall-3-south-b12"
"""The longest permitted name of a line."""
USER = "anna-katharina.oberhuber-schmidt"
PASSWORD = "four unlike words"


class HmiScene:
    """An HMI on loopback whose line state is filled by the test."""

    def __init__(self, folder: Path, line: str = LINE, **keys: Any) -> None:
        users = UserFile(folder / "users.json")
        users.add_or_update(USER, Role.ENGINEER, PASSWORD)
        file = write_hmi_config(folder, users=str(folder / "users.json"), **keys)
        config = yaml.safe_load((folder / "strip.yaml").read_text(encoding="utf-8"))
        (folder / "strip.yaml").write_text(
            yaml.safe_dump({**config, "line": line}), encoding="utf-8"
        )
        self.service = HmiService(load_hmi_config(file), SystemClock())
        self.alarm = ""
        self.is_inspecting = True
        self.is_sending = True
        gate = ConnectionLimiter(300, 300, lambda _address: False)
        self._server = make_server(self.service.app, gate, None)
        self.service.stream.is_server_stopping = lambda: self._server.should_exit
        bound = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        self._listener = LimitedListener(bound, gate)
        self._threads = [
            threading.Thread(target=self._server.run, args=([self._listener],)),
            threading.Thread(target=self._send_messages),
        ]
        for thread in self._threads:
            thread.start()

    def _send_messages(self) -> None:
        while not self._server.should_exit:
            if self.is_sending:
                beat = make_heartbeat(inspecting=self.is_inspecting, alarm=self.alarm)
                self.service.line_state.on_heartbeat(beat)
                self.service.line_state.on_heartbeat(self.status())
            time.sleep(0.05)

    def status(self) -> Status:
        """Return the status message of the line."""
        return make_status(captured=10_000_000, passed=9_999_000, reject=900, no_verdict=100)

    def add_verdict(self, seq: int, decision: Decision = Decision.PASS, **changes: Any) -> Verdict:
        """Add one verdict, captured now."""
        import msgspec

        one = make_verdict(seq, decision, at_utc_ns=time.time_ns())
        one = msgspec.structs.replace(one, **changes)
        self.service.line_state.on_verdict(one, encode_message(one), replayed=False)
        return one

    def close(self) -> None:
        """Stop the server and the message thread."""
        self._server.should_exit = True
        for thread in self._threads:
            thread.join(20)
        self._listener.close()
