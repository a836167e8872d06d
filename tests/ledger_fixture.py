"""A spool, a ledger and a clock for the tests of the ledger."""

from __future__ import annotations

import sqlite3
from collections import deque
from pathlib import Path

from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import (
    Box,
    Decision,
    ModelRef,
    Reason,
    Region,
    StageTimes,
    Verdict,
)
from edgeinspect.storage.ledger.database import read_tail
from edgeinspect.storage.ledger.writer import LedgerWriter
from edgeinspect.storage.spool.format import OpenRecord
from edgeinspect.storage.spool.spool import Spool
from edgeinspect.wire.messages import encode_message

SCRATCH = Region(3, "scratch", 0.9, 40, 10.0, Box(1, 2, 3, 4), (1.0, 2.0), (0.5, 1.0), True)
REASONS = {
    Decision.PASS: Reason.CLEAN,
    Decision.REJECT: Reason.DEFECT,
    Decision.NO_VERDICT: Reason.DEADLINE,
}


class LedgerFixture:
    """The spool and the ledger of one line: add verdicts, then let the writer write them."""

    def __init__(
        self,
        folder: Path,
        slots: int = 4096,
        keep_days: float = 100,
        max_mib: float = 1000,
        utc_offset_ns: int = 0,
        line: str = "t",
    ) -> None:
        self.folder = folder
        self.line = line
        self.clock = ManualClock()
        self.clock.utc_offset_ns += utc_offset_ns
        self.path = folder / f"{line}.ledger.sqlite"
        self.spool_path = folder / f"{line}.spool"
        self.calibration: str | None = "entropy-1"
        before = read_tail(self.path)
        self.spool = Spool(
            self.spool_path,
            line=self.line,
            slots=slots,
            utc_ns=self.clock.utc_ns(),
            at_least_seq=before.last_seq,
            at_least_epoch=before.last_epoch,
            clean_shutdown=before.clean_shutdown,
        )
        self.late: deque[Verdict] = deque()
        self.writer = LedgerWriter(
            self.path,
            spool=self.spool,
            late=self.late,
            clock=self.clock,
            keep_days=keep_days,
            max_mib=max_mib,
            period_s=0.01,
        )
        self.writer.begin_epoch("hash", "gate/1", None)
        for left in self.spool.unfinished:
            ended = self.verdict(left.seq, Decision.NO_VERDICT, epoch=left.epoch)
            self.spool.close(left.seq, encode_message(ended))
        self.spool.mark_published(self.spool.last_seq)

    def open(self, part: str | None = None) -> int:
        self.clock.advance(10 * NS_PER_MS)
        return self.spool.open(OpenRecord("top", 1, 1, self.clock.utc_ns(), 0, 0, part_id=part))

    def close_frame(
        self, seq: int, decision: Decision = Decision.PASS, part: str | None = None
    ) -> None:
        self.spool.close(seq, encode_message(self.verdict(seq, decision, part)))

    def add_verdicts(
        self, count: int, decision: Decision = Decision.PASS, part: str | None = None
    ) -> None:
        for _ in range(count):
            seq = self.open(part)
            self.close_frame(seq, decision, part)
            self.spool.mark_published(seq)

    def publish_closed(self) -> None:
        """Publish in order, up to the first open frame."""
        seq = self.spool.published_seq
        while seq < self.spool.last_seq and not self.spool.is_open(seq + 1):
            seq += 1
        self.spool.mark_published(seq)

    def verdict(
        self, seq: int, decision: Decision, part: str | None = None, epoch: int | None = None
    ) -> Verdict:
        reject = decision is Decision.REJECT
        return Verdict(
            line=self.line,
            camera="top",
            epoch=self.spool.epoch if epoch is None else epoch,
            seq=seq,
            frame=seq,
            camera_frame_id=seq,
            captured_at_utc_ns=self.clock.utc_ns(),
            deadline_utc_ns=0,
            act_by_utc_ns=0,
            decision=decision,
            reason=REASONS[decision],
            part_id=part,
            regions=(SCRATCH,) if reject else (),
            reject_code=7 if reject else 0,
            gate=ModelRef("gate", 1, "ab" * 32, self.calibration),
            config_hash="0123456789ab",
            stages=StageTimes(1, 2, 3, 4, 10),
            budget_us=1,
        )

    def restart(self, **limits: float) -> LedgerFixture:
        self.dispose()
        return LedgerFixture(self.folder, **limits)  # type: ignore[arg-type]

    def dispose(self) -> None:
        self.writer.close()
        self.spool.release()

    def execute(self, *statements: str) -> None:
        """Execute statements on the closed file."""
        self.writer.close()
        db = sqlite3.connect(self.path)
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.close()

    def query(self, statement: str) -> list[tuple[object, ...]]:
        db = sqlite3.connect(self.path)
        try:
            return db.execute(statement).fetchall()
        finally:
            db.close()
