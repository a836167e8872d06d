"""Who may open a session, and which inputs they may write."""

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

from edgeinspect.domain.clock import Clock
from edgeinspect.errors import DataError
from edgeinspect.plclinks._connection_limits import Allowed
from edgeinspect.plclinks._opcua.identity import Identity, uris_of
from edgeinspect.plclinks._opcua.trust import UNKNOWN, TrustList, thumbprint
from edgeinspect.system import log_events
from edgeinspect.system.log import RateLimited
from edgeinspect.system.user_file import Users

POLICIES = (
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
)
"""What is offered with a certificate; the older ones of OPC UA are broken."""

ANONYMOUS = "anonymous"
EVERY = "*"
NONE_URI = security_policies.SecurityPolicyNone.URI
_LOGINS_MAX = 8
"""Passwords that wait to be tried; each takes some 0.1 s."""
_PASSWORD_BYTES_MAX = 1_024

_log = structlog.get_logger()


class Refused(Exception):  # noqa: N818 - the protocol's own word is rejected
    """A connection that is ended with an error message."""

    def __init__(self, code: int, problem: str) -> None:
        self.code = code
        super().__init__(problem)


@dataclass(frozen=True)
class User:
    """Whom a session belongs to."""

    name: str
    writes: frozenset[str]
    """Inputs that may be written; `*` for all."""
    role: UserRole = UserRole.User
    """What asyncua looks at: nobody from outside is its administrator."""

    def may_write(self, tag: str) -> bool:
        return EVERY in self.writes or tag in self.writes


NOBODY = User("", frozenset(), UserRole.Anonymous)


class Access:
    """The rules of one server. For the server's one event loop."""

    def __init__(
        self,
        identity: Identity | None,
        trust: TrustList,
        users: Path | None,
        clock: Clock,
        *,
        anonymous: bool,
        write: Mapping[str, Sequence[str]],
        allowed: Allowed,
    ) -> None:
        """Without an identity there is no security: everybody who may connect may do all."""
        self.identity = identity
        self.allowed = allowed
        self.refused = 0
        """Connections, logins and requests that were turned away."""
        self.faults = 0
        """Requests of others that raised something nobody had thought of."""
        self._trust = trust
        self._users = Users(users) if users is not None else None
        self._anonymous = anonymous
        self._write = {name: frozenset(tags) for name, tags in write.items()}
        self._quiet = {
            what: RateLimited(_log, clock)
            for what in ("connection", "certificate", "login", "request", "fault")
        }
        self._logins = asyncio.Semaphore(1)
        self._waiting = 0

    @property
    def secure(self) -> bool:
        """True if only encrypted sessions are opened."""
        return self.identity is not None

    @property
    def tokens(self) -> list[type]:
        """What a client may prove itself with, in asyncua's types."""
        tokens: list[type] = []
        if not self.secure or self._anonymous:
            tokens.append(ua.AnonymousIdentityToken)
        if self.secure and self._users is not None:
            tokens.append(ua.UserNameIdentityToken)
        return tokens

    def turn_away(self, what: str, problem: str, **fields: Any) -> None:
        """Count and log a refusal."""
        self.refused += 1
        self._quiet[what].warning(
            log_events.PEER_REFUSED,
            problem=f"{what}: {problem}"[:300],
            refused=self.refused,
            **fields,
        )

    def note_fault(self, problem: BaseException, address: str) -> None:
        """Count and log an error that a client's bytes made; nothing ends by it."""
        self.faults += 1
        words = f"{type(problem).__name__}: {problem}"[:300]
        self._quiet["fault"].error(
            log_events.PEER_FAILED, problem=words, address=address, faults=self.faults
        )

    # -- channels -------------------------------------------------------------------

    async def admit_channel(self, head: Any, address: str) -> None:
        """Whether an OpenSecureChannel may go on.

        Raises:
            Refused: The policy is not offered, or the certificate is not trusted.
        """
        if head.SecurityPolicyURI == NONE_URI:
            return  # for discovery; sessions on it are refused where there is a certificate
        identity = self.identity
        offered = {security_policies.SECURITY_POLICY_TYPE_MAP[each][0].URI for each in POLICIES}
        if identity is None or head.SecurityPolicyURI not in offered:
            problem = f"security policy {str(head.SecurityPolicyURI)[-60:]} is not offered"
            raise Refused(ua.StatusCodes.BadSecurityPolicyRejected, problem)
        try:
            certificate = uacrypto.x509_from_der(head.SenderCertificate)
            der = uacrypto.der_from_x509(certificate)
            name = certificate.subject.rfc4514_string()[:100]
        except Exception as error:  # hostile bytes; the library raises many things
            raise Refused(
                ua.StatusCodes.BadSecurityChecksFailed, f"no certificate: {error}"
            ) from error
        if not der:
            raise Refused(ua.StatusCodes.BadSecurityChecksFailed, "no certificate was sent")
        ours = bytes.fromhex(thumbprint(identity.der))
        if head.ReceiverCertificateThumbPrint != ours:
            problem = "the client holds another certificate of this server"
            raise Refused(ua.StatusCodes.BadCertificateInvalid, problem)
        problem = await asyncio.to_thread(self._trust.judge, der)
        if problem:
            if problem == UNKNOWN:
                await asyncio.to_thread(self._trust.keep_rejected, der)
            self.turn_away(
                "certificate", problem, thumbprint=thumbprint(der), name=name, address=address
            )
            raise Refused(ua.StatusCodes.BadSecurityChecksFailed, "")

    def still_trusts(self, der: bytes | None) -> bool:
        """False once a certificate was taken out of the folder, or has expired. Reads files."""
        return not self.secure or (der is not None and not self._trust.judge(der))

    def check_client(self, params: Any, peer_certificate: bytes | None) -> None:
        """Whether a CreateSession belongs to the channel it came by.

        Raises:
            ua.UaStatusCodeError: Another certificate, or an ApplicationUri that is not its.
        """
        if not self.secure:
            return
        sent = uacrypto.der_from_x509(uacrypto.x509_from_der(params.ClientCertificate))
        if peer_certificate is None or sent != peer_certificate:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadCertificateInvalid)
        uris = uris_of(uacrypto.x509_from_der(peer_certificate))
        if params.ClientDescription.ApplicationUri not in uris:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadCertificateUriInvalid)

    # -- users ----------------------------------------------------------------------

    async def identify(self, token: Any, nonce: bytes | None, policy: Any, address: str) -> User:
        """Who activates a session.

        Raises:
            ua.UaStatusCodeError: Nobody who is let in.
        """
        if isinstance(token, ua.ExtensionObject) and token.TypeId == ua.NodeId(
            ua.ObjectIds.Null
        ):  # an empty token means anonymous: Part 4, 5.6.3
            token = ua.AnonymousIdentityToken()
        if not isinstance(token, tuple(self.tokens)):
            kind = type(token).__name__.removesuffix("IdentityToken").lower()
            self.turn_away("login", f"{kind} is not let in", address=address)
            raise ua.UaStatusCodeError(ua.StatusCodes.BadIdentityTokenRejected)
        if isinstance(token, ua.AnonymousIdentityToken):
            return self._user(ANONYMOUS)
        name = str(getattr(token, "UserName", ""))[:64]
        try:
            password = self._decrypt(token, nonce, policy)
        except Exception as error:  # a padding error must look as any other
            self.turn_away("login", "the password cannot be read", user=name, address=address)
            raise ua.UaStatusCodeError(ua.StatusCodes.BadUserAccessDenied) from error
        if not await self._is_right(name, password):
            self.turn_away("login", "user or password is wrong", user=name, address=address)
            raise ua.UaStatusCodeError(ua.StatusCodes.BadUserAccessDenied)
        return self._user(name)

    def _user(self, name: str) -> User:
        everything = frozenset({EVERY}) if not self.secure else frozenset()
        return User(name, self._write.get(name, everything))

    async def _is_right(self, name: str, password: str) -> bool:
        assert self._users is not None
        if self._waiting >= _LOGINS_MAX:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyOperations)
        self._waiting += 1
        try:
            async with self._logins:
                return await asyncio.to_thread(self._users.check, name, password) is not None
        except (DataError, ValueError) as error:
            self.turn_away("login", str(error), user=name)
            return False
        finally:
            self._waiting -= 1

    def _decrypt(self, token: Any, nonce: bytes | None, policy: Any) -> str:
        """The password of a token that was encrypted for this session; raises for all else.

        Source: OPC UA Part 4, 7.40.2.2: length, password, the server's last nonce.
        """
        assert self.identity is not None
        assert nonce
        if token.EncryptionAlgorithm != policy.AsymmetricEncryptionURI:
            raise ValueError("is not encrypted as the policy wants")
        sha256 = token.EncryptionAlgorithm.endswith("rsa-oaep-sha2-256")
        decrypt = uacrypto.decrypt_rsa_oaep_sha256 if sha256 else uacrypto.decrypt_rsa_oaep
        block = self.identity.key.key_size // 8
        secret: bytes = token.Password
        if not 0 < len(secret) <= _PASSWORD_BYTES_MAX or len(secret) % block:
            raise ValueError("has no whole number of blocks")
        plain = b"".join(
            decrypt(self.identity.key, secret[at : at + block])
            for at in range(0, len(secret), block)
        )
        (size,) = struct.unpack_from("<I", plain)
        body = plain[4 : 4 + size]
        if len(body) != size or not hmac.compare_digest(body[-len(nonce) :], nonce):
            raise ValueError("was not made for this session")
        return body[: -len(nonce)].decode()
