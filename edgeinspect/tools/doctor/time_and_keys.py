"""Time and keys: may what the line says be believed?"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from edgeinspect.config import LineConfig
from edgeinspect.tools.doctor.diagnostic import Diagnostic, failure, ok, skipped, warning
from edgeinspect.tools.doctor.host import Host

_KEYS_FOLDER = "/etc/edgeinspect/keys"


def check_time_and_keys(host: Host, config: LineConfig | None) -> Iterator[Diagnostic]:
    """The clock's source, and the modes of secret keys."""
    yield _check_clock(host)
    yield from _check_keys(host, config)


def _check_clock(machine: Host) -> Diagnostic:
    check = "time.synchronous"
    follows = machine.is_clock_synchronised()
    if follows is None:
        return skipped(check, "the kernel does not say")
    if follows:
        return ok(check, "the clock follows a source")
    return warning(
        check,
        "the clock follows nothing: times in verdicts and ledger drift from the plant's",
        "timedatectl set-ntp true, or chrony or ptp4l with the plant's server",
    )


def _check_keys(machine: Host, config: LineConfig | None) -> Iterator[Diagnostic]:
    folder = Path((config.publish.curve if config else None) or _KEYS_FOLDER)
    secrets = machine.glob(f"{folder}/*.key_secret")
    if config is not None and config.publish.curve and not secrets:
        if machine.is_root():
            remedy = f"edgeinspect keys new {folder}"
            yield failure("keys.server", f"no secret key in {folder}", remedy)
        else:
            yield skipped("keys.server", f"{folder} cannot be read; ask as root")
        return
    if not secrets:
        yield skipped("keys", "the wire is not encrypted; it stays on this PC")
        return
    for path in secrets:
        check = f"keys.{path.name}"
        mode = stat.S_IMODE(machine.path(path).stat().st_mode)
        if mode & 0o077:
            found = f"{path} has mode {mode:04o}: others than its owner can read it"
            yield failure(check, found, f"chmod 600 {path}; then new keys, for these may be known")
        else:
            yield ok(check, f"{path} has mode {mode:04o}")
