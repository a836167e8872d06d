from __future__ import annotations

import socket

import pytest

from edgeinspect.cli.main import main


def test_it_says_that_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:  # bound, never listening: nobody can answer there
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        assert main(["watch", address, "--timeout", "2"]) == 75
    said = capsys.readouterr().err
    assert f"nobody answers at {address}" in " ".join(said.split())
    assert said.index("nobody answers") < said.index("silent for 2 s")


@pytest.mark.parametrize("word", ["/tmp", "../other", "Line", "a\x1bb", "x" * 33, ""])
def test_a_name_is_no_path(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", word, "--timeout", "1"]) == 64
    assert "\x1b" not in capsys.readouterr().err
