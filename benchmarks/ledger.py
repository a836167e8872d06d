"""Throughput, query time and size of the ledger.

The writer reads from generated verdicts instead of a spool, so that only the ledger is measured.
Part ids are serial, or random with `--scattered`, which is the worst case for their index.

    python benchmarks/ledger.py [--rows 10000000] [--scattered] [--folder DIR] [--verify]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections import deque
from contextlib import closing
from pathlib import Path

from edgeinspect.domain import (
    NS_PER_MS,
    Box,
    Decision,
    ModelRef,
    Reason,
    Region,
    StageTimes,
    SystemClock,
    Verdict,
)
from edgeinspect.storage.ledger import (
    COLUMNS,
    LedgerWriter,
    VerdictFilter,
    find_verdicts,
    open_ledger,
    verify_ledger,
)
from edgeinspect.system import configure
from edgeinspect.wire import encode_message

STARTED_NS = 1_790_000_000_000_000_000
STEP_NS = 5 * NS_PER_MS
REJECT_EVERY = 100
SCATTER_MULTIPLIER = 2_654_435_761
"""Knuth's multiplier: a pseudo-random order without memory."""


class GeneratedSpool:
    """Replacement of a spool that generates verdicts when read: 99 PASS to 1 REJECT."""

    epoch = STARTED_NS // NS_PER_MS
    slots = 1 << 40
    oldest_seq = 1
    skipped = None
    overwritten_unledgered = 0

    def __init__(self, scattered: bool) -> None:
        self.published_seq = self.last_seq = self.ledgered_seq = 0
        self._scattered = scattered
        self._templates = [self._template(Decision.PASS), self._template(Decision.REJECT)]

    def part(self, seq: int) -> int:
        return seq * SCATTER_MULTIPLIER % (1 << 32) if self._scattered else seq

    def read(self, seq: int) -> bytes:
        captured_ns = STARTED_NS + seq * STEP_NS
        return self._templates[seq % REJECT_EVERY == 0] % {
            b"seq": seq,
            b"part": self.part(seq),
            b"encoder": seq * 37 % 10**9,
            b"captured": captured_ns,
            b"deadline": captured_ns + 20 * NS_PER_MS,
            b"prob": seq * 7919 % 10**6,
            b"gate": 2900 + seq * 31 % 700,
            b"total": 3600 + seq % 997,
        }

    def mark_ledgered(self, seq: int) -> None:
        self.ledgered_seq = seq

    def _template(self, decision: Decision) -> bytes:
        """Return the JSON of a real verdict as a template."""
        reject = decision is Decision.REJECT
        region = Region(
            3,
            "scratch",
            0.91,
            5312,
            83.0,
            Box(812, 96, 211, 40),
            (917.4, 115.9),
            (114.7, 14.5),
            True,
        )
        model = "9f2c51ab07e3d846" * 4
        body = encode_message(
            Verdict(
                line="strip-1",
                camera="top",
                epoch=self.epoch,
                seq=1000001,
                frame=1000001,
                camera_frame_id=1000001,
                part_id="P-1000002",
                encoder_count=1000003,
                captured_at_utc_ns=1000004,
                deadline_utc_ns=1000005,
                act_by_utc_ns=1000005,
                decision=decision,
                reason=Reason.DEFECT if reject else Reason.CLEAN,
                defect_prob=0.1000006,
                regions=(region,) * reject,
                regions_total=int(reject),
                reject_code=7 * reject,
                config_hash="0123456789ab",
                gate=ModelRef("strip-gate", 3, model, "entropy-2026-11-02"),
                segmenter=ModelRef("strip-segmenter", 2, model[::-1], "entropy-2026-11-02"),
                stages=StageTimes(118, 1000007, 0, 0, 1000008),
                budget_us=20_000,
            )
        )
        names = ("seq", "part", "encoder", "captured", "deadline", "prob", "gate", "total")
        for number, name in enumerate(names, 1_000_001):
            width = {"part": "010", "prob": "06"}.get(name, "")
            body = body.replace(b"%d" % number, f"%({name}){width}d".encode())
        return body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--scattered", action="store_true", help="part ids in random order")
    parser.add_argument(
        "--folder", type=Path, help="folder to write to; the temporary folder by default"
    )
    parser.add_argument("--verify", action="store_true", help="measure `ledger verify` too")
    options = parser.parse_args()
    configure("console", "error")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(json.dumps(run(options, Path(folder) / "bench.ledger.sqlite"), indent=2))


def run(options: argparse.Namespace, path: Path) -> dict[str, object]:
    spool = GeneratedSpool(options.scattered)
    writer = LedgerWriter(
        path, spool=spool, late=deque(), clock=SystemClock(), keep_days=36_500, max_mib=10_000_000
    )
    writer.begin_epoch("0123456789ab", "strip-gate/3", "strip-segmenter/2")
    seconds, rates = 0.0, []
    while spool.last_seq < options.rows:
        count = min(50_000, options.rows - spool.last_seq)
        spool.published_seq = spool.last_seq = spool.last_seq + count
        begun = time.perf_counter()
        if not writer.write_backlog():
            raise SystemExit(writer.alarm)
        took = time.perf_counter() - begun
        seconds += took
        rates.append(count / took)
    begun = time.perf_counter()
    for seq in range(1, 20_001):
        spool.read(seq)
    tape_us = (time.perf_counter() - begun) / 20_000 * 1e6
    writer.write_backlog(last=True)
    writer.close()
    report: dict[str, object] = {
        "rows": options.rows,
        "part_ids": "scattered" if options.scattered else "serial",
        "verdicts_per_s": round(options.rows / seconds),
        "slowest_50k_per_s": round(min(rates)),
        "of_it_us_per_verdict_making_the_tape": round(tape_us, 1),
        "json_bytes_per_verdict": len(spool.read(options.rows)),
        "bytes_per_verdict": round(path.stat().st_size / options.rows),
        "file_mib": round(path.stat().st_size / (1 << 20)),
        **measure_queries(path, spool, options.rows),
    }
    if options.verify:
        begun = time.perf_counter()
        report["verify_holds"] = verify_ledger(path).is_consistent
        report["verify_s"] = round(time.perf_counter() - begun, 1)
    return report


def measure_queries(path: Path, spool: GeneratedSpool, rows: int) -> dict[str, object]:
    """Return query times in ms: median and maximum over new connections with different queries."""
    rng = random.Random(1)

    def span() -> dict[str, int]:
        at_ns = STARTED_NS + rng.randint(1, rows) * STEP_NS
        return {"since_utc_ns": at_ns, "until_utc_ns": at_ns + 3600 * 10**9}

    questions = {
        "part_id": lambda: VerdictFilter(part_id=f"P-{spool.part(rng.randint(1, rows)):010d}"),
        "seq": lambda: VerdictFilter(seq=rng.randint(1, rows)),
        "newest_50": lambda: VerdictFilter(limit=50),
        "an_hour_50": lambda: VerdictFilter(**span(), limit=50),
        "rejects_of_an_hour_50": lambda: VerdictFilter(**span(), decision="REJECT", limit=50),
        "class_50": lambda: VerdictFilter(class_name="scratch", limit=50),
    }
    report: dict[str, object] = {}
    for name, question in questions.items():
        times_ms = []
        for _ in range(50):
            wanted = question()
            begun = time.perf_counter()
            with closing(open_ledger(path)) as base:
                found = [
                    dict(zip(COLUMNS, row, strict=True)) for row in find_verdicts(base, wanted)
                ]
            times_ms.append((time.perf_counter() - begun) * 1e3)
            if name in ("part_id", "seq") and len(found) != 1:
                raise SystemExit(f"{wanted} found {len(found)}")
        median_ms = round(statistics.median(times_ms), 2)
        report[f"{name}_ms"] = {"median": median_ms, "worst": round(max(times_ms), 2)}
    return report


if __name__ == "__main__":
    main()
