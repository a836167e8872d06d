"""The configuration of a page: one file, one line."""

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
    LineConfig,
    LoadedConfig,
    Node,
    Section,
    Validator,
    yaml_document,
)
from edgeinspect.config import load_config as load_line
from edgeinspect.errors import ConfigError
from edgeinspect.services.hmi.http.client_address import parse_networks
from edgeinspect.services.hmi.http.config import TlsConfig
from edgeinspect.services.hmi.http.reverse_proxy import PREFIX_PATTERN, RESERVED_PATHS

_BIND = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(?P<port>\d{1,5})")
_TimeOfDay = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class DriftConfig(Section, frozen=True):
    """When the gate's scores are compared with what they were."""

    reference_frames: Annotated[int, Meta(ge=200, le=1_000_000)] = 5_000
    """The first so many frames that a gate judged on this line are its reference."""
    window_frames: Annotated[int, Meta(ge=200, le=100_000)] = 2_000
    """The newest so many are compared with them."""


class HmiConfig(Section, frozen=True):
    """One page."""

    schema: Literal[1]
    line: str
    """File with the line's own configuration: name, addresses, ring, ledger and models are
    taken from it."""
    bind: str = "127.0.0.1:8480"
    """HOST:PORT. Beyond this machine only with `tls`, or the words `insecure: true`."""
    hosts: list[Annotated[str, Meta(min_length=1, max_length=253)]] = []  # noqa: RUF012
    """Names by which browsers may ask for it, beside loopback's and that of `bind`."""
    tls: TlsConfig | None = None
    proxies: Annotated[list[str], Meta(max_length=64)] = []  # noqa: RUF012
    """Addresses or networks of reverse proxies in front of the page, as `127.0.0.1` or
    `10.0.0.0/24`: their `X-Forwarded-` headers are believed, nobody else's."""
    prefix: Annotated[str, Meta(max_length=200)] = ""
    """Path under which they show the page, as `/line7/`, where they do not tell it themselves."""
    insecure: bool = False
    """Permit an address beyond this machine without encryption. Written out, or refused."""
    users: str | None = None
    """File of those who may log in; made by `edgeinspect hmi FILE --passwd NAME`. Without it
    the page can only be read."""
    session_min: Annotated[float, Meta(ge=1, le=1_440)] = 30
    """Minutes without a click after which a login ends; 12 hours end it in any case."""
    curve: ClientKeysConfig | None = None
    """Keys for a line whose wire is encrypted."""
    unproven: bool = False
    """Believe whoever speaks at the line's addresses: for a page that cannot see the line's
    spool, as in a container. Else nothing is shown that does not stand there."""
    ring_folder: str | None = None
    """Folder of the line's ring, if the line's file does not say it: `/run/edgeinspect/NAME`."""
    archive: str | None = None
    """Folder of the line's picture archive: pictures that have left the ring, and an alarm
    when none are kept."""
    state: str | None = None
    """Folder for the drift's reference; systemd's state folder of the unit when absent."""
    silent_ms: Annotated[float, Meta(ge=100, le=700)] = 500
    """Silence of the daemon after which the page says NOT INSPECTED. At least three of the
    line's heartbeats."""
    live_hz: Annotated[float, Meta(ge=0.1, le=10)] = 2
    """Live pictures a second and camera, at most."""
    shifts: Annotated[list[_TimeOfDay], Meta(max_length=24)] = []  # noqa: RUF012
    """When shifts begin, in this PC's local time; 06:00, 14:00 and 22:00 when empty."""
    clients: Annotated[int, Meta(ge=1, le=1_000)] = 100
    """Browsers that may watch at once; of one address a quarter of them, at least eight."""
    nice: Annotated[int, Meta(ge=0, le=19)] = 19
    """How far the page steps back from the processor: the line comes first."""
    requests_per_s: Annotated[float, Meta(ge=10, le=10_000)] = 60
    """More requests than these wait for their turn, one address after the other: what the page
    can cost the PC is bounded."""
    drift: DriftConfig = DriftConfig()
    backend: str = "auto"
    """What verifies a version before it is promoted; as `edgeinspect models promote`."""
    reload_command: Annotated[list[str], Meta(max_length=16)] = []  # noqa: RUF012
    """Command that reloads the line after a promotion, as `[systemctl, reload,
    edgeinspect@strip]`; without it somebody else reloads."""


DEFAULT_SHIFT_STARTS = ("06:00", "14:00", "22:00")


@dataclass(frozen=True, slots=True)
class LoadedHmiConfig:
    """A configuration without a fault, with its line's."""

    config: HmiConfig
    line: LoadedConfig
    host: str
    port: int


def load_hmi_config(path: str | Path) -> LoadedHmiConfig:
    """Read and check a page's file and its line's.

    Raises:
        ConfigError: Every fault of the first of the two that has any.
    """
    where = str(path)
    root, faults = yaml_document.parse_yaml(yaml_document.read_text(Path(path)), where)
    collector = Validator()
    collector.faults.extend(faults)
    config = collector.validate_struct(root, HmiConfig, "")
    assert isinstance(root.value, dict)
    host, port = _check_bind(collector, root.value.get("bind"))
    _check_proxies(collector, root.value)
    line: LoadedConfig | None = None
    if not collector.faults:
        assert isinstance(config, HmiConfig)
        line = load_line(config.line)
        _check_line(collector, config, line.config, root.value)
    if collector.faults:
        ordered = sorted(collector.faults, key=lambda fault: fault.line or 0)
        raise ConfigError(ordered, where=where)
    assert isinstance(config, HmiConfig)
    assert line is not None
    return LoadedHmiConfig(config, line, host, port)


def _check_bind(collector: Validator, node: Node | None) -> tuple[str, int]:
    bind, tls = collector.value_at("bind"), collector.value_at("tls")
    insecure = collector.value_at("insecure")
    if bind is INVALID:
        return "", 0
    match = _BIND.fullmatch(bind)
    if match is None or not 1 <= int(match["port"]) <= 65_535:
        collector.add_fault("bind", "must be HOST:PORT, the port from 1 to 65535", node)
        return "", 0
    host = match["host"].strip("[]")
    if tls is None and insecure is False and not is_loopback_host(host):
        problem = (
            "can be reached from other machines without encryption: bind 127.0.0.1, or name "
            "tls, or write insecure: true"
        )
        collector.add_fault("bind", problem, node)
    return host, int(match["port"])


def _check_proxies(collector: Validator, table: dict[str, Node]) -> None:
    proxies, prefix = collector.value_at("proxies"), collector.value_at("prefix")
    if proxies is not INVALID:
        for index, words in enumerate(proxies):
            try:
                parse_networks([words])
            except ValueError:
                problem = "must be an address or a network, as 127.0.0.1 or 10.0.0.0/24"
                collector.add_fault(f"proxies[{index}]", problem, table.get("proxies"))
    if prefix is INVALID or not prefix.rstrip("/"):
        return
    if (
        PREFIX_PATTERN.fullmatch(prefix.rstrip("/")) is None
        or prefix.split("/")[1] in RESERVED_PATHS
    ):
        problem = (
            "must be a path as /line7/, of letters, digits, '-', '_', '~' and '.', and none of the "
            "page's own"
        )
        collector.add_fault("prefix", problem, table.get("prefix"))


def _check_line(
    collector: Validator, config: HmiConfig, line: LineConfig, table: dict[str, Node]
) -> None:
    for name in ("verdicts", "replay"):
        address = getattr(line.publish, name)
        if address and (address.endswith((":*", ":0")) or address.startswith("inproc:")):
            problem = f"its publish.{name} has no fixed address, so no page can hear it"
            collector.add_fault("line", problem, table.get("line"))
    if line.publish.curve is not None and config.curve is None:
        problem = "required: the line's wire is encrypted (publish.curve)"
        collector.add_fault("curve", problem, line=1)
    if line.publish.heartbeat_ms * 3 > config.silent_ms:
        problem = f"must be at least three heartbeats of the line, {line.publish.heartbeat_ms:g} ms"
        collector.add_fault("silent_ms", problem, table.get("silent_ms"), 1)


def is_loopback_host(host: str) -> bool:
    """True if only this machine reaches a host's name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
