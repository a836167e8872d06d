"""Logins: sessions in memory. One thread: the server's loop."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass

from edgeinspect.domain import NS_PER_S, Clock
from edgeinspect.system import Role, User

_MAX_AGE_NS = 12 * 3600 * NS_PER_S
_MAX_SESSIONS = 500


@dataclass(slots=True)
class LoginSession:
    """One login."""

    name: str
    user: User
    csrf: str
    """To be sent in a header with every action: another site cannot know it."""
    created_at_ns: int
    used_at_ns: int

    @property
    def role(self) -> Role:
        """What may be done."""
        return self.user.role


class LoginSessions:
    """Who is logged in. A session ends after a pause, after 12 hours, or by logging out.

    Args:
        idle_ns: The pause.
        clock: For both.
    """

    def __init__(self, idle_ns: int, clock: Clock) -> None:
        self._idle_ns = idle_ns
        self._clock = clock
        self._sessions: OrderedDict[str, LoginSession] = OrderedDict()

    def create(self, name: str, user: User) -> tuple[str, LoginSession]:
        """(token, session) of somebody who has given the right password."""
        now_ns = self._clock.now_ns()
        token = secrets.token_urlsafe(32)
        session = LoginSession(name, user, secrets.token_urlsafe(32), now_ns, now_ns)
        self._sessions[token] = session
        while len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return token, session

    def find(self, token: str | None) -> LoginSession | None:
        """The session of a token, if it has not ended; touches nothing."""
        session = self._sessions.get(token) if token else None
        if token is None or session is None:
            return None
        now_ns = self._clock.now_ns()
        if (
            now_ns - session.used_at_ns >= self._idle_ns
            or now_ns - session.created_at_ns >= _MAX_AGE_NS
        ):
            del self._sessions[token]
            return None
        return session

    def touch(self, session: LoginSession) -> None:
        """Somebody did something: the pause begins anew."""
        session.used_at_ns = self._clock.now_ns()

    def remove(self, token: str | None) -> None:
        """Log out; harmless for a token that is none."""
        self._sessions.pop(token or "", None)
