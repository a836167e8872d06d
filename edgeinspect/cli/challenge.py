"""`edgeinspect challenge`: prove that the line still sees a known defect."""

from __future__ import annotations

import click

from edgeinspect.cli._terminal import echo
from edgeinspect.client import DEFAULT_REPLAY, order
from edgeinspect.errors import UsageError
from edgeinspect.wire_replay import ChallengeRequest


@click.command()
@click.argument("picture")
@click.option("--camera", help="Camera whose frame it stands for; the first by default.")
@click.option("--address", default=DEFAULT_REPLAY, show_default=True,
              help="The line's replay address.")  # fmt: skip
def challenge(picture: str, camera: str | None, address: str) -> None:
    """Send PICTURE, a file of the line's challenge folder, through the running line.

    Its verdict is marked `simulated`; if it is not a reject, the line raises an alarm.
    """
    answer = order(address, ChallengeRequest(picture=picture, camera=camera))
    if not answer.accepted:
        raise UsageError(f"the line refused: {answer.problem}", where=address)
    echo("sent; watch for its verdict with `edgeinspect watch`")
