"""Where a line is to be found on this PC: its memory, and its addresses on the wire."""

from __future__ import annotations

import re
from pathlib import Path

from edgeinspect.config import LineConfig
from edgeinspect.storage.shared_memory import default_folder, find_line_folder


def shared_memory_folder(config: LineConfig) -> Path:
    """Where the daemon of a line keeps spool, rings and sockets."""
    return Path(config.spool.folder) if config.spool.folder else default_folder()


def find_shared_memory_folder(config: LineConfig) -> Path:
    """The same for another program on this PC, which may not be of the same unit."""
    return Path(config.spool.folder) if config.spool.folder else find_line_folder(config.line)


def bind_addresses(config: LineConfig, folder: Path) -> tuple[str, str]:
    """(PUB, ROUTER) addresses of a line whose memory is in `folder`."""
    verdicts, replay = default_addresses(folder, config.line)
    return config.publish.verdicts or verdicts, config.publish.replay or replay


def default_addresses(folder: Path, line: str) -> tuple[str, str]:
    """(PUB, ROUTER) addresses of a line that has none written out."""
    return f"ipc://{folder}/{line}.verdicts", f"ipc://{folder}/{line}.replay"


def client_addresses(config: LineConfig, folder: Path) -> tuple[str, str]:
    """Where a client on the same PC connects to; as `line_addresses`."""
    verdicts, replay = bind_addresses(config, folder)
    return local_address(verdicts), local_address(replay)


def local_address(address: str) -> str:
    """Where a client on the same machine connects to what is bound at `address`."""
    return re.sub(r"^tcp://(\*|0\.0\.0\.0|\[::\])", "tcp://127.0.0.1", address)
