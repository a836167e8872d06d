"""Login throttling: guessing is delayed, other users are not locked out."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.services.hmi.config import load_hmi_config
from edgeinspect.services.hmi.login import device_cookie
from edgeinspect.services.hmi.login.throttle import LoginAttempt, LoginThrottle
from edgeinspect.services.hmi.service import HmiService
from edgeinspect.system.user_file import Role, User, UserFile
from tests.unit.services.hmi.builders import (
    ReceivedResponse,
    http_request,
    http_request_async,
    write_hmi_config,
)

GOOD = "four unlike words"
POST = {"content-type": "application/json"}
HERE, THERE = "192.0.2.1", "198.51.100.7"


def test_five_failures_delay_further_attempts_and_decay() -> None:
    clock = ManualClock()
    throttle, anna = LoginThrottle(clock), LoginAttempt(HERE, "anna")
    for _ in range(4):
        throttle.record_failure(anna)
    assert throttle.wait_s(anna) == 0
    throttle.record_failure(anna)
    assert throttle.wait_s(anna) == 30
    assert throttle.wait_s(LoginAttempt(THERE, "anna")) == 0, "from elsewhere she can still log in"
    clock.advance(31 * NS_PER_S)
    assert throttle.wait_s(anna) == 0
    throttle.record_failure(anna)
    assert throttle.wait_s(anna) == 60
    for _ in range(30):
        throttle.record_failure(anna)
    assert throttle.wait_s(anna) == 900
    clock.advance(6 * 3600 * NS_PER_S)
    for _ in range(4):
        throttle.record_failure(anna)
    assert throttle.wait_s(anna) == 0, "what was six hours ago counts no more"


def test_successful_logins_are_never_throttled() -> None:
    throttle = LoginThrottle(ManualClock())
    for index in range(1_000):
        guess = LoginAttempt(HERE, f"user{index % 3}")
        assert throttle.wait_s(guess) == 0
        throttle.record_success(guess)


def test_guessing_from_one_address_does_not_lock_out_others() -> None:
    clock = ManualClock()
    throttle = LoginThrottle(clock)
    for index in range(2_000):
        guess = LoginAttempt(HERE, ("anna", "otto", f"x{index}")[index % 3])
        if not throttle.wait_s(guess):
            throttle.record_failure(guess)
        clock.advance(NS_PER_S)
    assert throttle.wait_s(LoginAttempt(THERE, "anna")) == 0
    assert throttle.wait_s(LoginAttempt(THERE, "otto")) == 0


def test_distributed_guessing_is_throttled_except_device_cookie() -> None:
    """A name tried from a thousand addresses: one attempt in ten seconds, but no delay here."""
    clock = ManualClock()
    throttle = LoginThrottle(clock)
    accepted = 0
    for index in range(1_000):
        guess = LoginAttempt(f"203.0.{index // 250}.{index % 250}", "anna")
        if not throttle.wait_s(guess):
            throttle.record_failure(guess)
            accepted += 1
        clock.advance(NS_PER_S)
    assert accepted <= 20 + 1_000 // 10 + 1
    assert throttle.wait_s(LoginAttempt(THERE, "anna")) <= 10, "nobody is kept out for long"
    assert throttle.wait_s(LoginAttempt(THERE, "anna", "her-panel")) == 0


def test_ipv6_network_is_one_client() -> None:
    throttle = LoginThrottle(ManualClock())
    for index in range(5):
        throttle.record_failure(LoginAttempt(f"2001:db8::{index:x}", "anna"))
    assert throttle.wait_s(LoginAttempt("2001:db8::ffff", "anna")) > 0
    assert throttle.wait_s(LoginAttempt("2001:db8:0:1::1", "anna")) == 0


def test_throttle_memory_is_bounded() -> None:
    throttle = LoginThrottle(ManualClock())
    for index in range(5_000):
        throttle.record_failure(LoginAttempt(f"10.0.{index // 250}.{index % 250}", f"x{index}", ""))
        throttle.record_failure(LoginAttempt("", "", f"device-{index}"))
    for table in (throttle._by_pair, throttle._by_address, throttle._by_name, throttle._by_device):
        assert len(table) <= 2_000


def test_device_cookie_is_bound_to_the_password_hash() -> None:
    anna, otto = User(Role.OPERATOR, "", "hash-a"), User(Role.OPERATOR, "", "hash-o")
    cookies = {
        device_cookie.device_cookie_name("anna"): device_cookie.make_device_cookie("anna", anna)
    }
    device = device_cookie.known_device_id(cookies, "anna", anna)
    assert device
    assert (
        device_cookie.known_device_id(cookies, "anna", User(Role.OPERATOR, "", "another password"))
        == ""
    )
    assert (
        device_cookie.known_device_id(
            {device_cookie.device_cookie_name("otto"): cookies["edgeinspect_device_anna"]},
            "otto",
            otto,
        )
        == ""
    )
    assert device_cookie.known_device_id(cookies, "anna", None) == ""
    for forged in ("", ".", "x" * 22, f"{device}.", f"{device}.\u00e9", "." * 5_000):
        assert (
            device_cookie.known_device_id(
                {device_cookie.device_cookie_name("anna"): forged}, "anna", anna
            )
            == ""
        )


# -- login routes -------------------------------------------------------------------------------


@pytest.fixture
def hmi_service(tmp_path: Path) -> HmiService:
    users = UserFile(tmp_path / "users.json")
    users.add_or_update("anna", Role.OPERATOR, GOOD)
    users.add_or_update("otto", Role.ENGINEER, GOOD)
    return HmiService(
        load_hmi_config(write_hmi_config(tmp_path, users=str(tmp_path / "users.json"))),
        ManualClock(),
    )


def login(
    hmi_service: HmiService, password: str = GOOD, name: str = "anna", cookie: str = ""
) -> ReceivedResponse:
    body = b'{"name":"%s","password":"%s"}' % (name.encode(), password.encode())
    headers = {**POST, **({"cookie": cookie} if cookie else {})}
    return http_request(hmi_service.app, "/api/login", method="POST", headers=headers, body=body)


@pytest.mark.slow
def test_thirty_successful_logins_from_one_address(hmi_service: HmiService) -> None:
    assert [login(hmi_service, name=("anna", "otto")[i % 2]).status for i in range(30)] == [
        200
    ] * 30


def test_known_browser_logs_in_despite_failures_at_its_address(
    hmi_service: HmiService,
) -> None:
    device = next(each for each in login(hmi_service).cookies if "device" in each)
    assert "Path=/api/login" in device
    assert "HttpOnly" in device
    assert [login(hmi_service, "wrong").status for _ in range(6)] == [401] * 5 + [429]
    assert login(hmi_service).status == 429, "a strange browser waits, with the right password too"
    assert login(hmi_service, cookie=device.partition(";")[0]).status == 200
    own = [login(hmi_service, "wrong", cookie=device.partition(";")[0]).status for _ in range(6)]
    assert own == [401] * 5 + [429], "a known browser is no place to guess from either"


@pytest.mark.slow
def test_fifty_concurrent_successful_logins(hmi_service: HmiService) -> None:
    """They wait for hashing; none is refused because of wrong passwords."""
    device_id: list[int] = []

    async def one(name: str) -> None:
        body = b'{"name":"%s","password":"four unlike words"}' % name.encode()
        response = await http_request_async(
            hmi_service.app, "/api/login", method="POST", headers=POST, body=body
        )
        device_id.append(response.status)

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            for index in range(50):
                tasks.start_soon(one, ("anna", "otto")[index % 2])

    anyio.run(run)
    assert device_id == [200] * 50


def test_concurrent_failures_are_throttled(hmi_service: HmiService) -> None:
    device_id: list[int] = []

    async def one() -> None:
        body = b'{"name":"anna","password":"wrong"}'
        response = await http_request_async(
            hmi_service.app, "/api/login", method="POST", headers=POST, body=body
        )
        device_id.append(response.status)

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(one)

    anyio.run(run)
    assert 5 <= device_id.count(401) <= 6, "two are judged at once"
    assert device_id.count(429) == 50 - device_id.count(401)
