"""The GET routes; none changes anything."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from edgeinspect.domain import Decision, Reason
from edgeinspect.errors import DataError
from edgeinspect.services.hmi import archive_frames
from edgeinspect.services.hmi import model_versions as engines
from edgeinspect.services.hmi.action_routes import ApiError
from edgeinspect.services.hmi.event_stream import EventStream
from edgeinspect.services.hmi.frame_cache import BrowserFrame, FrameCache
from edgeinspect.services.hmi.http.request_guard import overload_response
from edgeinspect.services.hmi.ledger_history import LedgerHistory
from edgeinspect.services.hmi.line_state import LineState, latency_payload
from edgeinspect.services.hmi.metrics import CONTENT_TYPE, Metrics
from edgeinspect.storage.ledger import VerdictFilter
from edgeinspect.storage.model_store import ModelStore
from edgeinspect.system import decode_json
from edgeinspect.wire import decode_verdict

STATIC = Path(__file__).resolve().parent / "static"
_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_MAX_ROWS = 500
_MAX_TEXT_CHARS = 64
_VERSIONS_CACHE_S = 3.0
_METRICS_CACHE_S = 0.5
_SEQ = re.compile(r"[0-9]{1,19}")
STATE_HEADER = "Edgeinspect-State"
"""On every response of `/api/state`, to distinguish it from an overload response."""
_encode = msgspec.json.Encoder().encode


def json_response(payload: Any) -> Response:
    """Return JSON encoded by msgspec, which accepts NaN and is faster than JSONResponse."""
    return Response(_encode(payload), media_type="application/json")


@dataclass(frozen=True, slots=True)
class ReadContext:
    """What the GET routes read."""

    line_state: LineState
    frame_cache: FrameCache
    history: LedgerHistory
    metrics: Metrics
    store: ModelStore
    model_names: tuple[str, ...]
    camera_names: tuple[str, ...]
    class_names: tuple[str, ...]
    class_colors: Sequence[str]
    shadow_file: Path
    archive_folder: Path | None
    budget_us: int
    version: str


def state_payload(context: ReadContext) -> dict[str, Any]:
    """Return the payload that browsers get once a second."""
    line_state, status = context.line_state, context.line_state.latest_status
    return {
        "line": line_state.line,
        "shift": line_state.shift_payload(),
        "latency": latency_payload(line_state.stage_times(), context.budget_us),
        "status": None if status is None else msgspec.to_builtins(status),
        "rejects": [
            {**each, "picture": context.frame_cache.find(each["seq"]) is not None}
            for each in line_state.rejects_payload()
        ],
        "alarms": line_state.alarms_payload(),
        "cameras": list(context.camera_names),
        "classes": dict(zip(context.class_names, cycle(context.class_colors), strict=False)),
        "version": context.version,
    }


def live_payload(context: ReadContext) -> dict[str, Any]:
    """Return the newest live frame of each camera, with its verdict."""
    return {
        camera: {
            "seq": frame.seq,
            "height_px": frame.height_px,
            "width_px": frame.width_px,
            "mask": frame.mask_png is not None,
            "verdict": _decode_verdict(context.line_state.verdict_json(frame.seq)),
        }
        for camera, frame in context.frame_cache.newest_live().items()
    }


def _decode_verdict(body: bytes | None) -> Any:
    return None if body is None else decode_json(body)


class ReadRoutes:
    """The GET routes. One event loop; blocking work runs in threads."""

    def __init__(self, context: ReadContext, stream: EventStream) -> None:
        self._context = context
        self._stream = stream
        self._files = {
            path.name: (path.read_bytes(), _CONTENT_TYPES[path.suffix])
            for path in STATIC.iterdir()
            if path.suffix in _CONTENT_TYPES
        }
        self._read_limiter = anyio.CapacityLimiter(2)
        self._metrics_lock = anyio.Lock()
        self._metrics_text = b""
        self._metrics_at_s = -_METRICS_CACHE_S
        self._versions_lock = anyio.Lock()
        self._versions: Any = None
        self._versions_at_s = -_VERSIONS_CACHE_S

    async def index(self, request: Request) -> Response:
        """The web page."""
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        """A static file, looked up by name; no path is built from the request."""
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        if name not in self._files:
            raise ApiError(404, "there is no such file")
        content, content_type = self._files[name]
        return Response(content, headers={"Content-Type": content_type})

    async def stream(self, request: Request) -> Response:
        """The event stream."""
        address = request.client.host if request.client else ""
        if self._stream.is_full(address):
            return overload_response("streams", "too many browsers are connected", 10)
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._stream.subscribe(address), media_type="text/event-stream", headers=headers
        )

    async def state(self, request: Request) -> Response:
        """The state, for programs: 200 while the line is inspected, else 503.

        An overload is answered with 429, without the header that names the state.
        """
        payload = self._context.line_state.heartbeat_payload()
        state = payload["state"]
        code = 503 if state == "not_inspected" else 200
        response = json_response(payload)
        response.status_code, response.headers[STATE_HEADER] = code, state
        return response

    async def trend(self, request: Request) -> Response:
        """The shift in quarters of an hour."""
        return json_response(self._context.line_state.trend_payload())

    async def search(self, request: Request) -> Response:
        """Verdicts of the ledger, the newest first."""
        criteria = _parse_criteria(request.query_params)
        rows = await self._read_in_thread(lambda: self._context.history.search(criteria))
        return json_response({"rows": rows, "most": criteria.limit})

    async def verdict(self, request: Request) -> Response:
        """One verdict, and whether its frame and mask are available."""
        seq = _parse_seq(request)
        body = await self._verdict_json(seq)
        frame = await self._find_frame(seq, body)
        return json_response(
            {
                "verdict": decode_json(body),
                "picture": frame is not None,
                "mask": frame is not None and frame.mask_png is not None,
                "height_px": frame.height_px if frame else None,
                "width_px": frame.width_px if frame else None,
            }
        )

    async def image(self, request: Request) -> Response:
        """A frame's JPEG."""
        frame = await self._require_frame(_parse_seq(request))
        return _image_response(frame.jpeg, "image/jpeg")

    async def thumbnail(self, request: Request) -> Response:
        """A small JPEG of the worst region of a reject."""
        frame = await self._require_frame(_parse_seq(request))
        return _image_response(frame.thumbnail_jpeg, "image/jpeg")

    async def mask(self, request: Request) -> Response:
        """A frame's class map in colours."""
        frame = await self._require_frame(_parse_seq(request))
        return _image_response(frame.mask_png, "image/png")

    async def engines(self, request: Request) -> Response:
        """Versions, and their figures in shadow."""
        sources = self._context
        now_s = time.monotonic()
        async with self._versions_lock:  # reading manifests and shadow results is slow
            if now_s - self._versions_at_s > _VERSIONS_CACHE_S:
                self._versions = await self._read_in_thread(
                    lambda: engines.describe_versions(
                        sources.store, sources.model_names, sources.shadow_file
                    )
                )
                self._versions_at_s = time.monotonic()
        return json_response(self._versions)

    async def events(self, request: Request) -> Response:
        """Events of the line, the newest first."""
        events = await self._read_in_thread(lambda: self._context.history.events(200))
        return json_response(
            [
                {
                    "at_ms": event.at_utc_ns // 1_000_000,
                    "kind": event.kind,
                    "actor": event.actor,
                    "detail": event.detail,
                }
                for event in events
            ]
        )

    async def metrics(self, request: Request) -> Response:
        """The metrics, for Prometheus."""
        async with self._metrics_lock:  # the status changes once a second
            if time.monotonic() - self._metrics_at_s > _METRICS_CACHE_S:
                self._metrics_text = await anyio.to_thread.run_sync(self._context.metrics.render)
                self._metrics_at_s = time.monotonic()
        return Response(self._metrics_text, headers={"Content-Type": CONTENT_TYPE})

    # -- helpers ------------------------------------------------------------------------------

    async def _read_in_thread(self, work: Callable[[], Any]) -> Any:
        """Run a function that reads the disk, in a thread.

        Raises:
            ApiError: The disk cannot be read.
        """
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._read_limiter)
        except DataError as error:
            raise ApiError(503, str(error)) from error
        except OSError as error:
            raise ApiError(503, f"{error.filename}: {error.strerror}") from error

    async def _verdict_json(self, seq: int) -> bytes:
        body = self._context.line_state.verdict_json(seq)
        if body is None and self._context.history.has_ledger:
            body = await self._read_in_thread(lambda: self._context.history.verdict_json(seq))
        if body is None:
            raise ApiError(404, f"verdict {seq} is neither in memory nor in the ledger")
        return body

    async def _find_frame(self, seq: int, body: bytes) -> BrowserFrame | None:
        archive = self._context.archive_folder
        frame = self._context.frame_cache.find(seq)
        if frame is None and archive is not None:
            frame = await self._read_in_thread(
                lambda: archive_frames.find_archived_frame(archive, decode_verdict(body))
            )
        return frame

    async def _require_frame(self, seq: int) -> BrowserFrame:
        frame = self._context.frame_cache.find(seq)
        if frame is None and self._context.archive_folder is not None:
            frame = await self._find_frame(seq, await self._verdict_json(seq))
        if frame is None:
            raise ApiError(404, f"there is no image of frame {seq}")
        return frame


def _image_response(data: bytes | None, media_type: str) -> Response:
    if data is None:
        raise ApiError(404, "this frame has no such image")
    return Response(data, media_type=media_type, headers={"Cache-Control": "private, max-age=600"})


def _parse_seq(request: Request) -> int:
    """Return the frame number in a path."""
    text: str = request.path_params["seq"]
    if _SEQ.fullmatch(text) is None or not 0 < int(text) < 1 << 62:
        raise ApiError(404, "there is no such frame")
    return int(text)


def _parse_criteria(query: Any) -> VerdictFilter:
    """Return the validated search criteria of a query string.

    Raises:
        ApiError: A criterion is invalid.
    """
    names = {
        "since_ms",
        "until_ms",
        "decision",
        "reason",
        "class",
        "camera",
        "part",
        "seq",
        "limit",
    }
    values = {name: text for name, text in query.items() if text}
    if len(query.multi_items()) != len(query):
        raise ApiError(400, "each criterion may be given once")
    for name, text in values.items():
        if name not in names or len(text) > _MAX_TEXT_CHARS or not text.isprintable():
            raise ApiError(400, f"{name[:20]!r} is not a valid criterion")

    def number(name: str, low: int, high: int) -> int | None:
        text = values.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
            raise ApiError(400, f"{name} must be a whole number from {low} to {high}")
        return int(text)

    for name, choices in (("decision", Decision), ("reason", Reason)):
        if name in values and values[name] not in {each.value for each in choices}:
            raise ApiError(400, f"there is no {name} {values[name]!r}")
    since, until = number("since_ms", 0, 1 << 42), number("until_ms", 0, 1 << 42)
    return VerdictFilter(
        since_utc_ns=None if since is None else since * 1_000_000,
        until_utc_ns=None if until is None else until * 1_000_000,
        decision=values.get("decision"),
        reason=values.get("reason"),
        class_name=values.get("class"),
        camera=values.get("camera"),
        part_id=values.get("part"),
        seq=number("seq", 1, 1 << 62),
        limit=number("limit", 1, _MAX_ROWS) or 100,
    )
