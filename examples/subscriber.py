"""A subscriber that misses no verdict, even after its own `kill -9`: the pattern for a gateway.

    python examples/subscriber.py [cursor file]

The cursor is stored after the verdict is applied, so a crash in between applies that one
verdict again: `apply` must be idempotent. The line is that of examples/strip.yaml, on this PC.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgeinspect.client import SequenceReset, VerdictReceived, VerdictsLost, find_line
from edgeinspect.domain import Decision, Verdict
from edgeinspect.errors import ImpersonationError
from edgeinspect.system import write_atomic

FAIL_SAFE_MS = 300


def apply(verdict: Verdict) -> None:
    """Act as a gateway: eject every part that is not a PASS."""
    if verdict.decision is not Decision.PASS:
        print(f"eject {verdict.part_id or verdict.seq}: {verdict.reason.value}", flush=True)


def store(path: Path, seq: int) -> None:
    """Store the cursor atomically: a crash leaves the old one or the new one."""
    write_atomic(path, str(seq).encode())


def main(path: Path) -> None:
    """Follow the line until Ctrl-C."""
    cursor = int(path.read_text(encoding="utf-8")) if path.exists() else None
    line = find_line("strip")
    with line.feed("example", cursor=cursor) as feed:
        safe = False
        while True:
            try:
                event = feed.receive(50)
            except ImpersonationError as error:  # silence follows, and with it fail-safe
                print(error, flush=True)
                continue
            if isinstance(event, VerdictReceived):
                apply(event.verdict)
                store(path, event.verdict.seq)
                feed.ack(event.verdict.seq)
            elif isinstance(event, VerdictsLost):
                print(f"eject {event.from_seq} to {event.to_seq}: nobody knows", flush=True)
                store(path, event.to_seq)
            elif isinstance(event, SequenceReset):
                print("eject all that are under way: the line counts anew", flush=True)
                store(path, 0)
            if safe is not (safe := feed.silence_ms > FAIL_SAFE_MS):
                print("no heartbeat: eject everything" if safe else "the line is on", flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "subscriber.cursor"))
    except KeyboardInterrupt:
        pass
