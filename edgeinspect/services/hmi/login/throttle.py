"""Throttles password guessing: failed attempts cause delays, successful ones never do.

Failures decay by half in 30 minutes, by the monotonic clock. Each counts three times: for a name
from an address, for the address, and for the name from anywhere. A browser with a device cookie
(`device_cookie`) is counted by itself, so failures elsewhere cannot lock it out.
Source: OWASP's authentication cheat sheet, and its "device cookies".
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from edgeinspect.domain import NS_PER_S, Clock
from edgeinspect.services.hmi.http.client_address import client_key

_HALF_LIFE_NS = 30 * 60 * NS_PER_S
_FIRST_WAIT_NS = 30 * NS_PER_S
_MAX_ENTRIES = 2_000


@dataclass(frozen=True, slots=True)
class _ThrottleRule:
    """When failures delay further attempts."""

    free_failures: int
    """Failures without delay."""
    max_wait_ns: int
    """Longest delay; each further failure doubles it up to this."""


_PAIR_RULE = _ThrottleRule(5, 15 * 60 * NS_PER_S)
_DEVICE_RULE = _ThrottleRule(5, 15 * 60 * NS_PER_S)
# Many users may share one address, and anyone may try any name: these delays throttle guessing
# over many names or from many addresses, and do not lock a user out for long.
_ADDRESS_RULE = _ThrottleRule(20, 60 * NS_PER_S)
_NAME_RULE = _ThrottleRule(20, 10 * NS_PER_S)


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """The origin of a login attempt."""

    address: str
    name: str
    device: str = ""
    """Id in the device cookie; empty without one."""


@dataclass(slots=True)
class _FailedLogins:
    failures: float = 0.0
    at_ns: int = 0
    blocked_until_ns: int = 0


class _FailureTable:
    """Failures by key under one rule; bounded, the oldest is dropped."""

    def __init__(self, rule: _ThrottleRule, clock: Clock) -> None:
        self._rule = rule
        self._clock = clock
        self._entries: OrderedDict[str, _FailedLogins] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def wait_ns(self, key: str) -> int:
        entry = self._entries.get(key)
        return max(0, entry.blocked_until_ns - self._clock.now_ns()) if entry is not None else 0

    def record_failure(self, key: str) -> None:
        now_ns = self._clock.now_ns()
        entry = self._entries.setdefault(key, _FailedLogins(at_ns=now_ns))
        self._entries.move_to_end(key)
        decay = 0.5 ** ((now_ns - entry.at_ns) / _HALF_LIFE_NS)
        entry.failures = entry.failures * decay + 1
        entry.at_ns = now_ns
        excess = round(entry.failures) - self._rule.free_failures
        if excess >= 0:
            wait_ns = min(self._rule.max_wait_ns, _FIRST_WAIT_NS << min(excess, 10))
            entry.blocked_until_ns = now_ns + wait_ns
        while len(self._entries) > _MAX_ENTRIES:
            self._entries.popitem(last=False)

    def forget(self, key: str) -> None:
        self._entries.pop(key, None)


class LoginThrottle:
    """Returns the delay before a password is checked. One event loop.

    Failures are in memory: a restart forgets them.
    """

    def __init__(self, clock: Clock) -> None:
        self._by_pair = _FailureTable(_PAIR_RULE, clock)
        self._by_device = _FailureTable(_DEVICE_RULE, clock)
        self._by_address = _FailureTable(_ADDRESS_RULE, clock)
        self._by_name = _FailureTable(_NAME_RULE, clock)

    def wait_s(self, attempt: LoginAttempt) -> int:
        """Return the seconds until an attempt is allowed; 0 for now."""
        wait_ns = max(table.wait_ns(key) for table, key in self._keys(attempt))
        return -(-wait_ns // NS_PER_S)

    def record_failure(self, attempt: LoginAttempt) -> None:
        """Count a wrong password."""
        for table, key in self._keys(attempt):
            table.record_failure(key)

    def record_success(self, attempt: LoginAttempt) -> None:
        """Forget the failures of this user at this address or browser."""
        table, key = self._keys(attempt)[0]
        table.forget(key)

    def _keys(self, attempt: LoginAttempt) -> tuple[tuple[_FailureTable, str], ...]:
        if attempt.device:
            return ((self._by_device, attempt.device),)
        address = client_key(attempt.address)
        return (
            (self._by_pair, f"{address} {attempt.name}"),
            (self._by_address, address),
            (self._by_name, attempt.name),
        )
