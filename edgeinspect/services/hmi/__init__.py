"""The page: what a person sees of a line, in a process of its own.

It hears the line over ZeroMQ, looks into its ring, reads its ledger, and changes nothing
but by a person who has logged in. Nothing in the daemon waits for it.
"""
