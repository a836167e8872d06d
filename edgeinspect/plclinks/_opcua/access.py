"""Access control: which clients and users may open a session, and which inputs they may write."""

from __future__ import annotations

import asyncio
import hmac
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from asyncua import ua
from asyncua.crypto import security_policies, uacrypto
from asyncua.crypto.permission_rules import UserRole

from edgeinspect.domain import Clock
from edgeinspect.errors import DataError
from edgeinspect.plclinks._connection_limits import AddressAllowlist
from edgeinspect.plclinks._opcua.identity import ServerIdentity, certificate_uris
from edgeinspect.plclinks._opcua.trust import UNKNOWN_CERTIFICATE, TrustList, thumbprint
from edgeinspect.system import RateLimitedLogger, UserFile, log_events

POLICIES = (
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
)
"""The security policies offered with a certificate; the older ones of OPC UA are insecure."""

ANONYMOUS_NAME = "anonymous"
ALL_INPUTS = "*"
NONE_URI = security_policies.SecurityPolicyNone.URI
_PENDING_LOGINS_MAX = 8
"""Logins that may wait for the check of their password, which takes about 0.1 s."""
_PASSWORD_BYTES_MAX = 1_024

_log = structlog.get_logger()


class ConnectionRejected(Exception):  # noqa: N818 - the protocol's own word is rejected
    """A connection must be closed with an error message."""

    def __init__(self, code: int, problem: str) -> None:
        self.code = code
        super().__init__(problem)


@dataclass(frozen=True)
class SessionUser:
    """The user of a session."""

    name: str
    writes: frozenset[str]
    """Inputs that may be written; `*` for all."""
    role: UserRole = UserRole.User
    """asyncua's role; no client is its administrator."""

    def may_write(self, tag: str) -> bool:
        return ALL_INPUTS in self.writes or tag in self.writes


NO_USER = SessionUser("", frozenset(), UserRole.Anonymous)


class AccessControl:
    """The access control of one server. For its event loop."""

    def __init__(
        self,
        identity: ServerIdentity | None,
        trust: TrustList,
        users: Path | None,
        clock: Clock,
        *,
        anonymous: bool,
        write: Mapping[str, Sequence[str]],
        allowlist: AddressAllowlist,
    ) -> None:
        """Create the access control; without an identity any client may write every input."""
        self.identity = identity
        self.allowlist = allowlist
        self.rejections = 0
        """Number of rejected connections, logins and requests."""
        self.errors = 0
        """Number of requests that raised an unexpected exception."""
        self._trust = trust
        self._users = UserFile(users) if users is not None else None
        self._anonymous = anonymous
        self._write = {name: frozenset(tags) for name, tags in write.items()}
        self._throttled_logs = {
            what: RateLimitedLogger(_log, clock)
            for what in ("connection", "certificate", "login", "request", "fault")
        }
        self._login_semaphore = asyncio.Semaphore(1)
        self._pending_logins = 0

    @property
    def is_secure(self) -> bool:
        """True if only encrypted sessions are opened."""
        return self.identity is not None

    @property
    def identity_tokens(self) -> list[type]:
        """The types of identity token that are accepted, of asyncua."""
        tokens: list[type] = []
        if not self.is_secure or self._anonymous:
            tokens.append(ua.AnonymousIdentityToken)
        if self.is_secure and self._users is not None:
            tokens.append(ua.UserNameIdentityToken)
        return tokens

    def report_rejection(self, what: str, problem: str, **fields: Any) -> None:
        """Count and log a rejection."""
        self.rejections += 1
        self._throttled_logs[what].warning(
            log_events.PEER_REFUSED,
            problem=f"{what}: {problem}"[:300],
            refused=self.rejections,
            **fields,
        )

    def report_error(self, problem: BaseException, address: str) -> None:
        """Count and log an unexpected exception."""
        self.errors += 1
        text = f"{type(problem).__name__}: {problem}"[:300]
        self._throttled_logs["fault"].error(
            log_events.PEER_FAILED, problem=text, address=address, faults=self.errors
        )

    # -- channels -------------------------------------------------------------------

    async def check_channel(self, head: Any, address: str) -> None:
        """Check the certificate and security policy of an OpenSecureChannel.

        Raises:
            ConnectionRejected: The policy is not offered, or the certificate is not trusted.
        """
        if head.SecurityPolicyURI == NONE_URI:
            return  # for discovery; with a certificate, sessions on it are rejected
        identity = self.identity
        offered = {security_policies.SECURITY_POLICY_TYPE_MAP[each][0].URI for each in POLICIES}
        if identity is None or head.SecurityPolicyURI not in offered:
            problem = f"security policy {str(head.SecurityPolicyURI)[-60:]} is not offered"
            raise ConnectionRejected(ua.StatusCodes.BadSecurityPolicyRejected, problem)
        try:
            certificate = uacrypto.x509_from_der(head.SenderCertificate)
            der = uacrypto.der_from_x509(certificate)
            name = certificate.subject.rfc4514_string()[:100]
        except Exception as error:  # the library has many exceptions for invalid bytes
            raise ConnectionRejected(
                ua.StatusCodes.BadSecurityChecksFailed, f"no certificate: {error}"
            ) from error
        if not der:
            raise ConnectionRejected(
                ua.StatusCodes.BadSecurityChecksFailed, "no certificate was sent"
            )
        own_thumbprint = bytes.fromhex(thumbprint(identity.der))
        if head.ReceiverCertificateThumbPrint != own_thumbprint:
            problem = "the client has another certificate of this server"
            raise ConnectionRejected(ua.StatusCodes.BadCertificateInvalid, problem)
        problem = await asyncio.to_thread(self._trust.check, der)
        if problem:
            if problem == UNKNOWN_CERTIFICATE:
                await asyncio.to_thread(self._trust.save_rejected, der)
            self.report_rejection(
                "certificate", problem, thumbprint=thumbprint(der), name=name, address=address
            )
            raise ConnectionRejected(ua.StatusCodes.BadSecurityChecksFailed, "")

    def is_still_trusted(self, der: bytes | None) -> bool:
        """Whether a certificate is still in the folder and valid. Reads files."""
        return not self.is_secure or (der is not None and not self._trust.check(der))

    def check_client(self, params: Any, peer_certificate: bytes | None) -> None:
        """Check that a CreateSession belongs to its channel.

        Raises:
            ua.UaStatusCodeError: It has another certificate, or an ApplicationUri that is not
                in the certificate.
        """
        if not self.is_secure:
            return
        sent = uacrypto.der_from_x509(uacrypto.x509_from_der(params.ClientCertificate))
        if peer_certificate is None or sent != peer_certificate:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadCertificateInvalid)
        uris = certificate_uris(uacrypto.x509_from_der(peer_certificate))
        if params.ClientDescription.ApplicationUri not in uris:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadCertificateUriInvalid)

    # -- users ----------------------------------------------------------------------

    async def authenticate(
        self, token: Any, nonce: bytes | None, policy: Any, address: str
    ) -> SessionUser:
        """Return the user of an identity token.

        Raises:
            ua.UaStatusCodeError: The token is not accepted, or the password is wrong.
        """
        if isinstance(token, ua.ExtensionObject) and token.TypeId == ua.NodeId(
            ua.ObjectIds.Null
        ):  # an empty token means anonymous: Part 4, 5.6.3
            token = ua.AnonymousIdentityToken()
        if not isinstance(token, tuple(self.identity_tokens)):
            kind = type(token).__name__.removesuffix("IdentityToken").lower()
            self.report_rejection("login", f"{kind} is not accepted", address=address)
            raise ua.UaStatusCodeError(ua.StatusCodes.BadIdentityTokenRejected)
        if isinstance(token, ua.AnonymousIdentityToken):
            return self._user(ANONYMOUS_NAME)
        name = str(getattr(token, "UserName", ""))[:64]
        try:
            password = self._decrypt(token, nonce, policy)
        except Exception as error:  # a padding error must look like any other
            self.report_rejection(
                "login", "the password cannot be read", user=name, address=address
            )
            raise ua.UaStatusCodeError(ua.StatusCodes.BadUserAccessDenied) from error
        if not await self._is_password_right(name, password):
            self.report_rejection("login", "user or password is wrong", user=name, address=address)
            raise ua.UaStatusCodeError(ua.StatusCodes.BadUserAccessDenied)
        return self._user(name)

    def _user(self, name: str) -> SessionUser:
        everything = frozenset({ALL_INPUTS}) if not self.is_secure else frozenset()
        return SessionUser(name, self._write.get(name, everything))

    async def _is_password_right(self, name: str, password: str) -> bool:
        assert self._users is not None
        if self._pending_logins >= _PENDING_LOGINS_MAX:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyOperations)
        self._pending_logins += 1
        try:
            async with self._login_semaphore:
                return await asyncio.to_thread(self._users.authenticate, name, password) is not None
        except (DataError, ValueError) as error:
            self.report_rejection("login", str(error), user=name)
            return False
        finally:
            self._pending_logins -= 1

    def _decrypt(self, token: Any, nonce: bytes | None, policy: Any) -> str:
        """Return the password of a token that was encrypted for this session, or raise.

        Source: OPC UA Part 4, 7.40.2.2: length, password, the server's last nonce.
        """
        assert self.identity is not None
        assert nonce
        if token.EncryptionAlgorithm != policy.AsymmetricEncryptionURI:
            raise ValueError("is not encrypted as the policy requires")
        sha256 = token.EncryptionAlgorithm.endswith("rsa-oaep-sha2-256")
        decrypt = uacrypto.decrypt_rsa_oaep_sha256 if sha256 else uacrypto.decrypt_rsa_oaep
        block = self.identity.key.key_size // 8
        secret: bytes = token.Password
        if not 0 < len(secret) <= _PASSWORD_BYTES_MAX or len(secret) % block:
            raise ValueError("is not a whole number of blocks")
        plain = b"".join(
            decrypt(self.identity.key, secret[at : at + block])
            for at in range(0, len(secret), block)
        )
        (size,) = struct.unpack_from("<I", plain)
        body = plain[4 : 4 + size]
        if len(body) != size or not hmac.compare_digest(body[-len(nonce) :], nonce):
            raise ValueError("was not encrypted for this session")
        return body[: -len(nonce)].decode()
