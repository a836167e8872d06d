"""The gateway's loop: hears the line and the PLC, and shows what the handshake says.

One thread. It never waits for the PLC (the link has a thread of its own) nor for the disk
(the journal has one to sync), so the heartbeat bit turns as long as this loop lives, and
stops when it does not: the bit is made here and nowhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from edgeinspect.client import Beat, Delivered, Event, Lost, Renumbered
from edgeinspect.domain.clock import NS_PER_MS, Clock, read_offset_ns
from edgeinspect.domain.plc import PART_ID_BYTES, Outcome, PlcImage, PlcInputs, PlcResult
from edgeinspect.errors import DataError, ForgedError
from edgeinspect.ports import PlcLink
from edgeinspect.services.gateway.config import GatewayConfig
from edgeinspect.services.gateway.handshake import Handshake, Rules
from edgeinspect.services.gateway.journal import Journal
from edgeinspect.services.gateway.line_monitor import Watch
from edgeinspect.services.gateway.part_memory import Memory
from edgeinspect.services.gateway.part_outcome import Screen
from edgeinspect.services.gateway.plc_results import from_lost, from_verdict
from edgeinspect.services.gateway.triggers import TriggerCounter, Triggers
from edgeinspect.services.gateway.verdict_age import Hearing
from edgeinspect.system import log_events
from edgeinspect.system.log import RateLimited
from edgeinspect.system.wall_clock import StepWatch
from edgeinspect.wire.messages import Heartbeat

_IDLE_MS = 10
_BUSY_MS = 1
"""How long the loop sleeps at most: with nothing at the PLC, and while it waits for an ack."""
_TURN_EVENTS = 64
_TRIP_RATIO = 0.9
"""Share of `fail_safe_ms` after which silence counts: the PLC must see it inside the whole,
and a turn of this loop and the link's write come after."""
_LOOK_NS = 5 * NS_PER_MS
_LOOKS = 20
BACKLOG = 4_096
"""Results held here while the PLC is away; the rest stays in the line's spool."""

_log = structlog.get_logger()


class Subscription(Protocol):
    """What the loop needs of `client.Feed`."""

    cursor: int | None

    def receive(self, timeout_ms: int = ...) -> Event | None: ...
    def ack(self, seq: int) -> None: ...
    def close(self) -> None: ...


class Gateway:
    """One line, one PLC. `step` and `run` are for one thread; `stop` for any."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        subscribe: Callable[[int | None], Subscription],
        link: PlcLink,
        journal: Journal,
        clock: Clock,
        triggers: Triggers | None = None,
        counter: TriggerCounter | None = None,
        memory: Memory | None = None,
        backlog: int = BACKLOG,
    ) -> None:
        """Put together; nothing is opened.

        Args:
            config: Checked.
            subscribe: Makes the feed that begins after a cursor.
            link: To the PLC.
            journal: Open; where it ends is where this begins.
            clock: Of all timeouts.
            triggers: Takes the PLC's triggers to the line; None refuses them.
            counter: Takes its count of triggers there.
            memory: Of the parts that did not pass; None begins with an empty one.
            backlog: Results held in memory.
        """
        self.config = config
        self._subscribe = subscribe
        self._link = link
        self._journal = journal
        self._clock = clock
        self._triggers = triggers
        self._counter = counter
        self._backlog = backlog
        self._no_verdict_as = (
            Outcome.REJECT if config.no_verdict_as == "reject" else Outcome.NEITHER
        )
        last = journal.last
        silence_ns = round(config.fail_safe_ms * NS_PER_MS * _TRIP_RATIO)
        self.watch = Watch(silence_ns, last.epoch if last else 0)
        self._screen = _screen(config, link, memory or Memory(None), clock)
        self.handshake = Handshake(
            _rules(config, link), journal.totals, is_new=journal.is_new, look=self._look
        )
        self._feed = subscribe(journal.cursor)
        self._pushed_seq = journal.cursor
        self._deaf = False
        self._steps = StepWatch(clock)
        self._hearing = Hearing(clock.now_ns(), silence_ns)
        self._stopping = threading.Event()
        self._quiet = RateLimited(_log, clock)
        self._image: PlcImage | None = None
        self._inputs = PlcInputs()
        self._said = ("", "", False)

    def run(self, each_turn: Callable[[], None] = lambda: None) -> None:
        """Work until `stop`, then show the PLC that nobody does any more.

        Args:
            each_turn: Called after each turn, at least every 10 ms or so.

        Raises:
            ConfigError: The link can never work.
            DeviceLostError: The journal cannot be written.
        """
        try:
            # Before a PLC can look: a number of ours that it did not see before would be
            # another numbering, and the results that it has taken would be new to it.
            self._show()
            self._link.open()
            try:
                self._say_started()
                while not self._stopping.is_set():
                    self.step()
                    each_turn()
            finally:
                self._say_goodbye()
                self._link.close()
        finally:
            self._feed.close()

    def stop(self) -> None:
        """End `run` within some ms. Thread-safe, and safe in a signal handler."""
        self._stopping.set()

    def step(self, timeout_ms: int | None = None) -> None:
        """One turn: hear the line, hear the PLC, record, show."""
        if timeout_ms is None:
            timeout_ms = _BUSY_MS if len(self.handshake) else _IDLE_MS
        self._steps.check()
        self.handshake.wait_longer(self._hearing.turn(self._clock.now_ns()))
        self._hear_line(timeout_ms)
        now_ns = self._clock.now_ns()
        self.handshake.wait_longer(self._hearing.turn(now_ns))
        inputs = self._link.poll()
        for applied in self.handshake.hear(inputs, now_ns):
            # Recorded before anything else is shown: see journal.py for why in this order. Its
            # part comes first: what is shown again is a reject again.
            if applied.result is not None:
                self._screen.note(applied.part_id, applied.result)
            self._journal.append(applied, self._clock.utc_ns())
            if applied.result is not None:
                self._feed.ack(applied.result.seq)
        if self._triggers is not None and inputs.commands is not None:
            self._triggers.hear(inputs.commands)
        if self._counter is not None:
            self._counter.hear(inputs)
        self._show()
        self._say_changes(inputs)
        if self._deaf and len(self.handshake) <= self._backlog // 2:
            self._listen_again()

    # -- the line -------------------------------------------------------------------

    def _hear_line(self, timeout_ms: int) -> None:
        for _ in range(_TURN_EVENTS):
            looked_at_ns = self._clock.now_ns()  # before the look: a pause may follow it
            try:
                event = self._feed.receive(timeout_ms)
            except DataError as error:
                self.watch.hear_nonsense(error.where)
                forged = isinstance(error, ForgedError)
                name = log_events.LINE_FORGED if forged else log_events.WIRE_BROKEN
                self._quiet.error(name, problem=str(error))
                return
            if event is None:
                self._hearing.saw_empty(looked_at_ns)
                return
            self._take(event)
            timeout_ms = 0

    def _take(self, event: Event) -> None:
        now_ns = self._clock.now_ns()
        self._hearing.hear(now_ns)
        if isinstance(event, Beat):
            if event.message.line == self.config.feed.line:
                self.watch.hear(event.message, now_ns)
                if self._journal.last is None and isinstance(event.message, Heartbeat):
                    self._begin(event.message.last_seq, event.message.epoch)
        elif isinstance(event, Renumbered):
            self.watch.hear_renumbered(event.epoch, now_ns)
            self.handshake.renumber(event.epoch)
            self._pushed_seq = 0
            _log.error(log_events.LINE_RENUMBERED, epoch=event.epoch, last_seq=event.last_seq)
        elif not self._deaf:
            self._push(event, now_ns)

    def _push(self, event: Delivered | Lost, now_ns: int) -> None:
        """One result more, unless there are too many: then the line's spool keeps it."""
        if len(self.handshake) >= self._backlog:
            self._deaf = True
            return
        if isinstance(event, Lost):
            if self._journal.last is None:
                self._begin(event.from_seq - 1, self.watch.epoch)
            self.handshake.push(from_lost(event, self.watch.epoch))
            self._pushed_seq = event.to_seq
            _log.error(log_events.VERDICTS_LOST, from_seq=event.from_seq, to_seq=event.to_seq)
            return
        verdict = event.verdict
        if self._journal.last is None:
            self._begin(verdict.seq - 1, verdict.epoch)
        self.watch.hear_verdict(verdict.epoch, verdict.config_hash)
        utc_ns = now_ns + read_offset_ns(self._clock)
        stepped = self.watch.clock_stepped or self._steps.spans_step(now_ns, utc_ns)
        self.handshake.push(
            from_verdict(
                verdict,
                now_ns=now_ns,
                utc_ns=utc_ns,
                sent_at_ns=None if event.replayed else self._hearing.sent_after_ns(now_ns),
                clock_stepped=stepped,
                newest_epoch=self.watch.epoch,
                no_verdict_as=self._no_verdict_as,
            )
        )
        self._pushed_seq = verdict.seq

    def _begin(self, seq: int, epoch: int) -> None:
        """Fix the first cursor, so that a restart before the first result skips nothing."""
        self._journal.begin(seq, epoch, self._clock.utc_ns())
        if self._pushed_seq is None:
            self._pushed_seq = seq

    def _listen_again(self) -> None:
        """Have what was not kept given again, from the line's spool."""
        self._feed.close()
        self._feed = self._subscribe(self._pushed_seq)
        self._deaf = False

    # -- the PLC --------------------------------------------------------------------

    def _look(self, result: PlcResult) -> PlcResult:
        """What a result may be shown as."""
        shown = self._screen.look(result)
        if shown.outcome is not result.outcome:
            self._quiet.warning(
                log_events.PART_TURNED, seq=result.seq, part_id=result.part_id, cause=shown.cause
            )
        return shown

    def _show(self) -> None:
        if self._triggers is not None:
            answer = self._triggers.answer
            self.handshake.trigger_ack = answer.trigger_id
            self.handshake.trigger_refused = answer.refused
            self.handshake.trigger_refusal = answer.refusal
        # The memory's disk may make it wait: what is shown is judged by the time that it is.
        for _ in range(_LOOKS):
            now_ns = self._clock.now_ns()
            image = self.handshake.image(self.watch.standing(now_ns), now_ns)
            if self._clock.now_ns() - now_ns <= _LOOK_NS:
                break
        if image is not self._image:
            self._image = image
            self._link.show(image)

    def _say_goodbye(self) -> None:
        """Fail-safe at the PLC, waited for a little."""
        self.watch.stop()
        self._show()
        until_ns = self._clock.now_ns() + 300 * NS_PER_MS
        assert self._image is not None
        while self._link.poll().connected and self._clock.now_ns() < until_ns:
            if self._link.poll().delivered >= self._image.revision:
                break
            self._clock.sleep_until(self._clock.now_ns() + 5 * NS_PER_MS)
        _log.info(
            log_events.GATEWAY_STOPPED,
            gateway=self.config.gateway,
            cursor=self._journal.cursor,
            waiting=len(self.handshake),
        )

    def _say_started(self) -> None:
        _log.info(
            log_events.GATEWAY_STARTED,
            gateway=self.config.gateway,
            line=self.config.feed.line,
            cursor=self._journal.cursor,
        )

    def _say_changes(self, inputs: PlcInputs) -> None:
        """Log what a person must know, when it changes."""
        assert self._image is not None
        was_error, was_problem, was_connected = self._said
        error = self._image.error.name.lower()
        if error != was_error:
            log = _log.info if error == "none" else _log.warning
            log(log_events.PLC_TOLD, error=error, online=self._image.online)
        if inputs.connected and not was_connected:
            _log.info(log_events.PLC_CONNECTED, gateway=self.config.gateway)
        elif not inputs.connected and (was_connected or inputs.problem != was_problem):
            self._quiet.error(log_events.PLC_LOST, problem=inputs.problem)
        self._said = (error, inputs.problem, inputs.connected)


def _rules(config: GatewayConfig, link: PlcLink) -> Rules:
    return Rules(
        acknowledges=link.acknowledges,
        ack_timeout_ns=round(config.ack_timeout_ms * NS_PER_MS),
        buffer=config.buffer,
        heartbeat_ns=round(config.heartbeat_ms * NS_PER_MS),
        enable_required=config.enable_required,
    )


def _screen(config: GatewayConfig, link: PlcLink, memory: Memory, clock: Clock) -> Screen:
    return Screen(
        memory,
        clock,
        part_id_bytes=getattr(link, "part_id_bytes", PART_ID_BYTES),
        inspect_again=config.inspect_again,
        repeats_after_ns=config.part_id_repeats_after_ns,
    )
