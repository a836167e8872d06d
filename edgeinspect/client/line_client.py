"""What the clients of a line share: their ZeroMQ context, and how they are closed."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

import zmq

from edgeinspect.client.line_verifier import LineVerifier, LineVerifiers
from edgeinspect.client.sockets import AuthFailureMonitor
from edgeinspect.wire import Socket

Client = TypeVar("Client", bound="LineClient")


class LineClient:
    """A connection with a context of its own, and a verifier, which is closed with it."""

    def __init__(self, verifier: LineVerifier | LineVerifiers | None) -> None:
        self._context: zmq.Context[Socket] = zmq.Context()
        self._auth_failures: list[AuthFailureMonitor] = []
        self._closed_with_self = verifier

    def close(self) -> None:
        """Disconnect; harmless if done already."""
        if not self._context.closed:
            for failures in self._auth_failures:
                failures.close()
            self._context.destroy(0)
        if self._closed_with_self is not None:
            self._closed_with_self.close()

    def __enter__(self: Client) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
