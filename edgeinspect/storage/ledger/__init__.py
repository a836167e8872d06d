"""The ledger: an append-only SQLite file of every verdict."""
