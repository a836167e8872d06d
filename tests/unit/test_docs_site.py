"""The documentation site: it builds without a warning, holds every page, and needs no network."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import needs
from tests.browser import Browser

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does."""
    for package in ("mkdocs", "material", "mkdocstrings"):
        needs.library(package)
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    window = Browser(tmp_path_factory.mktemp("browser"))
    yield window
    window.close()


def test_every_page_is_in_the_site_and_in_its_nav(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    pages = [path.relative_to(DOCS) for path in DOCS.rglob("*.md")]
    assert len(pages) > 40
    for page in pages:
        name = page.with_suffix(".html")
        file = name.with_name("index.html") if page.name == "README.md" else name
        assert (site / file).is_file(), page
        assert f'href="{file}"' in home, f"{page} is not in the nav"


@pytest.mark.slow
def test_the_package_has_the_same_site(site: Path, tmp_path: Path) -> None:
    """Byte by byte, and readable by all."""
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'install');"
        f"import layout; layout.install_site(Path({str(tmp_path / 'html')!r}))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, umask=0o077)
    files = {path.relative_to(site) for path in site.rglob("*") if path.is_file()}
    packed = tmp_path / "html"
    assert {path.relative_to(packed) for path in packed.rglob("*") if path.is_file()} == files
    for name in files:
        assert (packed / name).read_bytes() == (site / name).read_bytes(), name
        assert (packed / name).stat().st_mode & 0o777 == 0o644, name


@pytest.mark.parametrize("light", [True, False], ids=["light", "dark"])
def test_a_screen_reader_and_a_keyboard_can_use_it(
    site: Path, browser: Browser, *, light: bool
) -> None:
    """What axe says of WCAG 2 A and AA, and of good practice."""
    browser.size(1366, 768, light=light)
    for page in ("index.html", "howto/keys.html", "reference/gateway.html"):
        browser.open(f"file://{site}/{page}")
        browser.wait(f"document.readyState === 'complete' && location.href.endsWith('{page}')")
        assert browser.axe() == []


@pytest.mark.parametrize("width", [768, 1280, 1366])
def test_no_page_is_wider_than_the_screen(site: Path, browser: Browser, width: int) -> None:
    """A wide table is moved inside its own frame."""
    browser.size(width, 768, light=True)
    for page in ("reference/configuration.html", "reference/plc.html", "howto/cameras.html"):
        browser.open(f"file://{site}/{page}")
        browser.wait(f"document.readyState === 'complete' && location.href.endsWith('{page}')")
        assert browser.run("document.documentElement.scrollWidth") <= width


class Task(NamedTuple):
    """What somebody new has to find out, in their own words."""

    reader: str
    query: str
    place: str
    """Page and anchor of the section, or of the table's row, that answers."""
    answer: str
    """Is part of that section."""


TASKS = (
    Task("technician", "line is red not inspected", "howto/hmi#the-state", "no heartbeat for"),
    Task("technician", "restart a line at night", "howto/install#at-night", "systemctl restart"),
    Task("technician", "exit code 78", "reference/cli#exit-codes", "the configuration has faults"),
    Task(
        "PLC engineer",
        "test the PLC cable unplugged",
        "howto/plc#test-every-fault-at-the-machine",
        "Unplug the PLC cable for 10 s",
    ),
    Task(
        "administrator",
        "nightly backup",
        "howto/backup#nightly-backup",
        "edgeinspect-backup@example.timer",
    ),
    Task(
        "administrator",
        "who may connect to the line",
        "howto/keys#restrict-who-may-connect-to-the-line",
        "edgeinspect keys allow",
    ),
    Task("PLC engineer", "ResultsAck", "reference/plc#ResultsAck", "40203"),
    Task(
        "vision engineer",
        "which key sets the budget",
        "reference/configuration#budget_ms",
        "Time from capture to published verdict",
    ),
    Task(
        "vision engineer",
        "roll back a model",
        "howto/models#live-shadow-rollback",
        "edgeinspect models rollback",
    ),
    Task("vision engineer", "train on my own images", "howto/training", "edgeinspect train gate"),
    Task(
        "administrator",
        "restore the ledger on a spare PC",
        "howto/backup#the-spare-pc",
        "edgeinspect ledger restore",
    ),
    Task("administrator", "HMI password of a user", "howto/hmi#logging-in", "--passwd"),
    Task(
        "administrator",
        "keys for a gateway on another PC",
        "howto/keys#restrict-who-may-connect-to-the-line",
        "edgeinspect keys allow",
    ),
    Task(
        "administrator",
        "install an extra on a line PC",
        "howto/install#extras-and-plugins",
        "/opt/edgeinspect/bin/pip install",
    ),
    Task(
        "administrator",
        "reload or restart after a change of the file",
        "howto/install#reload-or-restart-after-a-change",
        "systemctl restart edgeinspect-gateway@NAME",
    ),
    Task(
        "vision engineer",
        "change thresholds without a stop",
        "howto/install#reload-or-restart-after-a-change",
        "systemctl reload edgeinspect@NAME",
    ),
    Task(
        "PLC engineer",
        "trust an OPC UA client",
        "howto/plc#run-a-gateway",
        "--trust THUMBPRINT",
    ),
    Task(
        "administrator",
        "restrict ports with Ansible",
        "howto/fleet#what-the-role-does",
        "edgeinspect_line_ports",
    ),
    Task(
        "administrator",
        "gateway on another PC keys",
        "howto/keys#restrict-who-may-connect-to-the-line",
        "tcp://192.0.2.10:5590",
    ),
    Task("PLC engineer", "S7 gateway file", "howto/plc#run-a-gateway", "S7"),
    Task("technician", "the disk is full", "troubleshooting#the-disk-is-full", "archive"),
    Task("contributor", "run the tests", "repository/CONTRIBUTING", "make test runs every test"),
    Task("contributor", "how do I add a camera", "howto/extend#adding-a-camera", "def build("),
)


class Search:
    """The search of the site, as a reader uses it."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    def ask(self, words: str) -> list[list[tuple[str, str, str]]]:
        """Return the results by page: place in the site, title and text of each section."""
        self._browser.run(
            "(() => { const box = document.querySelector('.md-search__input');"
            " const panel = document.querySelector('#__search');"
            " panel.checked = true; panel.dispatchEvent(new Event('change')); box.focus();"
            " document.querySelector('.md-search-result__list').replaceChildren();"
            f" box.value = {json.dumps(words)};"
            " for (const kind of ['input', 'keyup']) box.dispatchEvent(new Event(kind)); })()"
        )
        self._browser.wait("!!document.querySelector('.md-search-result__item')")
        pages = self._browser.run(
            "[...document.querySelectorAll('.md-search-result__item')].map(page =>"
            " [...page.querySelectorAll('a')].map(link => [link.href,"
            " link.querySelector('h1, h2').innerText, link.querySelector('article').innerText]))"
        )
        assert isinstance(pages, list)
        return pages


def test_the_search_needs_no_server_and_no_network(site: Path, browser: Browser) -> None:
    """Opened from the folder; nothing but the folder is asked for."""
    browser.requests.clear()
    browser.call(
        "Network.emulateNetworkConditions",
        offline=True,
        latency=0,
        downloadThroughput=0,
        uploadThroughput=0,
    )
    for page in ("reference/configuration.html", "explanation/architecture.html", "index.html"):
        browser.open(f"file://{site}/{page}")
        browser.wait(f"document.readyState === 'complete' && location.href.endsWith('{page}')")
    assert Search(browser).ask("budget_ms")
    assert len(browser.requests) > 10
    strangers = {
        address
        for address in browser.requests
        if not address.startswith((f"file://{site}", "data:"))
    }
    assert not strangers
    assert not browser.failed
    assert not browser.complaints


def test_no_file_of_the_site_loads_from_elsewhere(site: Path) -> None:
    """Scripts, styles, images and fonts; a link that a reader may follow is none of them."""
    loads = re.compile(
        r"""<(?:script|img|iframe|source)[^>]*\ssrc="?(https?:[^"\s>]+)"""
        r"""|<link(?![^>]*rel="?canonical)[^>]*\shref="?(https?:[^"\s>]+)"""
        r"""|@import[^;]*(https?:[^;]+)|url\(["']?(https?:[^)]+)"""
    )
    files = [path for path in site.rglob("*") if path.suffix in {".html", ".css"}]
    assert len(files) > 60
    found = {
        (str(path.relative_to(site)), match[0])
        for path in files
        for match in loads.finditer(
            re.sub(r"<code.*?</code>", "", path.read_text("utf-8"), flags=re.S)
        )
    }
    assert not found


def section(site: Path, place: str) -> str:
    """Return the text of a section, of a table's row, or of a page without an anchor."""
    page, _, anchor = place.partition("#")
    text = (site / f"{page}.html").read_text(encoding="utf-8")
    if anchor:
        start = text.index(f'id="{anchor}"')
        is_row = text.rfind("<tr", 0, start) > text.rfind("<h", 0, start)
        end = re.compile(r"</tr>" if is_row else r"<h[12] id=|</article>").search(text, start)
        assert end is not None
        text = text[start : end.start()]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())


@pytest.mark.parametrize("task", TASKS, ids=[task.query for task in TASKS])
def test_a_newcomer_finds_the_answer(site: Path, browser: Browser, task: Task) -> None:
    """Among the first three results of the site's own search, in one page."""
    browser.open(f"file://{site}/index.html")
    browser.wait("document.readyState === 'complete' && location.href.endsWith('/index.html')")
    pages = [
        page[0][0].removeprefix(f"file://{site}/").partition(".html")[0]
        for page in Search(browser).ask(task.query)
    ]
    assert task.place.partition("#")[0] in pages[:3]
    assert task.answer in section(site, task.place)
