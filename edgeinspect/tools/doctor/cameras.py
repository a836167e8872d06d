"""Cameras: does each one answer? A running line is asked; one that stands still is tried."""

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

Ask = Callable[[LoadedConfig], Mapping[str, str] | None]
"""Camera to its state, as the running line says it; None if no line runs."""


def check_cameras(loaded: LoadedConfig, clock: Clock, read_states: Ask) -> Iterator[Diagnostic]:
    """Each camera of the line. A camera that the line holds is never touched."""
    said = read_states(loaded)
    for name, choice in loaded.cameras.items():
        check = f"camera.{name}"
        if said is None:
            yield _open_and_grab(check, choice, clock)
        elif said.get(name) == "live":
            yield ok(check, "live, says the running line")
        else:
            yield failure(
                check,
                f"{said.get(name, 'unknown')}, says the running line",
                f"check its cable, power and trigger; journalctl EI_CAMERA={name}",
            )


def read_camera_states(loaded: LoadedConfig) -> Mapping[str, str] | None:
    """What the line's status says; None if it says nothing for longer than a status takes."""
    publish = loaded.config.publish
    if publish.curve is not None:  # a doctor has no key; a camera in use then says so itself
        return None
    address, _replay = client_addresses(loaded.config, find_shared_memory_folder(loaded.config))
    with Subscriber(address, topics=(STATUS_TOPIC,)) as listener:
        heard = listener.receive(round(publish.status_ms) + 500)
        if heard is None or not isinstance(heard.message, Status):
            return None
        return heard.message.cameras


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
        return warning(check, "opened, and it has no frame", "fill its folder")
    except EdgeInspectError as error:
        what = f"{error.where}: {error.what}" if error.where else error.what
        return failure(check, what, error.remedy or "check its cable, power and address")
    if grab is not None and grab.pixels is None:
        what = f"{choice.type}: opened, and its first frame cannot be read: {grab.problem}"
        return warning(check, what, "such frames get no verdict: see what its problem says")
    if grab is not None:
        return ok(check, f"{choice.type}: opened, and it sent a frame")
    if triggered:
        return ok(check, f"{choice.type}: opened; it waits for its trigger")
    return warning(check, f"{choice.type}: opened, and it sent nothing", "check its trigger mode")
