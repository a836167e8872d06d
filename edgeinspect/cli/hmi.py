"""`edgeinspect page FILE`: show a line to people until told to stop."""

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
@click.option(
    "--role",
    type=click.Choice(["operator", "engineer"]),
    default="operator",
    show_default=True,
    help="What NAME may do.",
)
@click.option("--remove", metavar="NAME", help="Do not run: strike NAME from the users.")
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
def page(
    file: Path, passwd: str | None, role: str, remove: str | None, log_format: str, log_level: str
) -> None:
    """Run the page described in FILE: the line's state, pictures, search and metrics.

    Ends with 0 when stopped by SIGTERM or Ctrl-C. The page hears the line and looks into its
    ring and ledger; nothing in the daemon waits for it. See docs/page.md.
    """
    if passwd is not None and remove is not None:
        raise UsageError("give one of --passwd and --remove")
    if passwd is not None or remove is not None:
        _change_users(file, passwd, role, remove)
        return
    from edgeinspect.services.hmi.service import run_hmi

    log.configure(log_format, log_level)
    run_hmi(file)


def _change_users(file: Path, passwd: str | None, role: str, remove: str | None) -> None:
    from edgeinspect.services.hmi.config import load_hmi_config
    from edgeinspect.system import Role, UserFile

    named = load_hmi_config(file).config.users
    users = UserFile(Path(named) if named else None)
    if remove is not None:
        users.remove(remove)
        echo(f"{remove} is no user any more")
        return
    assert passwd is not None
    password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    users.add_or_update(passwd, Role(role), password)
    echo(f"{passwd} may log in as {role}; passwords are hashed in {named}")
