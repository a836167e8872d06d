"""Finds a line by its name, and connects to it in the way that verifies it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeinspect.client.client_keys import ClientKeysConfig, client_keys_setup
from edgeinspect.client.feed import VerdictFeed
from edgeinspect.client.line_verifier import LineVerifier
from edgeinspect.client.requests import CommandRequest, send_request
from edgeinspect.client.subscriber import DEFAULT_TOPICS, Subscriber
from edgeinspect.config import is_local
from edgeinspect.domain import Clock
from edgeinspect.errors import UsageError
from edgeinspect.storage.paths import default_addresses
from edgeinspect.storage.shared_memory import find_line_folder
from edgeinspect.system import find_user_id
from edgeinspect.wire import CommandResult


@dataclass(frozen=True, slots=True)
class LineEndpoint:
    """The addresses of a line, and how it is verified. Immutable; safe to share."""

    line: str
    verdicts: str
    """Its PUB address."""
    replay: str
    """Its ROUTER address."""
    folder: Path | None = None
    """Folder of its spool, if configured."""
    owner: str | None = None
    """User, in addition to root and the current user, whose spool is trusted."""
    is_spool_checked: bool = True
    """False if the line is verified by its key, or not at all."""
    keys: ClientKeysConfig | None = None
    """This client's secret key and the line's public one, if the wire is encrypted."""

    def feed(
        self,
        name: str,
        *,
        cursor: int | None = None,
        clock: Clock | None = None,
        high_water_mark: int = 10_000,
    ) -> VerdictFeed:
        """Connect a feed: every verdict once and in order. The caller closes it.

        Args:
            name: Name of this subscriber, for acknowledgements and the line's log.
            cursor: Last seq applied, stored by the caller; None to start with the next verdict.
            clock: For tests.
            high_water_mark: Messages queued here before the newest are dropped and replayed.

        Raises:
            DataError: An address is not one, or a key cannot be read.
        """
        return VerdictFeed(
            self.verdicts,
            self.replay,
            name=name,
            line=self.line,
            cursor=cursor,
            setup_socket=client_keys_setup(self.keys),
            clock=clock,
            high_water_mark=high_water_mark,
            verifier=self.verifier(),
        )

    def subscribe(self, topics: tuple[str, ...] = DEFAULT_TOPICS) -> Subscriber:
        """Connect a subscriber: what is published now, without replay. The caller closes it.

        Args:
            topics: Prefixes to subscribe to.

        Raises:
            DataError: The address is not one, or a key cannot be read.
        """
        return Subscriber(
            self.verdicts,
            topics=topics,
            setup_socket=client_keys_setup(self.keys),
            verifier=self.verifier(),
        )

    def request(self, request: CommandRequest, *, timeout_ms: int = 2_000) -> CommandResult:
        """Send one trigger, challenge or operator entry and wait for the line's reply.

        Raises:
            DeviceLostError: There is no reply within the time.
            DataError: The address is not one, or a key cannot be read.
        """
        setup_socket = client_keys_setup(self.keys)
        return send_request(self.replay, request, setup_socket=setup_socket, timeout_ms=timeout_ms)

    def verifier(self) -> LineVerifier | None:
        """Return a new verifier by the line's spool; None if the spool is not checked."""
        if not self.is_spool_checked:
            return None
        owner = find_user_id(self.owner) if self.owner else None
        return LineVerifier(self.line, self.folder, () if owner is None else (owner,))


def find_line(
    line: str,
    verdicts: str | None = None,
    replay: str | None = None,
    *,
    spool: str | None = None,
    owner: str | None = None,
    keys: ClientKeysConfig | None = None,
    unproven: bool = False,
) -> LineEndpoint:
    """Return the endpoint of a line by its name and further settings.

    Args:
        line: Its name.
        verdicts: Its PUB address; by default the socket in the line's folder.
        replay: Its ROUTER address; likewise.
        spool: The line's `spool.folder`; by default it is searched.
        owner: User, in addition to root and the current user, whose spool is trusted.
        keys: For an encrypted wire (CURVE): the line is verified by its key.
        unproven: Accept any sender at these addresses.

    Raises:
        UsageError: An address is not on this PC, and there are neither keys nor a spool.
    """
    folder = Path(spool) if spool else None
    sockets = default_addresses(folder or find_line_folder(line), line)
    addresses = (verdicts or sockets[0], replay or sockets[1])
    by_spool = keys is None and not unproven
    for address in addresses:
        if by_spool and folder is None and not is_local(address):
            raise UsageError(
                "is not on this PC, so nothing proves that it is the line",
                where=address,
                remedy="Give `keys`, or `unproven=True`",
            )
    return LineEndpoint(
        line, *addresses, folder=folder, owner=owner, is_spool_checked=by_spool, keys=keys
    )
