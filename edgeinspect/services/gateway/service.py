"""Runs a gateway from its configuration file until a signal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import structlog

from edgeinspect.client import VerdictFeed, client_keys_setup
from edgeinspect.domain import Clock, SystemClock
from edgeinspect.errors import InternalError
from edgeinspect.ports import PlcLink
from edgeinspect.services.gateway.config import GatewayConfig, LoadedGatewayConfig, load_config
from edgeinspect.services.gateway.gateway import Gateway
from edgeinspect.services.gateway.journal import GatewayJournal
from edgeinspect.services.gateway.part_memory import PartMemory
from edgeinspect.services.gateway.triggers import TriggerCountReporter, TriggerForwarder
from edgeinspect.system import WatchdogNotifier, log_events, sd_notify, signal_handlers

_log = structlog.get_logger()


def run_gateway(path: Path) -> None:
    """Run the gateway of a configuration file until SIGTERM or SIGINT.

    Raises:
        ConfigError: The configuration is not valid.
        MissingExtraError: The link's library is not installed.
        DataError: The journal, the part memory or a key file is not valid.
        DeviceLostError: The journal is locked by another process, or cannot be written.
    """
    loaded = load_config(path)
    config, clock = loaded.config, SystemClock()
    link = make_link(loaded, clock)
    with ExitStack() as stack:
        journal = GatewayJournal(Path(config.cursor), name=config.gateway, capacity=config.journal)
        stack.callback(journal.close)
        memory = open_part_memory(config)
        stack.callback(memory.close)
        _log_lost_state(journal, memory, config)
        triggers, counter = _make_triggers(config, memory, clock, stack)
        gateway = build_gateway(
            config, link, journal, clock, memory=memory, triggers=triggers, counter=counter
        )
        with signal_handlers(gateway.stop):
            gateway.run(_make_watchdog_callback(clock, config.feed.line))
            sd_notify("STOPPING=1")


def _make_triggers(
    config: GatewayConfig, memory: PartMemory, clock: Clock, stack: ExitStack
) -> tuple[TriggerForwarder | None, TriggerCountReporter | None]:
    """Return what forwards, and what counts, the PLC's triggers; None if not configured.

    Both are closed by `stack`.
    """
    setup_socket, address = client_keys_setup(config.feed.curve), config.feed.find().replay
    triggers: TriggerForwarder | None = None
    counter: TriggerCountReporter | None = None
    if config.trigger_camera is not None:
        triggers = TriggerForwarder(
            address,
            config.trigger_camera,
            clock,
            memory,
            max_age_ms=config.trigger_max_age_ms,
            repeats_after_ns=config.part_id_repeats_after_ns,
            setup_socket=setup_socket,
        )
        stack.callback(triggers.close)
    if config.trigger_count_of is not None:
        camera = config.trigger_count_of
        counter = TriggerCountReporter(address, camera, clock, setup_socket=setup_socket)
        stack.callback(counter.close)
    return triggers, counter


def open_part_memory(config: GatewayConfig) -> PartMemory:
    """Open the part memory beside the journal.

    Raises:
        DataError: The file is not a part memory, or is another gateway's.
        DeviceLostError: It cannot be opened.
    """
    path = Path(config.cursor + ".memory")
    return PartMemory(path, name=config.gateway, capacity=config.part_memory)


def _log_lost_state(journal: GatewayJournal, memory: PartMemory, config: GatewayConfig) -> None:
    """Log stored state that is damaged or missing."""
    for stored, path in ((journal, config.cursor), (memory, f"{config.cursor}.memory")):
        if stored.damaged_records:
            problem = f"{stored.damaged_records} invalid records are ignored"
            _log.warning(log_events.GATEWAY_FORGOT, problem=problem, path=path)
    if memory.is_new and not journal.is_new:
        problem = "there is a journal but no part memory: part ids that did not pass are lost"
        _log.warning(log_events.GATEWAY_FORGOT, problem=problem, path=f"{config.cursor}.memory")


def _make_watchdog_callback(clock: Clock, line: str) -> Callable[[], None]:
    """Return a callback that reports readiness to systemd once and notifies its watchdog."""
    watchdog = WatchdogNotifier(clock)
    is_ready_sent = False

    def on_iteration() -> None:
        nonlocal is_ready_sent
        if not is_ready_sent:
            is_ready_sent = sd_notify("READY=1", f"STATUS=carries the verdicts of {line}") or True
        watchdog.notify()

    return on_iteration


def build_gateway(
    config: GatewayConfig,
    link: PlcLink,
    journal: GatewayJournal,
    clock: Clock,
    *,
    memory: PartMemory | None = None,
    triggers: TriggerForwarder | None = None,
    counter: TriggerCountReporter | None = None,
) -> Gateway:
    """Build a gateway on a feed of its line, not yet running."""

    def subscribe(cursor: int | None) -> VerdictFeed:
        return config.feed.find().feed(
            config.gateway,
            cursor=cursor,
            clock=clock,
            high_water_mark=config.feed.high_water_mark,
        )

    return Gateway(
        config,
        subscribe=subscribe,
        link=link,
        journal=journal,
        clock=clock,
        triggers=triggers,
        counter=counter,
        memory=memory,
    )


def make_link(loaded: LoadedGatewayConfig, clock: Clock) -> PlcLink:
    """Build the configured link, not opened yet.

    Raises:
        MissingExtraError: Its library is not installed.
    """
    link = loaded.link.module.build(loaded.link.options, clock)
    if not isinstance(link, PlcLink):
        raise InternalError(f"plclink {loaded.link.type} does not build a PlcLink")
    return link
