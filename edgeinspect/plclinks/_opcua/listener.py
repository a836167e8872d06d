"""Connections of OPC UA clients: who gets one, how many there may be, and when they end.

A connection is ended with an error message at the first byte that breaks the protocol.

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
"""Time that a connection without an activated session may be silent, and may last."""


class OpcUaConnection(OPCUAProtocol):
    """One TCP connection. See `_peers.Peer`."""

    def __init__(self, listener: OpcUaListener, limits: Any) -> None:
        super().__init__(
            listener.iserver, listener._policies, listener.clients, listener.closing_tasks, limits
        )
        self._listener = listener
        self.address = ""
        self.opened_at_ns = self.heard_at_ns = monotonic_ns()

    @property
    def session(self) -> Any:
        """Its activated session; None if it has none."""
        processor: Any = self.processor
        session = processor.session if processor is not None else None
        return session if session is not None and session.is_activated() else None

    @property
    def proven(self) -> bool:
        return self.session is not None

    def connection_made(self, transport: Any) -> None:
        self.address = address_of(transport.get_extra_info("peername"))
        if not self._listener.access.allowlist.allows(self.address):
            self._listener.access.report_rejection(
                "connection", "this address may not connect", address=self.address
            )
            transport.abort()
            return
        self._listener.make_room(self.address)
        super().connection_made(transport)
        self.processor = RequestProcessor(self._listener, transport, self.limits)
        self.processor.set_policies(self.policies)

    def data_received(self, data: bytes) -> None:
        self.heard_at_ns = monotonic_ns()
        super().data_received(data)
        if len(self._buffer) > CHUNK_BYTES_MAX:  # asyncua would wait for 4 GiB
            self.end(ua.StatusCodes.BadTcpMessageTooLarge)

    async def _process_one_msg(self, header: Any, buf: Any) -> bool:
        try:
            return bool(await super()._process_one_msg(header, buf))
        except ConnectionRejected as refusal:
            if str(refusal):
                self._listener.access.report_rejection(
                    "connection", str(refusal), address=self.address
                )
            self.end(refusal.code)
        except Exception as error:  # a client's bytes may raise anything; they end its connection
            self._listener.access.report_error(error, self.address)
            opens = header.MessageType == ua.MessageType.SecureOpen
            codes = ua.StatusCodes
            other = codes.BadSecurityChecksFailed if opens else codes.BadTcpInternalError
            self.end(int(getattr(error, "code", None) or other))
        return False

    def end(self, code: int) -> None:
        """Say why, and close."""
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
        internals.is_attached = lambda session: any(
            each.processor is not None and each.processor.session is session
            for each in self.clients
        )

    def _make_protocol(self) -> OpcUaConnection:
        return OpcUaConnection(self, self.limits)

    def make_room(self, newcomer: str) -> None:
        """End a connection if there are too many."""
        while len(self.clients) >= 2 * self.iserver.sessions_max:
            victim: Any = peer_to_close(self.clients, newcomer)
            self.access.report_rejection(
                "connection", "makes room for another", address=victim.address
            )
            self._drop(victim)

    async def make_room_for_session(self, newcomer: str) -> None:
        """End a session if there are too many."""
        while len(self.iserver.sessions) >= self.iserver.sessions_max:
            victim: Any = peer_to_close(self.iserver.sessions, newcomer)
            self.access.report_rejection("request", "a session makes room", address=victim.address)
            self.detach(victim)
            await victim.close_session(True)

    def detach(self, session: OpcUaSession) -> None:
        """End the connection that a session has."""
        for each in list(self.clients):
            if each.processor is not None and each.processor.session is session:
                each.processor.session = None
                self._drop(each)

    def hang_up(self) -> None:
        """End what would hold the server's end up: clients that do not read their answers."""
        for each in list(self.clients):
            if each.transport is not None and each.transport.get_write_buffer_size():
                each.transport.abort()

    async def sweep(self) -> None:
        """End connections that never became sessions, and those of clients not trusted any more.

        Now and then, from the event loop.
        """
        now = monotonic_ns()
        for each in list(self.clients):
            connection: Any = each
            if not connection.proven and (
                now - connection.heard_at_ns > _SILENCE_TIMEOUT_NS
                or now - connection.opened_at_ns > _ACTIVATION_TIMEOUT_NS
            ):
                self._drop(connection)
        if not self.access.is_secure:
            return
        for session in self.iserver.sessions:
            if not await asyncio.to_thread(self.access.is_still_trusted, session.peer_certificate):
                self.access.report_rejection(
                    "certificate", "no longer trusted", address=session.address
                )
                self.detach(session)
                await session.close_session(True)

    def _drop(self, connection: Any) -> None:
        if connection in self.clients:
            self.clients.remove(connection)
        if connection.transport is not None:
            connection.transport.abort()


class BoundedServer(Server):
    """asyncua's server with the parts above."""

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
                token.SecurityPolicyUri = policy.URI  # a password is encrypted for itself, always

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address cannot be had.
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
        """Only after `start`."""
        assert isinstance(self.bserver, OpcUaListener)
        return self.bserver
