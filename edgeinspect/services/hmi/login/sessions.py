"""Login sessions, in memory."""

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
    """One session."""

    name: str
    user: User
    csrf: str
    """Sent in a header with every action; unknown to other sites."""
    created_at_ns: int
    used_at_ns: int

    @property
    def role(self) -> Role:
        """The user's role."""
        return self.user.role


class LoginSessions:
    """All sessions. One ends when idle, after 12 hours, or at logout. One event loop.

    Args:
        idle_ns: Idle time after which a session ends.
        clock: Measures idle time and age.
    """

    def __init__(self, idle_ns: int, clock: Clock) -> None:
        self._idle_ns = idle_ns
        self._clock = clock
        self._sessions: OrderedDict[str, LoginSession] = OrderedDict()

    def create(self, name: str, user: User) -> tuple[str, LoginSession]:
        """Create a session for an authenticated user; return (token, session)."""
        now_ns = self._clock.now_ns()
        token = secrets.token_urlsafe(32)
        session = LoginSession(name, user, secrets.token_urlsafe(32), now_ns, now_ns)
        self._sessions[token] = session
        while len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return token, session

    def find(self, token: str | None) -> LoginSession | None:
        """Return the session of a token, unless it has ended; does not count as activity."""
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
        """Note activity: restart the idle time."""
        session.used_at_ns = self._clock.now_ns()

    def remove(self, token: str | None) -> None:
        """End a session; an unknown token is ignored."""
        self._sessions.pop(token or "", None)
