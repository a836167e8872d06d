from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgeinspect import __version__
from edgeinspect.cli import main as module
from edgeinspect.cli.main import COMMANDS, main
from edgeinspect.errors import ModelError, install_command
from edgeinspect.system import log
from tests.cli_tree import every_command

ROOT = Path(module.__file__).parents[2]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    log.close()


def process(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeinspect", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
    )


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A subcommand `trial` that raises, or returns, `command["outcome"]`."""
    box: dict[str, object] = {"outcome": None}

    @click.command()
    def trial() -> object:
        outcome = box["outcome"]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(module, "trial", trial, raising=False)
    monkeypatch.setitem(COMMANDS, "trial", ("edgeinspect.cli.main:trial", "For tests."))
    return box


def test_help_lists_every_command_and_imports_none() -> None:
    code = (
        "import sys\n"
        "from edgeinspect.cli.main import main\n"
        "main(['--help'])\n"
        "print([m for m in sys.modules if m in ('numpy', 'cv2', 'zmq', 'rich', 'structlog')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in COMMANDS:
        assert f"  {name} " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_version_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgeinspect {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["--nonsense"], ["version", "--nonsense"], ["check"]]
)
def test_wrong_usage_is_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 64
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage" in captured.err


@pytest.mark.parametrize(
    ("outcome", "code", "words"),
    [
        (None, 0, ""),
        (0, 0, ""),
        (3, 3, ""),
        (ModelError("is corrupt", where="a"), 65, "edgeinspect: error: a: is corrupt\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
        (click.exceptions.Exit(5), 5, ""),
        (click.UsageError("no"), 64, "edgeinspect: error: no\n"),
        (BrokenPipeError(), 141, ""),
        (
            ModuleNotFoundError("x", name="openvino.runtime"),
            69,
            "edgeinspect: error: needs the package 'openvino' of the extra 'cpu', which is not "
            f"installed. Install it with: {install_command('edgeinspect[cpu]')}\n",
        ),
    ],
)
def test_each_outcome_has_its_exit_code(
    outcome: object,
    code: int,
    words: str,
    command: dict[str, object],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_silence", lambda stream: None)
    command["outcome"] = outcome
    assert main(["trial"]) == code
    assert capsys.readouterr().err.endswith(words)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("of a bug\nin two lines"),
        ModuleNotFoundError("x", name="nobody"),
        OSError(38, "Function not implemented"),
        RecursionError(),
    ],
)
def test_an_unexpected_error_is_70_in_one_line(
    error: Exception,
    command: dict[str, object],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("EDGEINSPECT_DEBUG", raising=False)
    command["outcome"] = error
    assert main(["trial"]) == 70
    err = capsys.readouterr().err
    assert err.startswith(f"edgeinspect: error: unexpected {type(error).__name__}: ")
    assert err.count("\n") == 1
    assert "EDGEINSPECT_DEBUG=1" in err
    monkeypatch.setenv("EDGEINSPECT_DEBUG", "1")
    assert main(["trial"]) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("watch", "x" * 5000),
        ("replay", "x" * 5000),
        ("keys", "list", "x" * 5000),
        ("keys", "new", "/dev/null"),
        ("keys", "new", "x" * 5000),
        ("data", "inspect", "x" * 5000),
        ("evaluate", "x" * 5000, "--data", "strip:1:4"),
        ("models", "list", "--store", "x" * 5000),
    ],
)
def test_a_path_rejected_by_the_system_is_not_a_bug(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) in (64, 65, 73)
    err = capsys.readouterr().err
    assert "unexpected" not in err
    assert len(err) < 600


@pytest.mark.parametrize("number", ["nan", "inf", "1e400", "9" * 5000])
@pytest.mark.parametrize(
    "arguments",
    [
        ("record", "/nonexistent.yaml", "--out", "x.mcap", "--for"),
        ("watch", "--timeout"),
        ("calibrate", "strip-gate/1", "--images", "strip:1:4", "--dice-points"),
        ("models", "promote", "strip-gate/1", "--max-disagreement"),
        ("evaluate", "strip-gate", "--data", "strip:1:4", "--cost-escape"),
        ("demo", "--rate"),
    ],
)
def test_option_values_must_be_finite(
    arguments: tuple[str, ...], number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, number]) == 64
    assert "unexpected" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "strip-gate", "--data", f"strip:{'9' * 5000}:4"),
        ("evaluate", "strip-gate", "--data", f"strip:1:{'9' * 5000}"),
        ("calibrate", "strip-gate/1", "--images", f"strip:1:{'9' * 5000}"),
    ],
)
def test_a_number_with_too_many_digits_is_rejected(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 64
    assert "unexpected" not in capsys.readouterr().err


def test_a_path_error_of_a_service_is_retried(
    command: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    command["outcome"] = FileNotFoundError(2, "No such file or directory", "/dev/shm/ring")
    assert main(["trial"]) == 65
    monkeypatch.setattr(module, "_SERVICES", (["trial"],))
    assert main(["trial"]) == 70


def test_an_error_in_a_child_process() -> None:
    done = process("check", "/nonexistent.yaml")
    assert done.returncode == 78
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "edgeinspect: error: /nonexistent.yaml: there is no such file or folder. "
        "Give the line's YAML file, as /etc/edgeinspect/NAME.yaml",
    ]


@pytest.mark.parametrize(
    "arguments", [["version", "--json"], ["version"], ["--help"], ["models", "list"]]
)
def test_a_closed_pipe_is_not_an_error(arguments: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edgeinspect", *arguments],
            stdout=write_end,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(write_end)
    assert done.stderr == b""
    assert done.returncode == 141


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("arguments", "code"), [("version", 0), ("nonsense", 64), ("check /nonexistent.yaml", 78)]
)
def test_a_closed_stderr_or_stdin_does_not_change_the_exit_code(
    closed: str, arguments: str, code: int
) -> None:
    program = f"{shlex.quote(sys.executable)} -m edgeinspect {arguments} >/dev/null 2>/dev/null"
    # Unbuffered, a failed write leaves nothing for Python's last flush.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(["sh", "-c", f"exec {program} {closed}"], check=False, env=buffered)
    # What was printed, and is lost, is a failure; what was to be said on stderr is not.
    assert done.returncode == (73 if ">&-" in closed.split() and code == 0 else code)


def test_closed_streams_are_replaced_by_dev_null() -> None:
    code = (
        "import os, sys; from edgeinspect.cli.main import main; main(['version']); "
        "sys.exit(os.open('/', 0) < 3)"
    )
    words = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", words], check=False).returncode == 0


def test_a_full_device_is_75() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgeinspect", "version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 75
    assert done.stderr == (
        "edgeinspect: error: standard output: cannot be written: No space left on device. "
        "What the command did is done; only what it prints is lost\n"
    )


OUTPUTS = """
import os, sys
from edgeinspect.cli import main as module
from tests.cli_tree import every_command
sys.stdout.flush()
ways = {"closed": ("/dev/null", os.O_RDONLY), "full": ("/dev/full", os.O_WRONLY)}
os.dup2(os.open(*ways[sys.argv[1]]), 1)
module._silence = lambda stream: None
kept = []
for path in every_command():
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)
    code = module.main([*path.split(), "--help"])
    kept.append(sys.stdout)  # its end would flush it again
    print(code, path, file=sys.stderr, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("state", "code", "reason"),
    [
        ("closed", 73, "it is closed"),
        ("full", 75, "No space left on device"),
    ],
)
def test_no_command_is_silent_on_a_stdout_that_takes_nothing(
    state: str, code: int, reason: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OUTPUTS, state],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    said = f"edgeinspect: error: standard output: cannot be written: {reason}. "
    said += "What the command did is done; only what it prints is lost\n"
    assert done.stderr.splitlines(keepends=True) == [
        line for path in every_command() for line in (said, f"{code} {path}\n")
    ]


def test_version_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["version", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["edgeinspect"] == __version__
    assert facts["cameras"]["folder"] == {"available": True, "reason": None, "packages": {}}
    assert {"ov", "ort"} <= set(facts["backends"])


def test_version_shows_why_a_backend_is_unavailable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["version"]) == 0
    assert "pip install 'edgeinspect[cpu]'" in capsys.readouterr().out
