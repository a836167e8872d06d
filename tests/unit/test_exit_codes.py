"""Which errors at start end with an exit code on which systemd restarts, and which do not.

One row per error; docs/howto/install.md has the same table.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import socket
import sqlite3
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from edgeinspect.cli.main import main
from edgeinspect.errors import (
    ConfigError,
    ConfigFault,
    DataError,
    EdgeInspectError,
    MissingExtraError,
    MissingLibraryError,
    ModelError,
    OutputError,
    SpoolError,
    StorageError,
    UsageError,
    exit_code_of,
    is_transient,
)
from tests import needs

ROOT = Path(__file__).resolve().parents[2]
OWN_ERRORS: dict[str, EdgeInspectError] = {
    "usage": UsageError("x"),
    "data": DataError("x"),
    "model": ModelError("x"),
    "extra": MissingExtraError("cpu", "openvino"),
    "library": MissingLibraryError("libx.so", "apt-get install x"),
    "output": OutputError("x"),
    "config": ConfigError([ConfigFault("publish.verdicts", "cannot be bound")]),
}
TRANSIENT: dict[str, BaseException] = {
    "address in use": OSError(errno.EADDRINUSE, "x"),
    "address not there yet": OSError(errno.EADDRNOTAVAIL, "x"),
    "the same of ZeroMQ": zmq.ZMQError(errno.EADDRNOTAVAIL),
    "an interface by name that is not there yet": zmq.ZMQError(errno.ENODEV),
    "no name server yet": socket.gaierror(socket.EAI_AGAIN, "x"),
    "no memory": MemoryError(),
    "no memory, by the kernel": OSError(errno.ENOMEM, "x"),
    "no thread": RuntimeError("can't start new thread"),
    "no thread, in C++": RuntimeError("Resource temporarily unavailable"),
    "no file handle": OSError(errno.EMFILE, "x"),
    "no file handle on the machine": OSError(errno.ENFILE, "x"),
    "no room": OSError(errno.ENOSPC, "x"),
    "no room of one's own": OSError(errno.EDQUOT, "x"),
    "a disk that fails": OSError(errno.EIO, "x"),
    "a peer that hung up in the middle of TLS": ssl.SSLEOFError(8, "x"),
    "a share that is away": OSError(errno.ESTALE, "x"),
    "a peer that is away": ConnectionRefusedError(errno.ECONNREFUSED, "x"),
    "OpenVINO": RuntimeError("Exception from core.cpp:117: std::bad_alloc"),
    "OpenVINO's plugin": RuntimeError(
        "Exception from src/inference/src/dev/plugin.cpp:54: can't alloc"
    ),
    "ONNX Runtime": RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for size 1"),
    "CUDA": RuntimeError("cuMemAlloc failed: out of memory"),
    "TensorRT": RuntimeError("Error Code 2: OutOfMemory (requested size was 1): out of memory"),
    "OpenCV": RuntimeError("(-4:Insufficient memory) Failed to allocate 99999999999 bytes"),
    "the loader": ImportError("libx.so: failed to map segment from shared object"),
    "SQLite that another program holds": sqlite3.OperationalError("database is locked"),
    "SQLite": sqlite3.OperationalError("unable to allocate; database or disk is out of memory"),
}
PERMANENT: dict[str, BaseException] = {
    "not there": FileNotFoundError(errno.ENOENT, "x"),
    "not allowed": PermissionError(errno.EACCES, "x"),
    "a wrong address": zmq.ZMQError(errno.EINVAL),
    "a wrong protocol": zmq.ZMQError(errno.EPROTONOSUPPORT),
    "no such host": socket.gaierror(socket.EAI_NONAME, "x"),
    "a wrong key, which OpenSSL counts as ESTALE": ssl.SSLError(
        errno.ESTALE, "KEY_VALUES_MISMATCH"
    ),
    "a file of no PEM, which OpenSSL may count as anything": ssl.SSLError(errno.EIO, "PEM lib"),
    "a peer without a trusted certificate": ssl.SSLCertVerificationError(errno.EINTR, "x"),
    "a name too long": OSError(errno.ENAMETOOLONG, "x"),
    "a damaged model": RuntimeError("Exception from frontend.cpp:54: Check 'x' failed"),
    "not installed": ModuleNotFoundError("No module named 'openvino'"),
    "a value": ValueError("x"),
}


def raise_from(
    error: EdgeInspectError, cause: BaseException, *, with_intermediate: bool
) -> EdgeInspectError:
    """Raise an own error from a cause, optionally with another error in between."""
    try:
        try:
            raise cause
        except BaseException as first:
            if with_intermediate:
                raise RuntimeError("could not be opened") from first
            raise
    except BaseException as last:
        try:
            raise error from last
        except EdgeInspectError as raised:
            return raised


@pytest.mark.parametrize("with_intermediate", [False, True])
@pytest.mark.parametrize("own_error", OWN_ERRORS)
@pytest.mark.parametrize("name", TRANSIENT)
def test_a_temporary_cause_ends_with_75(name: str, own_error: str, with_intermediate: bool) -> None:
    error = raise_from(OWN_ERRORS[own_error], TRANSIENT[name], with_intermediate=with_intermediate)
    assert exit_code_of(error) == 75
    assert exit_code_of(TRANSIENT[name]) == 75


@pytest.mark.parametrize("own_error", OWN_ERRORS)
@pytest.mark.parametrize("name", PERMANENT)
def test_a_permanent_cause_keeps_the_exit_code(name: str, own_error: str) -> None:
    error = OWN_ERRORS[own_error]
    assert (
        exit_code_of(raise_from(error, PERMANENT[name], with_intermediate=False)) == error.exit_code
    )
    assert not is_transient(PERMANENT[name])


def test_the_text_of_own_errors_is_not_evaluated() -> None:
    fault = ConfigFault("spool.slots", "would need more memory: out of memory")
    assert exit_code_of(ConfigError([fault])) == 78
    assert exit_code_of(SpoolError("x")) == exit_code_of(StorageError("x")) == 75


def test_a_cyclic_cause_terminates() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not is_transient(first)


@pytest.mark.parametrize(
    ("error", "code"),
    [(MemoryError(), 75), (OSError(errno.ENFILE, "x"), 75), (ZeroDivisionError("x"), 70)],
)
def test_unexpected_errors(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
) -> None:
    from edgeinspect.cli import main as module

    def fail(*_words: object) -> None:
        raise error

    monkeypatch.setattr(module.cli, "make_context", fail)
    assert main(["version"]) == code
    err = capsys.readouterr().err
    assert ("report it" in err) == (code == 70)
    assert ("try again" in err) == (code == 75)


def units() -> list[Path]:
    return sorted((ROOT / "systemd").glob("*@.service"))


@pytest.mark.parametrize("unit", units(), ids=lambda path: path.name)
def test_units_do_not_restart_on_permanent_errors(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    (codes,) = re.findall(r"^RestartPreventExitStatus=(.*)$", text, re.MULTILINE)
    assert set(map(int, codes.split())) == {error.exit_code for error in OWN_ERRORS.values()}
    assert "StartLimitIntervalSec=0" in text


LINE = """
schema: 1
line: short
budget_ms: 2000
cameras:
  top: {{type: synthetic, rate_hz: 5, pictures: 2}}
engines:
  gate: {{type: ov, model: strip-gate}}
  segmenter: {{type: ov, model: strip-segmenter}}
optics: {{mm_per_px_x: 0.5, mm_per_px_y: 0.5}}
decide:
  gate: {{suspect_at: 0.5, reject_at: 0.99, degraded_reject_at: 0.9, reject_code: 99}}
  classes:
    pit: {{score: 0.5, area_px: 48, severity: 3, reject_code: 11}}
    inclusion: {{score: 0.5, area_px: 48, severity: 5, reject_code: 12}}
    scratch: {{score: 0.85, area_px: 48, severity: 4, reject_code: 13}}
    patch: {{score: 0.8, area_px: 48, severity: 2, reject_code: 14}}
store: {root}/engines
publish: {{verdicts: "tcp://127.0.0.1:*", replay: "tcp://127.0.0.1:*"}}
spool: {{folder: {folder}/memory}}
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("mib", [256, 600, 1024])
def test_a_start_without_enough_memory_is_retried(tmp_path: Path, mib: int) -> None:
    """Model and configuration are valid, so the error is temporary."""
    needs.library("openvino")
    path = tmp_path / "line.yaml"
    path.write_text(LINE.format(root=ROOT, folder=tmp_path), encoding="utf-8")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    try:
        done = subprocess.run(
            [sys.executable, "-m", "edgeinspect", "run", str(path)],
            cwd=ROOT,
            preexec_fn=limit,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    except subprocess.TimeoutExpired:
        pytest.skip("at this limit the line runs, or a library waits for a thread indefinitely")
    # 75; or 70 where Python itself fails to start; or an abort of a library: all are retried.
    assert done.returncode not in (0, 64, 65, 69, 73, 78), done.stderr
    if done.returncode > 0 and "edgeinspect: error" in done.stderr:
        assert done.returncode == 75, done.stderr
        assert any(remedy in done.stderr for remedy in ("try again", "Free some memory")), (
            done.stderr
        )
        assert "not installed" not in done.stderr
