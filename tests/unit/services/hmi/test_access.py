"""Access: users, sessions, and the checks of the request guard."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.errors import DataError, UsageError
from edgeinspect.services.hmi.http.request_guard import (
    RESPONSE_HEADERS,
    BodyTooLargeError,
    RequestGuard,
    body_too_large_response,
)
from edgeinspect.services.hmi.login.sessions import LoginSessions
from edgeinspect.system.user_file import Role, User, UserFile
from tests.unit.services.hmi.builders import http_request

GOOD = "four unlike words"
OURS = {
    "content-type": "application/json",
    "sec-fetch-site": "same-origin",
    "origin": "http://localhost",
}


def test_stores_a_slow_hash_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    users = UserFile(path)
    assert users.authenticate("anna", GOOD) is None
    users.add_or_update("anna", Role.OPERATOR, GOOD)
    users.add_or_update("otto", Role.ENGINEER, GOOD)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text(encoding="utf-8")
    assert GOOD not in text
    kept = users.read()
    assert kept["anna"].hash != kept["otto"].hash, "each has its own salt"
    assert users.authenticate("anna", GOOD) == kept["anna"]
    for name, password in (("anna", GOOD + "x"), ("anna", ""), ("nobody", GOOD), ("", "")):
        assert users.authenticate(name, password) is None
    users.remove("anna")
    assert users.authenticate("anna", GOOD) is None
    with pytest.raises(UsageError):
        users.remove("anna")


def test_refuses_invalid_names_and_passwords(tmp_path: Path) -> None:
    users = UserFile(tmp_path / "users.json")
    for name in ("", "Anna", "a/b", "../x", "a" * 40):
        with pytest.raises(UsageError):
            users.add_or_update(name, Role.OPERATOR, GOOD)
    for password in ("short", "x" * 129):
        with pytest.raises(UsageError):
            users.add_or_update("anna", Role.OPERATOR, password)
    assert not (tmp_path / "users.json").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', '{"schema": 1, "users": {"a": 1}}'])
def test_damaged_users_file_admits_no_user(tmp_path: Path, text: str) -> None:
    path = tmp_path / "users.json"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(DataError):
        UserFile(path).authenticate("anna", GOOD)


def test_refuses_a_world_readable_users_file(tmp_path: Path) -> None:
    users = UserFile(tmp_path / "users.json")
    users.add_or_update("anna", Role.OPERATOR, GOOD)
    os.chmod(tmp_path / "users.json", 0o644)
    with pytest.raises(DataError, match="chmod"):
        users.authenticate("anna", GOOD)


def test_role_includes_lower_roles() -> None:
    assert Role.ENGINEER.covers(Role.OPERATOR)
    assert Role.OPERATOR.covers(Role.OPERATOR)
    assert not Role.OPERATOR.covers(Role.ENGINEER)


USER = User(Role.OPERATOR, "", "")


def test_session_ends_when_idle_old_or_logged_out() -> None:
    clock = ManualClock()
    sessions = LoginSessions(30 * 60 * NS_PER_S, clock)
    token, session = sessions.create("anna", USER)
    assert sessions.find(token) is session
    assert sessions.find("x" * 43) is None
    assert sessions.find(None) is None
    for _ in range(23):  # reading does not keep it alive; actions do
        clock.advance(29 * 60 * NS_PER_S)
        assert sessions.find(token) is session
        sessions.touch(session)
    clock.advance(60 * 60 * NS_PER_S)
    assert sessions.find(token) is None
    token, session = sessions.create("anna", USER)
    for _ in range(25):
        clock.advance(29 * 60 * NS_PER_S)
        if (found := sessions.find(token)) is not None:
            sessions.touch(found)
    assert sessions.find(token) is None, "twelve hours are enough"
    token, _session = sessions.create("anna", USER)
    sessions.remove(token)
    assert sessions.find(token) is None


# -- the fence ------------------------------------------------------------------------------


def fenced() -> ASGIApp:
    async def echo(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body())

    app = Starlette(
        routes=[Route("/x", echo, methods=["GET", "POST"])],
        exception_handlers={BodyTooLargeError: body_too_large_response},
    )
    return RequestGuard(app, ["localhost", "line-7"])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8480", 200),
        ("LINE-7", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8480", 200),
        ("10.1.2.3", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ],
)
def test_accepts_only_its_own_host_names(host: str, status: int) -> None:
    assert http_request(fenced(), "/x", headers={"host": host}).status == status


def test_every_response_has_the_security_headers() -> None:
    for got in (
        http_request(fenced(), "/x"),
        http_request(fenced(), "/none"),
        http_request(fenced(), "/x", method="PUT"),
    ):
        for name, value in RESPONSE_HEADERS.items():
            assert got.headers[name.lower()] == value
    policy = RESPONSE_HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_refuses_actions_from_another_origin(changed: dict[str, str], status: int) -> None:
    got = http_request(fenced(), "/x", method="POST", headers=OURS | changed, body=b"{}")
    assert got.status == status


def test_limits_bodies_with_and_without_a_length() -> None:
    assert http_request(fenced(), "/x", method="POST", headers=OURS, body=b" " * 4096).status == 200
    assert http_request(fenced(), "/x", method="POST", headers=OURS, body=b" " * 4097).status == 413
    pieces = [b" " * 1_000] * 5
    assert http_request(fenced(), "/x", method="POST", headers=OURS, body=pieces).status == 413
    for length in ("-1", "1e9", "9" * 40, "x"):
        headers = OURS | {"content-length": length}
        assert http_request(fenced(), "/x", method="POST", headers=headers).status == 413


def test_static_files_reference_no_other_host() -> None:
    """The HMI works offline: its files contain no foreign address."""
    from edgeinspect.services.hmi.read_routes import STATIC

    files = list(STATIC.iterdir())
    assert len(files) > 8
    for path in files:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        for word in ("http://", "https://", "//cdn", "@import", "innerHTML", "eval("):
            assert word not in text, f"{path.name}: {word}"
        assert "style=" not in text or path.suffix != ".html"


def test_users_file_is_readable_json(tmp_path: Path) -> None:
    UserFile(tmp_path / "u").add_or_update("anna", Role.OPERATOR, GOOD)
    told = json.loads((tmp_path / "u").read_text(encoding="utf-8"))
    assert told["schema"] == 1
    assert set(told["users"]["anna"]) == {"role", "salt", "hash"}
