"""All examinations, in the order a person would go through them."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.config import LoadedConfig
from edgeinspect.domain import Clock
from edgeinspect.tools.doctor.cameras import Ask, check_cameras, read_camera_states
from edgeinspect.tools.doctor.diagnostic import Diagnostic
from edgeinspect.tools.doctor.gpu import check_gpu
from edgeinspect.tools.doctor.host import Host
from edgeinspect.tools.doctor.network import check_network
from edgeinspect.tools.doctor.processor import check_processor
from edgeinspect.tools.doctor.storage import check_storage
from edgeinspect.tools.doctor.time_and_keys import check_time_and_keys


def run_checks(
    host: Host,
    clock: Clock,
    loaded: LoadedConfig | None = None,
    read_states: Ask = read_camera_states,
) -> Iterator[Diagnostic]:
    """Look at a PC, and at what one line wants of it.

    Args:
        machine: The PC.
        clock: For the cameras.
        loaded: The line's configuration; without it, what any line wants.
        ask: How a running line is asked for its cameras.
    """
    config = loaded.config if loaded else None
    yield from check_processor(host, config)
    yield from check_network(host, config)
    yield from check_gpu(host, config)
    yield from check_storage(host, config)
    yield from check_time_and_keys(host, config)
    if loaded is not None:
        yield from check_cameras(loaded, clock, read_states)
