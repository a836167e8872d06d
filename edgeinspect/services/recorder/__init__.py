"""The recorder: saves every frame with its verdict, in a process of its own.

It reads the line's ring and spool in shared memory; the line never waits for it.

Source: docs/explanation/decisions/0014-recordings.md
"""
