"""Logs the verdict of each image of a camera that reads files.

It runs in the reporter's thread and reads the spool, so that it adds nothing to a frame's path:
where the log's consumer is too slow, lines of the log are skipped, and no verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from edgeinspect.pipeline.capture import CaptureThread
from edgeinspect.ports import ImageFileCamera
from edgeinspect.storage.spool import Spool
from edgeinspect.system import log_events
from edgeinspect.wire import decode_verdict

_log = structlog.get_logger()
_LINES_MAX = 500
"""Lines per call; the rest waits for the next call, so that the reporter's other work is done."""


class ImageLog:
    """Reads a line's spool with a cursor of its own. Used by one thread.

    Args:
        spool: Of the line.
        capture_threads: Of its cameras; unless one of them names its images, nothing is read.
    """

    def __init__(self, spool: Spool, capture_threads: Sequence[CaptureThread]) -> None:
        self._spool = spool
        self._is_enabled = any(
            isinstance(thread.camera, ImageFileCamera) for thread in capture_threads
        )
        self._seq = spool.published_seq + 1

    def log_closed(self, lines_max: int = _LINES_MAX) -> None:
        """Log at most `lines_max` of the verdicts since the last call."""
        spool = self._spool
        end = self._seq + lines_max
        while self._is_enabled and self._seq <= spool.last_seq and self._seq < end:
            body = spool.read(self._seq)
            if body is None:
                if self._seq >= spool.oldest_seq:
                    return  # the frame is still open
                _log.warning(
                    log_events.IMAGES_UNLOGGED, pictures=spool.oldest_seq - self._seq, seq=self._seq
                )
                self._seq = spool.oldest_seq
                continue
            self._seq += 1
            verdict = decode_verdict(body)
            if verdict.label is not None:
                _log.info(
                    log_events.IMAGE_INSPECTED,
                    camera=verdict.camera,
                    picture=verdict.label,
                    decision=verdict.decision.value,
                    reason=verdict.reason.value,
                    detail=verdict.detail,
                    seq=verdict.seq,
                )
