"""A line's shared memory folder and its addresses on this PC."""

from __future__ import annotations

import re
from pathlib import Path

from edgeinspect.config import LineConfig
from edgeinspect.storage.shared_memory import default_folder, find_line_folder


def shared_memory_folder(config: LineConfig) -> Path:
    """Return the folder in which a line's daemon has spool, frame rings and sockets."""
    return Path(config.spool.folder) if config.spool.folder else default_folder()


def find_shared_memory_folder(config: LineConfig) -> Path:
    """Return the same for another program on this PC, which may be of another unit."""
    return Path(config.spool.folder) if config.spool.folder else find_line_folder(config.line)


def bind_addresses(config: LineConfig, folder: Path) -> tuple[str, str]:
    """Return the (PUB, ROUTER) addresses that a line binds, with its memory in `folder`."""
    verdicts, replay = default_addresses(folder, config.line)
    return config.publish.verdicts or verdicts, config.publish.replay or replay


def default_addresses(folder: Path, line: str) -> tuple[str, str]:
    """Return the (PUB, ROUTER) addresses of a line that configures none."""
    return f"ipc://{folder}/{line}.verdicts", f"ipc://{folder}/{line}.replay"


def client_addresses(config: LineConfig, folder: Path) -> tuple[str, str]:
    """Return the (PUB, ROUTER) addresses to which a client on the same PC connects."""
    verdicts, replay = bind_addresses(config, folder)
    return local_address(verdicts), local_address(replay)


def local_address(address: str) -> str:
    """Return the address to which a client on the same PC connects for a bound `address`."""
    return re.sub(r"^tcp://(\*|0\.0\.0\.0|\[::\])", "tcp://127.0.0.1", address)
