from __future__ import annotations

import socket
from pathlib import Path

import pytest

from edgeinspect.cli import watch as watch_module
from edgeinspect.cli.main import main
from edgeinspect.domain import Decision, Reason
from tests.archive_fixture import verdict


def test_a_missing_answer_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:  # bound, never listening: nobody can answer there
        listener.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        assert main(["watch", address, "--timeout", "2"]) == 75
    assert capsys.readouterr().err == (  # one message for one cause
        f"edgeinspect: error: {address}: no answer in 2 s. Is the line running, and is this its "
        "publish.verdicts?\n"
    )


@pytest.mark.parametrize("command", ["watch {}", "challenge {} scratches.png"])
@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), 65, "not known"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), 75, "may be temporary"),
        (UnicodeError("label too long"), 65, "it is no host name"),
    ],
)
def test_a_host_name_that_cannot_be_resolved_is_told(
    command: str,
    error: Exception,
    code: int,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert main(command.format("tcp://press-7:5590").split()) == code
    err = capsys.readouterr().err
    assert err.startswith(
        "edgeinspect: error: tcp://press-7:5590: the host name press-7 cannot be resolved: "
    )
    assert reason in err


@pytest.mark.parametrize("address", ["tcp://pc", "tcp://pc:99999", "htp://pc:1", "tcp://:1"])
def test_what_is_no_address_is_told(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", address, "--timeout", "1"]) == 65
    assert capsys.readouterr().err.startswith(f"edgeinspect: error: {address}: is not an address: ")


@pytest.mark.parametrize("word", ["tmp/none", "../other", "Line", "a\x1bb", "x" * 33, ""])
def test_a_line_name_is_not_a_path(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", word, "--timeout", "1"]) == 64
    assert "\x1b" not in capsys.readouterr().err


def test_a_folder_is_not_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path), "--timeout", "1"]) == 78
    assert f"{tmp_path}: is a folder, not a line's file" in capsys.readouterr().err


@pytest.mark.parametrize("decision", Decision)
@pytest.mark.parametrize("width", [80, None])
def test_a_verdict_fits_the_terminal(decision: Decision, width: int | None) -> None:
    reason = max(Reason, key=lambda each: len(each.value))
    more = {"reason": reason, "part_id": "coil-7 " * 12, "label": "a.png", "detail": "not started"}
    made = verdict(123_456, decision, **more)
    lines = [line.plain for line in watch_module._verdict_lines(made, width)]
    text = " ".join(" ".join(lines).split())
    for word in (decision.value, reason.value, "part", "a.png", "not started", "+0"):
        assert word in text
    assert "scratch 10 mm² at 0,1 mm" in text or decision is not Decision.REJECT
    assert lines[0][12] in "+-", "the time has its zone"
    if width is None:
        assert len(lines) == 1
    else:
        assert max(map(len, lines)) <= width
