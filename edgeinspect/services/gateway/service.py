"""The program: a gateway's file becomes a running gateway, and signals end it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import structlog

from edgeinspect.client import Feed
from edgeinspect.client.sockets import Prepare, Socket, plain
from edgeinspect.domain.clock import Clock, SystemClock
from edgeinspect.errors import InternalError
from edgeinspect.ports import PlcLink
from edgeinspect.services.gateway.config import GatewayConfig, LoadedGateway, load
from edgeinspect.services.gateway.gateway import Gateway
from edgeinspect.services.gateway.journal import Journal
from edgeinspect.services.gateway.part_memory import Memory
from edgeinspect.services.gateway.triggers import TriggerCounter, Triggers
from edgeinspect.system import log_events
from edgeinspect.system.systemd import Pulse, notify
from edgeinspect.wire.curve_keys import as_client

_log = structlog.get_logger()
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(path: Path) -> None:
    """Run the gateway of a configuration file until a signal.

    Raises:
        ConfigError: The configuration cannot be used.
        MissingExtraError: The link's library is not installed.
        DataError: The journal or a key is not what it should be.
        DeviceLostError: The journal is held by another process, or cannot be written.
    """
    loaded = load(path)
    clock = SystemClock()
    link = make_link(loaded, clock)
    journal = Journal(
        Path(loaded.config.cursor), name=loaded.config.gateway, capacity=loaded.config.journal
    )
    with ExitStack() as held:
        held.callback(journal.close)
        memory = open_memory(loaded.config)
        held.callback(memory.close)
        _say_forgotten(journal, memory, loaded.config)
        gateway = _build_whole(loaded.config, link, journal, memory, clock, held)

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            gateway.stop()

        before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
        try:
            gateway.run(_attend(clock, loaded.config.feed.line))
            notify("STOPPING=1")
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _build_whole(
    config: GatewayConfig,
    link: PlcLink,
    journal: Journal,
    memory: Memory,
    clock: Clock,
    held: ExitStack,
) -> Gateway:
    """The gateway with what carries the PLC's triggers; `held` closes that."""
    prepare, address = make_prepare(config), config.feed.find().replay
    triggers: Triggers | None = None
    counter: TriggerCounter | None = None
    if config.trigger_camera is not None:
        triggers = Triggers(
            address,
            config.trigger_camera,
            clock,
            memory,
            max_age_ms=config.trigger_max_age_ms,
            repeats_after_ns=config.part_id_repeats_after_ns,
            prepare=prepare,
        )
        held.callback(triggers.close)
    if config.trigger_count_of is not None:
        counter = TriggerCounter(address, config.trigger_count_of, clock, prepare=prepare)
        held.callback(counter.close)
    return build(config, link, journal, clock, triggers, prepare, counter, memory)


def open_memory(config: GatewayConfig) -> Memory:
    """What the gateway must not forget, beside its journal.

    Raises:
        DataError: The file is no memory, or another gateway's.
        DeviceLostError: It cannot be opened.
    """
    path = Path(config.cursor + ".memory")
    return Memory(path, name=config.gateway, capacity=config.part_memory)


def _say_forgotten(journal: Journal, memory: Memory, config: GatewayConfig) -> None:
    """Log what of an earlier life is not there any more: nothing is forgotten in silence."""
    for held, path in ((journal, config.cursor), (memory, f"{config.cursor}.memory")):
        if held.damaged:
            problem = f"{held.damaged} records do not check, and are passed over"
            _log.warning(log_events.GATEWAY_FORGOT, problem=problem, path=path)
    if memory.is_new and not journal.is_new:
        problem = "there is a journal, but no memory: part ids that did not pass are forgotten"
        _log.warning(log_events.GATEWAY_FORGOT, problem=problem, path=f"{config.cursor}.memory")


def _attend(clock: Clock, line: str) -> Callable[[], None]:
    """Tells systemd at the first turn that the gateway works, and feeds its watchdog."""
    pulse = Pulse(clock)
    told = False

    def each_turn() -> None:
        nonlocal told
        if not told:
            told = notify("READY=1", f"STATUS=carries the verdicts of {line}") or True
        pulse.beat()

    return each_turn


def build(
    config: GatewayConfig,
    link: PlcLink,
    journal: Journal,
    clock: Clock,
    triggers: Triggers | None = None,
    prepare: Prepare = plain,
    counter: TriggerCounter | None = None,
    memory: Memory | None = None,
) -> Gateway:
    """A gateway on a real feed, not yet running."""

    def subscribe(cursor: int | None) -> Feed:
        source = config.feed.find()
        return Feed(
            source.verdicts,
            source.replay,
            name=config.gateway,
            line=config.feed.line,
            cursor=cursor,
            prepare=prepare,
            clock=clock,
            high_water_mark=config.feed.high_water_mark,
            proof=source.proof(),
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


def make_link(loaded: LoadedGateway, clock: Clock) -> PlcLink:
    """The link, not opened.

    Raises:
        MissingExtraError: Its library is not installed.
    """
    link = loaded.link.module.build(loaded.link.options, clock)
    if not isinstance(link, PlcLink):
        raise InternalError(f"plclink {loaded.link.type} does not build a PlcLink")
    return link


def make_prepare(config: GatewayConfig) -> Prepare:
    """Puts the configured keys on a socket; nothing where there are none."""
    curve = config.feed.curve
    if curve is None:
        return plain

    def prepare(socket: Socket) -> None:
        as_client(Path(curve.secret), Path(curve.server), socket)

    return prepare
