from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from edgeinspect.domain.clock import SystemClock
from edgeinspect.domain.plc import PlcCommands, PlcImage
from edgeinspect.plclinks._session_link import Courier
from tests.system.plant import wait_for


class Plc:
    """A PLC's memory: what it writes stands there whether somebody asks or not."""

    waits_for = ""

    def __init__(self) -> None:
        self.ack: int | None = None
        self.answers_at: int | None = None
        """Revision at which it answers at once, before anybody asks."""
        self.cable = threading.Event()
        self.cable.set()

    def show(self, image: PlcImage) -> None:
        if image.revision == self.answers_at:
            self.ack = 7

    def commands(self) -> PlcCommands | None:
        if not self.cable.is_set():
            raise ConnectionResetError("the cable is out")
        return PlcCommands(results_ack=self.ack)

    def close(self) -> None:
        return


@pytest.fixture
def plc() -> Plc:
    return Plc()


@pytest.fixture
def link(plc: Plc) -> Iterator[Courier]:
    courier = Courier(lambda: plc, SystemClock(), poll_ms=1, where="plc")
    yield courier
    courier.close()


def after(link: Courier, ack: int) -> int:
    """The revision that had reached the PLC when it wrote this id."""

    def stands() -> PlcCommands | None:
        commands = link.poll().commands
        return commands if commands is not None and commands.results_ack == ack else None

    wait_for(stands)
    commands = stands()
    assert commands is not None
    return commands.ack_after


def test_an_ack_that_stood_there_before_the_first_image_is_older(link: Courier, plc: Plc) -> None:
    plc.ack = 7
    link.show(PlcImage(revision=4))
    link.open()
    assert after(link, 7) == -1
    link.show(PlcImage(revision=5))
    wait_for(lambda: link.poll().delivered == 5)
    assert after(link, 7) == -1


def test_an_ack_that_is_there_when_the_image_has_arrived_is_an_answer(
    link: Courier, plc: Plc
) -> None:
    plc.answers_at = 4
    link.show(PlcImage(revision=4))
    link.open()
    assert after(link, 7) == 4


def test_a_new_session_forgets_nothing(link: Courier, plc: Plc) -> None:
    plc.answers_at = 4
    link.show(PlcImage(revision=4))
    link.open()
    assert after(link, 7) == 4
    plc.cable.clear()
    wait_for(lambda: not link.poll().connected)
    plc.ack = 8
    link.show(PlcImage(revision=5))
    plc.cable.set()
    wait_for(lambda: link.poll().delivered == 5)
    assert after(link, 8) == 4, "it was written while nobody was there"
