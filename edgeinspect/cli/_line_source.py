"""Which line a command means: an address, a line's file, its name, or the one that runs."""

from __future__ import annotations

import re
from pathlib import Path

from edgeinspect.client import LineEndpoint, find_line
from edgeinspect.config import load_config
from edgeinspect.errors import DeviceLostError, UsageError
from edgeinspect.storage.paths import client_addresses, find_shared_memory_folder
from edgeinspect.storage.shared_memory import running_lines

_LINE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
"""As `config.schema.Name`: else a name would be a path to another folder's sockets."""


def is_address(word: str) -> bool:
    """True for `tcp://…` and its like."""
    return "://" in word


def find_line_source(word: str | None) -> LineEndpoint:
    """The line that a word names; the only one that runs on this PC when None.

    Args:
        word: A line's file (`.yaml`) or its name.

    Raises:
        ConfigError: The file is none of a line.
        DeviceLostError: No line runs on this PC, as far as this user may see.
        UsageError: More than one does, or the line's wire is encrypted.
    """
    if word is None:
        living = running_lines()
        if not living:
            raise DeviceLostError(
                "no line runs on this PC, as far as this user may see",
                remedy="Give its file, its name, or its address",
            )
        if len(living) > 1:
            names = ", ".join(name for name, _folder in living)
            raise UsageError(f"several lines run here: {names}", remedy="Name one of them")
        name, folder = living[0]
        return find_line(name, spool=str(folder))
    if not word.endswith((".yaml", ".yml")) and not Path(word).is_file():
        if _LINE_NAME.fullmatch(word) is None:
            raise UsageError(
                "is neither a line's name nor its file nor its address",
                where=word,
                remedy="Names are of lower-case letters, digits, '-' and '_'",
            )
        return find_line(word)
    config = load_config(word).config
    if config.publish.curve is not None:
        raise UsageError(
            "the line's wire is encrypted, and this command has no key",
            where=word,
            remedy="Use `edgeinspect.client` with `edgeinspect.wire.curve_keys.use_client_keys`",
        )
    folder = find_shared_memory_folder(config)
    return find_line(config.line, *client_addresses(config, folder), spool=str(folder))
