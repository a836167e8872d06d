"""The spool: open and closed frames in a memory-mapped file."""

from edgeinspect.storage.spool.format import (
    ANNOUNCED_EPOCH_AT,
    HEADER_BYTES,
    PAYLOAD_BYTES,
    SLOT_BYTES,
    OpenRecord,
    SpoolScan,
    read_cursor,
    read_line_name,
    read_verdict,
    scan_spool,
)
from edgeinspect.storage.spool.reader import SpoolReader
from edgeinspect.storage.spool.spool import Spool, SpoolFullError

__all__ = [
    # format
    "ANNOUNCED_EPOCH_AT",
    "HEADER_BYTES",
    "PAYLOAD_BYTES",
    "SLOT_BYTES",
    "OpenRecord",
    "SpoolScan",
    "read_cursor",
    "read_line_name",
    "read_verdict",
    "scan_spool",
    # reader
    "SpoolReader",
    # spool
    "Spool",
    "SpoolFullError",
]
