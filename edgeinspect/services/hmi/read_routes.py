"""What can be read: each answer to a GET, none of which changes anything."""

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

from edgeinspect.domain.verdict import Decision, Reason
from edgeinspect.errors import DataError
from edgeinspect.services.hmi import archive_frames
from edgeinspect.services.hmi import model_versions as engines
from edgeinspect.services.hmi.action_routes import Refusal
from edgeinspect.services.hmi.event_stream import Stream
from edgeinspect.services.hmi.figures import latency_dict
from edgeinspect.services.hmi.frame_cache import Picture, Pictures
from edgeinspect.services.hmi.http.request_guard import overload
from edgeinspect.services.hmi.ledger_history import History
from edgeinspect.services.hmi.line_state import Board
from edgeinspect.services.hmi.metrics import CONTENT_TYPE, Measures
from edgeinspect.storage.ledger.query import Filter
from edgeinspect.storage.model_store import Store
from edgeinspect.system.decoding import decode_json
from edgeinspect.wire.messages import decode_verdict

STATIC = Path(__file__).resolve().parent / "static"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_MOST_ROWS = 500
_MOST_TEXT = 64
_DESCRIBED_S = 3.0
_RENDERED_S = 0.5
_SEQ = re.compile(r"[0-9]{1,19}")
STATE_HEADER = "Edgeinspect-State"
"""On every answer to `/api/state`: so an overload, which has none, is no word about the line."""
_encode = msgspec.json.Encoder().encode


def answer(told: Any) -> Response:
    """JSON, encoded by msgspec: JSONResponse would not take NaN, nor is it as fast."""
    return Response(_encode(told), media_type="application/json")


@dataclass(frozen=True, slots=True)
class Sources:
    """What answers are made from."""

    board: Board
    pictures: Pictures
    history: History
    measures: Measures
    store: Store
    models: tuple[str, ...]
    cameras: tuple[str, ...]
    classes: tuple[str, ...]
    colors: Sequence[str]
    shadow_record: Path
    archive: Path | None
    budget_us: int
    version: str


def board_dict(sources: Sources) -> dict[str, Any]:
    """What every browser is told once a second."""
    board, status = sources.board, sources.board.status
    return {
        "line": board.line,
        "shift": board.shift_dict(),
        "latency": latency_dict(board.times(), sources.budget_us),
        "status": None if status is None else msgspec.to_builtins(status),
        "rejects": [
            {**each, "picture": sources.pictures.find(each["seq"]) is not None}
            for each in board.rejects()
        ],
        "alarms": board.alarms(),
        "cameras": list(sources.cameras),
        "classes": dict(zip(sources.classes, cycle(sources.colors), strict=False)),
        "version": sources.version,
    }


def live_dict(sources: Sources) -> dict[str, Any]:
    """What every browser is told whenever there is a new live picture: which, and its verdict."""
    return {
        camera: {
            "seq": picture.seq,
            "height_px": picture.height_px,
            "width_px": picture.width_px,
            "mask": picture.mask_png is not None,
            "verdict": _verdict(sources.board.body(picture.seq)),
        }
        for camera, picture in sources.pictures.newest().items()
    }


def _verdict(body: bytes | None) -> Any:
    return None if body is None else decode_json(body)


class Routes:
    """The GET routes. One loop; what waits is done in threads."""

    def __init__(self, sources: Sources, stream: Stream) -> None:
        self._sources = sources
        self._stream = stream
        self._files = {
            path.name: (path.read_bytes(), _KINDS[path.suffix])
            for path in STATIC.iterdir()
            if path.suffix in _KINDS
        }
        self._reading = anyio.CapacityLimiter(2)
        self._rendering = anyio.Lock()
        self._rendered = b""
        self._rendered_at_s = -_RENDERED_S
        self._describing = anyio.Lock()
        self._described: Any = None
        self._described_at_s = -_DESCRIBED_S

    async def index(self, request: Request) -> Response:
        """The page itself."""
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        """One of the page's own files, by its name alone: no path is ever made of it."""
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        found = self._files.get(name)
        if found is None:
            raise Refusal(404, "there is no such file")
        return Response(found[0], headers={"Content-Type": found[1]})

    async def stream(self, request: Request) -> Response:
        """Beats and boards, as they come."""
        address = request.client.host if request.client else ""
        if self._stream.is_full(address):
            return overload("streams", "too many browsers watch", 10)
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._stream.listen(address), media_type="text/event-stream", headers=headers
        )

    async def state(self, request: Request) -> Response:
        """One beat, for a program: 200 while the line is inspected, else 503.

        A page that is asked too much answers 429, without the header that names the state.
        """
        beat = self._sources.board.beat_dict()
        good = beat["state"] != "not_inspected"
        headers = {STATE_HEADER: beat["state"]}
        return Response(_encode(beat), 200 if good else 503, headers, media_type="application/json")

    async def trend(self, request: Request) -> Response:
        """The shift in pieces."""
        return answer(self._sources.board.trend())

    async def search(self, request: Request) -> Response:
        """Verdicts of the ledger, the newest first."""
        wanted = _filter(request.query_params)
        rows = await self._read(lambda: self._sources.history.search(wanted))
        return answer({"rows": rows, "most": wanted.limit})

    async def verdict(self, request: Request) -> Response:
        """One verdict whole, with what there is of its picture."""
        seq = _seq(request)
        body = await self._body(seq)
        picture = await self._picture(seq, body)
        found = decode_json(body)
        return answer(
            {
                "verdict": found,
                "picture": picture is not None,
                "mask": picture is not None and picture.mask_png is not None,
                "height_px": picture.height_px if picture else None,
                "width_px": picture.width_px if picture else None,
            }
        )

    async def picture(self, request: Request) -> Response:
        """A frame's JPEG."""
        found = await self._find(_seq(request))
        return _image(found.jpeg, "image/jpeg")

    async def thumb(self, request: Request) -> Response:
        """A small JPEG of what made a frame a reject."""
        found = await self._find(_seq(request))
        return _image(found.thumb_jpeg, "image/jpeg")

    async def mask(self, request: Request) -> Response:
        """A frame's class map in colours."""
        found = await self._find(_seq(request))
        return _image(found.mask_png, "image/png")

    async def engines(self, request: Request) -> Response:
        """Versions, and their figures in shadow."""
        sources = self._sources
        now_s = time.monotonic()
        async with self._describing:  # reading manifests and a shadow's record is dear
            if now_s - self._described_at_s > _DESCRIBED_S:
                self._described = await self._read(
                    lambda: engines.describe(sources.store, sources.models, sources.shadow_record)
                )
                self._described_at_s = time.monotonic()
        return answer(self._described)

    async def events(self, request: Request) -> Response:
        """What happened to the line beside its verdicts, the newest first."""
        found = await self._read(lambda: self._sources.history.events(200))
        return answer(
            [
                {
                    "at_ms": each.at_utc_ns // 1_000_000,
                    "kind": each.kind,
                    "actor": each.actor,
                    "detail": each.detail,
                }
                for each in found
            ]
        )

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        async with self._rendering:  # the status is new once a second: so is this
            if time.monotonic() - self._rendered_at_s > _RENDERED_S:
                self._rendered = await anyio.to_thread.run_sync(self._sources.measures.render)
                self._rendered_at_s = time.monotonic()
        return Response(self._rendered, headers={"Content-Type": CONTENT_TYPE})

    # -- inside -------------------------------------------------------------------------------

    async def _read(self, work: Callable[[], Any]) -> Any:
        """Something of the disk, in a thread.

        Raises:
            Refusal: It cannot be read.
        """
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._reading)
        except DataError as error:
            raise Refusal(503, str(error)) from error
        except OSError as error:
            raise Refusal(503, f"{error.filename}: {error.strerror}") from error

    async def _body(self, seq: int) -> bytes:
        body = self._sources.board.body(seq)
        if body is None and self._sources.history.kept:
            body = await self._read(lambda: self._sources.history.body(seq))
        if body is None:
            raise Refusal(404, f"verdict {seq} is neither in memory nor in the ledger")
        return body

    async def _picture(self, seq: int, body: bytes) -> Picture | None:
        archive = self._sources.archive
        found = self._sources.pictures.find(seq)
        if found is None and archive is not None:
            found = await self._read(lambda: archive_frames.find(archive, decode_verdict(body)))
        return found

    async def _find(self, seq: int) -> Picture:
        found = self._sources.pictures.find(seq)
        if found is None and self._sources.archive is not None:
            found = await self._picture(seq, await self._body(seq))
        if found is None:
            raise Refusal(404, f"there is no picture of frame {seq}")
        return found


def _image(data: bytes | None, kind: str) -> Response:
    if data is None:
        raise Refusal(404, "there is none of this frame")
    return Response(data, media_type=kind, headers={"Cache-Control": "private, max-age=600"})


def _seq(request: Request) -> int:
    """A frame's number out of a path; any number of digits may stand there."""
    text: str = request.path_params["seq"]
    if _SEQ.fullmatch(text) is None or not 0 < int(text) < 1 << 62:
        raise Refusal(404, "there is no such frame")
    return int(text)


def _filter(asked: Any) -> Filter:
    """What was asked for, each part checked.

    Raises:
        Refusal: A part is none.
    """
    known = {
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
    words = {name: text for name, text in asked.items() if text}
    if len(asked.multi_items()) != len(asked):
        raise Refusal(400, "each may be asked for once")
    for name, text in words.items():
        if name not in known or len(text) > _MOST_TEXT or not text.isprintable():
            raise Refusal(400, f"{name[:20]!r} cannot be asked for like that")

    def number(name: str, low: int, high: int) -> int | None:
        text = words.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
            raise Refusal(400, f"{name} must be a whole number from {low} to {high}")
        return int(text)

    for name, values in (("decision", Decision), ("reason", Reason)):
        if name in words and words[name] not in {each.value for each in values}:
            raise Refusal(400, f"there is no {name} {words[name]!r}")
    since, until = number("since_ms", 0, 1 << 42), number("until_ms", 0, 1 << 42)
    return Filter(
        since_utc_ns=None if since is None else since * 1_000_000,
        until_utc_ns=None if until is None else until * 1_000_000,
        decision=words.get("decision"),
        reason=words.get("reason"),
        class_name=words.get("class"),
        camera=words.get("camera"),
        part_id=words.get("part"),
        seq=number("seq", 1, 1 << 62),
        limit=number("limit", 1, _MOST_ROWS) or 100,
    )
