"""The trusted client certificates: a folder with the layout of other OPC UA servers.

    <pki>/trusted/    certificates of clients, or of the authority that issues them (DER or PEM)
    <pki>/crl/        revocation lists of such authorities
    <pki>/rejected/   certificates that were rejected, by thumbprint

Moving a file from `rejected` to `trusted` trusts that client; a restart is not needed.
"""

from __future__ import annotations

import hashlib
import threading
from datetime import datetime, timezone
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from edgeinspect.errors import OutputError, UsageError
from edgeinspect.plclinks._opcua.identity import (
    CERTIFICATE_BYTES_MAX,
    KEY_BITS_MAX,
    KEY_BITS_MIN,
    certificate_uris,
    parse_certificate,
)
from edgeinspect.system import FileReadError, log_events, read_regular

UNKNOWN_CERTIFICATE = "unknown certificate"
REJECTED_MAX = 64
"""Certificates kept in `rejected`; one more removes the oldest."""
_FILES_MAX = 1_000

_log = structlog.get_logger()


def thumbprint(der: bytes) -> str:
    """Return the SHA-1 of a certificate, as OPC UA tools show it."""
    return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()


class TrustList:
    """The certificates of a folder. Thread-safe; its methods read files."""

    def __init__(self, folder: Path | None) -> None:
        """Use `folder`; None trusts no certificate. Invalid files are logged and ignored."""
        self._folder = folder
        self._lock = threading.Lock()
        self._last_listing: object = None
        self._trusted: frozenset[bytes] = frozenset()
        self._authorities: list[x509.Certificate] = []
        self._revoked: list[x509.CertificateRevocationList] = []

    def check(self, der: bytes) -> str:
        """Return why a certificate is rejected, as text; empty if it is trusted."""
        self._refresh()
        try:
            certificate = parse_certificate(der)
        except ValueError as error:
            return f"not a valid certificate: {error}"
        key = certificate.public_key()
        algorithm = certificate.signature_hash_algorithm
        now = datetime.now(timezone.utc)
        if not isinstance(key, RSAPublicKey) or not KEY_BITS_MIN <= key.key_size <= KEY_BITS_MAX:
            return f"its key is not RSA of {KEY_BITS_MIN} to {KEY_BITS_MAX} bits"
        if algorithm is None or isinstance(algorithm, (SHA1, MD5)):
            return "it is signed with SHA-1 or MD5"
        if der not in self._trusted and not self._is_issued(certificate, now):
            return UNKNOWN_CERTIFICATE
        if certificate.not_valid_after_utc < now:
            return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        if certificate.not_valid_before_utc > now:
            return f"not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return "revoked" if self._is_revoked(certificate) else ""

    def save_rejected(self, der: bytes) -> None:
        """Save a rejected certificate, for an engineer to check."""
        if self._folder is None:
            return
        folder = self._folder / "rejected"
        with self._lock:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"{thumbprint(der)}.der"
                if path.exists():
                    return
                kept = sorted(folder.glob("*.der"), key=lambda each: each.lstat().st_mtime_ns)
                for old in kept[: max(0, len(kept) + 1 - REJECTED_MAX)]:
                    old.unlink()
                path.write_bytes(der)
            except (OSError, ValueError):  # the rejection is logged anyway
                return

    def _is_issued(self, certificate: x509.Certificate, now: datetime) -> bool:
        for authority in self._authorities:
            if not authority.not_valid_before_utc <= now <= authority.not_valid_after_utc:
                continue
            try:
                certificate.verify_directly_issued_by(authority)
            except Exception:  # each of issuer, signature and algorithm has its own exception
                continue
            return True
        return False

    def _is_revoked(self, certificate: x509.Certificate) -> bool:
        return any(
            each.issuer == certificate.issuer
            and each.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
            for each in self._revoked
        )

    def _refresh(self) -> None:
        """Read the folder again if it changed."""
        if self._folder is None:
            return
        with self._lock:
            listing = [_list_files(self._folder / name) for name in ("trusted", "crl")]
            if listing == self._last_listing:
                return
            self._last_listing = listing
            certificates = []
            for path, *_ in listing[0]:
                try:
                    data = read_regular(path, CERTIFICATE_BYTES_MAX)
                    certificates.append(parse_certificate(data))
                except (FileReadError, ValueError) as error:
                    _log.warning(log_events.LINK_WARNED, problem=f"{path} is ignored: {error}")
            self._authorities = [each for each in certificates if _is_authority(each)]
            self._trusted = frozenset(each.public_bytes(Encoding.DER) for each in certificates)
            self._revoked = []
            for path, *_ in listing[1]:
                try:
                    self._add_revocation_list(read_regular(path, CERTIFICATE_BYTES_MAX))
                except Exception as error:  # the library has many exceptions
                    _log.warning(log_events.LINK_WARNED, problem=f"{path} is ignored: {error}")

    def _add_revocation_list(self, data: bytes) -> None:
        pem = b"-----BEGIN" in data
        found = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
        for authority in self._authorities:
            key = authority.public_key()
            if (
                found.issuer == authority.subject
                and isinstance(key, RSAPublicKey)
                and found.is_signature_valid(key)
            ):
                self._revoked.append(found)
                return
        raise ValueError("is not signed by an authority in trusted/")


def _is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may issue certificates. One with an ApplicationUri is a client's and may not,
    although tools such as openssl mark every self-signed certificate as an authority.
    """
    if certificate_uris(certificate):
        return False
    try:
        extensions = certificate.extensions
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as missing:
        return missing.oid == ExtensionOID.KEY_USAGE


def _list_files(folder: Path) -> list[tuple[Path, int, int]]:
    """Return the files of a folder with ctime and size, which show changes."""
    try:
        paths = sorted(folder.iterdir())[:_FILES_MAX]
    except OSError:  # missing: no client is trusted
        return []
    found = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # removed meanwhile
            continue
        found.append((path, status.st_ctime_ns, status.st_size))
    return found


def trust_certificate(folder: Path, prefix: str) -> Path:
    """Move a certificate from `rejected` to `trusted`; return its new path.

    Args:
        folder: The pki.
        prefix: Its thumbprint, or the first 8 digits or more.

    Raises:
        UsageError: No rejected certificate, or more than one, has this thumbprint.
        OutputError: It cannot be moved.
    """
    rejected = folder / "rejected"
    prefix = prefix.replace(":", "").replace(" ", "").upper()
    known = sorted(path for path in rejected.glob("*.der") if path.stem.startswith(prefix))
    if len(known) != 1 or len(prefix) < 8:
        names = ", ".join(sorted(path.stem for path in rejected.glob("*.der"))) or "none"
        raise UsageError(
            f"{len(known)} rejected certificates have this thumbprint"
            if known
            else "no rejected certificate has this thumbprint",
            where=prefix,
            remedy=f"Use 8 digits or more of one of: {names}",
        )
    target = folder / "trusted" / known[0].name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return known[0].replace(target)
    except OSError as error:
        raise OutputError(f"cannot be moved: {error.strerror}", where=str(known[0])) from error
