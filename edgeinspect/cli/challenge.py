"""`edgeinspect challenge`: check that the line still detects a known defect."""

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
@click.argument("image")
@click.option("--camera", help="Camera whose frame it replaces; the first by default.")
@click.option("--line", "line", metavar="LINE", help="The line's file or name.")
@click.option("--address", help="The line's replay address.")
def challenge(image: str, camera: str | None, line: str | None, address: str | None) -> None:
    """Send IMAGE, a file of the line's challenge folder, through the running line.

    Give its name or its path; the line opens files only in that folder. The verdict is marked
    `simulated`; if it is not a reject, the line raises an alarm. Without --line or --address
    the line that runs on this PC is used.
    """
    if address is None:
        address = find_line_source(line).replay
    if os.sep in image:
        image = os.path.abspath(image)  # the line runs in another folder
    name = image if image.isprintable() else escape_name(image)
    answer = send_request(address, ChallengeRequest(picture=name, camera=camera))
    if not answer.accepted:
        raise UsageError(f"the line rejected it: {answer.problem}", where=address)
    echo("sent; `edgeinspect watch` shows its verdict")
