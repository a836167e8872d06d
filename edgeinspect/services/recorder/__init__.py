"""The recorder: a process beside the line that keeps every frame with its verdict.

It reads the line's shared memory, ring and spool, and nothing in the line waits for it.
Source: docs/decisions/0014-recordings.md
"""
