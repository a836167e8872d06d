"""Checks of cameras: their state in a running line, or a trial grab if no line runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from edgeinspect.client import Subscriber
from edgeinspect.config import LoadedConfig, PluginSelection
from edgeinspect.domain import NS_PER_S, Clock
from edgeinspect.errors import EdgeInspectError
from edgeinspect.ports import Camera, CameraFinished
from edgeinspect.storage.paths import client_addresses, find_shared_memory_folder
from edgeinspect.tools.doctor.diagnostic import Diagnostic, failure, ok, warning
from edgeinspect.wire import STATUS_TOPIC, Status

GRAB_TIMEOUT_NS = 2 * NS_PER_S

ReadCameraStates = Callable[[LoadedConfig], Mapping[str, str] | None]
"""Returns the state of each camera in the running line; None if no line runs."""


def check_cameras(
    loaded: LoadedConfig, clock: Clock, read_states: ReadCameraStates
) -> Iterator[Diagnostic]:
    """Check each camera of a line. A camera in use by a running line is not opened."""
    states = read_states(loaded)
    for name, choice in loaded.cameras.items():
        check = f"camera.{name}"
        if states is None:
            yield _open_and_grab(check, choice, clock)
        elif states.get(name) == "live":
            yield ok(check, "live in the running line")
        else:
            yield failure(
                check,
                f"{states.get(name, 'unknown')} in the running line",
                f"check its cable, power and trigger; journalctl EI_CAMERA={name}",
            )


def read_camera_states(loaded: LoadedConfig) -> Mapping[str, str] | None:
    """Return the camera states in the line's status; None without a status within its period."""
    publish = loaded.config.publish
    if publish.curve is not None:  # there is no key; opening a camera in use then fails
        return None
    address, _replay = client_addresses(loaded.config, find_shared_memory_folder(loaded.config))
    with Subscriber(address, topics=(STATUS_TOPIC,)) as listener:
        received = listener.receive(round(publish.status_ms) + 500)
        if received is None or not isinstance(received.message, Status):
            return None
        return received.message.cameras


def _open_and_grab(check: str, choice: PluginSelection, clock: Clock) -> Diagnostic:
    try:
        camera: Camera = choice.module.build(choice.options, clock)
        try:
            camera.open()
            grab = camera.grab(GRAB_TIMEOUT_NS) if camera.period_ns is not None else None
            triggered = camera.period_ns is None
            if grab is not None:
                camera.release(grab)
        finally:
            camera.close()
    except CameraFinished:
        return warning(check, "opened; it has no frame", "fill its folder")
    except EdgeInspectError as error:
        problem = f"{error.where}: {error.what}" if error.where else error.what
        return failure(check, problem, error.remedy or "check its cable, power and address")
    if grab is not None and grab.pixels is None:
        problem = f"{choice.type}: opened; its first frame cannot be read: {grab.problem}"
        return warning(check, problem, "such frames get no verdict: see the problem")
    if grab is not None:
        return ok(check, f"{choice.type}: opened; it sent a frame")
    if triggered:
        return ok(check, f"{choice.type}: opened; it waits for a trigger")
    return warning(check, f"{choice.type}: opened; it sent nothing", "check its trigger mode")
