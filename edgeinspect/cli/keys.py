"""`edgeinspect keys`: who may listen to a line over the network."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from edgeinspect.cli._terminal import Console, echo
from edgeinspect.wire import curve_keys as key_files

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def keys() -> None:
    """Make and list the keys that encrypt the wire and say who is let in."""


@keys.command()
@click.argument("folder", type=_FOLDER)
@click.option("--client", metavar="NAME", help="Make a client's pair instead of the server's.")
def new(folder: Path, client: str | None) -> None:
    """Make a key pair in FOLDER: the line's own, or a client's with --client."""
    if client is None:
        public = key_files.create_server_keys(folder)
        echo(f"made {public}; give it to clients, and set `publish.curve: {folder}`")
    else:
        public, secret = key_files.create_key_pair(folder, client)
        echo(f"made {public} for the line (`edgeinspect keys allow`)")
        echo(f"made {secret} for the client alone")


@keys.command()
@click.argument("folder", type=_FOLDER)
@click.argument("public", type=_FILE)
@click.option("--name", help="Name to keep it under; the file's own otherwise.")
def allow(folder: Path, public: Path, name: str | None) -> None:
    """Let the client with the key file PUBLIC into the line whose keys are in FOLDER."""
    target = key_files.add_client(folder, public, name)
    echo(f"let in by {target}; a running daemon notices within a second")


@keys.command("list")
@click.argument("folder", type=_FOLDER)
def list_(folder: Path) -> None:
    """List the clients that are let into the line whose keys are in FOLDER."""
    table = Table("client", "public key", box=None, pad_edge=False)
    for name, key in key_files.read_clients(folder).items():
        table.add_row(name, key)
    Console().print(table)
