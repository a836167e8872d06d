"""The HMI: the web page of a line and its metrics, in a process of its own.

It subscribes to the line over ZeroMQ, reads its ring and ledger, and changes something only on
behalf of a user who has logged in. Nothing in the daemon waits for it.

Source: docs/howto/hmi.md
"""
