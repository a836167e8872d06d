"""Configuration sections of a connection to a line: addresses, keys, spool."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edgeinspect.client.client_keys import ClientKeysConfig
from edgeinspect.client.line_endpoint import LineEndpoint, find_line
from edgeinspect.config import (
    ConfigSection,
    ConfigValidator,
    Name,
    YamlNode,
    address_problem,
    is_local,
)
from edgeinspect.system import find_user_id


class LineConnectionConfig(ConfigSection, frozen=True):
    """The line to connect to."""

    line: Name
    verdicts: str | None = None
    """Its PUB address; the line's own socket on this PC when absent."""
    replay: str | None = None
    """Its ROUTER address; likewise."""
    high_water_mark: Annotated[int, Meta(ge=10, le=1_000_000)] = 10_000
    """Messages queued here before the newest are dropped and requested again later."""
    curve: ClientKeysConfig | None = None
    spool: str | None = None
    """The line's `spool.folder`. On this PC and without `curve`, only messages that agree with
    the line's spool are accepted. When absent, the folder is the one in the line's heartbeat, or
    the default one."""
    owner: str | None = None
    """User whose spool is trusted, in addition to root, this program's user, and the owner of a
    folder that root created for them, as systemd does."""
    unproven: bool = False
    """Accept any sender at these addresses. Required where the line's spool is not accessible
    (another PC, a container) and `curve` is not set; otherwise such a line is refused."""

    def find(self, spool: str | None = None) -> LineEndpoint:
        """Return the line's current endpoint; `spool` is its folder if known otherwise."""
        return find_line(
            self.line,
            self.verdicts,
            self.replay,
            spool=self.spool or spool,
            owner=self.owner,
            keys=self.curve,
            unproven=self.unproven,
        )


def check_line_connection(collector: ConfigValidator, table: dict[str, YamlNode]) -> None:
    """Require explicit settings for a line that cannot be verified by its spool."""
    curve, unproven = collector.value_at("feed.curve"), collector.value_at("feed.unproven")
    for name in ("verdicts", "replay"):
        address = collector.value_at(f"feed.{name}")
        if not isinstance(address, str) or address_problem(address) or is_local(address):
            continue
        if curve is None and unproven is False:
            problem = (
                "is not on this PC, so nothing proves that it is the line: name feed.curve, "
                "or write feed.unproven: true"
            )
            collector.add_fault(f"feed.{name}", problem, table.get(name))
    owner = collector.value_at("feed.owner")
    if isinstance(owner, str) and find_user_id(owner) is None:
        collector.add_fault("feed.owner", "there is no such user", table.get("owner"))
