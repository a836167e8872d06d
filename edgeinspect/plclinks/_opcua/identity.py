"""The server's own certificate and key, checked on opening the link."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_private_key,
    load_pem_private_key,
)

from edgeinspect.errors import ConfigError, ConfigFault, DeviceLostError
from edgeinspect.system import FileReadError, read_regular

CERTIFICATE_BYTES_MAX = 1 << 20
KEY_BITS_MIN, KEY_BITS_MAX = 2048, 4096
"""Key sizes that the security policies allow."""
_ACL = "system.posix_acl_access"


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The certificate and key of a server."""

    certificate: x509.Certificate
    key: RSAPrivateKey
    application_uri: str
    """One of the URIs in the certificate's subjectAltName."""

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def read_identity(certificate: Path, key: Path, application_uri: str | None) -> ServerIdentity:
    """Read and check a certificate and its key.

    Args:
        certificate: DER or PEM.
        key: DER or PEM, not encrypted, readable only by its owner.
        application_uri: Which of the certificate's URIs; None for the first.

    Raises:
        ConfigError: One of the files is not valid.
        DeviceLostError: The clock is earlier than the certificate's file: it is not set yet.
    """
    made = read_certificate(certificate, "link.certificate")
    _check_times(made, certificate)
    private = _read_key(key)
    public = made.public_key()
    if not isinstance(public, RSAPublicKey) or public.public_numbers() != (
        private.public_key().public_numbers()
    ):
        _raise_fault("link.private_key", f"is not the key of the certificate {certificate}", key)
    return ServerIdentity(made, private, _choose_uri(made, certificate, application_uri))


def read_certificate(path: Path, where: str) -> x509.Certificate:
    """Read one certificate of a DER or PEM file.

    Raises:
        ConfigError: The file cannot be read, or does not contain a certificate.
    """
    try:
        return parse_certificate(read_regular(path, CERTIFICATE_BYTES_MAX))
    except FileReadError as error:
        _raise_fault(where, error.what, path)
    except ValueError as error:
        _raise_fault(where, f"is not a certificate in DER or PEM: {error}", path)


def parse_certificate(data: bytes) -> x509.Certificate:
    """Parse one certificate, including its key, algorithm and extensions.

    The library parses these on access, with a different exception for each.

    Raises:
        ValueError: Not a certificate, or with content that the library cannot parse.
    """
    pem = b"-----BEGIN CERT" in data
    try:
        made = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
        made.public_key()
        for _read in (
            made.signature_hash_algorithm,
            made.extensions,
            made.issuer,
            made.subject,
            made.not_valid_before_utc,
            made.not_valid_after_utc,
        ):
            pass
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error
    return made


def certificate_uris(certificate: x509.Certificate) -> list[str]:
    """Return the URIs of its subjectAltName; empty if it has none.

    Source: OPC UA Part 6, 6.2.2: it contains the ApplicationUri.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(names.value.get_values_for_type(x509.UniformResourceIdentifier))


def _choose_uri(certificate: x509.Certificate, path: Path, wanted: str | None) -> str:
    uris = certificate_uris(certificate)
    if not uris:
        _raise_fault(
            "link.certificate",
            "has no ApplicationUri: clients reject a server whose certificate has no URI in its "
            "subjectAltName. Create it with -addext subjectAltName=URI:urn:PLANT:LINE,DNS:HOST",
            path,
        )
    if wanted is None:
        return uris[0]
    if wanted not in uris:
        problem = f"is not in the certificate, whose subjectAltName has {', '.join(uris)}"
        _raise_fault("link.application_uri", problem, wanted)
    return wanted


def _check_times(certificate: x509.Certificate, path: Path) -> None:
    now = datetime.now(timezone.utc)
    if certificate.not_valid_after_utc < now:
        _raise_fault(
            "link.certificate", f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}", path
        )
    valid_from = certificate.not_valid_before_utc
    if valid_from > now:
        if path.stat().st_mtime > now.timestamp():
            raise DeviceLostError(
                f"is valid from {valid_from:%Y-%m-%d}, but the clock is {now:%Y-%m-%d %H:%M} UTC, "
                "before the file was written",
                where=str(path),
                remedy="Set the clock; the gateway retries",
            )
        _raise_fault(
            "link.certificate", f"is not valid before {valid_from:%Y-%m-%d %H:%M} UTC", path
        )


def _read_key(path: Path) -> RSAPrivateKey:
    where = "link.private_key"
    try:
        data = read_regular(path, CERTIFICATE_BYTES_MAX)
        mode = path.stat().st_mode
        # With an access list (systemd's credentials) the group's bits are its mask.
        if mode & 0o007 or (mode & 0o070 and _ACL not in os.listxattr(path)):
            fix = f"chmod 600 {shlex.quote(str(path))}"
            _raise_fault(where, f"can be read by others than its owner: {fix}", path)
        load = load_pem_private_key if b"-----BEGIN" in data else load_der_private_key
        key = load(data, password=None)
    except FileReadError as error:
        _raise_fault(where, error.what, path)
    except TypeError:
        problem = "is encrypted, and there is no prompt for a passphrase: store it without one "
        fix = f"openssl pkey -in {shlex.quote(str(path))} -out FILE"
        _raise_fault(where, f"{problem}({fix})", path)
    except ValueError as error:
        _raise_fault(where, f"is not a private key in DER or PEM: {error}", path)
    if not isinstance(key, RSAPrivateKey) or not KEY_BITS_MIN <= key.key_size <= KEY_BITS_MAX:
        _raise_fault(where, f"must be RSA of {KEY_BITS_MIN} to {KEY_BITS_MAX} bits", path)
    return key


def _raise_fault(path: str, problem: str, value: Path | str) -> NoReturn:
    raise ConfigError([ConfigFault(path, problem, str(value))])
