"""All examinations, in the order a person would go through them."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.config.loader import Loaded
from edgeinspect.domain.clock import Clock
from edgeinspect.tools.doctor.cameras import Ask, ask_line, examine_cameras
from edgeinspect.tools.doctor.finding import Finding
from edgeinspect.tools.doctor.gpu import examine_gpu
from edgeinspect.tools.doctor.host import Machine
from edgeinspect.tools.doctor.network import examine_network
from edgeinspect.tools.doctor.processor import examine_processor
from edgeinspect.tools.doctor.storage import examine_storage
from edgeinspect.tools.doctor.time_and_keys import examine_trust


def examine(
    machine: Machine, clock: Clock, loaded: Loaded | None = None, ask: Ask = ask_line
) -> Iterator[Finding]:
    """Look at a PC, and at what one line wants of it.

    Args:
        machine: The PC.
        clock: For the cameras.
        loaded: The line's configuration; without it, what any line wants.
        ask: How a running line is asked for its cameras.
    """
    config = loaded.config if loaded else None
    yield from examine_processor(machine, config)
    yield from examine_network(machine, config)
    yield from examine_gpu(machine, config)
    yield from examine_storage(machine, config)
    yield from examine_trust(machine, config)
    if loaded is not None:
        yield from examine_cameras(loaded, clock, ask)
