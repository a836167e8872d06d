"""Replay: a recorded shift through the line's own flow again, on a clock turned by hand.

Source: docs/decisions/0014-recordings.md, docs/replay.md
"""
