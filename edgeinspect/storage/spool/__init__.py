"""The spool: open and closed frames in a memory-mapped file."""
