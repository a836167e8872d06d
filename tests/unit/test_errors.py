from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeinspect import errors
from edgeinspect.errors import (
    ConfigError,
    ConfigFault,
    EdgeInspectError,
    MissingExtraError,
    ModelError,
    install_command,
)


def test_a_message_has_what_where_and_remedy() -> None:
    error = ModelError("is corrupt", where="a.onnx", remedy="Copy it again")
    assert str(error) == "a.onnx: is corrupt. Copy it again"
    assert (error.what, error.where, error.remedy) == ("is corrupt", "a.onnx", "Copy it again")


def test_a_missing_extra_names_the_command() -> None:
    error = MissingExtraError("cpu", "openvino")
    assert "pip install 'edgeinspect[cpu]'" in str(error)
    assert error.exit_code == 69


def test_a_package_that_is_there_and_cannot_be_imported_is_not_called_missing() -> None:
    error = MissingExtraError("cpu", "openvino", where="backend ov")
    error.__cause__ = ImportError("libopenvino.so: failed to map segment: Cannot allocate memory")
    text = str(error)
    assert text.startswith("backend ov: the package 'openvino' of the extra 'cpu' cannot be ")
    assert "Cannot allocate memory" in text
    assert "not installed" not in text
    error.__cause__ = ModuleNotFoundError("No module named 'openvino'")
    assert "which is not installed" in str(error)


def test_faults_are_listed() -> None:
    faults = [ConfigFault("line", "required"), ConfigFault("budget_ms", "must be above 0", "-1", 3)]
    text = str(ConfigError(faults, where="a.yaml"))
    assert text.splitlines() == [
        "a.yaml: 2 faults",
        "  line: required",
        "  line 3: budget_ms: must be above 0 (found -1)",
    ]
    assert "1 fault\n" in str(ConfigError(faults[:1]))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("UsageError", 64),
        ("DataError", 65),
        ("ModelError", 65),
        ("InvariantError", 65),
        ("MissingExtraError", 69),
        ("InternalError", 70),
        ("SpoolError", 75),
        ("CameraLostError", 75),
        ("ConfigError", 78),
    ],
)
def test_exit_codes(name: str, code: int) -> None:
    cls = getattr(errors, name)
    assert issubclass(cls, EdgeInspectError)
    assert cls.exit_code == code


def test_the_command_names_the_pip_of_this_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line PC's own pip would install beside the package, not into it."""
    pip = tmp_path / "bin" / "pip"
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    assert install_command("a[b]") == "pip install 'a[b]'"
    pip.parent.mkdir()
    pip.touch()
    assert install_command("a[b]") == f"{pip} install 'a[b]'"
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    assert install_command("a[b]") == "pip install 'a[b]'"
