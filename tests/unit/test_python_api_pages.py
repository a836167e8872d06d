"""The pages of the Python API: every block runs; the package of the plugins page is installed."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeinspect import registry
from edgeinspect.storage.paths import default_addresses
from tests import graphs, needs
from tests.flow.frame_source import ASSESSMENTS, FakeLine
from tests.system.plant import wait_for

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "reference" / "api"
_BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[tuple[str, str, str]]:
    """Return language, title and text of each code block of a page."""
    return _BLOCK.findall((PAGES / page).read_text(encoding="utf-8"))


def execute(page: str) -> tuple[dict[str, Any], str]:
    """Execute the untitled Python blocks of a page in one namespace; return it and the output."""
    namespace: dict[str, Any] = {"__name__": "page"}
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        for language, title, text in blocks(page):
            if language == "python" and not title:
                exec(compile(text, page, "exec", dont_inherit=True), namespace)
    return namespace, output.getvalue()


@pytest.fixture
def fake_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLine]:
    """The line `press`, where `find_line` finds it."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(folder))
    verdicts, replay = default_addresses(folder, "press")
    line = FakeLine(folder, verdicts=verdicts, replay=replay)
    line.spool.announce()
    for assessment in ASSESSMENTS:
        line.close_frame(assessment)
    yield line
    line.close()


def test_every_page_has_blocks_that_run() -> None:
    pages = {path.name for path in PAGES.glob("*.md")}
    assert pages == {"README.md", "client.md", "offline.md", "plugins.md"}
    for page in pages:
        assert any(language == "python" and not title for language, title, _ in blocks(page))


def test_the_overview(fake_line: FakeLine) -> None:
    _names, output = execute("README.md")
    assert output.startswith("not-an-address | is not an address")
    assert output.rstrip().endswith("| 65")


def test_the_client(fake_line: FakeLine) -> None:
    names, output = execute("client.md")
    assert names["ejected"] == ["plate-2", "plate-4", "plate-5"]
    assert names["reject_everything"] is False
    assert output.splitlines() == [
        "the line is alive",
        "press inspecting 5",
        "True ",
        "False there is no camera 'side'",
        "5",
    ]
    assert names["keys"] is names["remote"].keys
    assert (names["remote"].is_spool_checked, names["tunnel"].is_spool_checked) == (False, False)
    (part,) = fake_line.triggers
    assert part.part_id == "plate-77"  # type: ignore[attr-defined]


def test_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("openvino", "onnxruntime"):
        needs.library(package)
    monkeypatch.chdir(ROOT)
    _names, output = execute("offline.md")
    decisions = dict(re.findall(r"^(\S+)\.png: (\w+)", output, flags=re.MULTILINE))
    assert decisions["clean"] == "PASS"
    assert decisions["pits"] == decisions["scratches"] == "REJECT"
    assert "strip-gate/" in output
    assert "float32 (1,)" in output


# -- plugins ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package of the page with pip, as its reader does; return the folder."""
    needs.tool("pip")
    needs.tool("setuptools")
    source, target = tmp_path_factory.mktemp("acme"), tmp_path_factory.mktemp("site")
    (source / "acme_edgeinspect").mkdir()
    (source / "acme_edgeinspect" / "__init__.py").touch()
    for _language, title, text in blocks("plugins.md"):
        if title:
            (source / title).write_text(text, encoding="utf-8")
    words = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", *words, "--target", target, source],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def acme(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package on this process's path."""
    monkeypatch.syspath_prepend(str(installed))
    importlib.invalidate_caches()
    registry._entry_points.cache_clear()
    yield installed
    registry._entry_points.cache_clear()
    for name in [each for each in sys.modules if each.startswith("acme_edgeinspect")]:
        del sys.modules[name]


def test_plugins_of_another_package(acme: Path) -> None:
    _names, output = execute("plugins.md")
    lines = output.splitlines()
    assert [line.split()[0] for line in lines] == ["camera", "backend", "plclink"]
    assert all("'acme'" in line and line.endswith("None") for line in lines)
    assert registry.plugin_distribution("camera", "acme") == "acme-edgeinspect"
    assert registry.plugin_distribution("camera", "folder") == "edgeinspect"


@pytest.mark.slow
def test_the_plugins_pass_mypy(acme: Path) -> None:
    needs.library("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *map(str, acme.glob("acme_edgeinspect/*.py"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"MYPYPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout


def test_a_line_and_a_gateway_run_with_plugins_of_another_package(
    installed: Path, tmp_path: Path
) -> None:
    shape = graphs.SHAPE
    graphs.install(tmp_path / "store", graphs.gate(), name="tiny-gate", kind="gate")
    folder = {"folder": str(tmp_path / "run")}
    gate = {"suspect_at": 0.9, "reject_at": 0.9, "degraded_reject_at": 0.9, "reject_code": 5}
    line = {
        "schema": 1,
        "line": "press",
        "budget_ms": 3000,
        "store": str(tmp_path / "store"),
        "cameras": {"top": {"type": "acme", "rate_hz": 50, "width_px": shape.width_px}},
        "engines": {"gate": {"type": "acme", "model": "tiny-gate"}},
        "optics": {"mm_per_px_x": 1, "mm_per_px_y": 1},
        "capture": {"wrong_shape": "letterbox"},
        "decide": {"gate": gate},
        "spool": folder,
    }
    results = tmp_path / "results.txt"
    gateway = {
        "schema": 1,
        "gateway": "file",
        "feed": {"line": "press", "spool": folder["folder"]},
        "link": {"type": "acme", "path": str(results)},
        "cursor": str(tmp_path / "file.journal"),
    }
    children = []
    path = os.pathsep.join([str(installed), str(ROOT)])
    with (tmp_path / "log").open("w") as log:
        for command, config in (("run", line), ("gateway", gateway)):
            file = tmp_path / f"{command}.yaml"
            file.write_text(yaml.safe_dump(config), encoding="utf-8")
            children.append(
                subprocess.Popen(
                    [sys.executable, "-m", "edgeinspect", command, str(file)],
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                    env=os.environ | {"PYTHONPATH": path},
                )
            )
    try:
        wait_for(
            lambda: results.exists() and len(results.read_text().splitlines()) >= 5,
            60,
            "five results at the PLC",
        )
    finally:
        for child in children:
            child.terminate()
        codes = [child.wait(20) for child in children]
    ids = [int(each.split()[0]) for each in results.read_text().splitlines()]
    assert ids == list(range(ids[0], ids[0] + len(ids))), (tmp_path / "log").read_text()
    assert {each.split()[1] for each in results.read_text().splitlines()} <= {"pass", "reject"}
    assert codes == [0, 0]


def test_a_type_of_two_packages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    points = [
        EntryPoint("acme", "one.camera", "edgeinspect.cameras"),
        EntryPoint("acme", "two.camera", "edgeinspect.cameras"),
        EntryPoint("folder", "evil.camera", "edgeinspect.cameras"),
        EntryPoint("../x", "evil.camera", "edgeinspect.cameras"),
    ]
    monkeypatch.setattr(
        importlib.import_module("importlib.metadata"), "entry_points", lambda group: points
    )
    registry._entry_points.cache_clear()
    try:
        names = registry.plugin_names("camera")
        assert names.count("folder") == 1
        assert "../x" not in names
        assert registry.load_plugin("camera", "folder").__name__ == "edgeinspect.cameras.folder"  # type: ignore[attr-defined]
        reason = registry.missing_reason("camera", "acme")
        assert reason is not None
        assert "several installed packages declare the camera 'acme': one.camera, two" in reason
    finally:
        registry._entry_points.cache_clear()
