"""The configuration of a gateway: one file, one line, one PLC."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from edgeinspect import registry
from edgeinspect.client import LineConnectionConfig, check_line_connection
from edgeinspect.config import (
    INVALID,
    ConfigSection,
    ConfigValidator,
    Name,
    PluginSelection,
    PluginTable,
    YamlNode,
    address_problem,
    open_document,
    suggest_spelling,
    yaml_document,
)
from edgeinspect.domain import NS_PER_S
from edgeinspect.errors import EdgeInspectError


class GatewayConfig(ConfigSection, frozen=True):
    """One gateway."""

    schema: Literal[1]
    gateway: Name
    """Name of this gateway in logs, in its journal and in its acknowledgements."""
    feed: LineConnectionConfig
    link: PluginTable
    """`type:` names the protocol; the other keys are the options of that link."""
    cursor: str
    """File of the journal: what has been applied, and where to continue after a restart."""
    journal: Annotated[int, Meta(ge=16, le=1_000_000)] = 100_000
    """Number of results the journal holds, 64 bytes each."""
    fail_safe_ms: Annotated[float, Meta(ge=20, le=60_000)] = 300
    """Silence of the daemon after which the PLC is shown fail-safe: reject everything. Use at
    least three times the line's `publish.heartbeat_ms`."""
    heartbeat_ms: Annotated[float, Meta(ge=10, le=10_000)] = 100
    """Time between two changes of the heartbeat bit at the PLC."""
    ack_timeout_ms: Annotated[float, Meta(ge=10, le=600_000)] = 1_000
    """How long a result waits for the PLC's acknowledgement before the next one is shown."""
    buffer: Annotated[int, Meta(ge=1, le=10_000)] = 64
    """Results that may wait before the overrun bit is set."""
    no_verdict_as: Literal["reject", "neither"] = "reject"
    """What a frame without a verdict shows: the reject bit, or neither bit. In both cases
    the no-verdict bit is set; it is never shown as a pass."""
    enable_required: bool = False
    """True if the gateway is ready for triggers only while the PLC's enable bit is 1."""
    trigger_camera: Name | None = None
    """Camera that the PLC triggers by `TriggerId`; if absent, triggers are refused."""
    trigger_max_age_ms: Annotated[float, Meta(ge=20, le=10_000)] = 300
    """Longest time from the PLC's request for a frame to its exposure. A trigger that is
    older, or of unknown age, is refused: another part may be at the camera."""
    part_memory: Annotated[int, Meta(ge=256, le=1_000_000)] = 65_536
    """Number of part ids that did not pass and are remembered across restarts, 64 bytes
    each. None of them is shown as a pass again."""
    inspect_again: bool = False
    """True if a part without a verdict may pass when it is inspected again under its id. A
    rejected part stays rejected."""
    part_id_repeats_after_s: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    """Time after which a part id that did not pass, or was triggered, denotes another part,
    as with the number of a carrier; absent, it never does."""
    trigger_count_of: Name | None = None
    """Camera whose triggers the PLC counts in TriggerId, however it triggers that camera:
    the line raises an alarm when a trigger has no frame, or a frame no trigger."""

    @property
    def part_id_repeats_after_ns(self) -> int | None:
        """`part_id_repeats_after_s` in ns."""
        repeats_s = self.part_id_repeats_after_s
        return None if repeats_s is None else round(repeats_s * NS_PER_S)


@dataclass(frozen=True, slots=True)
class LoadedGatewayConfig:
    """A validated configuration."""

    config: GatewayConfig
    link: PluginSelection
    where: str


def load_config(path: str | Path) -> LoadedGatewayConfig:
    """Read and validate a gateway's file. Imports no protocol library.

    Raises:
        ConfigError: With every fault of the file.
    """
    return parse_config(yaml_document.read_text(Path(path)), str(path))


def parse_config(text: str, where: str = "gateway") -> LoadedGatewayConfig:
    """Check a configuration given as YAML text; as `load`."""
    root, collector = open_document(text, where)
    config = collector.validate_struct(root, GatewayConfig, "")
    link = _validate_link(collector, root)
    _cross_check(collector, root)
    collector.raise_faults(where)
    assert isinstance(config, GatewayConfig)
    assert link is not None
    return LoadedGatewayConfig(config, link, where)


def _validate_link(collector: ConfigValidator, root: YamlNode) -> PluginSelection | None:
    assert isinstance(root.value, dict)
    node = root.value.get("link")
    if node is None or not isinstance(node.value, dict):
        return None  # reported by the validation of the whole file
    existing = registry.plugin_names("plclink")
    listing = ", ".join(existing)
    named = node.value.get("type")
    if named is None:
        collector.add_fault("link.type", f"required: one of {listing}", line=node.line)
        return None
    if not isinstance(named.value, str) or named.value not in existing:
        hint = suggest_spelling(str(named.value), existing)
        collector.add_fault("link.type", f"no such link; there are: {listing}{hint}", named)
        return None
    try:
        module = registry.load_plugin("plclink", named.value)
    except (ImportError, EdgeInspectError) as error:
        collector.add_fault("link.type", f"cannot be loaded: {error}", named)
        return None
    options = collector.validate_struct(node, module.Options, "link", skip=("type",))
    return None if options is INVALID else PluginSelection("plclink", named.value, options)


def _cross_check(collector: ConfigValidator, root: YamlNode) -> None:
    assert isinstance(root.value, dict)
    feed = root.value.get("feed")
    table = feed.value if feed is not None and isinstance(feed.value, dict) else {}
    for name in ("verdicts", "replay"):
        address = collector.value_at(f"feed.{name}")
        problem = address_problem(address) if isinstance(address, str) else None
        if problem:
            collector.add_fault(f"feed.{name}", problem, table.get(name))
    check_line_connection(collector, table)
    fail_safe_ms, heartbeat_ms = (
        collector.value_at("fail_safe_ms"),
        collector.value_at("heartbeat_ms"),
    )
    if fail_safe_ms is not INVALID and heartbeat_ms is not INVALID and heartbeat_ms > fail_safe_ms:
        problem = f"must be at most fail_safe_ms, which is {fail_safe_ms:g}"
        collector.add_fault("heartbeat_ms", problem, root.value.get("heartbeat_ms"))
