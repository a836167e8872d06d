"""OPC UA server: the vision system's state, a ResultReady event per result, and the map's tags.

With a certificate only encrypted sessions of trusted clients and known users; without one,
everybody who may connect. The server itself is in `_opcua/`, for it needs asyncua.
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
"""The standard address space takes seconds to make on a slow PC."""
_STALL_TIMEOUT_NS = 2 * NS_PER_S
_SWEEP_INTERVAL_NS = NS_PER_S
_WRITABLE_TAGS = (
    *(tag.name for tag in _register_map.INPUT_TAGS if tag.type != "bits"),
    *(bit.name for bit in _register_map.COMMAND_BITS),
)

_log = structlog.get_logger()


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: opcua`."""

    host: str = "127.0.0.1"
    """The interface to listen on; IPv6 too."""
    port: Annotated[int, Meta(ge=1, le=65_535)] = 4840
    allow: list[str] = []
    """Addresses and networks that may connect; empty means all."""
    clients: Annotated[int, Meta(ge=2, le=256)] = 32
    """Sessions at once; one more ends the one that was silent longest, of the address that has
    the most."""
    certificate: str | None = None
    """Server certificate (DER or PEM); with it and `private_key` only encrypted sessions of
    clients in `pki`."""
    private_key: str | None = None
    """Its RSA key (DER or PEM), not encrypted, readable by its owner alone."""
    application_uri: str | None = None
    """ApplicationUri, one of the URIs in the certificate's subjectAltName; absent, the first."""
    pki: str | None = None
    """Folder of the clients that are let in: `trusted` has their certificates, or those of the
    authority that issued them, `crl` its revocation lists; unknown ones land in `rejected`. It
    is read again while the gateway runs. Absent, nobody is let in."""
    users: str | None = None
    """File of users with hashed passwords; `edgeinspect gateway FILE --passwd NAME` writes it."""
    anonymous: bool = False
    """True if a trusted client needs no user; it is called `anonymous` in `write`."""
    write: dict[str, list[str]] = {}
    """With a certificate: which inputs a user may write, as `{press-plc: ["*"], scada:
    [FaultReset]}`; whoever is not named only reads."""
    acknowledge: bool = True
    """False if clients live from events alone and nobody writes `ResultsAck`."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
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
                    "nobody can prove who he is"
                )
        for user, tags in self.write.items():
            for tag in tags:
                if tag not in (*_WRITABLE_TAGS, "*"):
                    known = ", ".join(_WRITABLE_TAGS)
                    raise ValueError(f"write.{user}: there is no input {tag}; known: {known}, *")


class OpcUaServer:
    """A server in a thread and an event loop of its own. See `ports.PlcLink`.

    An image is written tag by tag with the status last and its event after; images that
    were overtaken are left out, results never (the handshake waits for each). Nothing that a
    client sends ends or rebuilds the server.
    """

    part_id_bytes = None

    def __init__(self, options: Options, clock: Clock) -> None:
        """Nothing is bound yet."""
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
                False, inputs.delivered_revision, None, "the server's thread stands still"
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
            except Exception as error:  # whatever the library raises, the line goes on
                self._inputs = PlcInputs(False, -1, None, str(error) or type(error).__name__)
                if not self._opened.is_set():
                    self._error = error
                    self._opened.set()
                    return
                time.sleep(_RESTART_DELAY_S)

    async def _serve(self) -> None:
        from edgeinspect.plclinks._opcua.inputs import Inputs
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
        inputs = Inputs(self._clock)
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
        sweep_at_ns = 0
        try:
            while not self._stop:
                await self._wait_for_image()
                try:
                    await self._iterate(server, nodes, inputs)
                    if self._clock.now_ns() >= sweep_at_ns:
                        sweep_at_ns = self._clock.now_ns() + _SWEEP_INTERVAL_NS
                        await server.listener.sweep()
                except Exception as error:  # one turn fails, the server stays
                    access.report_error(error, "")
            await self._iterate(server, nodes, inputs)
            await asyncio.sleep(0.1)  # what was shown last must leave before the sockets do
        finally:
            server.listener.hang_up()
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
        """Say what the configuration leaves open, or shuts to everybody."""
        options = self._options
        problems = []
        if not secure:
            who = "the addresses in allow" if options.allow else "everybody"
            problems.append(f"no certificate: nothing is encrypted, {who} may connect and write")
        else:
            if options.pki is None:
                problems.append("no pki: no client certificate is trusted, nobody can connect")
            if options.users is None and not options.anonymous:
                problems.append("neither users nor anonymous: nobody can open a session")
            writers = [tags for tags in options.write.values() if {"*", "ResultsAck"} & set(tags)]
            if options.acknowledge and not writers:
                problems.append("nobody may write ResultsAck: see write, or acknowledge: false")
        for problem in problems:
            _log.warning(log_events.LINK_WARNED, problem=problem)

    async def _wait_for_image(self) -> None:
        """Until there is something to show; not long, for clients write as well."""
        assert self._image_changed is not None
        try:
            await asyncio.wait_for(self._image_changed.wait(), 0.005)
        except asyncio.TimeoutError:  # look for what clients wrote
            pass
        self._image_changed.clear()

    async def _iterate(self, server: BoundedServer, nodes: Any, inputs: Any) -> None:
        inputs.turns.turn(self._clock.now_ns())
        image = self._image
        if image is None:
            return
        connected = self._has_result_client(server)
        # A result that nobody is there to hear is not delivered, and does not stand there until
        # somebody comes, who could read it before this loop turns.
        if connected or image.result is None:
            inputs.shown = image.revision  # a client may answer before all of it is written
            await nodes.show(image)
        else:
            await nodes.show(replace(image, result=None))
        problem = "" if connected else "no client has a session"
        delivered = image.revision if connected else -1
        self._inputs = PlcInputs(connected, delivered, inputs.commands(), problem)
        self._last_iteration_ns = self._clock.now_ns()

    def _has_result_client(self, server: BoundedServer) -> bool:
        """Whether a session is there that results are for: one that may acknowledge them."""
        sessions = [each.session for each in server.listener.clients]
        return any(
            session is not None and (not self.acknowledges or session.user.may_write("ResultsAck"))
            for session in sessions
        )


def _application_type() -> Any:
    from asyncua import ua

    return ua.ApplicationType.Server


def build(options: Options, clock: Clock) -> PlcLink:
    """A link; nothing is opened yet.

    Raises:
        MissingExtraError: asyncua is not installed.
    """
    try:
        import asyncua  # noqa: F401 - the server's thread needs it
    except ImportError as error:
        raise MissingExtraError("plc", "asyncua", where="link opcua") from error
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # errors are raised
    return OpcUaServer(options, clock)
