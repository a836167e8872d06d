"""`--json`: every command that prints figures has it, and prints what its type says."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeinspect.cli._json_output import JsonOption, encode_json, json_options
from edgeinspect.cli.main import cli, main
from edgeinspect.domain import Decision
from edgeinspect.system import log
from tests import graphs, needs
from tests.cli_tree import leaf_commands
from tests.ledger_fixture import LedgerFixture

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = dict(json_options(cli))
WITHOUT = {
    "archive run": "a service: --log-format json",
    "challenge": "says that it was sent; `watch` shows the verdict",
    "data example": "names the folder that it wrote",
    "gateway": "a service: --log-format json",
    "help": "text",
    "hmi": "a service: --log-format json",
    "keys allow": "names the file that it wrote",
    "keys new": "names the files that it wrote",
    "models promote": "says what is live now; `models list` shows it",
    "models rollback": "says what is live now; `models list` shows it",
}
"""Commands that print no table and no figures."""
Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def _close_log() -> Iterator[None]:
    yield
    log.close()


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command with --json; check code and type; return the document or the lines."""

    def call(command: str, *arguments: object, code: int = 0) -> Any:
        capfd.readouterr()
        assert main([*command.split(), *map(str, arguments), "--json"]) == code
        out = capfd.readouterr().out
        option = OPTIONS[command]
        if not option.lines:
            return parse(option, out)
        return [parse(option, line) for line in out.splitlines()]

    return call


def parse(option: JsonOption, text: str) -> Any:
    """Check that a text is one document of one of the option's types."""
    document = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} in JSON"))
    for kind in option.load_types():
        try:
            msgspec.json.decode(text, type=kind)
        except msgspec.ValidationError:
            continue
        return document
    pytest.fail(f"is none of {option.documents}: {text[:200]}")


def test_every_command_that_prints_figures_has_json() -> None:
    assert {path for path in leaf_commands() if path not in OPTIONS} == WITHOUT.keys()


@pytest.mark.parametrize("command", sorted(OPTIONS))
def test_keys_are_words_with_units(command: str) -> None:
    for kind in OPTIONS[command].load_types():
        schema = msgspec.json.schema(kind)
        for definition in schema["$defs"].values():
            for key in definition.get("properties", {}):
                assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", key), key
                assert not re.search(r"(time|latency|duration|size|bytes)$", key.lower()) or (
                    key.endswith("_bytes")
                ), f"{key} names no unit"


def test_what_json_cannot_say_is_null_or_escaped() -> None:
    document = {"a": math.nan, "b": [math.inf], "bl\udce4": "\udcff.png", "path": Path("x")}
    assert json.loads(encode_json(document)) == {
        "a": None,
        "b": [None],
        "bl\\udce4": "\\udcff.png",
        "path": "x",
    }


def test_version_names_what_is_installed(run: Run) -> None:
    document = run("version")
    assert document["schema"] == "edgeinspect.version/1"
    assert document["backends"]["ort"]["available"] in (True, False)
    assert not [
        name
        for section in ("backends", "cameras", "plclinks")
        for name, plugin in document[section].items()
        if "unknown" in plugin["packages"].values()
    ]


def test_check_says_what_a_line_needs(run: Run, tmp_path: Path) -> None:
    document = run("check", ROOT / "examples" / "folder.yaml", "--no-open")
    assert (document["passed"], document["opened"], document["exit_code"]) == (True, False, 0)
    assert [camera["name"] for camera in document["cameras"]] == ["top"]
    assert {rule["rule"] for rule in document["rules"]} >= {"gate: suspect", "pit"}
    broken = tmp_path / "x.yaml"
    broken.write_text("schema: 1\nline: X\n")
    document = run("check", broken, code=78)
    assert (document["passed"], document["exit_code"]) == (False, 78)
    assert "line" in document["problems"][0]["text"]


def test_ledger(run: Run, tmp_path: Path) -> None:
    ledger = LedgerFixture(tmp_path)
    ledger.add_verdicts(4)
    ledger.add_verdicts(1, Decision.REJECT, part="\u94a2 \x1b")
    ledger.writer.record_event("operator.acted", {"why": "trial"}, actor="anna")
    ledger.writer.write_backlog(last=True)
    path = ledger.path
    verified = run("ledger verify", path, "--spool", ledger.spool_path)
    assert (verified["holds"], verified["epochs"][0]["captured"]) == (True, 5)
    assert verified["epochs"][0]["started_at"].endswith("Z")
    rows = run("ledger query", path)
    assert [row["seq"] for row in rows] == [5, 4, 3, 2, 1]
    assert rows[0]["part_id"] == "\u94a2 \x1b"
    assert rows[0]["captured_at"].endswith("Z")
    assert run("ledger query", path, "--seq", 99) == []
    assert len(run("ledger query", path, "--whole")) == 5
    (event,) = run("ledger events", path)
    assert event["detail"] == {"why": "trial"}
    at = event["at"]
    assert run("ledger events", path, "--since", at, "--until", "2999-12-31") == [event]
    assert run("ledger events", path, "--until", at) == []
    exported = run("ledger export", path, "--csv", tmp_path / "o.csv")
    assert (exported["verdicts"], exported["format"]) == (5, "csv")
    copied = run("ledger backup", path, tmp_path / "copy.sqlite")
    assert (copied["verdicts"], copied["last_seq"], copied["skipped"]) == (5, 5, None)
    ledger.dispose()


def test_models(run: Run, tmp_path: Path) -> None:
    needs.library("onnxruntime")
    for version in (1, 2):
        graphs.install(tmp_path / "store", graphs.gate(), version=version)
    store = ("--store", tmp_path / "store")
    listed = run("models list", *store)
    assert [(each["model"], each["state"]) for each in listed["models"]] == [
        ("tiny-gate/1", "candidate"),
        ("tiny-gate/2", "live"),
    ]
    assert run("models show", "tiny-gate", *store)["manifest"]["version"] == 2
    assert run("models verify", "--backend", "none", *store)["passed"]
    assert run("models shadow", "tiny-gate/1", *store)["comparisons"] == []
    removable = run("models gc", "--keep", 0, *store)
    assert (removable["removed"], removable["versions"]) == (False, ["tiny-gate/1"])
    (tmp_path / "store" / "tiny-gate" / "1" / "model.onnx").write_bytes(b"")
    refused = run("models verify", "tiny-gate/1", "--backend", "none", *store, code=65)
    assert (refused["passed"], refused["models"][0]["model"]) == (False, "tiny-gate/1")


def test_keys_and_data(run: Run, tmp_path: Path, make_set: Path) -> None:
    assert main(["keys", "new", str(tmp_path / "keys")]) == 0
    assert run("keys list", tmp_path / "keys")["clients"] == []
    inspected = run("data inspect", make_set)
    assert (inspected["images"], inspected["classes"]) == (24, ["crack"])
    split = run("data split", make_set, "--out", tmp_path / "s.json")
    assert split["images"] == sum(split["counts"]["good"].values()) + 12


@pytest.fixture
def make_set(tmp_path: Path) -> Path:
    """A class folder set of noise, one name of it not UTF-8."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(5)
    for name in ("good", "crack"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(12):
            image = rng.integers(0, 255, (32, 32), np.uint8)
            stem = b"ri\xdf" if (name, number) == ("crack", 0) else f"{number}".encode()
            target = bytes(tmp_path / "set" / name) + b"/" + stem + b".png"
            with open(target, "wb") as file:
                file.write(cv2.imencode(".png", image)[1].tobytes())
    return tmp_path / "set"


def test_demo(run: Run) -> None:
    needs.library("openvino")
    document = run("demo", "--frames", 10, "--rate", 20, "--budget-ms", 20_000)
    assert document["captured"] == document["received"] == 10


def test_run(run: Run, tmp_path: Path) -> None:
    needs.library("openvino")
    more = [f"spool.folder={tmp_path}", "ledger=null", "budget_ms=20000"]
    overrides = [word for each in more for word in ("--set", each)]
    pictures = f"cameras.top.path={ROOT / 'examples' / 'pictures'}"
    document = run("run", ROOT / "examples" / "folder.yaml", *overrides, "--set", pictures)
    assert document["captured"] == document["passed"] + document["reject"] + document["no_verdict"]
    assert document["line"] == "folder"
