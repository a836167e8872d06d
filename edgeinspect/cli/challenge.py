"""`edgeinspect challenge`: prove that the line still sees a known defect."""

from __future__ import annotations

import os

import click

from edgeinspect.cli._line_source import find_line_source
from edgeinspect.cli._terminal import echo
from edgeinspect.client import send_request
from edgeinspect.errors import UsageError
from edgeinspect.system import escape_name
from edgeinspect.wire import ChallengeRequest


@click.command()
@click.argument("picture")
@click.option("--camera", help="Camera whose frame it stands for; the first by default.")
@click.option("--line", "word", metavar="LINE", help="The line's file or name.")
@click.option("--address", help="The line's replay address.")
def challenge(picture: str, camera: str | None, word: str | None, address: str | None) -> None:
    """Send PICTURE, a file of the line's challenge folder, through the running line.

    It is named alone or with its path; the line opens it in that folder and nowhere else. Its
    verdict is marked `simulated`; if it is not a reject, the line raises an alarm. The line is
    the one that runs on this PC, unless it is named.
    """
    if address is None:
        address = find_line_source(word).replay
    if os.sep in picture:
        picture = os.path.abspath(picture)  # the line runs in another folder
    name = picture if picture.isprintable() else escape_name(picture)
    answer = send_request(address, ChallengeRequest(picture=name, camera=camera))
    if not answer.accepted:
        raise UsageError(f"the line refused: {answer.problem}", where=address)
    echo("sent; watch for its verdict with `edgeinspect watch`")
