"""A test that lacks something skips, and says what and how to get it, whatever its kind."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests import needs

TESTS = Path(__file__).parents[1]
SOURCES = [path for path in TESTS.rglob("*.py") if path != Path(__file__)]

WITHOUT_LIBPYTHON = "raise ImportError('libpython3.11.so.1.0: cannot open shared object file')"


def skip_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(needs.shutil, "which", lambda *_words, **_options: None)
    with pytest.raises(pytest.skip.Exception) as skipped:
        needs.program(name)
    return str(skipped.value)


def test_a_program_comes_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = skip_reason("nginx", monkeypatch)
    assert reason == "nginx is not installed: apt-get install nginx-light"


def test_a_library_comes_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(pytest.skip.Exception) as skipped:
        needs.library("onnxruntime")
    assert "onnxruntime is not installed: pip install -e '.[cpu]'" in str(skipped.value)


def test_a_library_whose_own_library_is_missing_comes_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "harvesters.py").write_text(WITHOUT_LIBPYTHON)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "harvesters", raising=False)
    monkeypatch.delitem(sys.modules, "harvesters.core", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"apt-get install libpython3\.11$"):
        needs.library("harvesters")


def test_what_tests_need_is_known() -> None:
    """A name without a remedy fails here, and not where it is missing."""
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        for name in re.findall(r"needs\.library\(\"([^\"]+)\"", source):
            assert name.partition(".")[0] in needs._EXTRAS, f"{path}: {name}"
        for name in re.findall(r"needs\.(?:missing_)?program\(\"([^\"]+)\"", source):
            assert name in needs._PACKAGES, f"{path}: {name}"


def test_no_test_looks_for_what_it_needs_by_itself() -> None:
    own = {"needs.py", "test_conftest.py"}
    found = [
        f"{path.relative_to(TESTS)}: {name}"
        for path in SOURCES
        if path.name not in own
        for name in re.findall(r"pytest\.importorskip", path.read_text(encoding="utf-8"))
    ]
    assert not found
