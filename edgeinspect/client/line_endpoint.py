"""Where a client finds a line, and how it sees that it is the line."""

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
    """A line as one client's file names it."""

    line: str
    verdicts: str
    """Its PUB address."""
    replay: str
    """Its ROUTER address."""
    folder: Path | None = None
    """Of its spool, where that is named."""
    owner: str | None = None
    """User beside root and our own whose spool is believed."""
    is_spool_checked: bool = True
    """False if its key proves it, or nothing does."""

    def verifier(self) -> LineVerifier | None:
        """A new look into the line's spool; None where it is not wanted."""
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
    """A line by its name, with what else is known of it.

    Args:
        line: Its name.
        verdicts: Its PUB address; the socket in the line's folder when None.
        replay: Its ROUTER address; likewise.
        spool: The line's `spool.folder`; looked for by default.
        owner: User whose spool is believed, beside root and our own.
        has_keys: Its key proves it (CURVE).
        unproven: Believe whoever speaks at these addresses.
    """
    folder = Path(spool) if spool else None
    sockets = default_addresses(folder or find_line_folder(line), line)
    addresses = (verdicts or sockets[0], replay or sockets[1])
    proven = not has_keys and not unproven and all(map(is_local, addresses))
    return LineEndpoint(line, *addresses, folder=folder, owner=owner, is_spool_checked=proven)
