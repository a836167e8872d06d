"""Checks of the clock's synchronisation and of secret keys."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from edgeinspect.config import LineConfig
from edgeinspect.tools.doctor.diagnostic import Diagnostic, failure, ok, skipped, warning
from edgeinspect.tools.doctor.host import Host

_KEYS_FOLDER = "/etc/edgeinspect/keys"


def check_time_and_keys(host: Host, config: LineConfig | None) -> Iterator[Diagnostic]:
    """Check the clock's source, and the modes of secret keys."""
    yield _check_clock(host)
    yield from _check_keys(host, config)


def _check_clock(host: Host) -> Diagnostic:
    check = "time.synchronous"
    is_synchronised = host.is_clock_synchronised()
    if is_synchronised is None:
        return skipped(check, "the kernel does not report it")
    if is_synchronised:
        return ok(check, "the clock is synchronised")
    return warning(
        check,
        "the clock is not synchronised: times in verdicts and ledger drift",
        "timedatectl set-ntp true, or chrony or ptp4l with the plant's server",
    )


def _check_keys(host: Host, config: LineConfig | None) -> Iterator[Diagnostic]:
    folder = Path((config.publish.curve if config else None) or _KEYS_FOLDER)
    secret_keys = host.glob(f"{folder}/*.key_secret")
    if config is not None and config.publish.curve and not secret_keys:
        if host.is_root():
            remedy = f"edgeinspect keys new {shlex.quote(str(folder))}"
            yield failure("keys.server", f"no secret key in {folder}", remedy)
        else:
            yield skipped("keys.server", f"{folder} cannot be read; run as root")
        return
    if not secret_keys:
        yield skipped("keys", "the wire is not encrypted; it is used on this PC only")
        return
    for path in secret_keys:
        check = f"keys.{path.name}"
        mode = stat.S_IMODE(host.path(path).stat().st_mode)
        if mode & 0o077:
            problem = f"{path} has mode {mode:04o}: users other than its owner can read it"
            yield failure(
                check,
                problem,
                f"chmod 600 {shlex.quote(str(path))}; then create new keys: these may be "
                "compromised",
            )
        else:
            yield ok(check, f"{path} has mode {mode:04o}")
