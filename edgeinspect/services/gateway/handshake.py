"""The handshake: which result the PLC sees, until when, and what counts as applied.

    waiting --shown--> shown --delivered--> delivered --ack, or timeout--> applied
              ^           |                     |
              +-- fail-safe hides it            |
              +-- connection lost: checked against its act-by and shown again, same id

Delivered: the link reports that the image reached the PLC. Applied: the PLC wrote the
result's id; or the link has no acknowledgement and delivered it; or `ack_timeout_ns` has
passed since delivery. Only then is the next result shown, so no result is skipped. A result
that the PLC may have seen is shown again only under its own id, so a PLC that compares ids
takes none twice. Pure: the time and the PLC's inputs are arguments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from edgeinspect.domain import (
    NO_COMMANDS,
    NS_PER_MS,
    UINT32,
    PlcCommands,
    PlcError,
    PlcInputs,
    PlcOutcome,
    PlcResult,
    ProcessImage,
    TriggerRefusal,
)
from edgeinspect.services.gateway.line_monitor import GatewayLineStatus
from edgeinspect.services.gateway.plc_results import PendingResult

_REFRESH_NS = 50 * NS_PER_MS
"""Oldest `act_by_ms` on a result that the PLC cannot have read yet."""


class ResultCompletion(Enum):
    """How a result was applied. The values are stored in the journal."""

    ACKED = 1
    """The PLC wrote its id."""
    DELIVERED = 2
    """The link delivered it and has no acknowledgement."""
    FORCED = 3
    """It was delivered and not acknowledged in time."""
    SEQUENCE_RESET = 4
    """Not a result: ids start again from 1."""


@dataclass(frozen=True, slots=True)
class CompletedResult:
    """A result, or a sequence reset, that has been applied and must not be applied again."""

    completion: ResultCompletion
    result: PlcResult | None
    """None for a sequence reset."""
    epoch: int
    part_id: str = ""
    """Id of its part, also if the protocol cannot carry it."""


@dataclass(frozen=True, slots=True)
class HandshakeSettings:
    """Parameters of the handshake."""

    acknowledges: bool
    ack_timeout_ns: int
    buffer_size: int
    """Results that may wait before the overrun bit is set."""
    heartbeat_interval_ns: int
    """Time between two changes of the heartbeat bit."""
    enable_required: bool = False


@dataclass(frozen=True, slots=True)
class ResultTotals:
    """Counters that the journal keeps across restarts."""

    results: int = 0
    lost: int = 0
    forced: int = 0
    sequence_generation: int = 0
    last_id: int = 0


@dataclass(frozen=True, slots=True)
class _SequenceReset:
    epoch: int


ResultFilter = Callable[[PlcResult], PlcResult]
"""Returns a result as it may be shown, given what the PLC has been shown before."""


class _CurrentResult:
    """The result at the PLC."""

    __slots__ = (
        "_filter",
        "delivered_at_ns",
        "lost_delivery",
        "pending",
        "refreshed_at_ns",
        "result",
        "revision",
    )

    def __init__(self, pending: PendingResult, now_ns: int, result_filter: ResultFilter) -> None:
        self._filter = result_filter
        self.pending = pending
        self.result = result_filter(pending.result_at(now_ns))
        self.refreshed_at_ns = now_ns
        self.revision: int | None = None
        """Of the first image that contains it; None while it is hidden."""
        self.delivered_at_ns: int | None = None
        self.lost_delivery: tuple[int, PlcResult] | None = None
        """(revision, result) as delivered over a connection that was lost since."""

    def on_disconnect(self) -> None:
        """Handle a lost connection: the PLC may have read the result, or not."""
        if self.delivered_at_ns is not None and self.revision is not None:
            self.lost_delivery = self.lost_delivery or (self.revision, self.result)
            self.revision = self.delivered_at_ns = None

    def was_acked_before_disconnect(self, commands: PlcCommands) -> bool:
        """Whether its id was written by a PLC that had read it over the lost connection."""
        after = commands.ack_after
        return (
            self.lost_delivery is not None
            and after >= self.lost_delivery[0]
            and (self.revision is None or after < self.revision)
        )

    def refresh(self, now_ns: int) -> None:
        """Check again whether it is in time; only while the PLC cannot have seen it."""
        passed_late = (
            self.result.outcome is PlcOutcome.PASS
            and self.pending.act_by_at_ns is not None
            and now_ns >= self.pending.act_by_at_ns
        )
        if passed_late or now_ns - self.refreshed_at_ns >= _REFRESH_NS:
            self.refreshed_at_ns = now_ns
            result = self._filter(self.pending.result_at(now_ns))
            if result != self.result:
                self.result = result
                self.revision = None


class Handshake:
    """The results of one PLC. Not thread-safe; the gateway's loop owns it."""

    def __init__(
        self,
        settings: HandshakeSettings,
        totals: ResultTotals = ResultTotals(),
        *,
        is_new_journal: bool = False,
        result_filter: ResultFilter = lambda result: result,
    ) -> None:
        """Continue from `totals`.

        Args:
            settings: Parameters of the handshake.
            totals: Counters of the journal.
            is_new_journal: True if the journal was created now, as on a spare PC.
            result_filter: Turns a result into what may be shown.
        """
        self.settings = settings
        self.totals = totals
        self.trigger_ack = 0
        self.trigger_refused = False
        self.trigger_refusal = TriggerRefusal.NONE
        self._filter = result_filter
        self._is_new_journal = is_new_journal
        self._waiting: deque[PendingResult | _SequenceReset] = deque()
        self._current: _CurrentResult | None = None
        self._image = ProcessImage()
        self._commands = NO_COMMANDS
        self._stale_ack: int | None = None
        self._is_connected = False
        self._link_losses = 0
        self._latched_errors: set[PlcError] = {PlcError.NEW_JOURNAL} if is_new_journal else set()

    def __len__(self) -> int:
        """Number of results not yet applied."""
        return len(self._waiting) + (self._current is not None)

    def enqueue(self, pending: PendingResult) -> None:
        """Add the next result in order."""
        self._waiting.append(pending)

    def reset_sequence(self, epoch: int) -> None:
        """Restart the ids after the results that wait now."""
        self._waiting.append(_SequenceReset(epoch))

    def process_inputs(self, inputs: PlcInputs, now_ns: int) -> list[CompletedResult]:
        """Process the state of the link and the PLC's commands.

        Returns:
            What has been applied, in order; the caller records it before it shows anything.
        """
        if self._is_connected and not inputs.is_connected:
            self._link_losses += 1
        self._is_connected = inputs.is_connected
        self._process_commands(inputs.commands or NO_COMMANDS)
        applied: list[CompletedResult] = []
        if self._current is not None:
            completion = self._completion_of(self._current, inputs, now_ns)
            if completion is not None:
                part_id = self._current.pending.result.part_id
                applied.append(self._complete(self._current.result, completion, part_id))
                self._current = None
        if self._current is None:
            while self._waiting and isinstance(self._waiting[0], _SequenceReset):
                applied.append(self._complete_reset(self._waiting[0].epoch))
                self._waiting.popleft()
        return applied

    def update_image(self, status: GatewayLineStatus, now_ns: int) -> ProcessImage:
        """Return what the PLC must see now; the previous object if nothing changed."""
        result = self._current_result(status, now_ns)
        error = min({status.error, *self._latched_errors} - {PlcError.NONE}, default=PlcError.NONE)
        enabled = self._commands.enable or not self.settings.enable_required
        if error is PlcError.NONE and not enabled:
            error = PlcError.NOT_ENABLED
        inspecting = status.online and status.error is PlcError.NONE
        last = self._image
        image = ProcessImage(
            revision=last.revision,
            online=status.online,
            trigger_ready=inspecting and enabled,
            result=result,
            last_id=self.totals.last_id,
            overrun=PlcError.OVERRUN in self._latched_errors,
            alarm=bool(status.alarm) or error is not PlcError.NONE,
            heartbeat=bool(now_ns // self.settings.heartbeat_interval_ns % 2),
            error=error,
            sequence_generation=self.totals.sequence_generation,
            buffered=len(self),
            buffer_free=max(0, self.settings.buffer_size - len(self)),
            settings_checksum=status.settings_checksum,
            epoch=status.epoch,
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
        if self._current is not None and result is not None and self._current.revision is None:
            self._current.revision = self._image.revision
        return self._image

    def _current_result(self, status: GatewayLineStatus, now_ns: int) -> PlcResult | None:
        """Return the result to show; None if none may be shown."""
        if len(self) > self.settings.buffer_size:
            self._latched_errors.add(PlcError.OVERRUN)
        current = self._current
        if not status.online:
            if current is not None and current.delivered_at_ns is None:
                current.revision = None
            return None
        if current is None and self._waiting and isinstance(self._waiting[0], PendingResult):
            current = self._current = _CurrentResult(self._waiting[0], now_ns, self._filter)
            self._waiting.popleft()
        if current is None:
            return None
        if current.delivered_at_ns is None:
            current.refresh(now_ns)
        return current.result

    def extend_ack_deadline(self, ns: int) -> None:
        """Extend the time for an acknowledgement by a pause of this process."""
        if self._current is not None and self._current.delivered_at_ns is not None:
            self._current.delivered_at_ns += ns

    def _completion_of(
        self, current: _CurrentResult, inputs: PlcInputs, now_ns: int
    ) -> ResultCompletion | None:
        """Return how the current result has been applied; None if it has not."""
        ack = self._commands.results_ack
        answers = ack == current.result.result_id and ack != self._stale_ack
        if (
            answers
            and current.lost_delivery is not None
            and current.was_acked_before_disconnect(self._commands)
        ):
            current.result = current.lost_delivery[1]  # as the PLC read it
            return ResultCompletion.ACKED
        if current.delivered_at_ns is None:
            if current.revision is None or inputs.delivered_revision < current.revision:
                return None
            current.delivered_at_ns = now_ns
        if not self.settings.acknowledges:
            return ResultCompletion.DELIVERED
        if answers:
            return ResultCompletion.ACKED
        if ack is not None and ack != self._stale_ack and _is_newer(ack, current.result.result_id):
            self._latched_errors.add(PlcError.ACK_AHEAD)
        if not inputs.is_connected:
            # No PLC to acknowledge it: the time starts again with the next connection.
            current.on_disconnect()
            return None
        if now_ns - current.delivered_at_ns >= self.settings.ack_timeout_ns:
            self._latched_errors.add(PlcError.ACK_TIMEOUT)
            return ResultCompletion.FORCED
        return None

    def _process_commands(self, commands: PlcCommands) -> None:
        if commands.fault_reset and not self._commands.fault_reset:
            self._latched_errors.clear()
        ack = commands.results_ack
        if ack is not None:
            if self._is_new_journal and not self._is_answer(commands):
                self._stale_ack = ack  # written for the gateway that this one replaces
            self._is_new_journal = False
            if ack != self._stale_ack:
                self._stale_ack = None
        self._commands = commands

    def _is_answer(self, commands: PlcCommands) -> bool:
        """Whether the first ack received answers the current result."""
        current = self._current
        if current is None or current.revision is None:
            return False
        is_its = commands.results_ack == current.result.result_id
        return is_its and commands.ack_after >= current.revision

    def _complete(
        self, result: PlcResult, completion: ResultCompletion, part_id: str
    ) -> CompletedResult:
        lost = result.frames_covered if result.is_lost else 0
        if lost:
            self._latched_errors.add(PlcError.RESULTS_LOST)
        self.totals = replace(
            self.totals,
            results=self.totals.results + result.frames_covered,
            lost=self.totals.lost + lost,
            forced=self.totals.forced + (completion is ResultCompletion.FORCED),
            last_id=result.result_id,
        )
        return CompletedResult(completion, result, result.epoch, part_id)

    def _complete_reset(self, epoch: int) -> CompletedResult:
        # The PLC's ack register still holds an id of the previous generation.
        self._stale_ack = self._commands.results_ack
        self._latched_errors.add(PlcError.RENUMBERED)
        self.totals = replace(
            self.totals, sequence_generation=self.totals.sequence_generation + 1, last_id=0
        )
        return CompletedResult(ResultCompletion.SEQUENCE_RESET, None, epoch)


def _is_newer(one: int, other: int) -> bool:
    """Compare two ids as a PLC does: by their signed 32-bit difference."""
    return 0 < (one - other) % UINT32 < UINT32 // 2
