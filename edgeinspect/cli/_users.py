"""Options of services that have users, and the changes that they request."""

from __future__ import annotations

import getpass
import warnings
from pathlib import Path

import click

from edgeinspect.cli._terminal import echo
from edgeinspect.errors import UsageError
from edgeinspect.system import Role, UserFile

PASSWD = click.option(
    "--passwd",
    metavar="NAME",
    help="Do not run: add or update the user NAME; prompts for the password.",
)
REMOVE = click.option("--remove", metavar="NAME", help="Do not run: remove the user NAME.")


def change_user(path: str | None, passwd: str | None, remove: str | None, role: Role) -> None:
    """Remove the user `remove`, or add or update the user `passwd` with a prompted password.

    Raises:
        UsageError: There is no file of users, or no such user, or no password was given.
    """
    users = UserFile(Path(path) if path else None)
    if remove is not None:
        users.remove(remove)
        echo(f"user {remove} was removed")
    elif passwd is not None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", getpass.GetPassWarning)  # a pipe shows nothing
                password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        except click.Abort as error:
            if isinstance(error.__context__, EOFError):
                raise UsageError(
                    "the password is asked for twice, and the input ended",
                    remedy="Call it on a terminal, or write the password twice, as two lines, "
                    "to its input",
                ) from None
            raise
        users.add_or_update(passwd, role, password)
        echo(f"user {passwd} was saved in {path}")
