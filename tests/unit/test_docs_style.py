"""The prose of the documentation and of the program's messages: rules, spelling, and the linter."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests import needs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def linter() -> ModuleType:
    path = ROOT / "docs" / "style" / "lint.py"
    spec = importlib.util.spec_from_file_location("docs_style_lint", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hunspell() -> None:
    needs.program("hunspell")
    if not Path("/usr/share/hunspell/en_GB.dic").exists():
        pytest.skip("British words are not installed: apt-get install hunspell-en-gb")


@pytest.fixture
def findings(linter: ModuleType, tmp_path: Path) -> Callable[[str], list[tuple[int, str]]]:
    """Return line and rule of what is wrong with a page."""

    def lint(text: str) -> list[tuple[int, str]]:
        page = tmp_path / "page.md"
        page.write_text(text, encoding="utf-8")
        return [(each.line, each.rule) for each in linter.lint([linter.page_text(page)])]

    return lint


@pytest.mark.usefixtures("hunspell")
def test_the_documentation_passes(linter: ModuleType) -> None:
    texts = [linter.page_text(path) for path in linter.pages()]
    assert len(texts) > 50
    assert [str(finding) for finding in linter.lint(texts)] == []


@pytest.mark.usefixtures("hunspell")
def test_messages_helps_and_docstrings_pass(linter: ModuleType) -> None:
    texts = [text for path in linter.sources() for text in linter.source_texts(path)]
    assert len(texts) > 3000
    assert [str(finding) for finding in linter.lint(texts)] == []


@pytest.mark.usefixtures("hunspell")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It recieves a frame.", [(1, "Spelling")]),
        ("# Title\n\nThe colour and\nthe color.\n", [(4, "British"), (4, "Spelling")]),
        ("It is quantized and optimized.", [(1, "British"), (1, "British")]),
        ("A dataset on a back-end.", [(1, "Terms"), (1, "Terms")]),
        ("You simply restart it.", [(1, "Filler")]),
        ("It isn't there.", [(1, "Contractions")]),
        ("Cameras, e.g. of Basler.", [(1, "Latin")]),
        ("See [here](x.md).", [(1, "Links")]),
        ("It is is there.", [(1, "Repetition")]),
        ("It works out of the box.", [(1, "Metaphors")]),
        ("It is currently slow.", [(1, "Present")]),
        ("It works!", [(1, "Exclamation")]),
        ("Well: " + "one two " * 30 + "end.", [(1, "Sentences")]),
    ],
)
def test_each_rule_finds_what_it_is_for(
    findings: Callable[[str], list[tuple[int, str]]],
    text: str,
    expected: list[tuple[int, str]],
) -> None:
    assert findings(text) == expected


@pytest.mark.usefixtures("hunspell")
@pytest.mark.parametrize(
    "text",
    [
        "The key `color` and `--no-simply`.",
        "```\nsimply recieve color!\n```\n",
        "<!-- simply a comment -->\nText.",
        "A [page](simply_colr.md) at https://example.org/colr.",
        "| `dataset` | a data set |\n|---|---|\n| one | two |\n",
        "- " + "one two " * 20 + "\n- " + "one two " * 20,
        "The line's camera, the shift's end, and the cameras' order.",
        "::: edgeinspect.client\n    options:\n      members: [Feed]\n\nText.",
    ],
)
def test_code_addresses_and_markup_are_not_prose(
    findings: Callable[[str], list[tuple[int, str]]], text: str
) -> None:
    assert findings(text) == []


def test_no_file_has_a_typing_mistake() -> None:
    needs.library("codespell_lib")
    done = subprocess.run(
        [sys.executable, "-m", "codespell_lib", "--quiet-level", "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_in_the_format_of_vale(linter: ModuleType) -> None:
    kinds = {"existence", "substitution", "occurrence", "repetition", "spelling"}
    names = []
    for name, rule in linter.rules():
        names.append(name)
        assert rule["extends"] in kinds, name
        assert rule["level"] in {"suggestion", "warning", "error"}, name
        assert rule["message"], name
    assert len(names) > 8
    settings = (ROOT / ".vale.ini").read_text(encoding="utf-8")
    assert "StylesPath = docs/style" in settings
    assert linter.VOCABULARY.is_relative_to(ROOT / "docs" / "style" / "config" / "vocabularies")


def test_the_vocabulary_has_no_word_twice(linter: ModuleType) -> None:
    lines = linter.VOCABULARY.read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    assert len(entries) == len(set(entries))


def test_links_to_the_internet_are_listed_and_not_asked(linter: ModuleType) -> None:
    listed = list(linter.external_links([ROOT / "CHANGELOG.md"]))
    assert "CHANGELOG.md: https://semver.org/" in listed
