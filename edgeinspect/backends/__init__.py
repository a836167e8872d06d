"""Backends: one file each, `Options` and `build`; its name is its `type:`.

`build(options, clock, *, store)` resolves and verifies the model, loads it, checks that its
graph keeps the model contract (docs/models.md), and returns an `edgeinspect.ports.Engine`.
"""
