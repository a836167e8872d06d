"""All checks, in a sensible order for a person."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.config import LoadedConfig
from edgeinspect.domain import Clock
from edgeinspect.tools.doctor.cameras import ReadCameraStates, check_cameras, read_camera_states
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
    read_states: ReadCameraStates = read_camera_states,
) -> Iterator[Diagnostic]:
    """Check a PC, and what a line requires of it.

    Args:
        host: The PC.
        clock: For the cameras.
        loaded: The line's configuration; None checks what any line requires.
        read_states: Reads the camera states of a running line.
    """
    config = loaded.config if loaded else None
    yield from check_processor(host, config)
    yield from check_network(host, config)
    yield from check_gpu(host, config)
    yield from check_storage(host, config)
    yield from check_time_and_keys(host, config)
    if loaded is not None:
        yield from check_cameras(loaded, clock, read_states)
