from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edgeinspect import registry
from edgeinspect.errors import ConfigError, DeviceLostError, UsageError
from tests.opcua_harness import DAY, make_certificate_pair

skip_reason = registry.missing_reason("plclink", "opcua")
pytestmark = pytest.mark.skipif(bool(skip_reason), reason=f"link opcua: {skip_reason}")


def read(certificate: Path, key: Path, uri: str | None = None) -> str:
    from edgeinspect.plclinks._opcua.identity import read_identity

    return read_identity(certificate, key, uri).application_uri


def problem(certificate: Path, key: Path, uri: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read(certificate, key, uri)
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_the_application_uri_is_one_of_the_certificate(tmp_path: Path) -> None:
    pair = make_certificate_pair(tmp_path, "server")
    assert read(pair.certificate, pair.key) == "urn:test:server"
    assert read(pair.certificate, pair.key, "urn:test:server") == "urn:test:server"
    assert "urn:test:server" in problem(pair.certificate, pair.key, "urn:other")
    bare = make_certificate_pair(tmp_path, "bare", uri=None)
    assert "subjectAltName" in problem(bare.certificate, bare.key)


def test_times(tmp_path: Path) -> None:
    old = make_certificate_pair(tmp_path, "old", begins=-9 * DAY, ends=-DAY)
    assert "expired" in problem(old.certificate, old.key)
    young = make_certificate_pair(tmp_path, "young", begins=DAY)
    assert "not valid before" in problem(young.certificate, young.key)
    # A clock earlier than the file is not set yet: systemd must retry.
    later = time.time() + 3600
    os.utime(young.certificate, (later, later))
    with pytest.raises(DeviceLostError) as caught:
        read(young.certificate, young.key)
    assert caught.value.exit_code == 75


def test_the_key_belongs_to_the_certificate_and_is_private(tmp_path: Path) -> None:
    pair, other = (
        make_certificate_pair(tmp_path, "server"),
        make_certificate_pair(tmp_path, "other"),
    )
    assert "is not the key of the certificate" in problem(pair.certificate, other.key)
    for mode in (0o640, 0o604, 0o644):
        pair.key.chmod(mode)
        assert f"chmod 600 {pair.key}" in problem(pair.certificate, pair.key)
    weak = make_certificate_pair(tmp_path, "weak", bits=1024)
    assert "RSA of 2048" in problem(weak.certificate, weak.key)


def test_an_encrypted_key(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    pair = make_certificate_pair(tmp_path, "server")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
    )
    assert "is encrypted" in problem(pair.certificate, pair.key)


def test_invalid_files(tmp_path: Path) -> None:
    pair = make_certificate_pair(tmp_path, "server")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    junk = tmp_path / "junk"
    junk.write_bytes(b"\x30\x82" + os.urandom(300))
    junk.chmod(0o600)
    for path in (pipe, junk, tmp_path / "absent", tmp_path):
        assert "certificate" in problem(path, pair.key)
        assert "private_key" in problem(pair.certificate, path)


def test_the_folder_of_trusted_certificates(tmp_path: Path) -> None:
    from edgeinspect.plclinks._opcua.trust import TrustList, thumbprint, trust_certificate

    pki = tmp_path / "pki"
    trust = TrustList(pki)
    pair = make_certificate_pair(tmp_path, "client")
    der = pair.certificate.read_bytes()
    assert trust.check(der) == "unknown certificate"
    trust.save_rejected(der)
    with pytest.raises(UsageError):
        trust_certificate(pki, thumbprint(der)[:7])
    moved = trust_certificate(pki, thumbprint(der)[:10].lower())
    assert moved.parent.name == "trusted"
    assert trust.check(der) == ""
    moved.unlink()
    assert trust.check(der) == "unknown certificate"
    (pki / "trusted" / "junk.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nx")
    (pki / "trusted" / "folder").mkdir()
    with capture_logs() as logs:
        assert trust.check(der) == "unknown certificate"
        assert trust.check(der) == "unknown certificate"
    assert [each["event"] for each in logs] == ["link.warned"] * 2, "each invalid file once"


def test_an_authority_issues_and_revokes(tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    from edgeinspect.plclinks._opcua.trust import TrustList

    pki = tmp_path / "pki"
    (pki / "trusted").mkdir(parents=True)
    root = make_certificate_pair(tmp_path, "root", uri=None, authority=True)
    (pki / "trusted" / "root.der").write_bytes(root.certificate.read_bytes())
    trust = TrustList(pki)
    issued = make_certificate_pair(tmp_path, "issued", issuer=root)
    der = issued.certificate.read_bytes()
    assert trust.check(der) == ""
    # A trusted client certificate does not make its issued ones trusted.
    client = make_certificate_pair(tmp_path, "client")
    (pki / "trusted" / "client.der").write_bytes(client.certificate.read_bytes())
    forged = make_certificate_pair(tmp_path, "forged", issuer=client).certificate.read_bytes()
    assert trust.check(forged) == "unknown certificate"
    # Even if the tool has marked it as an authority, as `openssl req -x509` does.
    client = make_certificate_pair(tmp_path, "both", authority=True)
    (pki / "trusted" / "both.der").write_bytes(client.certificate.read_bytes())
    assert trust.check(client.certificate.read_bytes()) == ""
    forged = make_certificate_pair(tmp_path, "forged2", issuer=client).certificate.read_bytes()
    assert trust.check(forged) == "unknown certificate"
    # An authority whose key may not sign certificates does not count.
    other = make_certificate_pair(tmp_path, "signer", uri=None, authority=True, signs=False)
    (pki / "trusted" / "signer.der").write_bytes(other.certificate.read_bytes())
    forged = make_certificate_pair(tmp_path, "forged3", issuer=other).certificate.read_bytes()
    assert trust.check(forged) == "unknown certificate"
    key = serialization.load_pem_private_key(root.key.read_bytes(), None)
    certificate = x509.load_der_x509_certificate(der)
    revoked = (
        x509.RevokedCertificateBuilder()
        .serial_number(certificate.serial_number)
        .revocation_date(certificate.not_valid_before_utc)
        .build()
    )
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.issuer)
        .last_update(certificate.not_valid_before_utc)
        .next_update(certificate.not_valid_after_utc)
        .add_revoked_certificate(revoked)
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    (pki / "crl").mkdir()
    (pki / "crl" / "root.crl").write_bytes(made.public_bytes(serialization.Encoding.DER))
    assert trust.check(der) == "revoked"


def test_expired_weak_and_invalid_certificates(tmp_path: Path) -> None:
    from edgeinspect.plclinks._opcua.trust import TrustList

    pki = tmp_path / "pki"
    (pki / "trusted").mkdir(parents=True)
    trust = TrustList(pki)
    for name, pair in {
        "expired": make_certificate_pair(tmp_path, "old", begins=-9 * DAY, ends=-DAY),
        "not valid before": make_certificate_pair(tmp_path, "young", begins=DAY),
        "RSA": make_certificate_pair(tmp_path, "weak", bits=1024),
    }.items():
        der = pair.certificate.read_bytes()
        (pki / "trusted" / pair.certificate.name).write_bytes(der)
        assert name in trust.check(der)
    assert trust.check(b"\x30\x03junk").startswith("not a valid certificate")
    assert trust.check(b"").startswith("not a valid certificate")


def test_the_number_of_rejected_certificates_is_limited(tmp_path: Path) -> None:
    from edgeinspect.plclinks._opcua import trust as module

    trust = module.TrustList(tmp_path)
    rejected = tmp_path / "rejected"
    rejected.mkdir()
    for number in range(module.REJECTED_MAX + 5):
        (rejected / f"{number:040X}.der").write_bytes(b"x")
    trust.save_rejected(make_certificate_pair(tmp_path, "client").certificate.read_bytes())
    assert len(list(rejected.iterdir())) == module.REJECTED_MAX
