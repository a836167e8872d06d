"""A connection's end, on a library that follows a script: the next one must wait for it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from edgeinspect.cameras._aravis.connection import AravisConnection, wait_until_closed
from edgeinspect.errors import CameraLostError


class ScriptedLibrary:
    """Counts what is held; stopping a camera waits until it is let."""

    def __init__(self, *, controller: bool = True) -> None:
        self.controller = controller
        self.held: list[int] = []
        self.may_stop = threading.Event()

    def camera_new(self, _name: bytes) -> int:
        self.held.append(7)
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
            self.held.remove(7)

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments: 1


def test_a_new_connection_waits_until_the_last_is_let_go() -> None:
    library = ScriptedLibrary()
    session = AravisConnection(library, "C1")  # type: ignore[arg-type]
    session.stream = 9
    session.queue_buffers(2, 64)
    with session.control():
        pass
    session.close(0.01)
    assert not wait_until_closed("C1", 0.01)
    assert wait_until_closed("C2", 0.01), "another camera is free"
    assert library.held == [7]
    with pytest.raises(CameraLostError), session.control():
        pass
    library.may_stop.set()
    assert wait_until_closed("C1", 10)
    assert not library.held


def test_without_control_there_is_no_connection() -> None:
    """The library opens it all the same, and then every write runs into a time-out."""
    library = ScriptedLibrary(controller=False)
    with pytest.raises(CameraLostError, match="another program holds it"):
        AravisConnection(library, "C3")  # type: ignore[arg-type]
    assert not library.held
