"""What is kept: shared memory, spool, ledger, archive, recordings, models."""
