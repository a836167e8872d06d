"""The POST routes: login, and operator actions, recorded in the ledger before they run."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anyio
import msgspec
import structlog
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgeinspect.client import SocketSetup, send_request
from edgeinspect.domain import Clock, SystemClock
from edgeinspect.errors import DataError, EdgeInspectError
from edgeinspect.services.hmi import model_versions
from edgeinspect.services.hmi.alarm_log import alarm_key
from edgeinspect.services.hmi.http.client_address import client_key
from edgeinspect.services.hmi.line_state import LineState
from edgeinspect.services.hmi.login import device_cookie
from edgeinspect.services.hmi.login.sessions import LoginSession, LoginSessions
from edgeinspect.services.hmi.login.throttle import LoginAttempt, LoginThrottle
from edgeinspect.storage.model_store import ModelStore
from edgeinspect.system import (
    DecodeError,
    RateLimitedLogger,
    Role,
    User,
    UserFile,
    decode_json,
    log_events,
)
from edgeinspect.wire import ChallengeRequest, OperatorRequest

_log = structlog.get_logger()
_COOKIE_PREFIX = "edgeinspect_session"
_MAX_WAITING_LOGINS = 256
_MAX_WAITING_LOGINS_PER_CLIENT = 64
CSRF_HEADER = "x-csrf-token"
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm"}
ShortText = Annotated[str, Meta(min_length=1, max_length=128)]
Body = TypeVar("Body", bound=msgspec.Struct)


class _LoginBody(msgspec.Struct, forbid_unknown_fields=True):
    name: ShortText
    password: ShortText


class _ChallengeBody(msgspec.Struct, forbid_unknown_fields=True):
    picture: Annotated[str, Meta(min_length=1, max_length=64)]


class _AcknowledgeBody(msgspec.Struct, forbid_unknown_fields=True):
    alarm: Annotated[str, Meta(min_length=1, max_length=500)]


class _PromoteBody(msgspec.Struct, forbid_unknown_fields=True):
    model: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}/[1-9][0-9]{0,8}$")]
    why: Annotated[str, Meta(min_length=1, max_length=200)]


@dataclass(frozen=True, slots=True)
class ActionContext:
    """What the POST routes act on."""

    line_state: LineState
    users: UserFile
    replay_address: str
    """The line's ROUTER address."""
    socket_setup: SocketSetup
    store: ModelStore
    model_names: tuple[str, ...]
    challenge_folder: Path | None
    backend: str
    reload_command: tuple[str, ...]


class ApiError(Exception):
    """An error response of a route."""

    def __init__(self, status: int, message: str, retry_after_s: int = 0) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(message)


class ActionRoutes:
    """The POST routes. One event loop; blocking work runs in threads."""

    def __init__(
        self,
        context: ActionContext,
        sessions: LoginSessions,
        throttle: LoginThrottle,
        clock: Clock | None = None,
    ) -> None:
        self._context = context
        self._sessions = sessions
        self._throttle = throttle
        self._cookie = f"{_COOKIE_PREFIX}_{context.line_state.line}"
        self._throttled_log = RateLimitedLogger(_log, clock or SystemClock())
        self._hash_limiter = anyio.CapacityLimiter(2)
        self._waiting_logins: Counter[str] = Counter()
        self._promotion_limiter = anyio.CapacityLimiter(1)

    # -- login --------------------------------------------------------------------------------

    async def whoami(self, request: Request) -> Response:
        """Name, role and token of the session, and the available challenge parts."""
        session = self._sessions.find(request.cookies.get(self._cookie))
        context = self._context
        payload: dict[str, Any] = {
            "name": session.name if session else "",
            "role": session.role.value if session else "",
            "csrf": session.csrf if session else "",
            "logins": context.users.path is not None,
            "challenges": _challenge_images(context.challenge_folder) if session else [],
        }
        return JSONResponse(payload)

    async def login(self, request: Request) -> Response:
        """Create a session."""
        login = await _parse_body(request, _LoginBody)
        address = request.client.host if request.client else ""
        user = (await self._read_users()).get(login.name)
        device = device_cookie.known_device_id(request.cookies, login.name, user)
        attempt = LoginAttempt(address, login.name, device)
        self._check_throttle(attempt)
        with self._login_slot(client_key(address)):
            async with self._hash_limiter:  # hashing is slow: two at once, the others wait
                self._check_throttle(attempt)  # earlier ones may have failed meanwhile
                user = await self._check_password(login)
                if user is None:
                    self._throttle.record_failure(attempt)
        if user is None:
            self._throttled_log.warning(log_events.LOGIN_REFUSED, name=login.name, address=address)
            raise ApiError(401, "name or password is wrong")
        self._throttle.record_success(attempt)
        self._sessions.remove(request.cookies.get(self._cookie))
        token, session = self._sessions.create(login.name, user)
        response = JSONResponse({"name": login.name, "role": user.role.value, "csrf": session.csrf})
        path = _root_path(request)
        secure = request.scope["scheme"] == "https"
        if not device:
            response.set_cookie(
                device_cookie.device_cookie_name(login.name),
                device_cookie.make_device_cookie(login.name, user),
                max_age=device_cookie.MAX_AGE_S,
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
        await self._authorize(request, Role.VIEWER)
        self._sessions.remove(request.cookies.get(self._cookie))
        response = JSONResponse({})
        response.delete_cookie(self._cookie, path=_root_path(request))
        return response

    # -- actions ------------------------------------------------------------------------------

    async def acknowledge(self, request: Request) -> Response:
        """Acknowledge the active alarm."""
        session = await self._authorize(request, Role.OPERATOR)
        alarm = (await _parse_body(request, _AcknowledgeBody)).alarm
        if alarm_key(self._context.line_state.current_status().reason) != alarm_key(alarm):
            raise ApiError(409, "another alarm is active by now, or none")
        await self._record_in_ledger(session, "acknowledge", alarm)
        self._context.line_state.acknowledge(session.name)
        return JSONResponse({"words": "acknowledged"})

    async def challenge(self, request: Request) -> Response:
        """Send a challenge part through the line."""
        session = await self._authorize(request, Role.OPERATOR)
        image = (await _parse_body(request, _ChallengeBody)).picture
        if image not in _challenge_images(self._context.challenge_folder):
            raise ApiError(404, "the line has no such challenge part")
        await self._record_in_ledger(session, "challenge", image)
        await self._send_request(ChallengeRequest(picture=image))
        return JSONResponse({"words": f"{image} was sent; check its verdict"})

    async def promote(self, request: Request) -> Response:
        """Make a version live."""
        session = await self._authorize(request, Role.ENGINEER)
        promotion, context = await _parse_body(request, _PromoteBody), self._context
        if promotion.model.partition("/")[0] not in context.model_names:
            raise ApiError(404, "the line has no such model")
        await self._record_in_ledger(session, "promote", f"{promotion.model}: {promotion.why}")

        def promote_and_reload() -> str:
            output = model_versions.promote(
                context.store, promotion.model, session.name, promotion.why, context.backend
            )
            return (
                f"{output}\n{model_versions.run_reload_command(context.reload_command)}"
                if context.reload_command
                else output
            )

        try:
            output = await anyio.to_thread.run_sync(
                promote_and_reload, limiter=self._promotion_limiter
            )
        except EdgeInspectError as error:
            raise ApiError(409, str(error)) from error
        return JSONResponse({"words": output})

    # -- helpers ------------------------------------------------------------------------------

    async def _read_users(self) -> dict[str, User]:
        try:
            return await anyio.to_thread.run_sync(self._context.users.read)
        except DataError as error:
            raise ApiError(503, str(error)) from error

    async def _check_password(self, login: _LoginBody) -> User | None:
        try:
            return await anyio.to_thread.run_sync(
                self._context.users.authenticate, login.name, login.password
            )
        except DataError as error:
            raise ApiError(503, str(error)) from error

    def _check_throttle(self, attempt: LoginAttempt) -> None:
        wait_s = self._throttle.wait_s(attempt)
        if wait_s:
            raise ApiError(429, f"too many wrong passwords; try again in {wait_s} s", wait_s)

    @contextmanager
    def _login_slot(self, key: str) -> Iterator[None]:
        """Hold one of the bounded places of logins that wait for hashing."""
        if (
            self._waiting_logins.total() >= _MAX_WAITING_LOGINS
            or self._waiting_logins[key] >= _MAX_WAITING_LOGINS_PER_CLIENT
        ):
            raise ApiError(429, "too many logins at once; try again in 5 s", 5)
        self._waiting_logins[key] += 1
        try:
            yield
        finally:
            self._waiting_logins[key] -= 1
            if not self._waiting_logins[key]:
                del self._waiting_logins[key]

    async def _authorize(self, request: Request, role: Role) -> LoginSession:
        """Return the session of a request that has a role.

        Raises:
            ApiError: There is no session, the token is missing, or the role is too low.
        """
        session = self._sessions.find(request.cookies.get(self._cookie))
        if session is None:
            raise ApiError(401, "log in first")
        token = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(token.encode(), session.csrf.encode()):
            raise ApiError(403, "the request does not come from this HMI's own page")
        users = await self._read_users()
        if users.get(session.name) != session.user:  # removed or changed since the login
            self._sessions.remove(request.cookies.get(self._cookie))
            raise ApiError(401, "log in again")
        if not session.role.covers(role):
            problem = f"this needs the role {role.value}; {session.name} has {session.role.value}"
            raise ApiError(403, problem)
        self._sessions.touch(session)
        return session

    async def _record_in_ledger(self, session: LoginSession, action: str, detail: str) -> None:
        """Record an action in the ledger; raise if that fails, so that it is not done."""
        _log.info(log_events.OPERATOR_ACTED, actor=session.name, action=action, detail=detail)
        await self._send_request(
            OperatorRequest(actor=session.name, action=action, detail=detail[:500])
        )

    async def _send_request(self, request: OperatorRequest | ChallengeRequest) -> None:
        context = self._context
        send = partial(
            send_request, context.replay_address, request, setup_socket=context.socket_setup
        )
        try:
            response = await anyio.to_thread.run_sync(send)
        except EdgeInspectError as error:
            raise ApiError(503, f"nothing was done: {error}") from error
        if not response.accepted:
            raise ApiError(409, f"the line refused: {response.problem}")


def _root_path(request: Request) -> str:
    """Return the path of the HMI as browsers see it: `/`, or `/line7/`."""
    return f"{request.scope.get('root_path', '')}/"


async def _parse_body(request: Request, body_type: type[Body]) -> Body:
    try:
        return decode_json(await request.body(), body_type)
    except DecodeError as error:
        raise ApiError(400, f"invalid request: {error}") from error


def _challenge_images(folder: Path | None) -> list[str]:
    """Return the file names of the challenge parts."""
    if folder is None or not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in _IMAGE_SUFFIXES and len(path.name) <= 64
    )[:200]
