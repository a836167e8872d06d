"""`edgeinspect gateway FILE`: transfer a line's verdicts to a PLC until stopped."""

from __future__ import annotations

from pathlib import Path

import click

from edgeinspect.cli._command import Command
from edgeinspect.cli._options import CHECK_FILE, LOG_FORMAT, LOG_LEVEL
from edgeinspect.cli._paths import GATEWAY_FILE
from edgeinspect.cli._terminal import echo
from edgeinspect.cli._users import PASSWD, REMOVE, change_user
from edgeinspect.errors import UsageError
from edgeinspect.system import Role, log


@click.command(
    cls=Command,
    examples=[
        ("Transfer verdicts until Ctrl-C", "edgeinspect gateway gateway.yaml"),
        ("Read the file without running", "edgeinspect gateway gateway.yaml --check"),
        (
            "Add a user who may log in by OPC UA",
            "edgeinspect gateway gateway.yaml --passwd scada",
        ),
    ],
)
@click.argument("file", metavar="GATEWAY_FILE", type=GATEWAY_FILE)
@CHECK_FILE
@PASSWD
@REMOVE
@click.option(
    "--trust",
    metavar="THUMBPRINT",
    help="Do not run: trust the client with this rejected certificate.",
)
@LOG_FORMAT
@LOG_LEVEL
def gateway(
    file: Path,
    only_check: bool,
    passwd: str | None,
    remove: str | None,
    trust: str | None,
    log_format: str,
    log_level: str,
) -> None:
    """Run the PLC gateway that GATEWAY_FILE describes.

    Ends with 0 when stopped by SIGTERM or Ctrl-C. It waits for a PLC or a line that is not
    available; the PLC is set to reject everything meanwhile. See docs/howto/plc.md.
    """
    actions = [action for action in (passwd, remove, trust, only_check or None) if action]
    if len(actions) > 1:
        raise UsageError("give one of --check, --passwd, --remove and --trust")
    if only_check:
        from edgeinspect.services.gateway.config import load_config

        loaded = load_config(file)
        echo(f"the file is valid: {loaded.link.type}, line {loaded.config.feed.line}")
        return
    if actions:
        _change_access(file, passwd, remove, trust)
        return
    from edgeinspect.services.gateway.service import run_gateway

    log.configure(log_format, log_level)
    run_gateway(file)


def _change_access(file: Path, passwd: str | None, remove: str | None, trust: str | None) -> None:
    """Change users or certificates of a link; a running gateway applies both."""
    from edgeinspect.services.gateway.config import load_config

    options = load_config(file).link.options
    if trust is not None:
        from edgeinspect.plclinks._opcua.trust import trust_certificate

        folder = getattr(options, "pki", None)
        if folder is None:
            raise UsageError("the link has no pki", remedy="Add `pki: FOLDER` to an opcua link")
        echo(f"trusted by {trust_certificate(Path(folder), trust)}")
        return
    change_user(getattr(options, "users", None), passwd, remove, Role.VIEWER)
