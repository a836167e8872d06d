"""The watch over the daemon: is anybody inspecting? Pure, on the caller's clock."""

from __future__ import annotations

from dataclasses import dataclass

from edgeinspect.domain.plc import PlcError
from edgeinspect.wire.messages import (
    HEARTBEAT_TOPIC,
    STATUS_TOPIC,
    VERDICT_TOPIC,
    Heartbeat,
    Status,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the line at one moment."""

    online: bool
    error: PlcError
    alarm: str
    epoch: int
    settings_checksum: int


class Watch:
    """Hears heartbeats; says at any moment whether the line lives. Not thread-safe.

    It starts fail-safe and falls back to it when nothing is heard for `fail_safe_ns`;
    one heartbeat of the newest epoch ends it.
    """

    def __init__(self, fail_safe_ns: int, epoch: int = 0) -> None:
        """Nothing heard yet; `epoch` is the newest that was known before a restart."""
        self.epoch = epoch
        self.alarm = ""
        self.clock_stepped = False
        """The daemon says that its wall clock is not to be trusted."""
        self._fail_safe_ns = fail_safe_ns
        self._heard_at_ns: int | None = None
        self._broken: set[str] = set()
        self._inspecting = False
        self._checksum = 0
        self._stopping = False

    def hear(self, beat: Heartbeat | Status, now_ns: int) -> None:
        """One heartbeat or status; those of a dead daemon are not heard."""
        if beat.epoch < self.epoch:
            return
        self.epoch = beat.epoch
        self._heard_at_ns = now_ns
        self._broken -= {HEARTBEAT_TOPIC, STATUS_TOPIC, ""}
        self.alarm = beat.alarm
        if isinstance(beat, Heartbeat):
            self._inspecting = beat.inspecting
            self.clock_stepped = beat.clock_stepped
        else:
            self._settings(beat.config_hash)

    def hear_renumbered(self, epoch: int, now_ns: int) -> None:
        """A heartbeat that told of a renumbering."""
        self.epoch = max(self.epoch, epoch)
        self._heard_at_ns = now_ns

    def hear_nonsense(self, topic: str) -> None:
        """Something that breaks the wire's schema: another version is talking.

        Fail-safe until a message of the same kind can be read.
        """
        self._broken.add(topic.partition(".")[0])

    def hear_verdict(self, epoch: int, config_hash: str) -> None:
        """A verdict that could be read, with the hash of the configuration that judged."""
        self.epoch = max(self.epoch, epoch)
        self._broken.discard(VERDICT_TOPIC)
        self._settings(config_hash)

    def _settings(self, config_hash: str) -> None:
        try:
            self._checksum = int(config_hash[:8], 16)
        except ValueError:  # not a hash: a part of a test, or of a future version
            self._checksum = 0

    def stop(self) -> None:
        """The gateway is being stopped: fail-safe from here on."""
        self._stopping = True

    def standing(self, now_ns: int) -> Standing:
        """What is known at `now_ns`."""
        error = self._error(now_ns)
        online = error in (PlcError.NONE, PlcError.NOT_INSPECTING)
        return Standing(online, error, self.alarm, self.epoch, self._checksum)

    def _error(self, now_ns: int) -> PlcError:
        if self._stopping:
            return PlcError.STOPPING
        if self._broken:
            return PlcError.WIRE
        if self._heard_at_ns is None:
            return PlcError.STARTING
        if now_ns - self._heard_at_ns >= self._fail_safe_ns:
            return PlcError.HEARTBEAT_LOST
        return PlcError.NONE if self._inspecting else PlcError.NOT_INSPECTING
