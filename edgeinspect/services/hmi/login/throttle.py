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

from edgeinspect.domain.clock import NS_PER_S, Clock
from edgeinspect.services.hmi.http.client_address import counted_as

_HALF_LIFE_NS = 30 * 60 * NS_PER_S
_FIRST_PAUSE_NS = 30 * NS_PER_S
_MOST_KEPT = 2_000


@dataclass(frozen=True, slots=True)
class _Rule:
    """When failures make a key wait."""

    free: int
    """Failures before any wait."""
    longest_ns: int
    """Of a wait; each further failure doubles it up to this."""


_PAIR = _Rule(5, 15 * 60 * NS_PER_S)
_DEVICE = _Rule(5, 15 * 60 * NS_PER_S)
# Many people may sit behind one address, and anybody may try anybody's name: these waits
# slow down guessing over many names or from many addresses, and keep no person out for long.
_ADDRESS = _Rule(20, 60 * NS_PER_S)
_NAME = _Rule(20, 10 * NS_PER_S)


@dataclass(frozen=True, slots=True)
class Guess:
    """Who tries to log in."""

    address: str
    name: str
    device: str = ""
    """Id of the browser, if this person has logged in with it before."""


@dataclass(slots=True)
class _Guesser:
    failures: float = 0.0
    at_ns: int = 0
    free_at_ns: int = 0


class _Table:
    """Failures by key under one rule; the oldest is forgotten when there are too many."""

    def __init__(self, rule: _Rule, clock: Clock) -> None:
        self._rule = rule
        self._clock = clock
        self._kept: OrderedDict[str, _Guesser] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def wait_ns(self, key: str) -> int:
        found = self._kept.get(key)
        return max(0, found.free_at_ns - self._clock.now_ns()) if found is not None else 0

    def fail(self, key: str) -> None:
        now_ns = self._clock.now_ns()
        guesser = self._kept.setdefault(key, _Guesser(at_ns=now_ns))
        self._kept.move_to_end(key)
        faded = 0.5 ** ((now_ns - guesser.at_ns) / _HALF_LIFE_NS)
        guesser.failures = guesser.failures * faded + 1
        guesser.at_ns = now_ns
        over = round(guesser.failures) - self._rule.free
        if over >= 0:
            pause_ns = min(self._rule.longest_ns, _FIRST_PAUSE_NS << min(over, 10))
            guesser.free_at_ns = now_ns + pause_ns
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)

    def forget(self, key: str) -> None:
        self._kept.pop(key, None)


class Brake:
    """Says how long somebody must wait before a password is looked at. One loop.

    In memory: a restart of the page forgets all failures, and no browser that is known.
    """

    def __init__(self, clock: Clock) -> None:
        self._pairs = _Table(_PAIR, clock)
        self._devices = _Table(_DEVICE, clock)
        self._addresses = _Table(_ADDRESS, clock)
        self._names = _Table(_NAME, clock)

    def wait_s(self, guess: Guess) -> int:
        """Seconds until a try is heard; 0 for now."""
        wait_ns = max(table.wait_ns(key) for table, key in self._keys(guess))
        return -(-wait_ns // NS_PER_S)

    def fail(self, guess: Guess) -> None:
        """A wrong password."""
        for table, key in self._keys(guess):
            table.fail(key)

    def succeed(self, guess: Guess) -> None:
        """The right one: the person's own failures there are forgotten, no others are."""
        table, key = self._keys(guess)[0]
        table.forget(key)

    def _keys(self, guess: Guess) -> tuple[tuple[_Table, str], ...]:
        if guess.device:
            return ((self._devices, guess.device),)
        address = counted_as(guess.address)
        return (
            (self._pairs, f"{address} {guess.name}"),
            (self._addresses, address),
            (self._names, guess.name),
        )
