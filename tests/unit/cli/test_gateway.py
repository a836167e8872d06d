from __future__ import annotations

from pathlib import Path

import pytest

from edgeinspect.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
GOOD = "schema: 1\ngateway: plc-1\nfeed: {line: press}\n"


def test_an_invalid_file_lists_its_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(GOOD + "link: {type: profinet}\ncursor: x\n")
    assert main(["gateway", str(file)]) == 78
    assert "no such link; there are: modbus, mqtt, opcua, s7" in capsys.readouterr().err


def test_check_reads_the_file_and_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(GOOD + f"link: {{type: modbus, port: 0}}\ncursor: {tmp_path / 'j'}\n")
    assert main(["gateway", str(file), "--check"]) == 0
    assert capsys.readouterr().out == "the file is valid: modbus, line press\n"
    assert list(tmp_path.iterdir()) == [file]
    assert main(["gateway", str(file), "--check", "--trust", "ab"]) == 64
    file.write_text(GOOD + "link: {type: modbus, port: -1}\ncursor: x\nfeeed: 1\n")
    assert main(["gateway", str(file), "--check"]) == 78
    err = capsys.readouterr().err
    assert "feeed" in err
    assert "port" in err


@pytest.mark.parametrize("words", [["hmi", "hmi.yaml"], ["archive", "run", "archive.yaml"]])
def test_hmi_and_archive_are_checked_alike(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*words[:-1], str(ROOT / "examples" / words[-1]), "--check"]
    assert main(command) == 0
    assert capsys.readouterr().out == "the file is valid: line strip\n"


def test_a_missing_library_names_the_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("snap7", "snap7.client"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    file = tmp_path / "gateway.yaml"
    link = "link: {type: s7, host: h, output_db: 1, input_db: 2}\n"
    file.write_text(GOOD + link + f"cursor: {tmp_path / 'j'}\n")
    assert main(["gateway", str(file)]) == 69
    assert "edgeinspect[plc]" in capsys.readouterr().err


def test_another_kind_of_file_as_journal_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "j").write_text("something else, long enough to be a header of a journal")
    file = tmp_path / "gateway.yaml"
    file.write_text(GOOD + f"link: {{type: modbus, port: 0}}\ncursor: {tmp_path / 'j'}\n")
    assert main(["gateway", str(file)]) == 65
    assert "is not a gateway's journal" in capsys.readouterr().err


def test_a_port_in_use_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        file = tmp_path / "gateway.yaml"
        link = f"link: {{type: modbus, port: {taken.getsockname()[1]}}}\n"
        file.write_text(GOOD + link + f"cursor: {tmp_path / 'j'}\n")
        assert main(["gateway", str(file)]) == 75  # it may be free in a moment
    assert "link.port: cannot listen" in capsys.readouterr().err
