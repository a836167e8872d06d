"""PLC links: one file each, found by the registry. Its name is the `type:` of a gateway's link.

A file exposes `Options`, `REQUIRES` and `build(options, clock)`, which gives a
`ports.PlcLink`. What a PLC sees is laid out once, in `_map.py`.
"""
