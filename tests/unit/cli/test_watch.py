from __future__ import annotations

import socket

import pytest

from edgeinspect.cli.main import main


def test_a_missing_answer_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:  # bound, never listening: nobody can answer there
        listener.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        assert main(["watch", address, "--timeout", "2"]) == 75
    err = capsys.readouterr().err
    assert f"no answer at {address}" in " ".join(err.split())
    assert err.index("no answer") < err.index("silent for 2 s")


@pytest.mark.parametrize("word", ["tmp/none", "../other", "Line", "a\x1bb", "x" * 33, ""])
def test_a_line_name_is_not_a_path(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", word, "--timeout", "1"]) == 64
    assert "\x1b" not in capsys.readouterr().err


def test_a_folder_is_not_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "/tmp", "--timeout", "1"]) == 78
    assert "/tmp: is a folder, not a line's file" in capsys.readouterr().err
