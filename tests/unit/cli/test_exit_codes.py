"""Every command ends with the promised exit codes; a later command is covered by itself."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgeinspect.cli import main as module
from edgeinspect.cli.main import main
from edgeinspect.errors import (
    CameraLostError,
    ConfigError,
    ConfigFault,
    DataError,
    DeviceLostError,
    MissingExtraError,
    ModelError,
    OutputError,
    StorageError,
    UsageError,
)
from edgeinspect.registry import EXTRAS
from tests import needs
from tests.cli_tree import command_line, leaf_commands

LEAVES = leaf_commands()
OUTCOMES: dict[str, tuple[BaseException, int, str]] = {
    "usage": (UsageError("x"), 64, "edgeinspect: error: x\n"),
    "usage by click": (click.UsageError("x"), 64, "edgeinspect: error: x\n"),
    "data": (DataError("x", where="a", remedy="Do y"), 65, "edgeinspect: error: a: x. Do y\n"),
    "model": (ModelError("x", where="a"), 65, "edgeinspect: error: a: x\n"),
    "extra": (MissingExtraError("cpu", "openvino"), 69, "pip install 'edgeinspect[cpu]'\n"),
    "a library of an extra": (
        ModuleNotFoundError("x", name="openvino.runtime"),
        69,
        "pip install 'edgeinspect[cpu]'\n",
    ),
    "a bug": (ZeroDivisionError("x"), 70, "EDGEINSPECT_DEBUG=1, and report it\n"),
    "a library that nobody knows": (ModuleNotFoundError("x", name="foo"), 70, "report it\n"),
    "camera": (CameraLostError("x", where="top"), 75, "edgeinspect: error: top: x\n"),
    "peer": (DeviceLostError("x", where="top"), 75, "edgeinspect: error: top: x\n"),
    "output": (OutputError("x", where="a"), 73, "edgeinspect: error: a: x\n"),
    "storage": (StorageError("x", where="a"), 75, "edgeinspect: error: a: x\n"),
    "disk full": (OSError(errno.ENOSPC, "No space left on device", "a"), 75, "try again\n"),
    "no memory": (MemoryError(), 75, "try again\n"),
    "configuration": (
        ConfigError([ConfigFault("budget_ms", "is too low", "0", 3)], where="a"),
        78,
        "edgeinspect: error: a: 1 fault\n  line 3: budget_ms: is too low (found 0)\n",
    ),
    "Ctrl-C": (KeyboardInterrupt(), 130, ""),
    "a prompt that was left": (click.Abort(), 130, ""),
    "a closed pipe": (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("path", LEAVES)
@pytest.mark.usefixtures("in_files")
def test_each_command_ends_with_the_code_of_its_error(
    path: str,
    outcome: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error, code, words = OUTCOMES[outcome]

    def fail(*_values: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(LEAVES[path], "callback", fail)
    monkeypatch.setattr(module, "_silence", lambda stream: None)
    assert main(command_line(path)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(words)
    assert captured.err.count("edgeinspect: error: ") == (1 if words else 0)


@pytest.mark.parametrize("path", LEAVES)
def test_wrong_usage_is_64_on_stderr(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    calls = [[*path.split(), "--nonsense"]]
    if any(each.required for each in LEAVES[path].params):
        calls.append(path.split())
    for words in calls:
        assert main(words) == 64, words
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(f"Usage: edgeinspect {path}"), captured.err
        assert f"Try 'edgeinspect {path} --help'." in captured.err


@pytest.mark.parametrize("path", LEAVES)
def test_help_is_0_and_a_closed_pipe_141(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*path.split(), "--help"]) == 0
    assert capsys.readouterr().err == ""


ABSENT: dict[str, str] = {
    "openvino": "check line.yaml",
    "onnxruntime": "evaluate strip-gate --data strip:1:4",
    "tensorrt": "models build strip-gate/1",
    "torch": "train gate --data castings --out new",
    "onnxscript": "train gate --data castings --out new",
    "onnx": "models import net.onnx --kind gate --name x --size 32x32 --channels 1 "
    "--samples pictures",
    "timm": "train gate --data castings --out new --arch timm/resnet18 --steps 1",
    "torchvision": "train gate --data castings --out new --arch timm/resnet18 --steps 1",
    "segmentation_models_pytorch": "train segmenter --data castings --out new --arch unet-resnet18",
    "starlette": "hmi hmi.yaml",
    "uvicorn": "hmi hmi.yaml",
    "prometheus_client": "hmi hmi.yaml",
    "ray": "rescore pictures --model strip-gate/1 --out new",
    "mcap": "record line.yaml --out new.mcap --for 0.1",
    "zstandard": "record line.yaml --out new.mcap --for 0.1",
    "pyarrow": "ledger export strip.ledger.sqlite --parquet new.parquet",
}
"""Optional library to a command that needs it."""

NEED_TORCH = {"timm", "torchvision", "segmentation_models_pytorch"}
"""Looked for when torch is there; without it the message names the extra `train`."""

BY_PLUGIN = {"pymodbus", "pycuda", "asyncua", "snap7", "paho", "harvesters", "pypylon"}
"""Of plugins, which `tests/unit/test_registry.py` covers: the same check for all of them."""


def test_every_optional_library_is_covered() -> None:
    assert set(EXTRAS) == set(ABSENT) | BY_PLUGIN


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("package", ABSENT)
def test_without_an_optional_library_the_message_says_how_to_install_it(
    package: str, in_files: Path
) -> None:
    if package in NEED_TORCH:
        needs.library("torch")
    code = (
        f"import sys; sys.modules[{package!r}] = None; from edgeinspect.cli.main import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *ABSENT[package].replace("new", f"new-{package}").split()],
        cwd=in_files,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])},
    )
    assert done.returncode == 69, (done.returncode, done.stderr)
    assert "pip install 'edgeinspect[" in done.stderr
    assert f"edgeinspect[{EXTRAS[package]}]" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(in_files.glob("new*")) == [], "refused before it wrote anything"
