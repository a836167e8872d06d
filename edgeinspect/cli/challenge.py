"""`edgeinspect challenge`: check that the line still detects a known defect."""

from __future__ import annotations

import os

import click

from edgeinspect.cli._command import Command
from edgeinspect.cli._line_source import find_line_source, is_address
from edgeinspect.cli._paths import CHALLENGE_IMAGE, LINE
from edgeinspect.cli._terminal import echo
from edgeinspect.client import check_address, send_request
from edgeinspect.errors import UsageError
from edgeinspect.system import escape_name
from edgeinspect.wire import ChallengeRequest


@click.command(
    cls=Command,
    examples=[
        (
            "Send a known defect through the line that runs on this PC",
            "edgeinspect challenge scratches.png",
        ),
        ("Through one of several lines", "edgeinspect challenge line.yaml scratches.png"),
    ],
    renamed={"--line": "the first argument, LINE", "--address": "the first argument, LINE"},
)
@click.argument("lines", metavar="[LINE]", nargs=-1, type=LINE)
@click.argument("image", type=CHALLENGE_IMAGE)
@click.option(
    "--camera", metavar="NAME", help="Camera whose frame it replaces; the first by default."
)
def challenge(lines: tuple[str, ...], image: str, camera: str | None) -> None:
    """Send IMAGE, a file of the line's challenge folder, through the running line.

    LINE is the line's file, or the name or the replay address of the running line; without
    it, the line that runs on this PC. IMAGE is a name or a path; the line opens files only in
    its challenge folder. The verdict is marked `simulated`; if it is not a reject, the line
    raises an alarm.
    """
    if len(lines) > 1:
        raise UsageError("more than one line is given", remedy="Give [LINE] IMAGE")
    line = lines[0] if lines else None
    if line and is_address(line):
        check_address(address := line)
    else:
        address = find_line_source(line).replay
    if os.sep in image:
        image = os.path.abspath(image)  # the line runs in another folder
    name = image if image.isprintable() else escape_name(image)
    answer = send_request(address, ChallengeRequest(picture=name, camera=camera))
    if not answer.accepted:
        raise UsageError(f"the line rejected it: {answer.problem}", where=address)
    echo("sent; `edgeinspect watch` shows its verdict")
