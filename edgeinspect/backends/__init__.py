"""Backend plugins, one file each. The file's name is the `type:` in the configuration.

`build(options, clock, *, store)` resolves and verifies the model, loads it, checks its graph
against the model contract (docs/reference/models.md), and returns an `edgeinspect.ports.Engine`.
"""

from edgeinspect.backends._contract import (
    TensorInfo,
    allocate_outputs,
    check_graph,
    check_image,
    expected_outputs,
)

__all__ = ["TensorInfo", "allocate_outputs", "check_graph", "check_image", "expected_outputs"]
