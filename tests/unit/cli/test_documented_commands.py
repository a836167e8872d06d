"""Every command line in the documentation is one that the command line accepts."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from edgeinspect.cli._input_path import InputPath
from edgeinspect.cli._output_path import OutputPath
from edgeinspect.errors import EdgeInspectError
from tests.cli_tree import parse

ROOT = Path(__file__).parents[3]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "engines/README.md")),
    ROOT / "calibration" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
_REMARK = re.compile(r"\s{2,}.*|\s#.*|\s(&&|\||>|&).*")
_BLOCK = re.compile(r"```[a-z]*\n(.*?)```", re.DOTALL)


def lines_of(page: Path) -> list[str]:
    """Return the command lines of a page, in code blocks and in backticks, without remarks."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"`(edgeinspect [a-z][^`]*)`", _BLOCK.sub("", text))
    for block in _BLOCK.findall(text):
        lines = (re.sub(r"^\s*(\$ |sudo )*", "", line) for line in block.splitlines())
        found += [line for line in lines if line.startswith("edgeinspect ")]
    lines = dict.fromkeys(_REMARK.sub("", re.sub(r" {2,}(?=--)", " ", line)) for line in found)
    return [line for line in lines if "..." not in line and "…" not in line and "[" not in line]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, id=f"{page.relative_to(ROOT)}: {line[:60]}")
        for page in PAGES
        for line in lines_of(page)
    ],
)
def test_a_documented_command_is_accepted(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InputPath, "check", lambda *_arguments: None)
    monkeypatch.setattr(OutputPath, "_problem", lambda *_arguments, **_options: "")
    try:
        parse(line)
    except (click.exceptions.Exit, click.MissingParameter):
        pass  # --help; or a sentence that names the command alone
    except (click.ClickException, EdgeInspectError) as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # the same, of a group
            raise
