"""`edgeinspect gateway FILE`: carry a line's verdicts to a PLC until told to stop."""

from __future__ import annotations

from pathlib import Path

import click

from edgeinspect.cli._terminal import echo
from edgeinspect.errors import UsageError
from edgeinspect.system import log


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--passwd",
    metavar="NAME",
    help="Do not run: let NAME log in, with a password that is asked for.",
)
@click.option("--remove", metavar="NAME", help="Do not run: strike NAME from the users.")
@click.option(
    "--trust",
    metavar="THUMBPRINT",
    help="Do not run: let the client in whose certificate was rejected.",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "console", "json", "journal"]),
    default="auto",
    show_default=True,
    help="How the log is written.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def gateway(
    file: Path,
    passwd: str | None,
    remove: str | None,
    trust: str | None,
    log_format: str,
    log_level: str,
) -> None:
    """Run the PLC gateway described in FILE.

    Ends with 0 when stopped by SIGTERM or Ctrl-C. A PLC or a line that is away is waited
    for; the PLC is told to reject everything meanwhile. See docs/plc.md.
    """
    orders = [order for order in (passwd, remove, trust) if order is not None]
    if len(orders) > 1:
        raise UsageError("give one of --passwd, --remove and --trust")
    if orders:
        _change_access(file, passwd, remove, trust)
        return
    from edgeinspect.services.gateway.service import run_gateway

    log.configure(log_format, log_level)
    run_gateway(file)


def _change_access(file: Path, passwd: str | None, remove: str | None, trust: str | None) -> None:
    """Users and certificates of a link that has them; a running gateway takes both in."""
    from edgeinspect.services.gateway.config import load_config

    options = load_config(file).link.options
    if trust is not None:
        from edgeinspect.plclinks._opcua.trust import trust_certificate

        folder = getattr(options, "pki", None)
        if folder is None:
            raise UsageError("the link names no pki", remedy="Add `pki: FOLDER` to an opcua link")
        echo(f"let in by {trust_certificate(Path(folder), trust)}")
        return
    from edgeinspect.system import Role, UserFile

    named = getattr(options, "users", None)
    users = UserFile(Path(named) if named else None)
    if remove is not None:
        users.remove(remove)
        echo(f"{remove} is no user any more")
        return
    assert passwd is not None
    password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    users.add_or_update(passwd, Role.VIEWER, password)
    echo(f"{passwd} may log in; what it may write stands under `write` in {file}")
