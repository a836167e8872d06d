"""Backend plugins, one file each. The file's name is the `type:` in the configuration.

`build(options, clock, *, store)` resolves and verifies the model, loads it, checks its graph
against the model contract (docs/reference/models.md), and returns an `edgeinspect.ports.Engine`.
"""
