"""The rules of the code base, run as tests: lint, format, types, layers, faces, layout."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "edgeinspect"
LINT_IMPORTS = "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])"
MAX_ROOMS = 25
MAX_ROOT_MODULES = 8


def run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"{done.stdout}\n{done.stderr}", pytrace=False)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_ruff_check() -> None:
    needs.library("ruff")
    run("-m", "ruff", "check", ".")


def test_ruff_format() -> None:
    needs.library("ruff")
    run("-m", "ruff", "format", "--check", ".")


@pytest.mark.timeout(400)
def test_mypy_strict() -> None:
    needs.library("mypy")
    needs.library("torch")  # without its types others cannot be inferred
    run("-m", "mypy", "--strict", "edgeinspect")


def test_layers() -> None:
    needs.library("importlinter")
    run("-c", LINT_IMPORTS)


def test_the_root_holds_packages_not_modules() -> None:
    packages = [each for each in PACKAGE.iterdir() if (each / "__init__.py").is_file()]
    loose = [each for each in PACKAGE.glob("*.py") if not each.stem.startswith("__")]
    assert len(loose) <= MAX_ROOT_MODULES, sorted(each.name for each in loose)
    assert len(packages) + len(loose) <= MAX_ROOMS


def face_of(package: Path) -> set[str]:
    """The names in a package's `__all__`; empty if it has none."""
    for node in ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            return set(ast.literal_eval(node.value))
    return set()


FACES = {path.parent: face_of(path.parent) for path in PACKAGE.rglob("__init__.py")}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_other_packages_are_imported_by_their_face(path: Path) -> None:
    """Outside a package that has a face, its modules are private."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        parts = node.module.split(".")
        if parts[0] != "edgeinspect":
            continue
        for end in range(1, len(parts)):
            package = ROOT.joinpath(*parts[:end])
            if not FACES.get(package) or package in path.parents:
                continue
            names = {each.name for each in node.names}
            assert not names & FACES[package], (
                f"import {', '.join(sorted(names & FACES[package]))} from "
                f"{'.'.join(parts[:end])}, not from {node.module}"
            )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_names_and_formatting(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "common", "core", "misc", "manager"}
    assert "fmt: " + "skip" not in path.read_text(encoding="utf-8")


def test_every_lazy_command_exists() -> None:
    from edgeinspect.cli.main import COMMANDS

    for target, _help in COMMANDS.values():
        module, _, attribute = target.partition(":")
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module
        assert attribute


def test_commands_print_through_one_module() -> None:
    """Untrusted text never reaches a terminal raw: see `cli/_terminal.py`."""
    for path in modules():
        if path.parent.name != "cli" or path.name == "_terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "rich.console":
                assert "Console" not in {each.name for each in node.names}, path.name
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                printed = (node.value.id, node.attr)
                assert printed not in {("click", "echo"), ("click", "secho")}, path.name


def test_tables_are_written_by_one_class() -> None:
    """No CSV file carries a formula: `untrusted_text.TableWriter` writes them all."""
    for path in modules():
        if path.name != "untrusted_text.py":
            text = path.read_text(encoding="utf-8")
            assert "csv.writer(" not in text, path
            assert "csv.DictWriter(" not in text, path


def test_both_clocks_are_read_at_one_instant() -> None:
    """Wall times are added and subtracted by `domain.clock.read_utc_offset_ns`.

    Two reads with a pause between them look like a step of the wall clock. Exempt are the modules
    that compare the wall clock with itself.
    """
    for path in modules():
        if path.name in ("clock.py", "wall_clock.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
                assert ".utc_ns()" not in ast.unparse(node), f"{path}:{node.lineno}"
