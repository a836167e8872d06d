"""`edgeinspect gateway FILE`: carry a line's verdicts to a PLC until told to stop."""

from __future__ import annotations

from pathlib import Path

import click

from edgeinspect import log


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--log-format", type=click.Choice(["auto", "console", "json", "journal"]),
              default="auto", show_default=True, help="How the log is written.")  # fmt: skip
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]),
              default="info", show_default=True)  # fmt: skip
def gateway(file: Path, log_format: str, log_level: str) -> None:
    """Run the PLC gateway described in FILE.

    Ends with 0 when stopped by SIGTERM or Ctrl-C. A PLC or a line that is away is waited
    for; the PLC is told to reject everything meanwhile. See docs/plc.md.
    """
    from edgeinspect.gateway.program import run

    log.configure(log_format, log_level)
    run(file)
