"""The gateway: from the line's wire to one PLC, each result shown once, nothing skipped.

One process per PLC. `loop.Gateway` takes verdicts from `client.Feed`, `results` says what
each means to an ejector, `handshake.Handshake` decides what the PLC sees, a link of
`plclinks/` carries it there, and `journal.Journal` remembers what has been applied.

Source: docs/plc.md
"""
