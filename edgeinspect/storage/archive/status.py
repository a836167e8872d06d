"""The status of an archive, which its process writes into a small file in its folder.

The file keeps its size and is written in place, so that a full disk can be reported on that
disk. A status older than `STATUS_STALE_NS` is of a process that hangs or has ended.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from edgeinspect.domain import NS_PER_S, Int64, UtcNs
from edgeinspect.system import DecodeError, Decoder, json_decoder, open_regular

STATUS_FILE = "state.json"
STATUS_STALE_NS = 10 * NS_PER_S
_FILE_BYTES = 4096
_PROBLEM_CHARS = 500


class ArchiveStatus(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.archive_state/1"
):
    """What the archive's process writes once a second."""

    at_utc_ns: UtcNs
    problem: str = ""
    """Why nothing can be saved now; empty if there is no problem."""
    saved: Int64 = 0
    """Frames saved since the start of the process."""
    missed: Int64 = 0
    """Frames since the start of the process that should have been saved and were not."""
    frames: Int64 = 0
    """Frames in the archive."""
    size_bytes: Int64 = 0
    """Size of all images and sidecars."""


_decode: Decoder[ArchiveStatus] = json_decoder(ArchiveStatus)
_encode = msgspec.json.Encoder().encode


def write_status(root: Path, state: ArchiveStatus) -> None:
    """Write the status, if the folder is writable; if not, the status there becomes stale."""
    state = msgspec.structs.replace(state, problem=state.problem[:_PROBLEM_CHARS])
    body = _encode(state).ljust(_FILE_BYTES)
    with contextlib.suppress(OSError):
        file = os.open(root / STATUS_FILE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(file, body, 0)
        finally:
            os.close(file)


def read_status(root: Path) -> ArchiveStatus | None:
    """Return the last status; None if there is none or it is unreadable."""
    try:
        with open_regular(root / STATUS_FILE) as file:
            return _decode(file.read(2 * _FILE_BYTES))
    except (OSError, DecodeError):
        return None
