"""`edgeinspect hmi FILE`: serve the web page of a line."""

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
    help="Do not run: add or update the user NAME; asks for the password.",
)
@click.option(
    "--role",
    type=click.Choice(["operator", "engineer"]),
    default="operator",
    show_default=True,
    help="Role of NAME.",
)
@click.option("--remove", metavar="NAME", help="Do not run: remove the user NAME.")
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
def hmi(
    file: Path, passwd: str | None, role: str, remove: str | None, log_format: str, log_level: str
) -> None:
    """Run the HMI described in FILE: the line's state, images, search and metrics.

    Exits with 0 when stopped by SIGTERM or Ctrl-C. The HMI subscribes to the line and reads its
    ring and ledger; nothing in the daemon waits for it. See docs/hmi.md.
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

    users_file = load_hmi_config(file).config.users
    users = UserFile(Path(users_file) if users_file else None)
    if remove is not None:
        users.remove(remove)
        echo(f"user {remove} was removed")
        return
    assert passwd is not None
    password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    users.add_or_update(passwd, Role(role), password)
    echo(f"{passwd} may log in as {role}; passwords are hashed in {users_file}")
