"""The manual page and the completion say what the command line can."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgeinspect import errors
from edgeinspect.cli._man_page import bash_completion, man_page
from edgeinspect.cli.main import COMMANDS, COMPLETE_VARIABLE, main
from tests import needs


def test_every_command_and_exit_code_is_in_the_man_page() -> None:
    text = man_page()
    for name in COMMANDS:
        assert f"\n.SS edgeinspect {name.replace('-', chr(92) + '-')}\n" in text
    for name, code in vars(errors).items():
        if name.startswith("EXIT_"):
            assert f"\n.B {code}\n" in text, name
    assert "\n.B \\-\\-set KEY=VALUE\n" in text


def test_groff_accepts_the_man_page(tmp_path: Path) -> None:
    needs.program("groff")
    page = tmp_path / "edgeinspect.1"
    page.write_text(man_page(), encoding="utf-8")
    words = ["groff", "-man", "-Tutf8", "-wall", "-Wbreak", str(page)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_accepts_the_completion() -> None:
    done = subprocess.run(
        ["bash", "-n"], input=bash_completion(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ("edgeinspect ledg", "ledger"),
        ("edgeinspect ledger ver", "verify"),
        ("edgeinspect check --no", "--no-open"),
    ],
)
def test_the_shell_receives_completions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, want: str
) -> None:
    monkeypatch.setenv(COMPLETE_VARIABLE, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert main([]) == 0
    assert capsys.readouterr().out.split() == [f"plain,{want}"]
