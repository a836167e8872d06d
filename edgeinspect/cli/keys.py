"""`edgeinspect keys`: keys of clients that may connect to a line over the network."""

from __future__ import annotations

from pathlib import Path

import click

from edgeinspect.cli._command import Group
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._paths import KEYS_FOLDER, OUTPUT_FOLDER, PUBLIC_KEY
from edgeinspect.cli._results.machine import ClientKey, ClientKeys
from edgeinspect.cli._tables import Column, TextTable, print_table
from edgeinspect.cli._terminal import echo
from edgeinspect.wire import curve_keys as key_files


@click.group(
    cls=Group,
    examples=[
        ("Make a line's keys", "edgeinspect keys new keys"),
        ("Admit a client by its public key", "edgeinspect keys allow keys gateway.key"),
    ],
)
def keys() -> None:
    """Create and list the keys that encrypt the wire and admit clients.

    FOLDER is the folder of the line's keys, which `publish.curve` names.
    """


@keys.command(
    examples=[
        ("Make a line's keys", "edgeinspect keys new keys"),
        ("Make a client's pair", "edgeinspect keys new client-keys --client gateway"),
    ],
)
@click.argument("folder", type=OUTPUT_FOLDER)
@click.option("--client", metavar="NAME", help="Create a client's pair instead of the server's.")
def new(folder: Path, client: str | None) -> None:
    """Create a key pair in FOLDER.

    It is the line's, or a client's with --client.
    """
    if client is None:
        public = key_files.create_server_keys(folder)
        echo(f"created {public}; give it to clients, and set `publish.curve: {folder}`")
    else:
        public, secret = key_files.create_key_pair(folder, client)
        echo(f"created {public} for the line (`edgeinspect keys allow`)")
        echo(f"created {secret} for the client only")


@keys.command(
    examples=[("Admit a client", "edgeinspect keys allow keys gateway.key")],
    renamed={"--name": "--client NAME"},
)
@click.argument("folder", type=KEYS_FOLDER)
@click.argument("public", metavar="KEY_FILE", type=PUBLIC_KEY)
@click.option(
    "--client", "name", metavar="NAME", help="Name of the client; that of the file by default."
)
def allow(folder: Path, public: Path, name: str | None) -> None:
    """Admit a client by its public key, KEY_FILE.

    FOLDER has the keys of the line.
    """
    target = key_files.add_client(folder, public, name)
    echo(f"admitted by {target}; a running daemon applies it within a second")


@keys.command("list", examples=[("List who may connect", "edgeinspect keys list keys")])
@click.argument("folder", type=KEYS_FOLDER)
@json_option("edgeinspect.cli._results.machine:ClientKeys")
def list_(folder: Path, as_json: bool) -> None:
    """List the clients admitted to the line whose keys are in FOLDER."""
    clients = [
        ClientKey(client=name, public_key=key)
        for name, key in key_files.read_clients(folder).items()
    ]
    print_result(ClientKeys(folder=str(folder), clients=clients), as_json, _show_clients)


def _show_clients(result: ClientKeys) -> None:
    table = TextTable("client", Column("public key", fixed=True))
    for each in result.clients:
        table.add_row(each.client, each.public_key)
    print_table(table, empty=f"no client is admitted by {result.folder}")
