"""A small plant on loopback: a feeder and a gateway as processes, and the log of a PLC."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from edgeinspect.domain.verdict import Verdict
from edgeinspect.services.gateway.journal import GatewayJournal, JournalRecord
from edgeinspect.testing.peers import PlcResultRecord
from tests.flow.frame_source import ledger_verdicts

ROOT = Path(__file__).resolve().parent.parent.parent
FAIL_SAFE_MS = 300
MARGIN_MS = 120
"""Added to fail_safe_ms, for the peer's polling and a busy PC."""


def free_port() -> int:
    """Return a free port that no outgoing connection gets in the meantime.

    Those below 32768 are given out by nobody but us, and a random one hardly twice.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def wait_for(condition: Callable[[], Any], timeout_s: float = 15.0, what: str = "") -> Any:
    """Wait until `condition` returns a true value; fail with `what`."""
    until = time.monotonic() + timeout_s
    while not (got := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {timeout_s:g} s: {what or condition}")
        time.sleep(0.002)
    return got


class Process:
    """A child that can be stopped, continued and killed; its output goes to a file."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self.child = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def send_line(self, line: str) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(line.encode() + b"\n")
        self.child.stdin.flush()

    def read_line(self) -> str:
        assert self.child.stdout is not None
        line = self.child.stdout.readline().decode().strip()
        assert line, self.log.read_text()
        return line

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def kill(self) -> None:
        """Kill the process with SIGKILL and wait for its end."""
        self.child.kill()
        self.end()

    def end(self, timeout_s: float = 10.0) -> int:
        """Close the process's input and return its exit code."""
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()
        return self.child.wait(timeout_s)


@dataclass
class Plant:
    """One line and one gateway."""

    folder: Path
    link: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.verdicts = f"tcp://127.0.0.1:{free_port()}"
        self.replay = f"tcp://127.0.0.1:{free_port()}"
        self.file = self.folder / "gateway.yaml"
        config = {
            "schema": 1,
            "gateway": "plc-1",
            "feed": {"line": "press", "verdicts": self.verdicts, "replay": self.replay},
            "link": self.link,
            "cursor": str(self.folder / "plc-1.journal"),
            "fail_safe_ms": FAIL_SAFE_MS,
            "ack_timeout_ms": 5_000,
            "buffer": 2_000,
            **self.options,
        }
        self.file.write_text(yaml.safe_dump(config))
        self.start_feeder()
        self.start_gateway()

    def start_feeder(self) -> None:
        arguments = ["-m", "tests.flow.frame_source", str(self.folder), self.verdicts, self.replay]
        self.feeder = Process(arguments, self.folder / "feeder.log")
        assert self.feeder.read_line().startswith("ready")

    def start_gateway(self) -> None:
        arguments = ["-m", "edgeinspect", "gateway", str(self.file), "--log-format", "json"]
        self.gateway = Process(arguments, self.folder / "gateway.log")

    def request_verdicts(self, count: int, rate_hz: float) -> None:
        """Request `count` verdicts; return at once, `wait_for_verdicts` waits."""
        self.feeder.send_line(f"judge {count} {rate_hz}")

    def wait_for_verdicts(self) -> int:
        """Wait for the requested verdicts; return the last seq."""
        return int(self.feeder.read_line().removeprefix("done "))

    def verdicts_written(self) -> list[Verdict]:
        return ledger_verdicts(self.folder)

    def journal(self) -> list[JournalRecord]:
        """Return the gateway's journal; only while it does not run."""
        journal = GatewayJournal(self.folder / "plc-1.journal", name="plc-1", capacity=100_000)
        records = journal.read_records()
        journal.close()
        return records

    def heartbeat_stops(
        self, is_fail_safe: Callable[[], bool], is_online: Callable[[], bool]
    ) -> float:
        """Stop the daemon with SIGSTOP and continue it; return the ms until fail-safe."""
        wait_for(is_online, what="online before the daemon stops")
        self.feeder.signal(signal.SIGSTOP)
        started = time.monotonic()
        try:
            wait_for(is_fail_safe, 5.0, "fail-safe at the peer")
            took_ms = (time.monotonic() - started) * 1000
        finally:
            self.feeder.signal(signal.SIGCONT)
        wait_for(is_online, what="online again by itself")
        print(f"fail-safe at the peer after {took_ms:.0f} ms")  # shown with -rP
        assert took_ms <= FAIL_SAFE_MS + MARGIN_MS, f"{took_ms:.0f} ms"
        return took_ms

    def close(self) -> None:
        for process in (self.gateway, self.feeder):
            if process.child.poll() is None:
                process.signal(signal.SIGCONT)
                process.signal(signal.SIGTERM)
            try:
                process.end()
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def plant(folder: Path, link: dict[str, Any], **options: Any) -> Iterator[Plant]:
    """Run a plant; print the logs of its processes when the test fails."""
    built = Plant(folder, link, options)
    try:
        yield built
    except BaseException:
        for process in (built.gateway, built.feeder):
            print(textwrap.indent(process.log.read_text()[-4000:], f"{process.log.stem}: "))
        raise
    finally:
        built.close()


def expected(verdicts: list[Verdict]) -> list[PlcResultRecord]:
    """Return what a PLC must have received for these verdicts, none of them late."""
    return [PlcResultRecord.expected_for(verdict) for verdict in verdicts]
