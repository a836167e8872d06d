"""`make install` and `make deb` as on a fresh PC: what they need is declared, failures said."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def run_layout(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "install" / "layout.py"), *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


@pytest.fixture
def interpreter() -> None:
    """One that a service can run: a layout from a home folder's own is refused before all else."""
    try:
        module("layout").find_interpreter()
    except SystemExit as refused:
        pytest.skip(str(refused))


def hide(folder: Path, module: str) -> str:
    """A path before all others on which a module cannot be imported."""
    (folder / f"{module}.py").write_text(f"raise ImportError('{module} is hidden')\n")
    return str(folder)


HIDDEN_WHEEL = """
import importlib.machinery, importlib.util, os, sys

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "wheel":
            return None
        own = importlib.util.find_spec("setuptools").submodule_search_locations[0]
        return importlib.machinery.PathFinder.find_spec(name, [os.path.join(own, "_vendor")])

sys.meta_path.insert(0, Finder)
"""
"""As `sitecustomize`: the `wheel` project is not installed, setuptools' own copy is."""


def test_the_wheel_needs_only_what_the_line_s_environment_declares(tmp_path: Path) -> None:
    """The `wheel` project is in many environments by chance, and in none by our asking."""
    (tmp_path / "sitecustomize.py").write_text(HIDDEN_WHEEL)
    code = f"""if True:
        import sys; sys.path.insert(0, {str(ROOT / "install")!r})
        import layout, pathlib
        print(layout.build_wheel(pathlib.Path({str(tmp_path)!r})))
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = zipfile.ZipFile(done.stdout.splitlines()[-1]).namelist()
    assert "edgeinspect/services/daemon/service.py" in names
    assert any(name.endswith(".onnx") for name in names), "the shipped engines"


@pytest.mark.usefixtures("interpreter")
def test_what_cannot_be_built_leaves_the_old_installation_as_it_was(tmp_path: Path) -> None:
    old = tmp_path / "root" / "opt" / "edgeinspect" / "bin" / "edgeinspect"
    old.parent.mkdir(parents=True)
    old.write_text("the old one")
    done = run_layout("--destdir", str(tmp_path / "root"), PYTHONPATH=hide(tmp_path, "setuptools"))
    assert done.returncode == 1
    assert "install: failed: " in done.stderr
    assert "pip wheel" in done.stderr
    assert "Traceback" not in done.stderr.splitlines()[-2]
    assert old.read_text() == "the old one"


@pytest.mark.usefixtures("interpreter")
def test_an_extra_that_is_not_here_is_said_before_anything_is_touched(tmp_path: Path) -> None:
    old = tmp_path / "opt" / "edgeinspect" / "kept"
    old.parent.mkdir(parents=True)
    old.write_text("kept")
    done = run_layout("--destdir", str(tmp_path), "--extra", "pylon")
    assert done.returncode != 0
    assert "pypylon is required and not in this environment" in done.stderr
    assert old.read_text() == "kept"


@pytest.mark.usefixtures("interpreter")
def test_a_place_where_nothing_can_be_laid_out_is_said(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    done = run_layout("--destdir", str(taken))
    assert done.returncode == 1
    assert "install: " in done.stderr
    assert "the installation is incomplete" in done.stderr
    assert taken.read_text() == "a file"


def module(name: str) -> ModuleType:
    """One of the installer's own, which are no package."""
    sys.path.insert(0, str(ROOT / "install"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "install"))


def test_the_bill_of_materials_names_each_library_with_its_licence() -> None:
    bill = module("bill")
    names = ["numpy", "msgspec", "pyzmq"]
    told = json.loads(bill.bill(names))
    assert [each["name"].lower() for each in told["components"]] == names
    assert all(each["licenses"][0]["license"]["name"] for each in told["components"])
    assert all(len(each["hashes"][0]["content"]) == 64 for each in told["components"])
    assert bill.bill(names) == bill.bill(names)
    assert "numpy" in bill.licence_table(names)
