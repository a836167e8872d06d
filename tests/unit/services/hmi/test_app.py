"""The HMI without sockets: configuration, responses, actions."""

from __future__ import annotations

import errno
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner

from edgeinspect.cli.hmi import hmi as command
from edgeinspect.cli.main import main
from edgeinspect.client import send_request
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import Decision
from edgeinspect.errors import ConfigError, DataError, ModelError, UsageError
from edgeinspect.services.hmi import model_versions
from edgeinspect.services.hmi.config import load_hmi_config
from edgeinspect.services.hmi.event_stream import EventStream
from edgeinspect.services.hmi.ledger_history import LedgerHistory
from edgeinspect.services.hmi.service import HmiService
from edgeinspect.services.hmi.shift_counters import ShiftCounters
from edgeinspect.storage.ledger.query import VerdictFilter
from edgeinspect.storage.ledger.schema import compress
from edgeinspect.storage.model_store import ModelStore
from edgeinspect.storage.paths import local_address
from edgeinspect.storage.shadow_results import ShadowResultWriter, ShadowSample, model_key
from edgeinspect.system.user_file import Role, UserFile
from edgeinspect.wire.messages import encode_message
from edgeinspect.wire.requests import OperatorRequest
from tests.flow.frame_source import FakeLine
from tests.ledger_fixture import LedgerFixture
from tests.unit.services.hmi.builders import (
    HOUR_NS,
    ROOT,
    http_request,
    make_heartbeat,
    make_verdict,
    write_hmi_config,
)

NUMBERED = (("api/verdict/", ""), ("picture/", ".jpg"), ("thumb/", ".jpg"), ("mask/", ".png"))
POST = {"content-type": "application/json"}
GOOD = "four unlike words"


def make_service(folder: Path, **keys: Any) -> HmiService:
    return HmiService(load_hmi_config(write_hmi_config(folder, **keys)), ManualClock())


# -- its file ------------------------------------------------------------------------------


def test_example_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    loaded = load_hmi_config("examples/hmi.yaml")
    assert loaded.line.config.line == "strip"
    assert loaded.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"bind": "0.0.0.0:8480"}, "without encryption"),
        ({"bind": "line-7:8480"}, "without encryption"),
        ({"bind": "127.0.0.1"}, "HOST:PORT"),
        ({"bind": "127.0.0.1:99999"}, "65535"),
        ({"silent_ms": 120}, "three heartbeat periods"),
        ({"silent_ms": 5000}, "700"),
        ({"shifts": ["25:00"]}, "shifts"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_lists_every_fault(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_hmi_config(write_hmi_config(tmp_path, **keys))


def test_other_machines_need_tls_or_insecure(tmp_path: Path) -> None:
    assert (
        load_hmi_config(write_hmi_config(tmp_path, bind="0.0.0.0:80", insecure=True)).host
        == "0.0.0.0"
    )
    tls = {"certificate": "c.pem", "key": "k.pem"}
    assert load_hmi_config(write_hmi_config(tmp_path, bind="[::]:443", tls=tls)).host == "::"


def test_line_needs_a_fixed_address(tmp_path: Path) -> None:
    path = write_hmi_config(tmp_path)
    line = tmp_path / "strip.yaml"
    text = line.read_text()
    line.write_text(text.replace("publish:\n", 'publish:\n  verdicts: "tcp://127.0.0.1:*"\n'))
    with pytest.raises(ConfigError, match="no fixed address"):
        load_hmi_config(path)


def test_client_addresses() -> None:
    assert local_address("tcp://*:5590") == "tcp://127.0.0.1:5590"
    assert local_address("tcp://0.0.0.0:1") == "tcp://127.0.0.1:1"
    assert local_address("tcp://10.0.0.7:1") == "tcp://10.0.0.7:1"
    assert local_address("ipc:///run/x") == "ipc:///run/x"


# -- its command -----------------------------------------------------------------------------


def test_command_changes_users(tmp_path: Path) -> None:
    path = write_hmi_config(tmp_path, users=str(tmp_path / "users.json"))
    runner = CliRunner()
    arguments = [str(path), "--passwd", "anna", "--role", "engineer"]
    done = runner.invoke(command, arguments, input=f"{GOOD}\n{GOOD}\n")
    assert done.exit_code == 0, done.output
    assert GOOD not in done.output
    for answers in ("", f"{GOOD}\n"):
        done = runner.invoke(command, arguments, input=answers)
        assert isinstance(done.exception, UsageError)
        assert "the input ended" in str(done.exception)
    user = UserFile(tmp_path / "users.json").authenticate("anna", GOOD)
    assert user is not None
    assert user.role is Role.ENGINEER
    assert main(["hmi", str(path), "--remove", "anna"]) == 0
    assert main(["hmi", str(path), "--remove", "anna"]) == 64
    assert main(["hmi", str(path), "--remove", "a", "--passwd", "b"]) == 64
    assert main(["hmi", str(write_hmi_config(tmp_path, bind="x"))]) == 78


# -- its answers -------------------------------------------------------------------------------


def test_reads_without_a_running_line(tmp_path: Path) -> None:
    hmi_service = make_service(tmp_path)
    assert http_request(hmi_service.app, "/api/state").status == 503, "not inspected"
    hmi_service.line_state.on_heartbeat(make_heartbeat())
    assert http_request(hmi_service.app, "/api/state").status == 200
    assert b"NOT INSPECTED" in http_request(hmi_service.app, "/").body, "before any script has run"
    assert (
        http_request(hmi_service.app, "/static/app.js")
        .headers["content-type"]
        .startswith("text/javascript")
    )
    for path in (
        "/static/none.js",
        "/static/__init__.py",
        "/api/verdict/1",
        "/picture/1.jpg",
        "/thumb/1.jpg",
        "/mask/1.png",
        "/api/verdict/0",
        f"/api/verdict/{1 << 70}",
        "/api/verdict/-1",
        "/api/verdict/\u0661",
        *(f"/{each}" + "9" * 5_000 + end for each, end in NUMBERED),
    ):
        assert http_request(hmi_service.app, path).status == 404, path
    assert http_request(hmi_service.app, "/api/search").status == 503, "this line has no ledger"
    assert http_request(hmi_service.app, "/metrics").status == 200
    payload = http_request(hmi_service.app, "/api/engines").json()
    assert [one["name"] for one in payload] == ["strip-gate", "strip-segmenter"]


@pytest.mark.parametrize(
    "query",
    [
        "decision=MAYBE",
        "reason=x",
        "seq=-1",
        "seq=1e3",
        "limit=100000",
        "since_ms=x",
        "drop=table",
        "part=%00",
        "part=" + "a" * 65,
        "seq=\u0663",
        "seq=1&seq=2",
        "decision=PASS&decision=PASS",
    ],
)
def test_refuses_invalid_search_criteria(tmp_path: Path, query: str) -> None:
    response = http_request(make_service(tmp_path).app, "/api/search", query=query)
    assert response.status == 400, response.body


def test_shows_a_received_verdict(tmp_path: Path) -> None:
    hmi_service = make_service(tmp_path)
    one = make_verdict(7, Decision.REJECT)
    hmi_service.line_state.on_verdict(one, encode_message(one), replayed=False)
    payload = http_request(hmi_service.app, "/api/verdict/7").json()
    assert payload["verdict"]["regions"][0]["class_name"] == "scratch"
    assert (payload["picture"], payload["mask"]) == (False, False)


def test_stream_drops_a_slow_browser() -> None:
    payload = EventStream(lambda: {"n": 1}, lambda: {"board": 1}, dict, 1)

    async def watch() -> int:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(payload.run)
            received = 0
            async for _event in payload.subscribe("192.0.2.1"):
                received += 1
                if received == 3:
                    assert payload.is_full("192.0.2.2")
                    for _ in range(40):  # it does not read
                        payload._broadcast(b"x")
                if received > 60:
                    raise AssertionError("it was never let go")
            tasks.cancel_scope.cancel()
        return received

    assert anyio.run(watch) < 60
    assert payload.subscriber_count == 0


# -- its actions -------------------------------------------------------------------------------


def test_unrecorded_action_is_refused(tmp_path: Path) -> None:
    """The line does not respond: nothing is sent or promoted."""
    users = UserFile(tmp_path / "users.json")
    users.add_or_update("otto", Role.ENGINEER, GOOD)
    hmi_service = make_service(tmp_path, users=str(tmp_path / "users.json"))
    body = b'{"name":"otto","password":"four unlike words"}'
    response = http_request(hmi_service.app, "/api/login", method="POST", headers=POST, body=body)
    assert response.status == 200
    cookie = response.headers["set-cookie"]
    for word in ("edgeinspect_session_strip=", "HttpOnly", "SameSite=strict", "Path=/"):
        assert word in cookie
    headers = {**POST, "cookie": cookie.partition(";")[0], "x-csrf-token": response.json()["csrf"]}
    who = http_request(
        hmi_service.app, "/api/session", headers={"cookie": headers["cookie"]}
    ).json()
    assert (who["name"], who["role"]) == ("otto", "engineer")
    body = b'{"model":"strip-gate/1","why":"test"}'
    result = http_request(
        hmi_service.app, "/api/promote", method="POST", headers=headers, body=body
    )
    assert result.status == 503
    assert "nothing was done" in result.json()["problem"]
    for body in (
        b'{"model":"../x/1","why":"w"}',
        b'{"model":"strip-gate/1"}',
        b"{",
        b"\xff",
        b"[]",
    ):
        result = http_request(
            hmi_service.app, "/api/promote", method="POST", headers=headers, body=body
        )
        assert result.status == 400
    users.add_or_update("otto", Role.OPERATOR, GOOD)
    result = http_request(
        hmi_service.app, "/api/logout", method="POST", headers=headers, body=b"{}"
    )
    assert result.status == 401, "his role was changed: he logs in again"


def test_throttles_wrong_passwords(tmp_path: Path) -> None:
    users = UserFile(tmp_path / "users.json")
    users.add_or_update("anna", Role.OPERATOR, GOOD)
    hmi_service = make_service(tmp_path, users=str(tmp_path / "users.json"))

    def login(password: str) -> int:
        body = b'{"name":"anna","password":"%s"}' % password.encode()
        return http_request(
            hmi_service.app, "/api/login", method="POST", headers=POST, body=body
        ).status

    assert [login("wrong") for _ in range(6)] == [401] * 5 + [429]
    assert login(GOOD) == 429, "even the right one waits"


def test_login_needs_a_users_file(tmp_path: Path) -> None:
    hmi_service = make_service(tmp_path)
    assert http_request(hmi_service.app, "/api/session").json()["logins"] is False
    body = b'{"name":"anna","password":"four unlike words"}'
    assert (
        http_request(hmi_service.app, "/api/login", method="POST", headers=POST, body=body).status
        == 401
    )


def test_promotion_records_the_actor(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "engines" / "strip-gate", tmp_path / "store" / "strip-gate")
    for path in (tmp_path / "store").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    store = ModelStore(tmp_path / "store")
    words = model_versions.promote(store, "strip-gate/1", "otto", "a test", "none")
    assert "strip-gate/1 is live" in words
    change = store.model_versions("strip-gate").read_state().history[-1]
    assert (change.who, change.why, change.live) == ("otto", "a test", 1)
    payload = model_versions.describe_versions(
        store, ("strip-gate", "none"), tmp_path / "no.record"
    )
    assert [each["state"] for each in payload[0]["versions"]] == ["candidate", "live"]
    assert payload[1]["problem"]
    with pytest.raises(ModelError, match="was not promoted"):
        model_versions.promote(store, "strip-gate/9", "otto", "x", "none")
    with pytest.raises(ModelError, match="not reloaded"):
        model_versions.run_reload_command(["false"])


# -- the ledger --------------------------------------------------------------------------------


def test_counts_a_shift_from_the_ledger(tmp_path: Path) -> None:
    ledger = LedgerFixture(tmp_path)
    start = ledger.clock.utc_ns() // HOUR_NS * HOUR_NS
    ledger.add_verdicts(5)
    ledger.add_verdicts(3, Decision.REJECT, part="plate-1")
    ledger.add_verdicts(2, Decision.NO_VERDICT)
    assert ledger.writer.write_backlog()
    history = LedgerHistory(ledger.path)
    shift = ShiftCounters(start, start + HOUR_NS)
    assert history.count_shift(shift) == 10
    assert (shift.captured, shift.is_balanced) == (10, True)
    assert shift.reasons == {"deadline": 2}
    assert shift.trend_payload()["buckets"][0]["classes"] == {"scratch": 3}
    later = ShiftCounters(start + HOUR_NS, start + 2 * HOUR_NS)
    assert history.count_shift(later) == 10
    assert later.captured == 0
    rows = history.search(VerdictFilter(decision="REJECT", limit=2))
    assert [row["seq"] for row in rows] == [8, 7]
    assert len(history.search(VerdictFilter(part_id="plate-1"))) == 3
    assert history.verdict_json(8) is not None
    assert history.verdict_json(99) is None
    assert len(history.newest_verdicts_json("REJECT", 2)) == 2
    assert history.events(5) == []
    ledger.dispose()


def test_missing_or_damaged_ledger_is_reported(tmp_path: Path) -> None:
    for path in (None, tmp_path / "none.sqlite", tmp_path / "damaged.sqlite"):
        (tmp_path / "damaged.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 4096)
        with pytest.raises(DataError):
            LedgerHistory(path).search(VerdictFilter(limit=1))


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE verdicts SET decision = x'ff'",
        "UPDATE verdicts SET classes = x'ff'",
        "UPDATE verdicts SET reason = 'x', simulated = 'x'",
    ],
)
def test_invalid_ledger_rows_do_not_end_the_service(tmp_path: Path, harm: str) -> None:
    ledger = LedgerFixture(tmp_path)
    start = ledger.clock.utc_ns() // HOUR_NS * HOUR_NS
    ledger.add_verdicts(3, Decision.REJECT)
    assert ledger.writer.write_backlog()
    ledger.execute(harm)
    history = LedgerHistory(ledger.path)
    for look in (
        lambda: history.count_shift(ShiftCounters(start, start + HOUR_NS)),
        lambda: history.search(VerdictFilter(limit=1)),
    ):
        with pytest.raises(DataError):
            look()
    ledger.dispose()


def test_invalid_ledger_body_is_reported_or_skipped(tmp_path: Path) -> None:
    ledger = LedgerFixture(tmp_path)
    ledger.add_verdicts(3, Decision.REJECT)
    assert ledger.writer.write_backlog()
    with closing(sqlite3.connect(ledger.path)) as base, base:
        (dictionary,) = base.execute("SELECT dictionary FROM causes").fetchone()
        junk = compress(b'{"schema": "other"}', dictionary)
        base.execute("UPDATE verdicts SET body = ? WHERE seq = 2", (junk,))
        base.execute("UPDATE verdicts SET defect_prob = 'x' WHERE seq = 1")
    history = LedgerHistory(ledger.path)
    with pytest.raises(DataError, match="verdict 2 is damaged"):
        history.verdict_json(2)
    assert history.verdict_json(3) is not None
    assert len(history.newest_verdicts_json("REJECT", 2)) == 1
    with pytest.raises(DataError):
        history.first_gate_scores("ab" * 32, 10)
    ledger.dispose()


def test_shows_shadow_figures_of_a_candidate(tmp_path: Path) -> None:
    store = ModelStore(ROOT / "engines")
    specs = [store.resolve(f"strip-gate/{version}").id for version in (2, 1)]
    live, candidate = (model_key(each.name, each.version, each.sha256) for each in specs)
    record = ShadowResultWriter(tmp_path / "r.sqlite", live, candidate)
    for seq, decision in enumerate(("PASS", "REJECT", "REJECT"), 1):
        judged = ShadowSample(
            seq=seq, epoch=1, at_utc_ns=seq, decision="REJECT", classes=(), prob=0.5
        )
        other = ShadowSample(
            seq=seq, epoch=1, at_utc_ns=seq, decision=decision, classes=(), prob=0.5
        )
        record.add(judged, other, 900)
    record.close()
    payload = model_versions.describe_versions(store, ("strip-gate",), tmp_path / "r.sqlite")[0][
        "versions"
    ]
    shadows = {each["ref"]: each["shadow"] for each in payload}
    assert shadows["strip-gate/2"] == []
    (found,) = shadows["strip-gate/1"]
    assert (found["frames"], found["only_live_rejects"], found["both_reject"]) == (3, 1, 2)


def test_without_a_ledger_actions_are_refused(tmp_path: Path) -> None:
    feeder = FakeLine(tmp_path)
    try:
        wanted = OperatorRequest(actor="anna", action="acknowledge", detail="x")
        result = send_request(feeder.replay_server.address, wanted)
    finally:
        feeder.close()
    assert not result.accepted
    assert "has no ledger" in result.problem


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EADDRINUSE, "Address already in use"), 75),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), 75),
        (socket.gaierror(socket.EAI_AGAIN, "no name server yet"), 75),
        (PermissionError(errno.EACCES, "Permission denied"), 78),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), 78),
    ],
)
def test_unusable_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, code: int
) -> None:
    def bind(_socket: socket.socket, _address: object) -> None:
        raise error

    path = write_hmi_config(tmp_path)
    monkeypatch.setattr(socket.socket, "bind", bind)
    assert main(["hmi", str(path)]) == code
