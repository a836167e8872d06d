from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeinspect.cli.main import main
from edgeinspect.system import log
from tests import needs

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _close_log() -> Iterator[None]:
    yield
    log.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of uvicorn
def test_an_address_in_use_is_one_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    needs.library("uvicorn")
    file = tmp_path / "hmi.yaml"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        file.write_text(f"schema: 1\nline: {ROOT}/examples/folder.yaml\nbind: {bind}\n")
        assert main(["hmi", str(file), "--log-level", "error"]) == 75
    err = capfd.readouterr().err
    assert err.startswith(f"edgeinspect: error: {bind}: the address cannot be bound: ")
    assert err.count("\n") == 1
