"""PLC links: one file each, found by the registry; its name is the `type:` of a gateway's link.

A file exposes `Options`, `REQUIRES` and `build(options, clock)`, which returns a
`ports.PlcLink`. `_register_map.py` defines what a PLC sees and writes, for all of them.
"""
