"""docs/troubleshooting.md has every code, and the messages that it shows are those of the code."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgeinspect import errors
from edgeinspect.config import load_config
from edgeinspect.domain import AlarmCode, Grab, PlcError, Reason, alarm_code
from edgeinspect.errors import ConfigError, EdgeInspectError
from edgeinspect.pipeline.capture.image_checks import ImageChecker, ImageLimits
from edgeinspect.storage.model_store import ModelStore
from edgeinspect.storage.spool import Spool
from edgeinspect.system import log_events
from tests import graphs

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """Return a section of the page, with its subsections."""
    level = heading.partition(" ")[0]
    text = PAGE.partition(f"\n{heading}\n")[2]
    assert text, heading
    return re.split(rf"^#{{1,{len(level)}}} ", text, flags=re.MULTILINE)[0]


@pytest.fixture(scope="module")
def remedies() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("remedies", ROOT / "docs" / "remedies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("remedies", None)


# -- by code ------------------------------------------------------------------------------


def test_every_exit_code_and_error_class_is_there() -> None:
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    for code in codes:
        assert f"\n| {code} | " in section("## Exit codes")
    for name, cls in vars(errors).items():
        if isinstance(cls, type) and issubclass(cls, EdgeInspectError):
            assert f"| `{name}` | " in section("### Error classes")


def test_every_alarm_is_there_with_a_text_of_its_own(remedies: ModuleType) -> None:
    for code in AlarmCode:
        assert f"| `{code.value}` | {remedies.ALARM_TEXTS[code]} | " in section("## Alarms")
        assert alarm_code(remedies.ALARM_TEXTS[code]) is code


def test_every_no_verdict_reason_is_there() -> None:
    text = section("## Reasons of a NO_VERDICT")
    passed_or_rejected = {Reason.CLEAN, Reason.BELOW_THRESHOLDS, Reason.DEFECT, Reason.GATE}
    for reason in set(Reason) - passed_or_rejected:
        assert f"\n| `{reason.value}` | " in text


def test_every_plc_error_is_there() -> None:
    for error in PlcError:
        if error:
            assert f"\n| {error.value} | {error.name} | " in section("## PLC error codes")


def test_every_event_of_level_warning_or_error_is_there() -> None:
    """By a search of its own: each line that names an event in a call that is not `info`."""
    text = section("## Log events")
    found = set()
    for path in (ROOT / "edgeinspect").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                call = ast.unparse(node.func)
                if call.endswith((".warning", ".error", ".exception")) and node.args:
                    found.update(re.findall(r"log_events\.([A-Z_]+)", ast.unparse(node.args[0])))
    assert len(found) > 30
    for constant in found | {"LINE_FORGED", "PLC_NOTIFIED", "ARCHIVE_FAILED"}:
        assert f"\n| `{getattr(log_events, constant)}` | " in text


def test_no_row_is_empty() -> None:
    assert not re.search(r"^\|.*\|\s*\|$", PAGE, flags=re.MULTILINE)


# -- by symptom: the messages are real ----------------------------------------------------


def test_the_faults_of_a_file(tmp_path: Path) -> None:
    config = {
        "schema": 1,
        "line": "plant",
        "budgt_ms": 3000,
        "cameras": {"top": {"type": "folder", "path": "in"}},
        "engines": {"gate": {"type": "ov", "model": "tiny-gate"}},
        "optics": {"mm_per_px_x": 1, "mm_per_px_y": 1},
        "decide": {
            "gate": {
                "suspect_at": 0.9,
                "reject_at": 9,
                "degraded_reject_at": 0.9,
                "reject_code": 5,
            }
        },
    }
    path = tmp_path / "bad.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).partition("bad.yaml")[2] in PAGE


def test_a_changed_or_writable_model(tmp_path: Path) -> None:
    graphs.install(tmp_path, graphs.gate(), name="tiny-gate", kind="gate")
    text = section("### A model is refused")
    folder = tmp_path / "tiny-gate" / "1"
    with pytest.raises(EdgeInspectError) as caught:
        ModelStore(tmp_path).resolve("tiny-gaet")
    assert "there is no model tiny-gaet. The store has: " in str(caught.value)
    assert "`there is no model tiny-gaet. The store has: …`" in text
    folder.chmod(0o757)
    with pytest.raises(EdgeInspectError) as caught:
        ModelStore(tmp_path).resolve("tiny-gate")
    assert "can be written by all users" in str(caught.value)
    assert "`can be written by all users`" in text
    folder.chmod(0o755)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x\n")
    with pytest.raises(EdgeInspectError) as caught:
        ModelStore(tmp_path).resolve("tiny-gate")
    words = re.sub(r"\d+", "N", str(caught.value))
    assert "has N bytes; its manifest requires N" in words
    assert re.search(r"`has \d+ bytes; its manifest requires \d+`", text)


def test_a_black_image() -> None:
    pixels = np.zeros((32, 48, 1), np.uint8)
    limits = ImageLimits(dark_level=3, bright_level=252, frozen_frames=0)
    problem = ImageChecker(limits).problem(pixels, Grab(pixels, 1, 0))
    assert f"`{problem}`" in section("### Images are black, saturated or frozen")


def test_a_line_that_runs_already(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "t.spool", line="t", slots=8, utc_ns=1)
    with pytest.raises(EdgeInspectError) as caught:
        Spool(tmp_path / "t.spool", line="t", slots=8, utc_ns=1)
    spool.release()
    assert "is held by another process: this line runs already" in str(caught.value)
    assert "`is held by another process: this line runs already`" in PAGE


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("services/hmi/static/app.js", "No connection to the HMI server. The line may be running"),
        ("services/hmi/action_routes.py", "too many wrong passwords; try again in "),
        ("services/hmi/http/request_guard.py", "unknown host name"),
        ("storage/model_store/versions.py", " was changed after it was approved"),
        ("cli/check.py", "cannot be met on this machine"),
        ("plclinks/modbus.py", "no request"),
    ],
)
def test_a_message_that_needs_a_running_service_is_in_the_code(file: str, words: str) -> None:
    assert words in PAGE
    text = (ROOT / "edgeinspect" / file).read_text(encoding="utf-8")
    assert words in re.sub(r'"\s*\n\s*f?"', "", text)
