"""The handshake: which result the PLC sees, until when, and what counts as applied.

    waiting --shown--> shown --delivered--> delivered --ack, or timeout--> applied
              ^           |                     |
              +-- fail-safe hides it            |
              +-- the connection is lost: judged anew; it is shown again, under the same id

Delivered is the link's word that the image reached the PLC; applied is when the PLC wrote
its id (or, for a link without acknowledgement, when it was delivered, or, after
`ack_timeout_ns`, by force). Only then is the next one shown, so no result is skipped. A
result that may have been seen is shown again only under its own id, so a PLC that compares
ids takes none twice. Pure: time and the PLC's words are arguments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.plc import (
    NO_COMMANDS,
    UINT32,
    Outcome,
    PlcCommands,
    PlcError,
    PlcImage,
    PlcInputs,
    PlcResult,
    Refusal,
)
from edgeinspect.services.gateway.line_monitor import Standing
from edgeinspect.services.gateway.plc_results import Pending

_REFRESH_NS = 50 * NS_PER_MS
"""How old `act_by_ms` may be on a result that the PLC has not been able to read."""


class How(Enum):
    """How a result came to be applied."""

    ACKED = 1
    """The PLC wrote its id."""
    DELIVERED = 2
    """The link has no acknowledgement, and delivered it."""
    FORCED = 3
    """It was delivered, and the PLC did not acknowledge it in time."""
    RENUMBERED = 4
    """No result: ids begin again."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Something that is done and must never be done again."""

    how: How
    result: PlcResult | None
    """None for a renumbering."""
    epoch: int
    part_id: str = ""
    """Of its part, also where the PLC could not be told."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How the handshake goes."""

    acknowledges: bool
    ack_timeout_ns: int
    buffer: int
    """Results that may wait before the overrun bit."""
    heartbeat_ns: int
    """Time between two turns of the heartbeat bit."""
    enable_required: bool = False


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters that outlive the process; the journal keeps them."""

    results: int = 0
    lost: int = 0
    forced: int = 0
    numbering: int = 0
    last_id: int = 0


@dataclass(frozen=True, slots=True)
class _Renumbering:
    epoch: int


Look = Callable[[PlcResult], PlcResult]
"""Says what a result may be shown as, given what the PLC has been shown before."""


class _Shown:
    """The result at the PLC."""

    __slots__ = (
        "_look",
        "before",
        "delivered_at_ns",
        "pending",
        "result",
        "revision",
        "since_ns",
    )

    def __init__(self, pending: Pending, now_ns: int, look: Look) -> None:
        self._look = look
        self.pending = pending
        self.result = look(pending.at(now_ns))
        self.since_ns = now_ns
        self.revision: int | None = None
        """Of the first image that has it; None while it is hidden."""
        self.delivered_at_ns: int | None = None
        self.before: tuple[int, PlcResult] | None = None
        """(revision, result) as it was delivered over a connection that is lost."""

    def lose(self) -> None:
        """The connection is lost: the PLC has read it, or will see it first after its act-by."""
        if self.delivered_at_ns is not None and self.revision is not None:
            self.before = self.before or (self.revision, self.result)
            self.revision = self.delivered_at_ns = None

    def answered_before(self, commands: PlcCommands) -> bool:
        """Whether its id was written by who had read it over the lost connection."""
        after = commands.ack_after
        return (
            self.before is not None
            and after >= self.before[0]
            and (self.revision is None or after < self.revision)
        )

    def refresh(self, now_ns: int) -> None:
        """Judge again whether it is in time; only while nobody can have seen it."""
        passed_late = (
            self.result.outcome is Outcome.PASS
            and self.pending.act_by_at_ns is not None
            and now_ns >= self.pending.act_by_at_ns
        )
        if passed_late or now_ns - self.since_ns >= _REFRESH_NS:
            self.since_ns = now_ns
            result = self._look(self.pending.at(now_ns))
            if result != self.result:
                self.result = result
                self.revision = None


class Handshake:
    """One PLC's results. Not thread-safe; the gateway's loop owns it."""

    def __init__(
        self,
        rules: Rules,
        totals: Totals = Totals(),
        *,
        is_new: bool = False,
        look: Look = lambda result: result,
    ) -> None:
        """Begin, or go on where `totals` of the journal end.

        Args:
            rules: How it goes.
            totals: Of the journal.
            is_new: True if the journal was made now, as on a spare PC.
            look: Turns a result into what may be shown.
        """
        self.rules = rules
        self.totals = totals
        self.trigger_ack = 0
        self.trigger_refused = False
        self.trigger_refusal = Refusal.NONE
        self._look = look
        self._new = is_new
        self._waiting: deque[Pending | _Renumbering] = deque()
        self._shown: _Shown | None = None
        self._image = PlcImage()
        self._commands = NO_COMMANDS
        self._stale_ack: int | None = None
        self._connected = False
        self._link_losses = 0
        self._latched: set[PlcError] = {PlcError.NEW_JOURNAL} if is_new else set()

    def __len__(self) -> int:
        """Results not yet applied."""
        return len(self._waiting) + (self._shown is not None)

    def pending(self) -> Iterator[PlcResult]:
        """Results not yet applied, the next one first; find a part's by `key`."""
        if self._shown is not None:
            yield self._shown.result
        yield from (item.result for item in self._waiting if isinstance(item, Pending))

    def push(self, pending: Pending) -> None:
        """The next result in order."""
        self._waiting.append(pending)

    def renumber(self, epoch: int) -> None:
        """Ids begin again after what waits now."""
        self._waiting.append(_Renumbering(epoch))

    def hear(self, inputs: PlcInputs, now_ns: int) -> list[Applied]:
        """Take in what the link knows.

        Returns:
            What is applied now, in order; the caller records it before it shows anything.
        """
        if self._connected and not inputs.connected:
            self._link_losses += 1
        self._connected = inputs.connected
        self._hear_commands(inputs.commands or NO_COMMANDS)
        applied: list[Applied] = []
        if self._shown is not None:
            how = self._progress(self._shown, inputs, now_ns)
            if how is not None:
                part_id = self._shown.pending.result.part_id
                applied.append(self._apply(self._shown.result, how, part_id))
                self._shown = None
        if self._shown is None:
            while self._waiting and isinstance(self._waiting[0], _Renumbering):
                applied.append(self._renumbered(self._waiting[0].epoch))
                self._waiting.popleft()
        return applied

    def image(self, standing: Standing, now_ns: int) -> PlcImage:
        """What the PLC must see now; the same object as before if nothing changed."""
        result = self._result(standing, now_ns)
        error = min({standing.error, *self._latched} - {PlcError.NONE}, default=PlcError.NONE)
        enabled = self._commands.enable or not self.rules.enable_required
        if error is PlcError.NONE and not enabled:
            error = PlcError.NOT_ENABLED
        inspecting = standing.online and standing.error is PlcError.NONE
        last = self._image
        image = PlcImage(
            revision=last.revision,
            online=standing.online,
            trigger_ready=inspecting and enabled,
            result=result,
            last_id=self.totals.last_id,
            overrun=PlcError.OVERRUN in self._latched,
            alarm=bool(standing.alarm) or error is not PlcError.NONE,
            heartbeat=bool(now_ns // self.rules.heartbeat_ns % 2),
            error=error,
            numbering=self.totals.numbering,
            buffered=len(self),
            buffer_free=max(0, self.rules.buffer - len(self)),
            settings_checksum=standing.settings_checksum,
            epoch=standing.epoch,
            results_total=self.totals.results,
            lost_total=self.totals.lost,
            forced_total=self.totals.forced,
            link_losses=self._link_losses,
            trigger_ack=self.trigger_ack,
            trigger_refused=self.trigger_refused,
            trigger_refusal=self.trigger_refusal,
        )
        if image != last:
            self._image = replace(image, revision=last.revision + 1)
        if self._shown is not None and result is not None and self._shown.revision is None:
            self._shown.revision = self._image.revision
        return self._image

    def _result(self, standing: Standing, now_ns: int) -> PlcResult | None:
        """The result to show, if any may be shown."""
        if len(self) > self.rules.buffer:
            self._latched.add(PlcError.OVERRUN)
        shown = self._shown
        if not standing.online:
            if shown is not None and shown.delivered_at_ns is None:
                shown.revision = None
            return None
        if shown is None and self._waiting and isinstance(self._waiting[0], Pending):
            shown = self._shown = _Shown(self._waiting[0], now_ns, self._look)
            self._waiting.popleft()
        if shown is None:
            return None
        if shown.delivered_at_ns is None:
            shown.refresh(now_ns)
        return shown.result

    def wait_longer(self, ns: int) -> None:
        """The gateway stood still: nobody's acknowledgement could be heard meanwhile."""
        if self._shown is not None and self._shown.delivered_at_ns is not None:
            self._shown.delivered_at_ns += ns

    def _progress(self, shown: _Shown, inputs: PlcInputs, now_ns: int) -> How | None:
        """How the shown result is applied; None if it is not yet."""
        ack = self._commands.results_ack
        answers = ack == shown.result.result_id and ack != self._stale_ack
        if answers and shown.before is not None and shown.answered_before(self._commands):
            shown.result = shown.before[1]  # as the PLC took it
            return How.ACKED
        if shown.delivered_at_ns is None:
            if shown.revision is None or inputs.delivered < shown.revision:
                return None
            shown.delivered_at_ns = now_ns
        if not self.rules.acknowledges:
            return How.DELIVERED
        if answers:
            return How.ACKED
        if ack is not None and ack != self._stale_ack and _is_newer(ack, shown.result.result_id):
            self._latched.add(PlcError.ACK_AHEAD)
        if not inputs.connected:
            # Nobody is there to acknowledge: its time begins again when somebody is.
            shown.lose()
            return None
        if now_ns - shown.delivered_at_ns >= self.rules.ack_timeout_ns:
            self._latched.add(PlcError.ACK_TIMEOUT)
            return How.FORCED
        return None

    def _hear_commands(self, commands: PlcCommands) -> None:
        if commands.fault_reset and not self._commands.fault_reset:
            self._latched.clear()
        ack = commands.results_ack
        if ack is not None:
            if self._new and not self._answers(commands):
                self._stale_ack = ack  # of whoever stood in this place before
            self._new = False
            if ack != self._stale_ack:
                self._stale_ack = None
        self._commands = commands

    def _answers(self, commands: PlcCommands) -> bool:
        """Whether the first ack that is heard answers the result that is shown."""
        shown = self._shown
        if shown is None or shown.revision is None:
            return False
        is_its = commands.results_ack == shown.result.result_id
        return is_its and commands.ack_after >= shown.revision

    def _apply(self, result: PlcResult, how: How, part_id: str) -> Applied:
        lost = result.covers if result.is_lost else 0
        if lost:
            self._latched.add(PlcError.RESULTS_LOST)
        self.totals = replace(
            self.totals,
            results=self.totals.results + result.covers,
            lost=self.totals.lost + lost,
            forced=self.totals.forced + (how is How.FORCED),
            last_id=result.result_id,
        )
        return Applied(how, result, result.epoch, part_id)

    def _renumbered(self, epoch: int) -> Applied:
        # The PLC's ack register still holds an id of the old count.
        self._stale_ack = self._commands.results_ack
        self._latched.add(PlcError.RENUMBERED)
        self.totals = replace(self.totals, numbering=self.totals.numbering + 1, last_id=0)
        return Applied(How.RENUMBERED, None, epoch)


def _is_newer(one: int, other: int) -> bool:
    """As a PLC compares ids: by their signed 32-bit difference."""
    return 0 < (one - other) % UINT32 < UINT32 // 2
