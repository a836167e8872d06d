"""The line that a command refers to: its address, its file, its name, or the running one."""

from __future__ import annotations

import re
from pathlib import Path

from edgeinspect.client import LineEndpoint, find_line
from edgeinspect.config import load_config
from edgeinspect.errors import DeviceLostError, UsageError
from edgeinspect.storage.paths import client_addresses, find_shared_memory_folder
from edgeinspect.storage.shared_memory import running_lines

_LINE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
"""Same as `config.schema.Name`; any other text could be a path to another folder."""


def is_address(reference: str) -> bool:
    """Return True for an address such as `tcp://…`."""
    return "://" in reference


def find_line_source(reference: str | None) -> LineEndpoint:
    """Return the line with this file or name; None means the only line that runs on this PC.

    Args:
        word: A line's file (`.yaml`) or its name.

    Raises:
        ConfigError: The file is not a line's configuration.
        DeviceLostError: This user sees no running line on this PC.
        UsageError: Several lines run, or the line's wire is encrypted.
    """
    if reference is None:
        running = running_lines()
        if not running:
            raise DeviceLostError(
                "this user sees no running line on this PC",
                remedy="Give its file, its name, or its address",
            )
        if len(running) > 1:
            names = ", ".join(name for name, _folder in running)
            raise UsageError(f"several lines run here: {names}", remedy="Name one of them")
        name, folder = running[0]
        return find_line(name, spool=str(folder))
    if not reference.endswith((".yaml", ".yml")) and not Path(reference).is_file():
        if _LINE_NAME.fullmatch(reference) is None:
            raise UsageError(
                "is not a line's name, file or address",
                where=reference,
                remedy="Names have lower-case letters, digits, '-' and '_'",
            )
        return find_line(reference)
    config = load_config(reference).config
    if config.publish.curve is not None:
        raise UsageError(
            "the line's wire is encrypted, and this command has no key",
            where=reference,
            remedy="In Python: `edgeinspect.client.find_line` with `keys`",
        )
    folder = find_shared_memory_folder(config)
    return find_line(config.line, *client_addresses(config, folder), spool=str(folder))
