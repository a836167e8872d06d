"""The sockets of a line: PUB and ROUTER, with CURVE where it is configured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import zmq

from edgeinspect.config import LineConfig
from edgeinspect.domain import NS_PER_MS, Clock
from edgeinspect.pipeline.publishing.part_verdicts import make_part_aggregator
from edgeinspect.pipeline.publishing.publisher import Publisher, PublisherSettings
from edgeinspect.pipeline.publishing.replay_server import ReplayServer, RequestHandlers
from edgeinspect.pipeline.verdicts import VerdictCloser
from edgeinspect.storage.paths import bind_addresses
from edgeinspect.wire import CurveAuthenticator, ServerSocketSetup, Socket, no_encryption


class LineSockets:
    """Binds the sockets of a line and closes them together.

    Args:
        config: Of the line.
        closer: Of the line.
        clock: Of the line.
        check_alarms: See `Publisher`.
        handlers: See `ReplayServer`.

    Raises:
        AddressError: An address is in use, or not available yet.
        ConfigError: An address cannot be bound, or the keys cannot be read.
    """

    def __init__(
        self,
        config: LineConfig,
        closer: VerdictCloser,
        clock: Clock,
        check_alarms: Callable[[], tuple[bool, str]],
        handlers: RequestHandlers,
    ) -> None:
        publish, cameras = config.publish, closer.provenance.cameras
        verdicts, replay = bind_addresses(config, closer.spool.path.parent)
        settings = PublisherSettings(
            line=config.line,
            address=verdicts,
            heartbeat_ns=round(publish.heartbeat_ms * NS_PER_MS),
            high_water_mark=publish.high_water_mark,
            cameras=cameras,
        )
        # Two contexts: what a client sends to the ROUTER shares no I/O thread with verdicts.
        self._contexts: tuple[zmq.Context[Socket], ...] = (zmq.Context(), zmq.Context())
        self._authenticator: CurveAuthenticator | None = None
        secure_socket: ServerSocketSetup = no_encryption
        if publish.curve:
            self._authenticator = CurveAuthenticator(Path(publish.curve), clock)
            secure_socket = self._authenticator.secure_socket
        publisher: Publisher | None = None
        try:
            publisher = self.publisher = Publisher(
                self._contexts[0],
                settings,
                closer,
                clock,
                check_alarms=check_alarms,
                part_aggregator=make_part_aggregator(config, cameras),
                secure_socket=secure_socket,
            )
            self.replay_server = ReplayServer(
                self._contexts[1],
                replay,
                closer.spool,
                handlers,
                clock,
                secure_socket=secure_socket,
            )
        except BaseException:
            if self._authenticator is not None:  # its threads would outlive the failed start
                self._authenticator.close()
            if publisher is not None:
                publisher.close()
            for context in self._contexts:
                context.destroy(0)
            raise

    def refresh_keys(self) -> None:
        """Reload the keys of clients, if they have changed."""
        if self._authenticator is not None:
            self._authenticator.refresh()

    def close(self) -> None:
        """Close all, after the threads of publisher and replay server have ended."""
        if self._authenticator is not None:
            self._authenticator.close()
        self.publisher.close()
        self.replay_server.close()
        for context in self._contexts:
            context.term()
