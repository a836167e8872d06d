"""Names each picture of a folder run with its verdict, in the log.

In the report's thread, from the spool: nothing is added to a frame's path, and whoever reads
the log too slowly loses lines of it, not verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from edgeinspect.pipeline.capture import CaptureThread
from edgeinspect.storage.spool import Spool
from edgeinspect.system import log_events
from edgeinspect.wire import decode_verdict

_log = structlog.get_logger()
_LINES_MAX = 500
"""Lines of one turn; what is more waits for the next, so that the duties beside it are kept."""


class ImageLog:
    """Reads a line's spool with a cursor of its own. For one thread.

    Args:
        spool: Of the line.
        captures: Its cameras; with none that names its pictures nothing is read.
    """

    def __init__(self, spool: Spool, captures: Sequence[CaptureThread]) -> None:
        self._spool = spool
        self._is_enabled = any(getattr(each.camera, "names_pictures", False) for each in captures)
        self._seq = spool.published_seq + 1

    def log_closed(self, lines_max: int = _LINES_MAX) -> None:
        """Log what has been closed since, at most so many verdicts."""
        spool = self._spool
        end = self._seq + lines_max
        while self._is_enabled and self._seq <= spool.last_seq and self._seq < end:
            body = spool.read(self._seq)
            if body is None:
                if self._seq >= spool.oldest_seq:
                    return  # it is open
                _log.warning(
                    log_events.PICTURES_UNTOLD, pictures=spool.oldest_seq - self._seq, seq=self._seq
                )
                self._seq = spool.oldest_seq
                continue
            self._seq += 1
            verdict = decode_verdict(body)
            if verdict.label is not None:
                _log.info(
                    log_events.PICTURE_JUDGED,
                    camera=verdict.camera,
                    picture=verdict.label,
                    decision=verdict.decision.value,
                    reason=verdict.reason.value,
                    detail=verdict.detail,
                    seq=verdict.seq,
                )
