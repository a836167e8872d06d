"""Key files, and `edgeinspect keys` with its exit codes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeinspect.cli.main import main
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.errors import DataError, OutputError, UsageError
from edgeinspect.wire import curve_keys
from edgeinspect.wire.curve_authenticator import CurveAuthenticator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    curve_keys.create_server_keys(tmp_path / "keys")
    return tmp_path / "keys"


def test_only_the_owner_can_read_the_secret_key_for_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        public, secret = curve_keys.create_key_pair(tmp_path, "gateway-1")
    finally:
        os.umask(before)
    assert secret.stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644
    assert b"secret-key" not in public.read_bytes()


def test_keys_are_never_overwritten(folder: Path) -> None:
    kept = (folder / "server.key_secret").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        curve_keys.create_server_keys(folder)
    assert (folder / "server.key_secret").read_bytes() == kept


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a" * 65, "a\nb"])
def test_a_key_name_is_not_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="not a valid key name"):
        curve_keys.create_key_pair(tmp_path, name)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o602])
def test_a_secret_that_others_can_read_is_refused(folder: Path, mode: int) -> None:
    secret = folder / "server.key_secret"
    secret.chmod(mode)
    with pytest.raises(DataError, match=r"read by others.*chmod 600"):
        CurveAuthenticator(folder, ManualClock())
    secret.chmod(0o400)
    CurveAuthenticator(folder, ManualClock())


def test_clients_are_read_from_the_folder(folder: Path, tmp_path: Path) -> None:
    public, secret = curve_keys.create_key_pair(tmp_path, "gateway-1")
    curve_keys.add_client(folder, public)
    curve_keys.add_client(folder, public, "also")
    key = curve_keys.read_key_file(public)[0].decode()
    assert curve_keys.read_clients(folder) == {"also": key, "gateway-1": key}
    with pytest.raises(DataError, match=r"Give the public file"):
        curve_keys.add_client(folder, secret, "x")
    assert "x" not in curve_keys.read_clients(folder)
    assert "secret" not in (folder / "clients" / "gateway-1.key").read_text()


@pytest.mark.parametrize(
    "text", ["", "nothing", 'curve\n public-key = "short"\n', f'public-key = "{"~" * 40}"\n']
)
def test_a_file_without_a_key_is_refused(folder: Path, tmp_path: Path, text: str) -> None:
    bad = tmp_path / "bad.key"
    bad.write_text(text)
    with pytest.raises(DataError, match="is not a key"):
        curve_keys.add_client(folder, bad)


def test_an_invalid_file_in_the_folder_does_not_affect_other_clients(
    folder: Path, tmp_path: Path
) -> None:
    good = curve_keys.add_client(folder, curve_keys.create_key_pair(tmp_path, "good")[0])
    (folder / "clients" / "bad.key").write_text("half a fi")
    endpoint = CurveAuthenticator(folder, ManualClock())
    key = curve_keys.read_key_file(good)[0].decode()
    assert endpoint.is_authorized(key)
    assert not endpoint.is_authorized("half a fi")
    good.unlink()
    endpoint.refresh()
    assert not endpoint.is_authorized(key)
    assert endpoint.rejected_count == 2


def test_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folder, own = str(tmp_path / "keys"), str(tmp_path / "own")
    assert main(["keys", "new", folder]) == 0
    assert f"publish.curve: {folder}" in capsys.readouterr().out
    assert main(["keys", "new", own, "--client", "hmi"]) == 0
    assert main(["keys", "allow", folder, f"{own}/hmi.key", "--client", "hmi"]) == 0
    capsys.readouterr()
    assert main(["keys", "list", folder]) == 0
    out = capsys.readouterr().out
    assert "hmi" in out
    assert curve_keys.read_clients(Path(folder))["hmi"] in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["new", "{0}/keys"], 73, "exists already"),
        (["new", "{0}", "--client", "a/b"], 64, "not a valid key name"),
        (["allow", "{0}/keys", "{0}/absent.key"], 65, "there is no such file"),
        (["allow", "{0}/keys", "{0}/keys/server.key_secret"], 65, "secret"),
        (["list", "{0}/absent"], 65, "there is no such file"),
        (["lock"], 64, "lock"),
    ],
)
def test_exit_codes(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    assert main(["keys", *(word.format(tmp_path) for word in arguments)]) == code
    assert message in capsys.readouterr().err


def test_a_credential_of_the_unit_takes_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve_keys.create_server_keys(tmp_path / "folder")
    curve_keys.create_server_keys(tmp_path / "given")
    of_folder = curve_keys.read_server_keys(tmp_path / "folder")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "given"))
    assert curve_keys.read_server_keys(tmp_path / "folder") == curve_keys.read_server_keys(
        tmp_path / "given"
    )
    (tmp_path / "given" / "server.key_secret").write_text("none\n", encoding="utf-8")
    assert curve_keys.read_server_keys(tmp_path / "folder") == of_folder
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "nowhere"))
    assert curve_keys.read_server_keys(tmp_path / "folder") == of_folder
