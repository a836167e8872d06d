"""Where a line is to be found on this PC: its memory, and its addresses on the wire."""

from __future__ import annotations

import re
from pathlib import Path

from edgeinspect.config.schema import LineConfig
from edgeinspect.storage.shared_memory.folder import find_folder, own_folder


def memory_folder(config: LineConfig) -> Path:
    """Where the daemon of a line keeps spool, rings and sockets."""
    return Path(config.spool.folder) if config.spool.folder else own_folder()


def seen_folder(config: LineConfig) -> Path:
    """The same for another program on this PC, which may not be of the same unit."""
    return Path(config.spool.folder) if config.spool.folder else find_folder(config.line)


def line_addresses(config: LineConfig, folder: Path) -> tuple[str, str]:
    """(PUB, ROUTER) addresses of a line whose memory is in `folder`."""
    verdicts, replay = socket_addresses(folder, config.line)
    return config.publish.verdicts or verdicts, config.publish.replay or replay


def socket_addresses(folder: Path, line: str) -> tuple[str, str]:
    """(PUB, ROUTER) addresses of a line that has none written out."""
    return f"ipc://{folder}/{line}.verdicts", f"ipc://{folder}/{line}.replay"


def client_addresses(config: LineConfig, folder: Path) -> tuple[str, str]:
    """Where a client on the same PC connects to; as `line_addresses`."""
    verdicts, replay = line_addresses(config, folder)
    return own_address(verdicts), own_address(replay)


def own_address(address: str) -> str:
    """Where a client on the same machine connects to what is bound at `address`."""
    return re.sub(r"^tcp://(\*|0\.0\.0\.0|\[::\])", "tcp://127.0.0.1", address)
