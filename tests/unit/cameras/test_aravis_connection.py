"""Closing a connection: the next one must wait for it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from edgeinspect.cameras._aravis.connection import AravisConnection, wait_until_closed
from edgeinspect.errors import CameraLostError


class ScriptedLibrary:
    """Counts open cameras; stopping one blocks until `may_stop` is set."""

    def __init__(self, *, controller: bool = True) -> None:
        self.controller = controller
        self.open_cameras: list[int] = []
        self.may_stop = threading.Event()

    def camera_new(self, _name: bytes) -> int:
        self.open_cameras.append(7)
        return 7

    def camera_is_gv_device(self, _camera: int) -> int:
        return 1

    def gv_device_is_controller(self, _device: int) -> int:
        return self.controller

    def camera_stop_acquisition(self, _camera: int) -> None:
        assert self.may_stop.wait(10)
        raise CameraLostError("does not answer")

    def unref(self, instance: int) -> None:
        if instance == 7:
            self.open_cameras.remove(7)

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments: 1


def test_a_new_connection_waits_for_the_end_of_the_last() -> None:
    library = ScriptedLibrary()
    connection = AravisConnection(library, "C1")  # type: ignore[arg-type]
    connection.stream = 9
    connection.queue_buffers(2, 64)
    with connection.control():
        pass
    connection.close(0.01)
    assert not wait_until_closed("C1", 0.01)
    assert wait_until_closed("C2", 0.01), "another camera is free"
    assert library.open_cameras == [7]
    with pytest.raises(CameraLostError), connection.control():
        pass
    library.may_stop.set()
    assert wait_until_closed("C1", 10)
    assert not library.open_cameras


def test_a_camera_controlled_by_another_program_is_not_opened() -> None:
    """The library opens the camera nevertheless, and every write times out."""
    library = ScriptedLibrary(controller=False)
    with pytest.raises(CameraLostError, match="another program controls it"):
        AravisConnection(library, "C3")  # type: ignore[arg-type]
    assert not library.open_cameras
