"""Targets: certificates and revocation lists of OPC UA, in its folders and from clients."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from edgeinspect.plclinks._opcua.identity import certificate_uris, read_certificate
from edgeinspect.plclinks._opcua.trust import TrustList
from tests.fuzz.target import Target
from tests.opcua_harness import make_certificate_pair


def _made() -> tuple[bytes, bytes, bytes]:
    """An authority, a client that it has signed, and a list that revokes nobody."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = make_certificate_pair(folder, "ca", uri=None, authority=True, signs=True)
        client = make_certificate_pair(folder, "client", issuer=authority)
        key = load_pem_private_key(authority.key.read_bytes(), None)
        issuer = x509.load_der_x509_certificate(authority.certificate.read_bytes()).subject
        now = datetime.datetime.now(datetime.timezone.utc)
        revoked = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer)
            .last_update(now)
            .next_update(now + datetime.timedelta(days=9))
            .sign(key, hashes.SHA256())  # type: ignore[arg-type]
        )
        return (
            authority.certificate.read_bytes(),
            client.certificate.read_bytes(),
            revoked.public_bytes(Encoding.DER),
        )


_AUTHORITY, _CLIENT, _REVOKED = _made()


def _folder(root: Path, *, trusted: bytes = _AUTHORITY, revoked: bytes = _REVOKED) -> Path:
    for name, data in (("trusted/a.der", trusted), ("crl/a.crl", revoked)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def trusted(data: bytes, folder: Path) -> None:
    TrustList(_folder(folder, trusted=data)).check(_CLIENT)


def revoked(data: bytes, folder: Path) -> None:
    TrustList(_folder(folder, revoked=data)).check(_CLIENT)


def shown(data: bytes, folder: Path) -> None:
    """By a client that wants in; nothing of it may be trusted but itself."""
    judged = TrustList(_folder(folder))
    assert judged.check(data) or data == _CLIENT
    judged.save_rejected(data)


def own(data: bytes, folder: Path) -> None:
    path = folder / "own.der"
    path.write_bytes(data)
    certificate_uris(read_certificate(path, "link.certificate"))


TARGETS = [
    Target("OPC UA: trusted certificate", trusted, [_AUTHORITY, _CLIENT]),
    Target("OPC UA: revocation list", revoked, [_REVOKED]),
    Target("OPC UA: client's certificate", shown, [_CLIENT]),
    Target("OPC UA: own certificate", own, [_CLIENT]),
]
