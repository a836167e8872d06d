"""What a person who has logged in may do; each is recorded in the line's ledger first."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anyio
import msgspec
import structlog
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgeinspect.client import order
from edgeinspect.client.sockets import Prepare
from edgeinspect.domain.clock import Clock, SystemClock
from edgeinspect.errors import DataError, EdgeInspectError
from edgeinspect.services.hmi import model_versions
from edgeinspect.services.hmi.alarm_log import cause_of
from edgeinspect.services.hmi.http.client_address import counted_as
from edgeinspect.services.hmi.line_state import Board
from edgeinspect.services.hmi.login import known_browsers
from edgeinspect.services.hmi.login.sessions import Session, Sessions
from edgeinspect.services.hmi.login.throttle import Brake, Guess
from edgeinspect.storage.model_store import Store
from edgeinspect.system import log_events
from edgeinspect.system.decoding import DecodeError, decode_json
from edgeinspect.system.log import RateLimited
from edgeinspect.system.user_file import Role, User, Users
from edgeinspect.wire.requests import ChallengeRequest, OperatorRequest

_log = structlog.get_logger()
_COOKIE = "edgeinspect_session"
_MOST_LOGINS = 256
_MOST_LOGINS_EACH = 64
CSRF_HEADER = "x-csrf-token"
_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm"}
Word = Annotated[str, Meta(min_length=1, max_length=128)]
Body = TypeVar("Body", bound=msgspec.Struct)


class _Login(msgspec.Struct, forbid_unknown_fields=True):
    name: Word
    password: Word


class _Challenge(msgspec.Struct, forbid_unknown_fields=True):
    picture: Annotated[str, Meta(min_length=1, max_length=64)]


class _Acknowledge(msgspec.Struct, forbid_unknown_fields=True):
    alarm: Annotated[str, Meta(min_length=1, max_length=500)]


class _Promote(msgspec.Struct, forbid_unknown_fields=True):
    model: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}/[1-9][0-9]{0,8}$")]
    why: Annotated[str, Meta(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class Means:
    """What actions act on."""

    board: Board
    users: Users
    replay: str
    """The line's ROUTER address."""
    prepare: Prepare
    store: Store
    models: tuple[str, ...]
    challenge_folder: Path | None
    backend: str
    reload_command: tuple[str, ...]


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error
    """An answer other than yes."""

    def __init__(self, status: int, words: str, wait_s: int = 0) -> None:
        self.status = status
        self.wait_s = wait_s
        super().__init__(words)


class Actions:
    """The POST routes. One loop; what waits is done in threads."""

    def __init__(
        self, means: Means, sessions: Sessions, brake: Brake, clock: Clock | None = None
    ) -> None:
        self._means = means
        self._sessions = sessions
        self._brake = brake
        self._cookie = f"{_COOKIE}_{means.board.line}"
        self._limited = RateLimited(_log, clock or SystemClock())
        self._hashing = anyio.CapacityLimiter(2)
        self._logins: Counter[str] = Counter()
        self._promoting = anyio.CapacityLimiter(1)

    # -- who ----------------------------------------------------------------------------------

    async def whoami(self, request: Request) -> Response:
        """Name, role and token of the session; and what may be asked for."""
        session = self._sessions.find(request.cookies.get(self._cookie))
        means = self._means
        told: dict[str, Any] = {
            "name": session.name if session else "",
            "role": session.role.value if session else "",
            "csrf": session.csrf if session else "",
            "logins": means.users.path is not None,
            "challenges": _pictures(means.challenge_folder) if session else [],
        }
        return JSONResponse(told)

    async def login(self, request: Request) -> Response:
        """Begin a session."""
        wanted = await _body(request, _Login)
        address = request.client.host if request.client else ""
        user = (await self._known()).get(wanted.name)
        device = known_browsers.known(request.cookies, wanted.name, user)
        guess = Guess(address, wanted.name, device)
        self._check_brake(guess)
        with self._queue(counted_as(address)):
            async with self._hashing:  # a hash is dear: two at once, the others stand in line
                self._check_brake(guess)  # tries at once: those before may have failed
                user = await self._check(wanted)
                if user is None:
                    self._brake.fail(guess)
        if user is None:
            self._limited.warning(log_events.LOGIN_REFUSED, name=wanted.name, address=address)
            raise Refusal(401, "name or password is wrong")
        self._brake.succeed(guess)
        self._sessions.end(request.cookies.get(self._cookie))
        token, session = self._sessions.begin(wanted.name, user)
        response = JSONResponse(
            {"name": wanted.name, "role": user.role.value, "csrf": session.csrf}
        )
        path = _own_path(request)
        secure = request.scope["scheme"] == "https"
        if not device:
            response.set_cookie(
                known_browsers.cookie_name(wanted.name),
                known_browsers.make(wanted.name, user),
                max_age=known_browsers.KEPT_S,
                httponly=True,
                samesite="strict",
                secure=secure,
                path=f"{path}api/login",
            )
        response.set_cookie(
            self._cookie, token, httponly=True, samesite="strict", secure=secure, path=path
        )
        return response

    async def logout(self, request: Request) -> Response:
        """End the session."""
        await self._allow(request, Role.VIEWER)
        self._sessions.end(request.cookies.get(self._cookie))
        response = JSONResponse({})
        response.delete_cookie(self._cookie, path=_own_path(request))
        return response

    # -- what ---------------------------------------------------------------------------------

    async def acknowledge(self, request: Request) -> Response:
        """Say that the alarm that stands has been seen."""
        session = await self._allow(request, Role.OPERATOR)
        wanted = await _body(request, _Acknowledge)
        if cause_of(self._means.board.standing().why) != cause_of(wanted.alarm):
            raise Refusal(409, "another alarm stands by now, or none")
        await self._record(session, "acknowledge", wanted.alarm)
        self._means.board.acknowledge(session.name)
        return JSONResponse({"words": "acknowledged"})

    async def challenge(self, request: Request) -> Response:
        """Send a known-bad part through the line."""
        session = await self._allow(request, Role.OPERATOR)
        picture = (await _body(request, _Challenge)).picture
        if picture not in _pictures(self._means.challenge_folder):
            raise Refusal(404, "the line has no such challenge part")
        await self._record(session, "challenge", picture)
        await self._order(ChallengeRequest(picture=picture))
        return JSONResponse({"words": f"{picture} was sent; look for its verdict"})

    async def promote(self, request: Request) -> Response:
        """Make a version live."""
        session = await self._allow(request, Role.ENGINEER)
        wanted, means = await _body(request, _Promote), self._means
        if wanted.model.partition("/")[0] not in means.models:
            raise Refusal(404, "the line has no such model")
        await self._record(session, "promote", f"{wanted.model}: {wanted.why}")

        def work() -> str:
            words = model_versions.promote(
                means.store, wanted.model, session.name, wanted.why, means.backend
            )
            return (
                f"{words}\n{model_versions.reload(means.reload_command)}"
                if means.reload_command
                else words
            )

        try:
            words = await anyio.to_thread.run_sync(work, limiter=self._promoting)
        except EdgeInspectError as error:
            raise Refusal(409, str(error)) from error
        return JSONResponse({"words": words})

    # -- inside -------------------------------------------------------------------------------

    async def _known(self) -> dict[str, User]:
        try:
            return await anyio.to_thread.run_sync(self._means.users.read)
        except DataError as error:
            raise Refusal(503, str(error)) from error

    async def _check(self, wanted: _Login) -> User | None:
        try:
            return await anyio.to_thread.run_sync(
                self._means.users.check, wanted.name, wanted.password
            )
        except DataError as error:
            raise Refusal(503, str(error)) from error

    def _check_brake(self, guess: Guess) -> None:
        wait_s = self._brake.wait_s(guess)
        if wait_s:
            raise Refusal(429, f"too many wrong passwords; try again in {wait_s} s", wait_s)

    @contextmanager
    def _queue(self, key: str) -> Iterator[None]:
        """A place among those who wait for their password to be looked at."""
        if self._logins.total() >= _MOST_LOGINS or self._logins[key] >= _MOST_LOGINS_EACH:
            raise Refusal(429, "too many logins at once; try again in 5 s", 5)
        self._logins[key] += 1
        try:
            yield
        finally:
            self._logins[key] -= 1
            if not self._logins[key]:
                del self._logins[key]

    async def _allow(self, request: Request, role: Role) -> Session:
        """The session of a request that may do this.

        Raises:
            Refusal: Nobody is logged in, the token is missing, or the role is too low.
        """
        session = self._sessions.find(request.cookies.get(self._cookie))
        if session is None:
            raise Refusal(401, "log in first")
        given = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(given.encode(), session.csrf.encode()):
            raise Refusal(403, "the request does not come from this page's own window")
        known = await self._known()
        if known.get(session.name) != session.user:  # struck, or changed, since the login
            self._sessions.end(request.cookies.get(self._cookie))
            raise Refusal(401, "log in again")
        if not session.role.covers(role):
            raise Refusal(
                403, f"this needs the role {role.value}; {session.name} is a {session.role.value}"
            )
        self._sessions.touch(session)
        return session

    async def _record(self, session: Session, action: str, detail: str) -> None:
        """Into the ledger, before it is done: what cannot be recorded is not done."""
        _log.info(log_events.OPERATOR_ACTED, actor=session.name, action=action, detail=detail)
        await self._order(OperatorRequest(actor=session.name, action=action, detail=detail[:500]))

    async def _order(self, request: OperatorRequest | ChallengeRequest) -> None:
        means = self._means
        ask: Callable[[], Any] = lambda: order(means.replay, request, prepare=means.prepare)  # noqa: E731
        try:
            answer = await anyio.to_thread.run_sync(ask)
        except EdgeInspectError as error:
            raise Refusal(503, f"nothing was done: {error}") from error
        if not answer.accepted:
            raise Refusal(409, f"the line refused: {answer.problem}")


def _own_path(request: Request) -> str:
    """The page's own place under its name, as browsers see it: `/`, or `/line7/`."""
    return f"{request.scope.get('root_path', '')}/"


async def _body(request: Request, kind: type[Body]) -> Body:
    try:
        return decode_json(await request.body(), kind)
    except DecodeError as error:
        raise Refusal(400, f"not understood: {error}") from error


def _pictures(folder: Path | None) -> list[str]:
    """The challenge parts there are; each is named without a folder."""
    if folder is None or not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in _PICTURES and len(path.name) <= 64
    )[:200]
