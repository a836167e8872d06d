"""The connections of OPC UA clients: how many there may be, and when they are closed.

A connection is closed with an error message at the first violation of the protocol.

Source: OPC UA Part 6, 7.1; asyncua/server/binary_server_asyncio.py
"""

from __future__ import annotations

import asyncio
from typing import Any

from asyncua import ua
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.server import Server
from asyncua.ua.ua_binary import uatcp_to_binary

from edgeinspect.plclinks._connection_limits import address_of, peer_to_close
from edgeinspect.plclinks._opcua.access import POLICIES, AccessControl, ConnectionRejected
from edgeinspect.plclinks._opcua.channel import (
    BUFFER_BYTES_MIN,
    MESSAGE_BYTES_MAX,
    RequestProcessor,
)
from edgeinspect.plclinks._opcua.sessions import BoundedInternalServer, OpcUaSession, monotonic_ns

CHUNK_BYTES_MAX = 65_535
_SILENCE_TIMEOUT_NS, _ACTIVATION_TIMEOUT_NS = 10_000_000_000, 60_000_000_000
"""How long a connection without an activated session may be silent, and may be open."""


class OpcUaConnection(OPCUAProtocol):
    """One TCP connection. A `_connection_limits.ConnectedPeer`."""

    def __init__(self, listener: OpcUaListener, limits: Any) -> None:
        super().__init__(
            listener.iserver, listener._policies, listener.clients, listener.closing_tasks, limits
        )
        self._listener = listener
        self.address = ""
        self.opened_at_ns = self.last_received_ns = monotonic_ns()

    @property
    def session(self) -> Any:
        """Its activated session; None if it has none."""
        processor: Any = self.processor
        session = processor.session if processor is not None else None
        return session if session is not None and session.is_activated() else None

    @property
    def is_established(self) -> bool:
        return self.session is not None

    def connection_made(self, transport: Any) -> None:
        self.address = address_of(transport.get_extra_info("peername"))
        if not self._listener.access.allowlist.allows(self.address):
            self._listener.access.report_rejection(
                "connection", "this address may not connect", address=self.address
            )
            transport.abort()
            return
        self._listener.close_connection_for(self.address)
        super().connection_made(transport)
        self.processor = RequestProcessor(self._listener, transport, self.limits)
        self.processor.set_policies(self.policies)

    def data_received(self, data: bytes) -> None:
        self.last_received_ns = monotonic_ns()
        super().data_received(data)
        if len(self._buffer) > CHUNK_BYTES_MAX:  # asyncua would wait for 4 GiB
            self.close_with(ua.StatusCodes.BadTcpMessageTooLarge)

    async def _process_one_msg(self, header: Any, buf: Any) -> bool:
        try:
            return bool(await super()._process_one_msg(header, buf))
        except ConnectionRejected as refusal:
            if str(refusal):
                self._listener.access.report_rejection(
                    "connection", str(refusal), address=self.address
                )
            self.close_with(refusal.code)
        except Exception as error:  # invalid bytes may raise any exception
            self._listener.access.report_error(error, self.address)
            opens = header.MessageType == ua.MessageType.SecureOpen
            codes = ua.StatusCodes
            other = codes.BadSecurityChecksFailed if opens else codes.BadTcpInternalError
            self.close_with(int(getattr(error, "code", None) or other))
        return False

    def close_with(self, code: int) -> None:
        """Send a status code as an error message, and close the connection."""
        if self.transport is None or self.transport.is_closing():
            return
        status = ua.StatusCode(code)
        message = ua.ErrorMessage(status, status.name)
        self.transport.write(uatcp_to_binary(ua.MessageType.Error, message))
        self.transport.close()


class OpcUaListener(BinaryServer):
    """The socket and its connections. For the server's event loop."""

    def __init__(
        self,
        internals: BoundedInternalServer,
        host: str | None,
        port: int,
        limits: Any,
        access: AccessControl,
    ) -> None:
        super().__init__(internals, host, port, limits)
        self.access = access
        internals.is_connected = lambda session: any(
            each.processor is not None and each.processor.session is session
            for each in self.clients
        )

    def _make_protocol(self) -> OpcUaConnection:
        return OpcUaConnection(self, self.limits)

    def close_connection_for(self, new_address: str) -> None:
        """Close a connection if there are too many for a new one."""
        while len(self.clients) >= 2 * self.iserver.sessions_max:
            oldest: Any = peer_to_close(self.clients, new_address)
            self.access.report_rejection(
                "connection", "closed for a new one", address=oldest.address
            )
            self._close(oldest)

    async def close_session_for(self, new_address: str) -> None:
        """Close a session if there are too many for a new one."""
        while len(self.iserver.sessions) >= self.iserver.sessions_max:
            oldest: Any = peer_to_close(self.iserver.sessions, new_address)
            self.access.report_rejection(
                "request", "a session is closed for a new one", address=oldest.address
            )
            self.disconnect_session(oldest)
            await oldest.close_session(True)

    def disconnect_session(self, session: OpcUaSession) -> None:
        """Close the connection of a session."""
        for each in list(self.clients):
            if each.processor is not None and each.processor.session is session:
                each.processor.session = None
                self._close(each)

    def abort_unread(self) -> None:
        """Abort clients that do not read their responses, so that the server can stop."""
        for each in list(self.clients):
            if each.transport is not None and each.transport.get_write_buffer_size():
                each.transport.abort()

    async def close_expired(self) -> None:
        """Close connections without a session, and sessions of clients no longer trusted.

        To be called regularly from the event loop.
        """
        now = monotonic_ns()
        for each in list(self.clients):
            connection: Any = each
            if not connection.is_established and (
                now - connection.last_received_ns > _SILENCE_TIMEOUT_NS
                or now - connection.opened_at_ns > _ACTIVATION_TIMEOUT_NS
            ):
                self._close(connection)
        if not self.access.is_secure:
            return
        for session in self.iserver.sessions:
            if not await asyncio.to_thread(self.access.is_still_trusted, session.peer_certificate):
                self.access.report_rejection(
                    "certificate", "no longer trusted", address=session.address
                )
                self.disconnect_session(session)
                await session.close_session(True)

    def _close(self, connection: Any) -> None:
        if connection in self.clients:
            self.clients.remove(connection)
        if connection.transport is not None:
            connection.transport.abort()


class BoundedServer(Server):
    """asyncua's server with the listener above and limits on its buffers."""

    def __init__(
        self, internals: BoundedInternalServer, access: AccessControl, host: str | None, port: int
    ) -> None:
        super().__init__(iserver=internals)
        self.access = access
        self._bind = (host, port)
        self.limits.max_recv_buffer = self.limits.max_send_buffer = CHUNK_BYTES_MAX
        self.limits.max_message_size = MESSAGE_BYTES_MAX
        self.limits.max_chunk_count = 2 * MESSAGE_BYTES_MAX // BUFFER_BYTES_MIN
        if access.identity is None:
            self.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        else:
            self.set_security_policy(list(POLICIES))

    def _set_endpoints(self, policy: Any, mode: Any, level: int) -> None:
        super()._set_endpoints(policy, mode, level)
        for token in self.iserver.endpoints[-1].UserIdentityTokens:
            if token.TokenType == ua.UserTokenType.UserName:
                token.SecurityPolicyUri = policy.URI  # encrypt the password itself, too

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address cannot be bound.
        """
        await self._setup_server_nodes()
        await self.iserver.start()
        self.bserver = OpcUaListener(self.iserver, *self._bind, self.limits, self.access)
        self.bserver.set_policies(self._policies)
        try:
            await self.bserver.start()
        except BaseException:
            await self.iserver.stop()
            raise

    @property
    def listener(self) -> OpcUaListener:
        """The listener; available after `start`."""
        assert isinstance(self.bserver, OpcUaListener)
        return self.bserver
