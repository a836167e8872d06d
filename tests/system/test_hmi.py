"""The HMI in a real browser, on a running line."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import needs

needs.library("openvino")
needs.library("starlette")

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from edgeinspect.storage.ledger.query import read_events
from edgeinspect.storage.ledger.verification import open_ledger
from tests.browser import Browser
from tests.system.hmi_harness import HmiHarness
from tests.system.plant import wait_for

SHOTS = Path(os.environ.get("EDGEINSPECT_ARTEFACTS", "build/artefacts")) / "hmi"
PANEL, PHONE = (1280, 800), (390, 844)
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HmiHarness]:
    started = HmiHarness(tmp_path_factory.mktemp("rig"))
    try:
        yield started
    finally:
        started.close()
        print(started.logs())


@pytest.fixture(scope="module")
def browser(harness: HmiHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    started = Browser(tmp_path_factory.mktemp("browser"))
    try:
        started.size(*PANEL)
        started.open(harness.address)
        started.wait("document.readyState === 'complete'")
        yield started
    finally:
        started.close()


def state(browser: Browser) -> str:
    return str(browser.run("document.getElementById('band').className")).removeprefix("band ")


def go(browser: Browser, view: str, ready: str) -> None:
    browser.run(f"location.hash = '#/{view}'")
    browser.wait(ready)


def both_sizes(browser: Browser, name: str, *, light: bool = False) -> None:
    """Take a screenshot at each size and check it."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    for size, device in ((PANEL, "panel"), (PHONE, "phone")):
        browser.size(*size, phone=device == "phone", light=light)
        browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        browser.shot(SHOTS / f"{name}-{device}.png")
        wide = browser.run("document.documentElement.scrollWidth")
        assert wide <= size[0], f"{name} runs over the edge of a {device}: {wide} px"
        assert browser.axe() == [], f"{name} on a {device}"
    browser.size(*PANEL)


def test_running_line(harness: HmiHarness, browser: Browser) -> None:
    browser.wait("document.getElementById('band').className === 'band inspecting'")
    browser.wait("document.querySelectorAll('.strip img').length >= 3", 40)
    browser.wait("!document.querySelector('.frame-picture').hidden")
    browser.wait("!document.querySelector('.frame-mask').hidden", 30)
    assert browser.run("document.getElementById('band-word').textContent") == "INSPECTING"
    law = browser.run("document.querySelector('.balance').textContent")
    assert "=" in law
    assert "✓" in law
    # All of it on one screen: a wall panel is not scrolled.
    assert browser.run("document.documentElement.scrollHeight") <= PANEL[1]
    both_sizes(browser, "running")
    both_sizes(browser, "running-light", light=True)


def test_reject_detail(harness: HmiHarness, browser: Browser) -> None:
    go(browser, "line", "!!document.querySelector('.strip a img')")
    href = browser.run("document.querySelector('.strip a:has(img)').getAttribute('href')")
    go(browser, href.removeprefix("#/"), "!!document.querySelector('.facts.long')")
    browser.wait("!document.querySelector('.frame-picture')?.hidden")
    shown_text = browser.run("document.getElementById('main').innerText")
    for wanted in (
        "Reject",
        "Score",
        "Decided after",
        "strip-gate/",
        "strip-segmenter/",
        "calibration",
        "Configuration",
    ):
        assert wanted in shown_text
    both_sizes(browser, "reject")


def test_search_shift_and_engines(harness: HmiHarness, browser: Browser) -> None:
    go(browser, "search", "document.querySelectorAll('tbody tr').length > 3")
    both_sizes(browser, "search")
    browser.run("document.querySelector('[name=decision]').value = 'REJECT'")
    browser.click(".search button")
    browser.wait(
        "[...document.querySelectorAll('tbody .chip')].every(c => c.textContent === 'Reject')"
        " && document.querySelectorAll('tbody tr').length > 0"
    )
    go(browser, "trend", "document.querySelectorAll('.trend rect').length > 0")
    both_sizes(browser, "shift")
    go(browser, "engines", "document.querySelectorAll('.versions li').length >= 4")
    both_sizes(browser, "engines")


def test_keyboard_login_and_missed_challenge_part_raises_an_alarm(
    harness: HmiHarness, browser: Browser
) -> None:
    """Log in by keyboard, send a clean image as a challenge part, acknowledge the alarm."""
    go(browser, "alarms", "!!document.querySelector('.tools')")
    browser.run("document.getElementById('who').focus()")
    browser.key("Enter", 13)
    browser.wait("document.activeElement?.name === 'name'")
    browser.call("Input.insertText", text="anna")
    browser.key("Tab", 9)
    browser.call("Input.insertText", text="four unlike words here")
    browser.key("Enter", 13)
    browser.wait("document.getElementById('who').textContent.startsWith('anna')")

    browser.wait("!!document.querySelector('.tools button')")
    browser.click(".tools button")
    assert browser.run("document.querySelector('[name=picture]').value") == "clean.png"
    browser.click("dialog .primary")
    browser.wait("document.getElementById('band').className.startsWith('band alarm')")
    go(browser, "line", "!!document.querySelector('.alarm-card.standing .remedy')")
    shown_text = browser.run("document.querySelector('.alarm-card').innerText")
    assert "clean.png was not rejected" in shown_text
    assert "Stop the line" in shown_text
    assert browser.run("document.documentElement.scrollHeight") <= PANEL[1]
    both_sizes(browser, "alarm")

    browser.click(".alarm-card .primary")
    browser.wait("document.querySelector('.alarm-card').innerText.includes('Acknowledged by anna')")
    acted = [("anna", "acknowledge"), ("anna", "challenge")]
    until = time.monotonic() + 10
    while True:  # the ledger is behind the wire by a batch
        with closing(open_ledger(harness.ledger / "strip.ledger.sqlite")) as base:
            found = [event for event in read_events(base, 50) if event.kind == "operator.acted"]
        if len(found) >= len(acted) or time.monotonic() > until:
            break
        time.sleep(0.05)
    assert [(e.actor, a) for e, (_, a) in zip(found, acted, strict=True) if a in e.detail] == acted
    assert browser.complaints == []


Families = dict[str, list[Sample]]
STAGES = {"queue", "gate", "segmenter", "regions"}


def read_metrics(harness: HmiHarness) -> Families:
    """Return the metric families of a scrape."""
    answer = harness.request("/metrics")
    assert answer.status == 200
    told = text_string_to_metric_families(answer.body.decode())
    return {family.name: family.samples for family in told}


def stages(families: Families) -> set[str]:
    return {sample.labels["stage"] for sample in families.get("edgeinspect_stage_seconds", ())}


def is_complete(families: Families) -> bool:
    """The line is inspected from its first heartbeat on: its counters come with its first
    status, a stage with the first part that went through it, a brightness with a picture.
    """
    captured = families.get("edgeinspect_frames_captured", ())
    brightness = families.get("edgeinspect_picture_brightness", ())
    return any(s.value for s in captured) and bool(brightness) and stages(families) >= STAGES


def test_prometheus_scrape(harness: HmiHarness) -> None:
    wait_for(lambda: is_complete(read_metrics(harness)), 30, "a status, a picture and every stage")
    families = read_metrics(harness)
    assert families["edgeinspect_inspected"][0].value == 1
    captured = families["edgeinspect_frames_captured"][0].value
    decided = sum(sample.value for sample in families["edgeinspect_verdicts"])
    waiting = families["edgeinspect_open_frames"][0].value
    assert captured == decided + waiting > 0
    assert families["edgeinspect_picture_brightness"][0].value > 10
    assert stages(families) == STAGES


@pytest.mark.parametrize(
    "path",
    [
        "/static/../config.py",
        "/static/..%2fconfig.py",
        "/static/%2e%2e/%2e%2e/page/users.py",
        "/static//etc/passwd",
        "/../../../../etc/passwd",
        "/picture/../../etc/passwd",
        "/picture/1.jpg/../../../etc/passwd",
        "/api/verdict/../../../etc/passwd",
    ],
)
def test_no_path_traversal(harness: HmiHarness, path: str) -> None:
    answer = harness.request(path)
    assert answer.status in (400, 404)
    assert b"root:" not in answer.body
    assert b"import" not in answer.body


def test_actions_need_login_token_role_and_origin(harness: HmiHarness) -> None:
    wanted = {"picture": "scratches.png"}
    assert harness.request("/api/challenge", wanted).status == 401
    assert harness.request("/api/login", {"name": "anna", "password": "wrong one"}).status == 401
    anna = harness.login("anna")
    cookie = {"Cookie": anna["Cookie"]}
    assert harness.request("/api/challenge", wanted, cookie).status == 403
    assert (
        harness.request("/api/challenge", wanted, {**cookie, "X-CSRF-Token": "x" * 43}).status
        == 403
    )
    foreign = {**anna, "Origin": "http://evil.example"}
    assert harness.request("/api/challenge", wanted, foreign).status == 403
    assert (
        harness.request("/api/challenge", wanted, {**anna, "Sec-Fetch-Site": "cross-site"}).status
        == 403
    )
    form = {**anna, "Content-Type": "application/x-www-form-urlencoded"}
    assert harness.request("/api/challenge", b"picture=scratches.png", form).status == 415
    assert harness.request("/api/challenge", {"picture": "../strip.yaml"}, anna).status == 404
    promotion = {"model": "strip-gate/1", "why": "because"}
    assert harness.request("/api/promote", promotion, anna).status == 403
    assert harness.request("/api/challenge", wanted, anna).status == 200
    assert harness.request("/api/logout", {}, anna).status == 200
    assert harness.request("/api/challenge", wanted, anna).status == 401


def test_overload_is_refused(harness: HmiHarness) -> None:
    assert harness.request("/api/login", b"{" + b" " * 5_000).status == 413
    chunked = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    body = b"".join(b"400\r\n" + b" " * 1024 + b"\r\n" for _ in range(8)) + b"0\r\n\r\n"
    assert harness.request("/api/login", body, chunked).status == 413
    assert harness.request("/api/search?part=" + "a" * 100).status == 400
    assert harness.request("/api/state", headers={"Host": "evil.example"}).status == 421
    assert harness.request("/", method="PUT").status == 405


def flips(browser: Browser, act: float) -> float:
    """Return the seconds from an instant until the browser showed NOT INSPECTED."""
    browser.wait("window.flippedAt > 0", 10)
    return float(browser.run("window.flippedAt")) / 1000 - act


WATCH = """
window.flippedAt = 0;
window.watcher?.disconnect();
window.watcher = new MutationObserver(() => {
  const dead = document.getElementById('band').className.includes('not_inspected');
  if (dead && !window.flippedAt) window.flippedAt = Date.now();
});
window.watcher.observe(document.getElementById('band'), {attributes: true});
"""


def test_dead_daemon_or_hmi_shows_not_inspected_within_a_second(
    harness: HmiHarness, browser: Browser
) -> None:
    """Stop each process three times; the fastest counts, since a busy PC may delay the others."""
    go(browser, "line", "!document.getElementById('band').className.includes('not_inspected')")
    took = {"daemon": [], "page": []}
    for _ in range(3):
        for name, child in (("daemon", harness.daemon_process), ("page", harness.hmi_process)):
            browser.run(WATCH)
            stopped_at = time.time()
            child.send_signal(signal.SIGSTOP)
            took[name].append(flips(browser, stopped_at))
            child.send_signal(signal.SIGCONT)
            browser.wait("!document.getElementById('band').className.includes('not_inspected')", 20)
    print({name: [f"{each:.2f} s" for each in values] for name, values in took.items()})
    assert min(took["daemon"]) <= 1.0
    assert min(took["page"]) <= 1.0


def test_recovers_after_kill(harness: HmiHarness, browser: Browser) -> None:
    go(browser, "line", "!document.getElementById('band').className.includes('not_inspected')")
    browser.run(WATCH)
    harness.daemon_process.kill()
    flips(browser, time.time())
    assert harness.request("/api/state").status == 503
    browser.wait("document.querySelector('.alarm-card.standing') !== null")
    word, side = (
        browser.run(f"document.getElementById('{name}').getBoundingClientRect().{edge}")
        for name, edge in (("band-word", "right"), ("band-side", "left"))
    )
    assert word <= side, "the state is written over"
    both_sizes(browser, "not-inspected")
    anna = harness.login("anna")
    refused = harness.request("/api/acknowledge", {"alarm": "the daemon is silent"}, anna)
    assert refused.status == 503, "what cannot be recorded is not done"
    harness.restart_daemon()
    browser.wait("!document.getElementById('band').className.includes('not_inspected')", 60)
    shift = browser.wait("document.querySelector('.balance.holds')?.textContent", 20)
    assert "=" in shift


def test_exits_with_zero_on_sigterm(harness: HmiHarness, browser: Browser) -> None:
    """With a connected browser: its stream does not delay the exit."""
    harness.hmi_process.send_signal(signal.SIGTERM)
    assert harness.hmi_process.wait(15) == 0
    assert '"hmi.stopped"' in (harness.folder / "hmi.log").read_text(encoding="utf-8")
