"""What a person who has logged in may do; each is recorded in the line's ledger first."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anyio
import msgspec
import structlog
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgeinspect import events
from edgeinspect.client import order
from edgeinspect.client.sockets import Prepare
from edgeinspect.decoding import DecodeError, decode_json
from edgeinspect.errors import DataError, EdgeInspectError
from edgeinspect.page import engines
from edgeinspect.page.board import Board
from edgeinspect.page.sessions import Brake, Session, Sessions
from edgeinspect.store import Store
from edgeinspect.users import Role, Users
from edgeinspect.wire_replay import ChallengeRequest, OperatorRequest

_log = structlog.get_logger()
COOKIE = "edgeinspect_session"
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
    secure: bool
    """True if browsers speak TLS with the page."""


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error
    """An answer other than yes."""

    def __init__(self, status: int, words: str, wait_s: int = 0) -> None:
        self.status = status
        self.wait_s = wait_s
        super().__init__(words)


class Actions:
    """The POST routes. One loop; what waits is done in threads."""

    def __init__(self, means: Means, sessions: Sessions, brake: Brake) -> None:
        self._means = means
        self._sessions = sessions
        self._brake = brake
        self._hashing = anyio.CapacityLimiter(2)
        self._promoting = anyio.CapacityLimiter(1)

    # -- who ----------------------------------------------------------------------------------

    async def whoami(self, request: Request) -> Response:
        """Name, role and token of the session; and what may be asked for."""
        session = self._sessions.find(request.cookies.get(COOKIE))
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
        wait_s = self._brake.wait_s(address, wanted.name)
        if wait_s:
            raise Refusal(429, f"too many wrong passwords; try again in {wait_s} s", wait_s)
        self._brake.fail(address, wanted.name)  # taken back below: tries at once count all
        try:
            user = await anyio.to_thread.run_sync(
                self._means.users.check, wanted.name, wanted.password, limiter=self._hashing
            )
        except DataError as error:
            raise Refusal(503, str(error)) from error
        if user is None:
            _log.warning(events.LOGIN_REFUSED, name=wanted.name, address=address)
            raise Refusal(401, "name or password is wrong")
        self._brake.succeed(address, wanted.name)
        self._sessions.end(request.cookies.get(COOKIE))
        token, session = self._sessions.begin(wanted.name, user)
        response = JSONResponse(
            {"name": wanted.name, "role": user.role.value, "csrf": session.csrf}
        )
        response.set_cookie(
            COOKIE, token, httponly=True, samesite="strict", secure=self._means.secure, path="/"
        )
        return response

    async def logout(self, request: Request) -> Response:
        """End the session."""
        await self._allow(request, Role.VIEWER)
        self._sessions.end(request.cookies.get(COOKIE))
        response = JSONResponse({})
        response.delete_cookie(COOKIE, path="/")
        return response

    # -- what ---------------------------------------------------------------------------------

    async def acknowledge(self, request: Request) -> Response:
        """Say that the alarm that stands has been seen."""
        session = await self._allow(request, Role.OPERATOR)
        wanted = await _body(request, _Acknowledge)
        if self._means.board.standing().why != wanted.alarm:
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
            words = engines.promote(
                means.store, wanted.model, session.name, wanted.why, means.backend
            )
            return f"{words}\n{engines.reload(means.reload_command)}" \
                if means.reload_command else words  # fmt: skip

        try:
            words = await anyio.to_thread.run_sync(work, limiter=self._promoting)
        except EdgeInspectError as error:
            raise Refusal(409, str(error)) from error
        return JSONResponse({"words": words})

    # -- inside -------------------------------------------------------------------------------

    async def _allow(self, request: Request, role: Role) -> Session:
        """The session of a request that may do this.

        Raises:
            Refusal: Nobody is logged in, the token is missing, or the role is too low.
        """
        session = self._sessions.find(request.cookies.get(COOKIE))
        if session is None:
            raise Refusal(401, "log in first")
        given = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(given.encode(), session.csrf.encode()):
            raise Refusal(403, "the request does not come from this page's own window")
        try:
            known = await anyio.to_thread.run_sync(self._means.users.read)
        except DataError as error:
            raise Refusal(503, str(error)) from error
        if known.get(session.name) != session.user:  # struck, or changed, since the login
            self._sessions.end(request.cookies.get(COOKIE))
            raise Refusal(401, "log in again")
        if not session.role.covers(role):
            raise Refusal(403, f"this needs the role {role.value}; {session.name} is a "
                               f"{session.role.value}")  # fmt: skip
        self._sessions.touch(session)
        return session

    async def _record(self, session: Session, action: str, detail: str) -> None:
        """Into the ledger, before it is done: what cannot be recorded is not done."""
        _log.info(events.OPERATOR_ACTED, actor=session.name, action=action, detail=detail)
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
        path.name for path in folder.iterdir()
        if path.suffix.lower() in _PICTURES and len(path.name) <= 64
    )[:200]  # fmt: skip
