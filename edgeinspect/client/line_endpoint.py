"""Finds a line's addresses, and decides how a client verifies the line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeinspect.client.line_verifier import LineVerifier
from edgeinspect.config import is_local
from edgeinspect.storage.paths import default_addresses
from edgeinspect.storage.shared_memory import find_line_folder
from edgeinspect.system import find_user_id


@dataclass(frozen=True, slots=True)
class LineEndpoint:
    """The addresses of a line, and how it is verified."""

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
    has_keys: bool = False,
    unproven: bool = False,
) -> LineEndpoint:
    """Return the endpoint of a line by its name and further settings.

    Args:
        line: Its name.
        verdicts: Its PUB address; by default the socket in the line's folder.
        replay: Its ROUTER address; likewise.
        spool: The line's `spool.folder`; by default it is searched.
        owner: User, in addition to root and the current user, whose spool is trusted.
        has_keys: The line is verified by its key (CURVE).
        unproven: Accept any sender at these addresses.
    """
    folder = Path(spool) if spool else None
    sockets = default_addresses(folder or find_line_folder(line), line)
    addresses = (verdicts or sockets[0], replay or sockets[1])
    has_spool = not has_keys and not unproven and all(map(is_local, addresses))
    return LineEndpoint(line, *addresses, folder=folder, owner=owner, is_spool_checked=has_spool)
