"""The TLS certificate: validation at the start, and renewal while running."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from edgeinspect.cli.main import main
from edgeinspect.errors import ConfigError, DataError
from edgeinspect.services.hmi.http.tls import RenewableCertificate, TlsConfig, load_tls_context
from tests import needs
from tests.unit.services.hmi.builders import write_hmi_config

OPENSSL = needs.program("openssl")


def issue(folder: Path, name: str = "page", *, password: str = "") -> TlsConfig:
    """Write a self-signed certificate and its key with mode 0600."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    secret = ["-passout", f"pass:{password}"] if password else ["-nodes"]
    subprocess.run(
        [
            OPENSSL,
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            *secret,
        ],
        check=True,
        capture_output=True,
    )
    key.chmod(0o600)
    return TlsConfig(certificate=str(certificate), key=str(key))


def test_loads_a_valid_pair(tmp_path: Path) -> None:
    context = load_tls_context(issue(tmp_path))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_refuses_a_world_readable_key(tmp_path: Path) -> None:
    tls = issue(tmp_path)
    for mode, good in ((0o644, False), (0o604, False), (0o640, True), (0o400, True)):
        os.chmod(tls.key, mode)
        if good:
            load_tls_context(tls)
        else:
            with pytest.raises(DataError, match="chmod 600"):
                load_tls_context(tls)


def test_names_the_unusable_file(tmp_path: Path) -> None:
    one, other = issue(tmp_path, "one"), issue(tmp_path, "other")
    with pytest.raises(DataError, match="is not the key of"):
        load_tls_context(TlsConfig(certificate=one.certificate, key=other.key))
    with pytest.raises(DataError, match="password"):
        load_tls_context(issue(tmp_path, "locked", password="secret"))
    with pytest.raises(DataError, match="cannot be read"):
        load_tls_context(TlsConfig(certificate=str(tmp_path / "none.pem"), key=one.key))
    for name, data in (("empty", b""), ("text", b"no PEM"), ("half", b"-----BEGIN PRIVATE KEY---")):
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
        with pytest.raises(DataError, match="contains nothing"):
            load_tls_context(TlsConfig(certificate=one.certificate, key=str(tmp_path / name)))
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(DataError, match="is not a file"):
        load_tls_context(TlsConfig(certificate=one.certificate, key=str(tmp_path / "pipe")))
    (tmp_path / "large").write_bytes(b"x" * (2 << 20))
    with pytest.raises(DataError, match="too large"):
        load_tls_context(TlsConfig(certificate=str(tmp_path / "large"), key=one.key))


def test_service_does_not_start_with_an_unusable_pair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tls = issue(tmp_path)
    os.chmod(tls.key, 0o644)
    file = write_hmi_config(tmp_path, tls={"certificate": tls.certificate, "key": tls.key})
    assert main(["hmi", str(file)]) == 78
    assert f"chmod 600 {tls.key}" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        RenewableCertificate(tls)


async def shown(context: ssl.SSLContext, name: str | None) -> bytes:
    """Return the certificate of a handshake, with or without SNI."""
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE

    def handshake() -> bytes:
        plain = socket.create_connection(("127.0.0.1", port), 20)
        with client.wrap_socket(plain, server_hostname=name) as secure:
            return secure.getpeercert(binary_form=True) or b""

    try:
        return await asyncio.get_running_loop().run_in_executor(None, handshake)
    finally:
        server.close()


@pytest.mark.parametrize("name", ["line-7", None])
def test_reloads_a_renewed_pair(tmp_path: Path, name: str | None) -> None:
    async def run() -> None:
        tls = issue(tmp_path)
        certificate = RenewableCertificate(tls)
        before = await shown(certificate.context, name)
        issue(tmp_path)
        await certificate.reload()
        after = await shown(certificate.context, name)
        assert before != after
        assert after == ssl.PEM_cert_to_DER_cert(Path(tls.certificate).read_text())

    asyncio.run(run())


def test_failed_renewal_keeps_the_current_pair_and_raises_an_alarm(tmp_path: Path) -> None:
    async def run() -> None:
        tls = issue(tmp_path)
        good = {path: Path(path).read_bytes() for path in (tls.certificate, tls.key)}
        certificate = RenewableCertificate(tls)
        before = await shown(certificate.context, "x")
        Path(tls.certificate).write_bytes(good[tls.certificate][:200])
        await certificate.reload()
        assert certificate.alarm() == "", "it may be half written"
        await certificate.reload()
        assert "renewed certificate cannot be used" in certificate.alarm()
        assert await shown(certificate.context, "x") == before
        Path(tls.certificate).unlink()
        await certificate.reload(report_now=True)
        assert "cannot be read" in certificate.alarm()
        Path(tls.certificate).write_bytes(good[tls.certificate])
        await certificate.reload()
        assert certificate.alarm() == ""
        assert await shown(certificate.context, "x") == before
        os.chmod(tls.key, 0o644)
        await certificate.reload(report_now=True)
        assert "chmod" in certificate.alarm()

    asyncio.run(run())
