"""`edgeinspect hmi HMI_FILE`: serve the HMI of a line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from edgeinspect.cli._command import Command
from edgeinspect.cli._options import CHECK_FILE, LOG_FORMAT, LOG_LEVEL
from edgeinspect.cli._paths import HMI_FILE
from edgeinspect.cli._terminal import echo
from edgeinspect.cli._users import PASSWD, REMOVE, change_user
from edgeinspect.errors import UsageError
from edgeinspect.system import Role, log


@click.command(
    cls=Command,
    examples=[
        ("Run the HMI of a line until Ctrl-C", "edgeinspect hmi hmi.yaml"),
        ("Read the file without running", "edgeinspect hmi hmi.yaml --check"),
        (
            "Add an engineer who may log in",
            "edgeinspect hmi hmi.yaml --passwd anna --role engineer",
        ),
    ],
)
@click.argument("file", metavar="HMI_FILE", type=HMI_FILE)
@CHECK_FILE
@PASSWD
@click.option(
    "--role",
    type=click.Choice(["operator", "engineer"]),
    default="operator",
    show_default=True,
    help="Role of the user of --passwd.",
)
@REMOVE
@LOG_FORMAT
@LOG_LEVEL
def hmi(
    file: Path,
    only_check: bool,
    passwd: str | None,
    role: str,
    remove: str | None,
    log_format: str,
    log_level: str,
) -> None:
    """Run the HMI that HMI_FILE describes: the line's state, images, search and metrics.

    Ends with 0 when stopped by SIGTERM or Ctrl-C. The HMI subscribes to the line and reads its
    ring and ledger; nothing in the daemon waits for it. See docs/howto/hmi.md.
    """
    if sum((only_check, passwd is not None, remove is not None)) > 1:
        raise UsageError("give one of --check, --passwd and --remove")
    if only_check:
        from edgeinspect.services.hmi.config import load_hmi_config

        echo(f"the file is valid: line {load_hmi_config(file).line.config.line}")
        return
    if passwd is not None or remove is not None:
        from edgeinspect.services.hmi.config import load_hmi_config

        change_user(load_hmi_config(file).config.users, passwd, remove, Role(role))
        return
    from edgeinspect.services.hmi.config import LoadedHmiConfig
    from edgeinspect.services.hmi.service import run_hmi

    log.configure(log_format, log_level)

    def announce(loaded: LoadedHmiConfig) -> None:
        config = loaded.config
        with contextlib.suppress(OSError):  # a closed stdout must not stop the HMI
            scheme = "https" if config.tls else "http"
            echo(f"HMI of line {loaded.line.config.line}: {scheme}://{config.bind}{config.prefix}")

    run_hmi(file, on_started=announce)
