"""OPC UA server: the state of the vision system, a ResultReady event per result, and the map.

With a certificate, sessions are encrypted and for trusted clients and known users only;
without one, for every client that may connect. `_opcua/` is separate because it needs asyncua.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import structlog
from msgspec import Meta

from edgeinspect.domain import NS_PER_S, Clock, PlcInputs, ProcessImage
from edgeinspect.errors import EdgeInspectError, MissingExtraError
from edgeinspect.plclinks import _register_map
from edgeinspect.plclinks._connection_limits import (
    AddressAllowlist,
    format_address,
    listen_error,
    strip_brackets,
)
from edgeinspect.ports import PlcLink
from edgeinspect.system import log_events

if TYPE_CHECKING:
    from edgeinspect.plclinks._opcua.access import AccessControl
    from edgeinspect.plclinks._opcua.listener import BoundedServer

REQUIRES = (("asyncua", "plc"),)

_RESTART_DELAY_S = 1.0
_OPEN_TIMEOUT_S = 120.0
"""Building the standard address space takes seconds on a slow PC."""
_STALL_TIMEOUT_NS = 2 * NS_PER_S
_CLOSE_EXPIRED_INTERVAL_NS = NS_PER_S
_WRITABLE_TAGS = (
    *(tag.name for tag in _register_map.INPUT_TAGS if tag.type != "bits"),
    *(bit.name for bit in _register_map.COMMAND_BITS),
)

_log = structlog.get_logger()


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: opcua`."""

    host: str = "127.0.0.1"
    """The interface to listen on; IPv4 or IPv6."""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 4840
    """TCP port of the server."""
    allow: list[str] = []
    """Addresses and networks that may connect; empty allows all."""
    clients: Annotated[int, Meta(ge=2, le=256)] = 32
    """Largest number of sessions; one more closes the one that was silent longest, of the
    address that has the most."""
    certificate: str | None = None
    """Server certificate (DER or PEM); with it and `private_key`, only encrypted sessions of
    the clients in `pki`."""
    private_key: str | None = None
    """Its RSA key (DER or PEM), not encrypted, readable only by its owner."""
    application_uri: str | None = None
    """ApplicationUri, one of the URIs in the certificate's subjectAltName; if absent, the
    first."""
    pki: str | None = None
    """Folder of the trusted clients: `trusted` has their certificates, or those of the
    authority that issued them, `crl` its revocation lists; unknown certificates are saved in
    `rejected`. It is read again while the gateway runs. If absent, no client is trusted."""
    users: str | None = None
    """File of users with hashed passwords; `edgeinspect gateway FILE --passwd NAME` writes it."""
    anonymous: bool = False
    """True if a trusted client needs no user; its name in `write` is `anonymous`."""
    write: dict[str, list[str]] = {}
    """With a certificate: which inputs a user may write, as `{press-plc: ["*"], scada:
    [FaultReset]}`; other users only read."""
    acknowledge: bool = True
    """False if clients use events only and none writes `ResultsAck`."""

    def __post_init__(self) -> None:
        """Reject contradictory options."""
        AddressAllowlist(self.allow)
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key go together")
        secured = {
            "pki": self.pki,
            "users": self.users,
            "anonymous": self.anonymous,
            "write": self.write,
            "application_uri": self.application_uri,
        }
        for name, value in secured.items():
            if value and self.certificate is None:
                raise ValueError(
                    f"{name} needs certificate and private_key: without encryption "
                    "no client can be authenticated"
                )
        for user, tags in self.write.items():
            for tag in tags:
                if tag not in (*_WRITABLE_TAGS, "*"):
                    known = ", ".join(_WRITABLE_TAGS)
                    raise ValueError(f"write.{user}: there is no input {tag}; known: {known}, *")


class OpcUaServer:
    """A `ports.PlcLink` that is a server, in a thread with its own event loop.

    An image is written tag by tag, the status last, then its event. An image is skipped if
    there is a newer one; a result is not, because the handshake waits for it. Nothing that a
    client sends ends or restarts the server.
    """

    part_id_bytes = None

    def __init__(self, options: Options, clock: Clock) -> None:
        """Create a server that does not listen yet."""
        self.acknowledges = options.acknowledge
        self._options = options
        self._clock = clock
        self._image: ProcessImage | None = None
        self._inputs = PlcInputs(problem="not started")
        self._last_iteration_ns = clock.now_ns()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._image_changed: asyncio.Event | None = None
        self._stop = False
        self._opened = threading.Event()
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        self._thread = threading.Thread(target=self._run, name="opcua", daemon=True)
        self._thread.start()
        opened = self._opened.wait(_OPEN_TIMEOUT_S)
        error = self._error
        if isinstance(error, EdgeInspectError):
            raise error
        if error is not None or not opened:
            where = format_address(self._options.host, self._options.port)
            raise listen_error(error or TimeoutError("did not start in time"), where) from error

    def write(self, image: ProcessImage) -> None:
        self._image = image
        self._wake()

    def poll(self) -> PlcInputs:
        inputs = self._inputs
        if (
            inputs.is_connected
            and self._clock.now_ns() - self._last_iteration_ns > _STALL_TIMEOUT_NS
        ):
            return PlcInputs(
                False, inputs.delivered_revision, None, "the server's thread does not respond"
            )
        return inputs

    def close(self) -> None:
        self._stop = True
        self._wake()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None

    def _wake(self) -> None:
        loop, changed = self._loop, self._image_changed
        if loop is not None and changed is not None:
            try:
                loop.call_soon_threadsafe(changed.set)
            except RuntimeError:  # the loop has ended
                pass

    # -- the server's thread --------------------------------------------------------

    def _run(self) -> None:
        while not self._stop:
            try:
                asyncio.run(self._serve())
            except Exception as error:  # the library may raise any exception
                self._inputs = PlcInputs(False, -1, None, str(error) or type(error).__name__)
                if not self._opened.is_set():
                    self._error = error
                    self._opened.set()
                    return
                time.sleep(_RESTART_DELAY_S)

    async def _serve(self) -> None:
        from edgeinspect.plclinks._opcua.inputs import OpcUaInputs
        from edgeinspect.plclinks._opcua.listener import BoundedServer
        from edgeinspect.plclinks._opcua.nodes import PRODUCT, VisionNodes
        from edgeinspect.plclinks._opcua.sessions import BoundedInternalServer

        options = self._options
        host = strip_brackets(options.host)
        access = self._make_access()
        loop = self._loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda _loop, context: access.report_error(
                context.get("exception") or RuntimeError(context.get("message")), ""
            )
        )
        self._image_changed = asyncio.Event()
        inputs = OpcUaInputs(self._clock)
        server = BoundedServer(
            BoundedInternalServer(access, inputs, options.clients), access, host, options.port
        )
        identity = access.identity
        if identity is not None:
            server.iserver.certificate, server.iserver.private_key = (
                identity.certificate,
                identity.key,
            )
        server.product_uri, server.manufacturer_name = PRODUCT, "edgeinspect"
        server.application_type = _application_type()
        await server.init()
        await server.set_application_uri(
            identity.application_uri if identity is not None else PRODUCT
        )
        server.set_endpoint(f"opc.tcp://{format_address(host, options.port)}/edgeinspect")
        server.set_server_name("edgeinspect")
        server.set_match_discovery_client_ip(":" not in host)
        nodes = VisionNodes(server, lambda error: access.report_error(error, ""))
        await nodes.build(self._image or ProcessImage())
        await server.start()
        self._opened.set()
        close_expired_at_ns = 0
        try:
            while not self._stop:
                await self._wait_for_image()
                try:
                    await self._iterate(server, nodes, inputs)
                    if self._clock.now_ns() >= close_expired_at_ns:
                        close_expired_at_ns = self._clock.now_ns() + _CLOSE_EXPIRED_INTERVAL_NS
                        await server.listener.close_expired()
                except Exception as error:  # one iteration fails, the server continues
                    access.report_error(error, "")
            await self._iterate(server, nodes, inputs)
            await asyncio.sleep(0.1)  # the last image must be sent before the sockets close
        finally:
            server.listener.abort_unread()
            await server.stop()

    def _make_access(self) -> AccessControl:
        from edgeinspect.plclinks._opcua.access import AccessControl
        from edgeinspect.plclinks._opcua.identity import read_identity
        from edgeinspect.plclinks._opcua.trust import TrustList

        options = self._options
        identity = None
        if options.certificate is not None and options.private_key is not None:
            identity = read_identity(
                Path(options.certificate), Path(options.private_key), options.application_uri
            )
        self._log_security_warnings(identity is not None)
        return AccessControl(
            identity,
            TrustList(Path(options.pki) if options.pki is not None else None),
            Path(options.users) if options.users is not None else None,
            self._clock,
            anonymous=options.anonymous,
            write=options.write,
            allowlist=AddressAllowlist(options.allow),
        )

    def _log_security_warnings(self, secure: bool) -> None:
        """Warn if the configuration allows everything, or excludes every client."""
        options = self._options
        problems = []
        if not secure:
            who = "the addresses in allow" if options.allow else "any client"
            problems.append(f"no certificate: nothing is encrypted, {who} may connect and write")
        else:
            if options.pki is None:
                problems.append("no pki: no client certificate is trusted, no client can connect")
            if options.users is None and not options.anonymous:
                problems.append("neither users nor anonymous: no client can open a session")
            writers = [tags for tags in options.write.values() if {"*", "ResultsAck"} & set(tags)]
            if options.acknowledge and not writers:
                problems.append("no user may write ResultsAck: see write, or acknowledge: false")
        for problem in problems:
            _log.warning(log_events.LINK_WARNED, problem=problem)

    async def _wait_for_image(self) -> None:
        """Wait for a new image, at most 5 ms, because clients write as well."""
        assert self._image_changed is not None
        try:
            await asyncio.wait_for(self._image_changed.wait(), 0.005)
        except asyncio.TimeoutError:  # read what clients wrote
            pass
        self._image_changed.clear()

    async def _iterate(self, server: BoundedServer, nodes: Any, inputs: Any) -> None:
        inputs.poll_times.record_poll(self._clock.now_ns())
        image = self._image
        if image is None:
            return
        connected = self._has_result_client(server)
        # Without a client a result is not delivered, and not written either: the next client
        # could read it before this loop runs again.
        if connected or image.result is None:
            # Before: a client may acknowledge while the image is being written.
            inputs.visible_revision = image.revision
            await nodes.write(image)
        else:
            await nodes.write(replace(image, result=None))
        problem = "" if connected else "no client has a session"
        delivered = image.revision if connected else -1
        self._inputs = PlcInputs(connected, delivered, inputs.commands(), problem)
        self._last_iteration_ns = self._clock.now_ns()

    def _has_result_client(self, server: BoundedServer) -> bool:
        """Whether a session is open that receives results: one that may acknowledge them."""
        sessions = [each.session for each in server.listener.clients]
        return any(
            session is not None and (not self.acknowledges or session.user.may_write("ResultsAck"))
            for session in sessions
        )


def _application_type() -> Any:
    from asyncua import ua

    return ua.ApplicationType.Server


def build(options: Options, clock: Clock) -> PlcLink:
    """Build the link, not opened yet.

    Raises:
        MissingExtraError: asyncua is not installed.
    """
    try:
        import asyncua  # noqa: F401 - the server's thread needs it
    except ImportError as error:
        raise MissingExtraError("plc", "asyncua", where="link opcua") from error
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # errors are raised
    return OpcUaServer(options, clock)
