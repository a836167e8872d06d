"""The HMI on small panels with the longest texts: texts do not overlap."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import needs

needs.library("starlette")

from edgeinspect.domain.verdict import Decision
from tests.browser import Browser
from tests.system.hmi_scene import PASSWORD, USER, HmiScene

SHOTS = Path(os.environ.get("EDGEINSPECT_ARTEFACTS", "build/artefacts")) / "hmi"
SIZES = [(1024, 600), (800, 480), (768, 1024), (1280, 800), (1920, 1080), (390, 844)]
LONG = "new engines were refused: strip-segmenter/12: the graph gives 5 classes, the line names 4 "
ALARMS = {"words": (LONG * 6)[:500], "letters": "x" * 500, "wide": "W" * 40, "none": ""}
pytestmark = pytest.mark.timeout(180)

BOXES = """
(() => {
  const found = [];
  for (const part of document.querySelectorAll('.bar, .band')) {
    const walker = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (!node.data.trim() || !node.parentElement.checkVisibility()) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      const clip = node.parentElement.getBoundingClientRect();
      for (const box of range.getClientRects()) {
        const left = Math.max(box.left, clip.left), right = Math.min(box.right, clip.right);
        const top = Math.max(box.top, clip.top), bottom = Math.min(box.bottom, clip.bottom);
        if (right - left > 1 && bottom - top > 1)
          found.push([node.data.slice(0, 40), left, top, right, bottom]);
      }
    }
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HmiScene]:
    scene = HmiScene(tmp_path_factory.mktemp("stage"))
    try:
        for seq in range(1, 30):
            decision = Decision.REJECT if seq % 3 == 0 else Decision.PASS
            scene.add_verdict(seq, decision, part_id="P" * 64, label="<b>x</b>/" * 12 + "a.png")
        yield scene
    finally:
        scene.close()


@pytest.fixture(scope="module")
def browser(stage: HmiScene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    scene = Browser(tmp_path_factory.mktemp("browser"))
    try:
        scene.open(stage.address)
        scene.wait("document.getElementById('who')?.hidden === false")
        body = f"JSON.stringify({{name: '{USER}', password: '{PASSWORD}'}})"
        headers = "{'Content-Type': 'application/json'}"
        scene.run(f"fetch('api/login', {{method: 'POST', headers: {headers}, body: {body}}})")
        scene.open(stage.address)
        scene.wait(f"document.getElementById('who')?.textContent.startsWith('{USER}')")
        yield scene
    finally:
        scene.close()


def settle(browser: Browser) -> None:
    browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def overprinted(boxes: list[list[Any]]) -> list[tuple[str, str]]:
    """Return pairs of texts that overlap."""
    overlaps = []
    for index, (one, left, top, right, bottom) in enumerate(boxes):
        for other, left2, top2, right2, bottom2 in boxes[index + 1 :]:
            wide = min(right, right2) - max(left, left2)
            high = min(bottom, bottom2) - max(top, top2)
            if wide > 2 and high > 4 and one != other:  # lines of one text touch
                overlaps.append((one, other))
    return overlaps


@pytest.mark.parametrize("alarm", ALARMS)
@pytest.mark.parametrize("state", ["inspecting", "not_inspected", "silent"])
def test_banner_texts_do_not_overlap(
    stage: HmiScene, browser: Browser, state: str, alarm: str
) -> None:
    stage.alarm, stage.is_inspecting = ALARMS[alarm], state != "not_inspected"
    stage.is_sending = state != "silent"
    shown = "alarm" if alarm != "none" and state == "inspecting" else state
    shown = "not_inspected" if state == "silent" else shown
    browser.wait(f"document.getElementById('band').className.startsWith('band {shown}')")
    if ALARMS[alarm] and state != "silent":
        begin = ALARMS[alarm][1:20]
        browser.wait(f"document.getElementById('band-why').textContent.includes('{begin}')")
    SHOTS.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES:
        browser.size(width, height, phone=width < 500)
        settle(browser)
        boxes = browser.run(BOXES)
        browser.shot(SHOTS / f"banner-{state}-{alarm}-{width}.png")
        where = f"{state}, {alarm}, {width} x {height}"
        assert len(boxes) >= 8, where
        assert overprinted(boxes) == [], where
        assert all(box[1] >= 0 and box[3] <= width for box in boxes), f"{where}: {boxes}"
        assert browser.run("document.documentElement.scrollWidth") <= width, where
        band = browser.run("document.getElementById('band').getBoundingClientRect().height")
        assert band <= height / 3, f"{where}: the banner takes {band} px"
        word = browser.run("getComputedStyle(document.getElementById('band-word')).fontSize")
        assert float(word.removesuffix("px")) >= 30, where
    stage.is_sending = True


@pytest.mark.parametrize("alarm", ["words", "letters"])
def test_remedy_of_a_long_alarm_is_visible(stage: HmiScene, browser: Browser, alarm: str) -> None:
    stage.alarm, stage.is_inspecting, stage.is_sending = ALARMS[alarm], True, True
    browser.run("location.hash = '#/line'")
    text = "document.querySelector('.alarm-card.standing .alarm-text')"
    browser.wait(f"{text}?.textContent.includes('{ALARMS[alarm][1:20]}')")
    for width, height in SIZES:
        browser.size(width, height, phone=width < 500)
        settle(browser)
        browser.shot(SHOTS / f"long-alarm-{alarm}-{width}.png")
        box = "document.querySelector('.alarm-card.standing .remedy').getBoundingClientRect()"
        where = f"{alarm}, {width} x {height}"
        assert browser.run(f"{box}.height") > 10, where
        assert browser.run(f"{box}.bottom") <= height, where
        assert browser.run(f"{text}.scrollWidth <= {text}.clientWidth + 1"), where


def test_line_texts_are_never_markup(stage: HmiScene, browser: Browser) -> None:
    """Markup in a part id, a label, a class or an alarm is shown as text."""
    evil = "<img src=x onerror=window.owned=1>"
    stage.alarm, stage.is_inspecting = f"{evil}</script><script>window.owned=2</script>", True
    stage.add_verdict(100, Decision.REJECT, part_id=evil, label=f"javascript:{evil}")
    for view in ("line", "verdict/100", "alarms", "trend", "search", "engines"):
        browser.run(f"location.hash = '#/{view}'")
        settle(browser)
        browser.wait("document.getElementById('main').children.length > 0")
    browser.run("location.hash = '#/verdict/100'")
    browser.wait("document.getElementById('main').innerText.includes('onerror')")
    words = browser.run("document.getElementById('main').innerText")
    assert evil in words
    assert f"javascript:{evil}" in words, "the picture of a folder run is named"
    assert browser.run("window.owned === undefined")
    assert browser.run("document.querySelectorAll('#main img[src=x]').length") == 0


def test_times_show_their_zone(stage: HmiScene, browser: Browser) -> None:
    zone = browser.run("""(() => { const m = -new Date().getTimezoneOffset();
        const two = (n) => String(n).padStart(2, '0');
        return `${m < 0 ? '-' : '+'}${two(Math.floor(Math.abs(m) / 60))}:${two(Math.abs(m) % 60)}`
        })()""")
    assert f"UTC{zone}" in browser.run("document.getElementById('clock').textContent")
    browser.run("location.hash = '#/verdict/100'")
    browser.wait("!!document.querySelector('.facts.long')")
    captured = browser.run("document.querySelector('.facts.long dd').textContent")
    assert f"{zone}, camera top" in captured
