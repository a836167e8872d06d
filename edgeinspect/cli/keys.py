"""`edgeinspect keys`: keys of clients that may connect to a line over the network."""

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
    """Create and list the keys that encrypt the wire and admit clients."""


@keys.command()
@click.argument("folder", type=_FOLDER)
@click.option("--client", metavar="NAME", help="Create a client's pair instead of the server's.")
def new(folder: Path, client: str | None) -> None:
    """Create a key pair in FOLDER: the line's, or a client's with --client."""
    if client is None:
        public = key_files.create_server_keys(folder)
        echo(f"created {public}; give it to clients, and set `publish.curve: {folder}`")
    else:
        public, secret = key_files.create_key_pair(folder, client)
        echo(f"created {public} for the line (`edgeinspect keys allow`)")
        echo(f"created {secret} for the client only")


@keys.command()
@click.argument("folder", type=_FOLDER)
@click.argument("public", type=_FILE)
@click.option("--name", help="Name of the client; that of the file by default.")
def allow(folder: Path, public: Path, name: str | None) -> None:
    """Admit the client with the key file PUBLIC to the line whose keys are in FOLDER."""
    target = key_files.add_client(folder, public, name)
    echo(f"admitted by {target}; a running daemon applies it within a second")


@keys.command("list")
@click.argument("folder", type=_FOLDER)
def list_(folder: Path) -> None:
    """List the clients admitted to the line whose keys are in FOLDER."""
    table = Table("client", "public key", box=None, pad_edge=False)
    for name, key in key_files.read_clients(folder).items():
        table.add_row(name, key)
    Console().print(table)
