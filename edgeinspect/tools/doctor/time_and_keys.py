"""Time and keys: may what the line says be believed?"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from edgeinspect.config.schema import LineConfig
from edgeinspect.tools.doctor.finding import Finding, bad, good, none, warn
from edgeinspect.tools.doctor.host import Machine

_KEYS = "/etc/edgeinspect/keys"


def examine_trust(machine: Machine, config: LineConfig | None) -> Iterator[Finding]:
    """The clock's source, and the modes of secret keys."""
    yield _clock(machine)
    yield from _keys(machine, config)


def _clock(machine: Machine) -> Finding:
    check = "time.synchronous"
    follows = machine.clock_is_synchronous()
    if follows is None:
        return none(check, "the kernel does not say")
    if follows:
        return good(check, "the clock follows a source")
    return warn(
        check,
        "the clock follows nothing: times in verdicts and ledger drift from the plant's",
        "timedatectl set-ntp true, or chrony or ptp4l with the plant's server",
    )


def _keys(machine: Machine, config: LineConfig | None) -> Iterator[Finding]:
    folder = Path((config.publish.curve if config else None) or _KEYS)
    secrets = machine.glob(f"{folder}/*.key_secret")
    if config is not None and config.publish.curve and not secrets:
        if machine.is_root():
            remedy = f"edgeinspect keys new {folder}"
            yield bad("keys.server", f"no secret key in {folder}", remedy)
        else:
            yield none("keys.server", f"{folder} cannot be read; ask as root")
        return
    if not secrets:
        yield none("keys", "the wire is not encrypted; it stays on this PC")
        return
    for path in secrets:
        check = f"keys.{path.name}"
        mode = stat.S_IMODE(machine.path(path).stat().st_mode)
        if mode & 0o077:
            found = f"{path} has mode {mode:04o}: others than its owner can read it"
            yield bad(check, found, f"chmod 600 {path}; then new keys, for these may be known")
        else:
            yield good(check, f"{path} has mode {mode:04o}")
