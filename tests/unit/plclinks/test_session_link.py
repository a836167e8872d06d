from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from edgeinspect.domain.clock import SystemClock
from edgeinspect.domain.plc import PlcCommands, ProcessImage
from edgeinspect.plclinks._session_link import SessionLink
from tests.system.plant import wait_for


class FakePlcSession:
    """A session with a PLC whose ack register keeps the last id."""

    not_ready_reason = ""

    def __init__(self) -> None:
        self.ack: int | None = None
        self.answers_at: int | None = None
        """Revision that it acknowledges as soon as it is written."""
        self.is_cable_in = threading.Event()
        self.is_cable_in.set()

    def write(self, image: ProcessImage) -> None:
        if image.revision == self.answers_at:
            self.ack = 7

    def read_commands(self) -> PlcCommands | None:
        if not self.is_cable_in.is_set():
            raise ConnectionResetError("the cable is out")
        return PlcCommands(results_ack=self.ack)

    def close(self) -> None:
        return


@pytest.fixture
def plc() -> FakePlcSession:
    return FakePlcSession()


@pytest.fixture
def link(plc: FakePlcSession) -> Iterator[SessionLink]:
    opened = SessionLink(lambda: plc, SystemClock(), poll_ms=1, where="plc")
    yield opened
    opened.close()


def after(link: SessionLink, ack: int) -> int:
    """The revision that had reached the PLC when it wrote this id."""

    def find() -> PlcCommands | None:
        commands = link.poll().commands
        return commands if commands is not None and commands.results_ack == ack else None

    wait_for(find)
    commands = find()
    assert commands is not None
    return commands.ack_after


def test_an_ack_found_before_the_first_image_is_older(
    link: SessionLink, plc: FakePlcSession
) -> None:
    plc.ack = 7
    link.write(ProcessImage(revision=4))
    link.open()
    assert after(link, 7) == -1
    link.write(ProcessImage(revision=5))
    wait_for(lambda: link.poll().delivered_revision == 5)
    assert after(link, 7) == -1


def test_an_ack_found_after_the_image_was_written_answers_it(
    link: SessionLink, plc: FakePlcSession
) -> None:
    plc.answers_at = 4
    link.write(ProcessImage(revision=4))
    link.open()
    assert after(link, 7) == 4


def test_the_order_of_acks_is_kept_across_sessions(link: SessionLink, plc: FakePlcSession) -> None:
    plc.answers_at = 4
    link.write(ProcessImage(revision=4))
    link.open()
    assert after(link, 7) == 4
    plc.is_cable_in.clear()
    wait_for(lambda: not link.poll().is_connected)
    plc.ack = 8
    link.write(ProcessImage(revision=5))
    plc.is_cable_in.set()
    wait_for(lambda: link.poll().delivered_revision == 5)
    assert after(link, 8) == 4, "it was written while disconnected"
