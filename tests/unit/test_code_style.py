"""The rules of the house, run as tests: lint, format, types, floors, file sizes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MAX_LINES = 350
LINT_IMPORTS = "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])"


def run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"{done.stdout}\n{done.stderr}", pytrace=False)


def test_ruff_check() -> None:
    pytest.importorskip("ruff", reason="ruff is not installed: extra dev")
    run("-m", "ruff", "check", ".")


def test_ruff_format() -> None:
    pytest.importorskip("ruff", reason="ruff is not installed: extra dev")
    run("-m", "ruff", "format", "--check", ".")


@pytest.mark.timeout(400)
def test_mypy_strict() -> None:
    pytest.importorskip("mypy", reason="mypy is not installed: extra dev")
    run("-m", "mypy", "--strict", "edgeinspect")


def test_the_floors() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed: extra dev")
    run("-c", LINT_IMPORTS)


def modules() -> list[Path]:
    return sorted((ROOT / "edgeinspect").rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_is_too_long(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines; split it where its nouns divide"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_has_an_empty_name(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "common", "core", "misc", "manager"}


def test_every_lazy_command_exists_or_is_announced() -> None:
    from edgeinspect.cli.main import COMMANDS

    for target, _words in COMMANDS.values():
        module, _, attribute = target.partition(":")
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module
        assert attribute


def test_every_command_prints_by_one_way() -> None:
    """Nothing from elsewhere reaches a terminal raw: see `cli/_terminal.py`."""
    for path in modules():
        if path.parent.name != "cli" or path.name == "_terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "rich.console":
                assert "Console" not in {each.name for each in node.names}, path.name
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                printed = (node.value.id, node.attr)
                assert printed not in {("click", "echo"), ("click", "secho")}, path.name


def test_every_table_is_written_by_one_way() -> None:
    """No CSV file carries a formula: `foreign_text.TableWriter` writes them all."""
    for path in modules():
        if path.name != "foreign_text.py":
            text = path.read_text(encoding="utf-8")
            assert "csv.writer(" not in text, path
            assert "csv.DictWriter(" not in text, path


def test_both_clocks_are_read_at_one_instant() -> None:
    """A wall time that is added to or taken from another comes by `domain.clock.read_offset_ns`.

    Two reads with a pause between them looked like a step of the wall clock. Exempt is what asks
    for the wall clock's own word.
    """
    for path in modules():
        if path.name in ("clock.py", "timekeeping.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
                assert ".utc_ns()" not in ast.unparse(node), f"{path}:{node.lineno}"
