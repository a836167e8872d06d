"""The ledger: an append-only SQLite file of every verdict."""

from edgeinspect.storage.ledger.backup import (
    LedgerCopy,
    RestoredLedger,
    back_up_ledger,
    consistent_copy,
    restore_ledger,
)
from edgeinspect.storage.ledger.database import LedgerTail, read_tail
from edgeinspect.storage.ledger.query import (
    COLUMNS,
    StoredEvent,
    VerdictFilter,
    export_csv,
    export_parquet,
    find_verdicts,
    read_body,
    read_events,
)
from edgeinspect.storage.ledger.schema import last_accounted_seq, skipped_ranges
from edgeinspect.storage.ledger.verification import (
    EpochCheck,
    VerificationReport,
    open_ledger,
    verify_ledger,
)
from edgeinspect.storage.ledger.writer import LedgerWriter

__all__ = [
    # backup
    "LedgerCopy",
    "RestoredLedger",
    "back_up_ledger",
    "consistent_copy",
    "restore_ledger",
    # database
    "LedgerTail",
    "read_tail",
    # query
    "COLUMNS",
    "StoredEvent",
    "VerdictFilter",
    "export_csv",
    "export_parquet",
    "find_verdicts",
    "read_body",
    "read_events",
    # schema
    "last_accounted_seq",
    "skipped_ranges",
    # verification
    "EpochCheck",
    "VerificationReport",
    "open_ledger",
    "verify_ledger",
    # writer
    "LedgerWriter",
]
