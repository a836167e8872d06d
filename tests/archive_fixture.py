"""Verdicts, a configuration, a camera with labelled images and a running archive for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.cameras import FramePacer
from edgeinspect.domain.clock import SystemClock
from edgeinspect.domain.frame import Grab, Part
from edgeinspect.domain.manual_clock import EPOCH_UTC_NS
from edgeinspect.domain.verdict import Box, Decision, ModelRef, Reason, Region, Verdict
from edgeinspect.pipeline.line import Line
from edgeinspect.ports import CameraFinished
from edgeinspect.services.archiver.config import ArchiveConfig, parse_archive_config
from edgeinspect.services.archiver.service import ArchiverService
from edgeinspect.services.archiver.write_queue import PendingFrame
from edgeinspect.storage.archive.format import ArchiveCategory, is_complete, read_sidecar, sidecars
from edgeinspect.wire.messages import Mask

SCRATCH = Region(3, "scratch", 0.9, 40, 10.0, Box(1, 2, 3, 4), (1.0, 2.0), (0.5, 1.0), True)
SECOND = 1_000_000_000
REASONS = {
    Decision.PASS: Reason.CLEAN,
    Decision.REJECT: Reason.DEFECT,
    Decision.NO_VERDICT: Reason.DEADLINE,
}
REJECT, NEAR, PASS = 250, 128, 30
"""First pixels: by `brightness_gate` the defect probability, of 255."""


def verdict(seq: int, decision: Decision = Decision.PASS, **changes: Any) -> Verdict:
    """A verdict of line `t`, a second after the one before it."""
    at = EPOCH_UTC_NS + seq * SECOND
    fields: dict[str, Any] = {
        "line": "t",
        "camera": "top",
        "epoch": 7,
        "seq": seq,
        "frame": seq,
        "camera_frame_id": seq,
        "captured_at_utc_ns": at,
        "deadline_utc_ns": at,
        "act_by_utc_ns": at,
        "decision": decision,
        "reason": REASONS[decision],
        "defect_prob": 0.1,
        "budget_us": 1000,
        "regions": (SCRATCH,) if decision is Decision.REJECT else (),
        "segmenter": ModelRef("seg", 1, "ab"),
    }
    return Verdict(**{**fields, **changes})


def noise_image(
    number: int, first: int = PASS, shape: tuple[int, ...] = (16, 32, 1)
) -> NDArray[Any]:
    """Noise, different for each number, with the first pixel that the gate reads."""
    pixels = np.random.default_rng(number).integers(5, 250, shape, np.uint8)
    pixels[0, 0] = first
    return pixels


def pending_frame(
    seq: int,
    kind: ArchiveCategory = ArchiveCategory.REJECT,
    mask: Mask | None = None,
    shape: tuple[int, ...] = (16, 32, 1),
    **changes: Any,
) -> PendingFrame:
    """A frame as the subscriber queues it."""
    decisions = {
        ArchiveCategory.REJECT: Decision.REJECT,
        ArchiveCategory.NO_VERDICT: Decision.NO_VERDICT,
    }
    frame_verdict = verdict(seq, decisions.get(kind, Decision.PASS), **changes)
    return PendingFrame(frame_verdict, kind, noise_image(seq, shape=shape), "mono", mask)


def config(folder: Path, more: str = "", line: str = "t", max_mib: float = 100) -> ArchiveConfig:
    """The configuration of an archive in `folder`."""
    return parse_archive_config(f"""\
schema: 1
archive: a1
feed: {{line: {line}}}
folder: {folder / "archive"}
max_mib: {max_mib}
min_free_mib: 0
ring: {folder}
{more}
""")


class LabelledCamera:
    """Images by number at a rate; the first pixel of each determines its verdict."""

    period_ns: int | None

    def __init__(self, rate_hz: float, frames: int, kinds: dict[int, int]) -> None:
        """`kinds`: every n-th frame begins with that pixel; the first that divides wins."""
        self._pace = FramePacer("rate", rate_hz, SystemClock())
        self.period_ns = self._pace.period_ns
        self._frames = frames
        self._kinds = kinds
        self.sent = 0
        self.begin = threading.Event()
        """No frame is delivered before it is set."""

    def open(self) -> None:
        self._pace.start()

    def grab(self, timeout_ns: int) -> Grab | None:
        if self.sent >= self._frames:
            raise CameraFinished
        if not self.begin.is_set():
            self.begin.wait(timeout_ns / SECOND)
            self._pace.start()  # frames that were due meanwhile do not come at once
            return None
        due = self._pace.wait(timeout_ns)
        if due is None:
            return None
        self.sent += 1
        return Grab(self.image(self.sent), self.sent, due[0])

    def finish(self) -> None:
        """Deliver no more frames."""
        self._frames = 0

    def image(self, number: int) -> NDArray[Any]:
        first = next((f for every, f in self._kinds.items() if number % every == 0), PASS)
        return noise_image(number, first)

    def release(self, grab: Grab) -> None:
        pass

    def trigger(self, part: Part) -> None:
        pass

    def close(self) -> None:
        pass


class RunningArchive:
    """An archive in a thread, with a line in this process."""

    def __init__(self, folder: Path, line: Line, more: str = "") -> None:
        archive_config = config(folder, more, line="rig")
        feed = {"verdicts": line.publisher.address, "replay": line.replay_server.address}
        self.archive = archive_at(archive_config, feed)
        self.failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.archive.run()
        except BaseException as error:
            self.failures.append(error)

    def wait_until_connected(self) -> None:
        """Wait until it has the line's last seq."""
        self._wait(lambda: self.archive.writer.progress.cursor is not None)

    def wait_for_cursor(self, seq: int) -> None:
        """Wait until every frame up to `seq` is archived or lost, and that is stored."""
        self._wait(lambda: (self.archive.writer.stored_cursor or 0) >= seq)

    def _wait(self, condition: Callable[[], bool], timeout_s: float = 60) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert self._thread.is_alive(), self.failures
            assert time.monotonic() < end, self.archive.status_line()
            time.sleep(0.02)

    def stop(self) -> None:
        self.archive.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()
        assert not self.failures


def archive_at(archive_config: ArchiveConfig, feed: dict[str, str]) -> ArchiverService:
    """An archive that connects to the given addresses."""
    import msgspec

    source = msgspec.structs.replace(archive_config.feed, **feed)
    return ArchiverService(msgspec.structs.replace(archive_config, feed=source), SystemClock())


def archived_frames(root: Path) -> dict[int, tuple[ArchiveCategory, NDArray[Any]]]:
    """Every frame by seq with its image decoded; fails on an incomplete one."""
    found = {}
    for path in sidecars(root):
        sidecar = read_sidecar(path)
        assert is_complete(path, sidecar, check_hash=True), path
        pixels = cv2.imread(str(path.with_name(sidecar.picture.file)), cv2.IMREAD_UNCHANGED)
        assert pixels is not None, path
        found[sidecar.verdict.seq] = (sidecar.kind, pixels)
    return found
