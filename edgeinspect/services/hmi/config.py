"""The HMI's configuration file."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from edgeinspect.client import ClientKeysConfig
from edgeinspect.config import (
    INVALID,
    ConfigSection,
    ConfigValidator,
    LineConfig,
    LoadedConfig,
    YamlNode,
    open_document,
    yaml_document,
)
from edgeinspect.config import load_config as load_line
from edgeinspect.services.hmi.http.client_address import parse_networks
from edgeinspect.services.hmi.http.reverse_proxy import PREFIX_PATTERN, RESERVED_PATHS
from edgeinspect.services.hmi.http.tls import TlsConfig

_BIND = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(?P<port>\d{1,5})")
_TimeOfDay = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class DriftConfig(ConfigSection, frozen=True):
    """How the gate's scores are compared with the first ones."""

    reference_frames: Annotated[int, Meta(ge=200, le=1_000_000)] = 5_000
    """Number of first frames of a gate on this line that are its reference."""
    window_frames: Annotated[int, Meta(ge=200, le=100_000)] = 2_000
    """Number of newest frames that are compared with it."""


class HmiConfig(ConfigSection, frozen=True):
    """One HMI."""

    schema: Literal[1]
    line: str
    """The line's configuration file: name, addresses, ring, ledger and models are taken from it."""
    bind: str = "127.0.0.1:8480"
    """HOST:PORT. Reachable from other PCs only with `tls`, or with `insecure: true`."""
    hosts: list[Annotated[str, Meta(min_length=1, max_length=253)]] = []  # noqa: RUF012
    """Host names that browsers may use, besides those of loopback and `bind`."""
    tls: TlsConfig | None = None
    proxies: Annotated[list[str], Meta(max_length=64)] = []  # noqa: RUF012
    """Addresses or networks of reverse proxies in front of the HMI, such as `127.0.0.1` or
    `10.0.0.0/24`: only their `X-Forwarded-` headers are trusted."""
    prefix: Annotated[str, Meta(max_length=200)] = ""
    """Path under which they publish the HMI, such as `/line7/`, if they do not send it."""
    insecure: bool = False
    """Permit access from other PCs without encryption."""
    users: str | None = None
    """File of users who may log in; written by `edgeinspect hmi FILE --passwd NAME`. Without it
    the HMI is read-only."""
    session_min: Annotated[float, Meta(ge=1, le=1_440)] = 30
    """Minutes without an action after which a login ends; it ends after 12 hours in any case."""
    curve: ClientKeysConfig | None = None
    """Keys for a line with an encrypted wire."""
    unproven: bool = False
    """Accept messages from any sender at the line's addresses: for an HMI that cannot read the
    line's spool, as in a container. Otherwise only messages that are in the spool are shown."""
    ring_folder: str | None = None
    """Folder of the line's ring, if it is not the one in the line's file."""
    archive: str | None = None
    """Folder of the line's archive: for frames that have left the ring, and an alarm when frames
    cannot be saved."""
    state: str | None = None
    """Folder for the drift reference; the unit's state folder when absent."""
    silent_ms: Annotated[float, Meta(ge=100, le=700)] = 500
    """Silence of the daemon after which the HMI shows NOT INSPECTED; at least three heartbeat
    periods of the line."""
    live_hz: Annotated[float, Meta(ge=0.1, le=10)] = 2
    """Live frames per second and camera, at most."""
    shifts: Annotated[list[_TimeOfDay], Meta(max_length=24)] = []  # noqa: RUF012
    """Start of the shifts, in this PC's local time; 06:00, 14:00 and 22:00 when empty."""
    clients: Annotated[int, Meta(ge=1, le=1_000)] = 100
    """Browsers connected at once; a quarter of them, at least eight, from one address."""
    nice: Annotated[int, Meta(ge=0, le=19)] = 19
    """Nice level of the HMI's process: the line has priority."""
    requests_per_s: Annotated[float, Meta(ge=10, le=10_000)] = 60
    """More requests wait, in turn by address: bounds the load on the PC."""
    drift: DriftConfig = DriftConfig()
    backend: str = "auto"
    """Backend that verifies a version before promotion, as for `edgeinspect models promote`."""
    reload_command: Annotated[list[str], Meta(max_length=16)] = []  # noqa: RUF012
    """Command that reloads the line after a promotion, such as `[systemctl, reload,
    edgeinspect@strip]`; without it the line is not reloaded."""


DEFAULT_SHIFT_STARTS = ("06:00", "14:00", "22:00")


@dataclass(frozen=True, slots=True)
class LoadedHmiConfig:
    """A valid configuration, with that of its line."""

    config: HmiConfig
    line: LoadedConfig
    host: str
    port: int


def load_hmi_config(path: str | Path) -> LoadedHmiConfig:
    """Load and validate the HMI's file and its line's.

    Raises:
        ConfigError: Lists every fault of the first of the two that has any.
    """
    where = str(path)
    root, validator = open_document(yaml_document.read_text(Path(path)), where)
    config = validator.validate_struct(root, HmiConfig, "")
    assert isinstance(root.value, dict)
    host, port = _check_bind(validator, root.value.get("bind"))
    _check_proxies(validator, root.value)
    line: LoadedConfig | None = None
    if not validator.faults:
        assert isinstance(config, HmiConfig)
        line = load_line(config.line)
        _check_line(validator, config, line.config, root.value)
    validator.raise_faults(where)
    assert isinstance(config, HmiConfig)
    assert line is not None
    return LoadedHmiConfig(config, line, host, port)


def _check_bind(validator: ConfigValidator, node: YamlNode | None) -> tuple[str, int]:
    bind, tls = validator.value_at("bind"), validator.value_at("tls")
    insecure = validator.value_at("insecure")
    if bind is INVALID:
        return "", 0
    match = _BIND.fullmatch(bind)
    if match is None or not 1 <= int(match["port"]) <= 65_535:
        validator.add_fault("bind", "must be HOST:PORT, the port from 1 to 65535", node)
        return "", 0
    host = match["host"].strip("[]")
    if tls is None and insecure is False and not is_loopback_host(host):
        problem = (
            "is reachable from other PCs without encryption: bind 127.0.0.1, or set tls, or set "
            "insecure: true"
        )
        validator.add_fault("bind", problem, node)
    return host, int(match["port"])


def _check_proxies(validator: ConfigValidator, table: dict[str, YamlNode]) -> None:
    proxies, prefix = validator.value_at("proxies"), validator.value_at("prefix")
    if proxies is not INVALID:
        for index, text in enumerate(proxies):
            try:
                parse_networks([text])
            except ValueError:
                problem = "must be an address or a network, such as 127.0.0.1 or 10.0.0.0/24"
                validator.add_fault(f"proxies[{index}]", problem, table.get("proxies"))
    if prefix is INVALID or not prefix.rstrip("/"):
        return
    if (
        PREFIX_PATTERN.fullmatch(prefix.rstrip("/")) is None
        or prefix.split("/")[1] in RESERVED_PATHS
    ):
        problem = (
            "must be a path such as /line7/, of letters, digits, '-', '_', '~' and '.', and not "
            "one of the HMI's own"
        )
        validator.add_fault("prefix", problem, table.get("prefix"))


def _check_line(
    validator: ConfigValidator, config: HmiConfig, line: LineConfig, table: dict[str, YamlNode]
) -> None:
    for name in ("verdicts", "replay"):
        address = getattr(line.publish, name)
        if address and (address.endswith((":*", ":0")) or address.startswith("inproc:")):
            problem = f"its publish.{name} has no fixed address, so the HMI cannot connect"
            validator.add_fault("line", problem, table.get("line"))
    if line.publish.curve is not None and config.curve is None:
        problem = "required: the line's wire is encrypted (publish.curve)"
        validator.add_fault("curve", problem, line=1)
    if line.publish.heartbeat_ms * 3 > config.silent_ms:
        heartbeat_ms = line.publish.heartbeat_ms
        problem = f"must be at least three heartbeat periods of the line, {heartbeat_ms:g} ms"
        validator.add_fault("silent_ms", problem, table.get("silent_ms"), 1)


def is_loopback_host(host: str) -> bool:
    """Return True if a host's name or address is reachable from this PC only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
