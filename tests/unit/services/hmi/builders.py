"""Builders of verdicts, messages, HMI files and requests for tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import yaml
from starlette.types import ASGIApp, Message

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import (
    Box,
    Decision,
    ModelRef,
    Reason,
    Region,
    StageTimes,
    Verdict,
)
from edgeinspect.services.hmi.line_state import LineState
from edgeinspect.wire.messages import Heartbeat, Status, VerdictCounts

ROOT = Path(__file__).resolve().parents[4]
HOUR_NS = 3600 * NS_PER_S
GATE = ModelRef("strip-gate", 2, "ab" * 32, "cal-1")
SCRATCH = Region(3, "scratch", 0.9, 40, 10.0, Box(8, 2, 12, 6), (14.0, 5.0), (7.0, 2.5), True)
REASONS = {
    Decision.PASS: Reason.CLEAN,
    Decision.REJECT: Reason.DEFECT,
    Decision.NO_VERDICT: Reason.DEADLINE,
}


def make_verdict(
    seq: int,
    decision: Decision = Decision.PASS,
    *,
    at_utc_ns: int = 0,
    simulated: bool = False,
    prob: float = 0.1,
) -> Verdict:
    return Verdict(
        line="strip",
        camera="top",
        epoch=1,
        seq=seq,
        frame=seq,
        camera_frame_id=seq,
        captured_at_utc_ns=at_utc_ns,
        deadline_utc_ns=0,
        act_by_utc_ns=0,
        decision=decision,
        reason=REASONS[decision],
        defect_prob=prob,
        simulated=simulated,
        regions=(SCRATCH,) if decision is Decision.REJECT else (),
        gate=GATE,
        stages=StageTimes(100, 2_000, 0, 0, 2_200),
        budget_us=150_000,
    )


def make_heartbeat(*, inspecting: bool = True, alarm: str = "") -> Heartbeat:
    return Heartbeat(
        line="strip",
        epoch=1,
        last_seq=0,
        beat=1,
        utc_ns=0,
        period_ms=50,
        inspecting=inspecting,
        alarm=alarm,
    )


def make_status(**counts: int) -> Status:
    names = ("captured", "passed", "reject", "no_verdict", "open", "late", "degraded")
    return Status(
        line="strip",
        epoch=1_795_000_000_000,
        utc_ns=0,
        counts=VerdictCounts(
            **{name: counts.get(name, 0) for name in names},
            reasons={"deadline": counts.get("no_verdict", 0)},
        ),
        rate_hz=10.0,
        latency_p50_us=20_000,
        latency_p99_us=60_000,
        budget_us=150_000,
        cameras={"top": "live"},
        config_hash="0123456789ab",
    )


def make_line_state(
    clock: ManualClock, *, hours: int = 8, service_alarm: Callable[[], str] = lambda: ""
) -> LineState:
    """Return a line state whose shifts are `hours` long, counted from 1970."""

    def bounds(utc_ns: int) -> tuple[int, int]:
        start = utc_ns // (hours * HOUR_NS) * hours * HOUR_NS
        return start, start + hours * HOUR_NS

    return LineState(
        "strip",
        clock=clock,
        silence_timeout_ns=500 * NS_PER_MS,
        shift_bounds=bounds,
        service_alarm=service_alarm,
    )


def write_hmi_config(folder: Path, **keys: Any) -> Path:
    """Write an HMI file for the example line, with the given keys."""
    line = (ROOT / "examples" / "strip.yaml").read_text(encoding="utf-8")
    (folder / "strip.yaml").write_text(line, encoding="utf-8")
    path = folder / "strip.hmi.yaml"
    config = {"schema": 1, "line": str(folder / "strip.yaml"), **keys}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


class ReceivedResponse:
    """The response to one request."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.cookies: list[str] = []

    def json(self) -> Any:
        return json.loads(self.body)


def http_request(app: ASGIApp, path: str, **request: Any) -> ReceivedResponse:
    """Send one request to an ASGI app, without a socket; as `send_request_async`."""

    async def run() -> ReceivedResponse:
        return await http_request_async(app, path, **request)

    return anyio.run(run)


async def http_request_async(
    app: ASGIApp,
    path: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes | list[bytes] = b"",
    query: str = "",
) -> ReceivedResponse:
    """Send one request; a list is a chunked body without a length."""
    sent = {"host": "localhost", **(headers or {})}
    pieces = body if isinstance(body, list) else [body]
    if not isinstance(body, list):
        sent.setdefault("content-length", str(len(body)))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in sent.items()],
        "client": ("192.0.2.1", 5),
        "server": ("localhost", 80),
        "state": {},
    }
    got = ReceivedResponse()
    waiting = [
        {"type": "http.request", "body": piece, "more_body": index + 1 < len(pieces)}
        for index, piece in enumerate(pieces)
    ]

    async def receive() -> Message:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            got.status = message["status"]
            got.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            got.cookies = [v.decode() for k, v in message["headers"] if k == b"set-cookie"]
        else:
            got.body += message.get("body", b"")

    await app(scope, receive, send)
    return got
