"""The wheels of harvesters need Python as a shared library, a package of its own on Debian."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeinspect.cameras import genicam
from edgeinspect.domain import SystemClock
from edgeinspect.errors import MissingExtraError, MissingLibraryError

PYTHON = "libpython{}.{}".format(*sys.version_info)


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (f"ImportError('{PYTHON}.so.1.0: cannot open')", MissingLibraryError, f"install {PYTHON}"),
        ("ModuleNotFoundError('harvesters')", MissingExtraError, "edgeinspect[genicam]"),
        ("ImportError('another fault')", ImportError, "another fault"),
    ],
)
def test_what_is_missing_is_named(
    error: str,
    kind: type[Exception],
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "harvesters").mkdir()
    (tmp_path / "harvesters" / "__init__.py").touch()
    (tmp_path / "harvesters" / "core.py").write_text(f"raise {error}")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("harvesters", "harvesters.core"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(kind) as raised:
        genicam.build(genicam.Options(producer="/x.cti"), SystemClock())
    assert remedy in str(raised.value)
