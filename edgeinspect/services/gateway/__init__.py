"""The gateway: carries the verdicts of one line to one PLC, each result once, none skipped.

One process per PLC. `gateway.Gateway` reads verdicts from `client.VerdictFeed`, `plc_results` maps
each one to what the ejector must do, `handshake.Handshake` decides what the PLC sees, a link
of `plclinks/` carries it there, and `journal.GatewayJournal` records what has been applied.

Source: docs/reference/plc.md
"""
