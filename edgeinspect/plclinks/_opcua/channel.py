"""The messages of a connection: which requests are allowed on its channel.

Discovery is answered on any channel; if the server has a certificate, sessions only on an
encrypted one.

Source: OPC UA Part 6, 6.7 and 7.1; asyncua/server/uaprocessor.py
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_session import SessionState
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import struct_from_binary

from edgeinspect.plclinks._connection_limits import address_of
from edgeinspect.plclinks._opcua.access import NONE_URI, AccessControl, ConnectionRejected
from edgeinspect.plclinks._opcua.limits import NODES_PER_READ, NODES_PER_REQUEST
from edgeinspect.plclinks._opcua.sessions import BoundedInternalServer, OpcUaSession

MESSAGE_BYTES_MAX = 2 << 20
"""Limit for a write, in which a long text must still get its own status."""
REQUEST_BYTES_MAX = 128 << 10
"""Limit for every other request, and for all requests before there is a session."""
ANSWER_BYTES_MAX = 8 << 20
"""Unsent responses after which the connection of a client that does not read is closed."""
BUFFER_BYTES_MIN = 8_192
"""Source: OPC UA Part 6, 7.1.2.3: the smallest buffer size."""

_IDS = ua.ObjectIds
_DISCOVERY = {
    _IDS.GetEndpointsRequest_Encoding_DefaultBinary,
    _IDS.FindServersRequest_Encoding_DefaultBinary,
    _IDS.CloseSecureChannelRequest_Encoding_DefaultBinary,
}
_CREATE = _IDS.CreateSessionRequest_Encoding_DefaultBinary
_ACTIVATE = _IDS.ActivateSessionRequest_Encoding_DefaultBinary
_CLOSE = _IDS.CloseSessionRequest_Encoding_DefaultBinary
_READ = _IDS.ReadRequest_Encoding_DefaultBinary
_WRITE = _IDS.WriteRequest_Encoding_DefaultBinary
_SERVICES = {
    getattr(_IDS, f"{name}Request_Encoding_DefaultBinary")
    for name in (
        "Read",
        "Write",
        "Browse",
        "TranslateBrowsePathsToNodeIds",
        "RegisterNodes",
        "UnregisterNodes",
        "Call",
        "HistoryRead",
        "Publish",
        "Republish",
        "CreateSubscription",
        "ModifySubscription",
        "DeleteSubscriptions",
        "TransferSubscriptions",
        "SetPublishingMode",
        "CreateMonitoredItems",
        "ModifyMonitoredItems",
        "DeleteMonitoredItems",
        "SetMonitoringMode",
        "CloseSession",
    )
}
"""The services of a session. Clients cannot add nodes or register servers."""


class SessionRegistry(Protocol):
    """All connections and sessions, as one connection uses them."""

    iserver: BoundedInternalServer
    access: AccessControl

    async def close_session_for(self, new_address: str) -> None:
        """Close a session if there are too many for a new one."""

    def disconnect_session(self, session: OpcUaSession) -> None:
        """Close the connection of a session."""


class RequestProcessor(UaProcessor):
    """The messages of one connection."""

    def __init__(self, listener: SessionRegistry, transport: Any, limits: Any) -> None:
        super().__init__(listener.iserver, transport, limits)
        self._listener = listener
        self._access: AccessControl = listener.access
        self._has_hello = False
        self.address = address_of(self.name)

    async def process(self, header: Any, body: Any) -> Any:
        """Process one chunk.

        Raises:
            ConnectionRejected: The connection must be closed.
        """
        kind = header.MessageType
        if kind == ua.MessageType.Hello:
            hello = struct_from_binary(ua.Hello, body.copy())
            smallest = min(hello.ReceiveBufferSize, hello.SendBufferSize)
            if self._has_hello or smallest < BUFFER_BYTES_MIN:
                raise ConnectionRejected(
                    ua.StatusCodes.BadTcpMessageTypeInvalid, "an invalid Hello"
                )
            self._has_hello = True
        elif not self._has_hello or kind not in _CHANNEL_MESSAGES:
            raise ConnectionRejected(
                ua.StatusCodes.BadTcpMessageTypeInvalid, "a message of unknown type"
            )
        elif kind == ua.MessageType.SecureOpen and not self._connection.is_open():
            head = struct_from_binary(ua.AsymmetricAlgorithmHeader, body.copy(header.body_size))
            await self._access.check_channel(head, self.address)
        elif not self._connection.is_open():
            raise ConnectionRejected(
                ua.StatusCodes.BadTcpSecureChannelUnknown, "no channel is open"
            )
        return await super().process(header, body)

    def open_secure_channel(self, algohdr: Any, seqhdr: Any, body: Any) -> None:
        if not self._connection.is_open():
            mode = struct_from_binary(
                ua.OpenSecureChannelRequest, body.copy()
            ).Parameters.SecurityMode
            plain = algohdr.SecurityPolicyURI == NONE_URI
            modes = ua.MessageSecurityMode
            if mode != (modes.None_ if plain else modes.SignAndEncrypt):
                raise ConnectionRejected(
                    ua.StatusCodes.BadSecurityModeRejected, "a mode that is not offered"
                )
        super().open_secure_channel(algohdr, seqhdr, body)

    def send_response(self, *args: Any, **options: Any) -> None:
        super().send_response(*args, **options)
        if self._transport.get_write_buffer_size() > ANSWER_BYTES_MAX:
            self._access.report_rejection(
                "connection", "does not read its responses", address=self.address
            )
            self._transport.abort()

    async def _process_message(self, typeid: Any, requesthdr: Any, seqhdr: Any, body: Any) -> Any:
        service = typeid.Identifier if typeid.NamespaceIndex == 0 else None
        if len(body) > (MESSAGE_BYTES_MAX if service == _WRITE else REQUEST_BYTES_MAX):
            raise ServiceError(ua.StatusCodes.BadRequestTooLarge)
        if service in _DISCOVERY:
            return await super()._process_message(typeid, requesthdr, seqhdr, body)
        if service not in {_CREATE, _ACTIVATE, *_SERVICES}:
            raise ServiceError(ua.StatusCodes.BadServiceUnsupported)
        policy = self._connection.security_policy
        if self._access.is_secure and policy.URI == NONE_URI:
            self._access.report_rejection(
                "request", "a session without encryption", address=self.address
            )
            raise ServiceError(ua.StatusCodes.BadSecurityModeInsufficient)
        if service == _ACTIVATE:
            return await self._activate_session(requesthdr, seqhdr, body)
        if service == _CREATE:
            return await self._create_session(typeid, requesthdr, seqhdr, body)
        session: Any = self.session
        if (
            session is None
            or session.state is SessionState.Closed
            or requesthdr.AuthenticationToken != session.auth_token
        ):
            raise ServiceError(ua.StatusCodes.BadSessionIdInvalid)
        if not session.is_activated() and service != _CLOSE:
            raise ServiceError(ua.StatusCodes.BadSessionNotActivated)
        # Counted before decoding: a million small structures take seconds.
        if service == _READ:
            _check_count(body, 12, NODES_PER_READ)
        elif service == _WRITE:
            _check_count(body, 0, NODES_PER_REQUEST)
        return await super()._process_message(typeid, requesthdr, seqhdr, body)

    async def _create_session(self, typeid: Any, requesthdr: Any, seqhdr: Any, body: Any) -> Any:
        own: Any = self.session
        if own is not None and own.state is not SessionState.Closed:
            raise ServiceError(ua.StatusCodes.BadTooManySessions)  # one for each connection
        policy = self._connection.security_policy
        params = struct_from_binary(ua.CreateSessionParameters, body.copy())
        self._access.check_client(params, policy.peer_certificate)
        await self._listener.close_session_for(self.address)
        going_on = await super()._process_message(typeid, requesthdr, seqhdr, body)
        session: Any = self.session
        session.address = self.address
        session.peer_certificate = policy.peer_certificate
        session.policy_uri = policy.URI
        return going_on

    async def _activate_session(self, requesthdr: Any, seqhdr: Any, body: Any) -> bool:
        """Authenticate the client and the user, then activate the session."""
        params = struct_from_binary(ua.ActivateSessionParameters, body)
        policy = self._connection.security_policy
        own: Any = self.session
        session = self._listener.iserver.lookup_external_session(requesthdr.AuthenticationToken)
        if session is None or session.state is SessionState.Closed:
            raise ServiceError(ua.StatusCodes.BadSessionIdInvalid)
        moves = session is not own
        if moves and (
            not session.is_activated() or (own is not None and own.state is not SessionState.Closed)
        ):
            raise ServiceError(ua.StatusCodes.BadSessionIdInvalid)
        if (session.peer_certificate, session.policy_uri) != (policy.peer_certificate, policy.URI):
            raise ServiceError(ua.StatusCodes.BadSecurityChecksFailed)
        if policy.host_certificate:
            try:
                policy.asymmetric_cryptography.verify(
                    policy.host_certificate + session.nonce, params.ClientSignature.Signature
                )
            except Exception as error:
                self._access.report_rejection("login", "a signature is wrong", address=self.address)
                raise ServiceError(ua.StatusCodes.BadApplicationSignatureInvalid) from error
        user = await self._access.authenticate(
            params.UserIdentityToken, session.nonce, policy, self.address
        )
        if session.state is SessionState.Closed:
            raise ServiceError(ua.StatusCodes.BadSessionIdInvalid)
        if moves:
            if user.name != session.user.name:
                raise ServiceError(ua.StatusCodes.BadIdentityChangeNotSupported)
            self._attach_session(session)
        response = ua.ActivateSessionResponse()
        response.Parameters = session.activate(user)
        self.send_response(requesthdr.RequestHandle, seqhdr, response)
        return True

    def _attach_session(self, session: OpcUaSession) -> None:
        """Continue a session over this connection and close its previous one."""
        self._listener.disconnect_session(session)
        self.session = session
        self._closing = False
        session.address = self.address
        self._session_watchdog_task = asyncio.create_task(self._session_watchdog_loop())
        for each in self._listener.iserver.subscription_service.subscriptions.values():
            if each.session_id == session.session_id:
                each.pub_result_callback = self.forward_publish_response
                each.pub_request_callback = self.get_publish_request


_CHANNEL_MESSAGES = (
    ua.MessageType.SecureOpen,
    ua.MessageType.SecureMessage,
    ua.MessageType.SecureClose,
)


def _check_count(body: Any, at: int, limit: int) -> None:
    """Limit an array by its length field, before its elements are decoded."""
    head = body.copy()
    head.skip(at)
    count = int.from_bytes(head.read(4), "little", signed=True)
    if count > limit:
        raise ServiceError(ua.StatusCodes.BadTooManyOperations)
