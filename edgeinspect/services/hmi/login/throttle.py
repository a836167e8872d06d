"""The brake on guessing: wrong passwords are slowed down, right ones never are.

Failures alone count, and fade: half of them in half an hour, by the monotonic clock. They are
counted three times: for a name from an address, for an address, and for a name wherever it is
tried from. A browser in which the person has logged in before is known by a cookie
(`devices.py`) and is counted by itself, so nobody else's failures can lock it out.
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
    """When failures make a key wait."""

    free_failures: int
    """Failures before any wait."""
    max_wait_ns: int
    """Of a wait; each further failure doubles it up to this."""


_PAIR_RULE = _ThrottleRule(5, 15 * 60 * NS_PER_S)
_DEVICE_RULE = _ThrottleRule(5, 15 * 60 * NS_PER_S)
# Many people may sit behind one address, and anybody may try anybody's name: these waits
# slow down guessing over many names or from many addresses, and keep no person out for long.
_ADDRESS_RULE = _ThrottleRule(20, 60 * NS_PER_S)
_NAME_RULE = _ThrottleRule(20, 10 * NS_PER_S)


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """Who tries to log in."""

    address: str
    name: str
    device: str = ""
    """Id of the browser, if this person has logged in with it before."""


@dataclass(slots=True)
class _FailedLogins:
    failures: float = 0.0
    at_ns: int = 0
    blocked_until_ns: int = 0


class _FailureTable:
    """Failures by key under one rule; the oldest is forgotten when there are too many."""

    def __init__(self, rule: _ThrottleRule, clock: Clock) -> None:
        self._rule = rule
        self._clock = clock
        self._entries: OrderedDict[str, _FailedLogins] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def wait_ns(self, key: str) -> int:
        found = self._entries.get(key)
        return max(0, found.blocked_until_ns - self._clock.now_ns()) if found is not None else 0

    def record_failure(self, key: str) -> None:
        now_ns = self._clock.now_ns()
        guesser = self._entries.setdefault(key, _FailedLogins(at_ns=now_ns))
        self._entries.move_to_end(key)
        faded = 0.5 ** ((now_ns - guesser.at_ns) / _HALF_LIFE_NS)
        guesser.failures = guesser.failures * faded + 1
        guesser.at_ns = now_ns
        over = round(guesser.failures) - self._rule.free_failures
        if over >= 0:
            pause_ns = min(self._rule.max_wait_ns, _FIRST_WAIT_NS << min(over, 10))
            guesser.blocked_until_ns = now_ns + pause_ns
        while len(self._entries) > _MAX_ENTRIES:
            self._entries.popitem(last=False)

    def forget(self, key: str) -> None:
        self._entries.pop(key, None)


class LoginThrottle:
    """Says how long somebody must wait before a password is looked at. One loop.

    In memory: a restart of the page forgets all failures, and no browser that is known.
    """

    def __init__(self, clock: Clock) -> None:
        self._by_pair = _FailureTable(_PAIR_RULE, clock)
        self._by_device = _FailureTable(_DEVICE_RULE, clock)
        self._by_address = _FailureTable(_ADDRESS_RULE, clock)
        self._by_name = _FailureTable(_NAME_RULE, clock)

    def wait_s(self, attempt: LoginAttempt) -> int:
        """Seconds until a try is heard; 0 for now."""
        wait_ns = max(table.wait_ns(key) for table, key in self._keys(attempt))
        return -(-wait_ns // NS_PER_S)

    def record_failure(self, attempt: LoginAttempt) -> None:
        """A wrong password."""
        for table, key in self._keys(attempt):
            table.record_failure(key)

    def record_success(self, attempt: LoginAttempt) -> None:
        """The right one: the person's own failures there are forgotten, no others are."""
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
