"""The shadow's own process: `python -m edgeinspect.pipeline.shadow.child`, started by the line.

Stdin: a `ShadowPlan`, then one `ShadowSample` a line whose picture lies in the mailbox. Stdout: one
byte whenever the mailbox is free. It ends when stdin does.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

import numpy as np

from edgeinspect import registry
from edgeinspect.domain import NS_PER_US, Clock, SystemClock
from edgeinspect.errors import EXIT_DATAERR, DataError, EdgeInspectError, EngineFault
from edgeinspect.pipeline.inspection import FrameInspector, WorkerEngines
from edgeinspect.pipeline.shadow.process import READY, ShadowPlan, to_sample
from edgeinspect.pipeline.verdicts import Provenance
from edgeinspect.ports import Engine
from edgeinspect.storage.model_store import ModelStore, verify_engine
from edgeinspect.storage.shadow_results import ShadowResultWriter, ShadowSample
from edgeinspect.storage.shared_memory import open_line_file
from edgeinspect.system import Decoder, decode_json, escape_lines, json_decoder

_FLUSH_FRAMES = 64
_FLUSH_S = 1.0


def main() -> int:
    """Judge what is shown until stdin ends; returns the exit code."""
    set_idle_priority()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the line's; it ends this process itself
    plan = decode_json(sys.stdin.buffer.readline(), ShadowPlan)
    try:
        judge = make_inspector(plan, SystemClock())
    except EdgeInspectError as error:
        print(
            escape_lines(f"edgeinspect: shadow {plan.shadow} is refused: {error}"), file=sys.stderr
        )
        return EXIT_DATAERR
    handle = open_line_file(Path(plan.mailbox), write=True)
    memory = mmap.mmap(handle, 0)  # writable, for libraries that insist on it
    os.close(handle)
    picture = np.frombuffer(memory, np.uint8).reshape(plan.dims)
    try:
        record = ShadowResultWriter(Path(plan.record), plan.live, plan.shadow)
    except (DataError, sqlite3.Error) as error:
        print(
            escape_lines(f"edgeinspect: shadow {plan.shadow}: {plan.record}: {error}"),
            file=sys.stderr,
        )
        return EXIT_DATAERR
    gc.freeze()
    decode: Decoder[ShadowSample] = json_decoder(ShadowSample)
    flush_at = time.monotonic() + _FLUSH_S
    _signal_ready()
    for line in sys.stdin.buffer:
        live = decode(line)
        began_ns = time.monotonic_ns()
        try:
            opinion = judge.inspect_untimed(picture)
        except EngineFault as fault:
            print(escape_lines(f"edgeinspect: shadow {plan.shadow}: {fault}"), file=sys.stderr)
            return fault.exit_code
        took_us = (time.monotonic_ns() - began_ns) // NS_PER_US
        mine = to_sample(
            opinion.assessment, opinion.defect_prob, live.seq, live.epoch, live.at_utc_ns
        )
        record.add(live, mine, took_us)
        if record.pending_count >= _FLUSH_FRAMES or time.monotonic() >= flush_at:
            record.flush()
            flush_at = time.monotonic() + _FLUSH_S
        _signal_ready()
    record.close()
    return 0


def _signal_ready() -> None:
    with contextlib.suppress(BrokenPipeError):  # the line is gone: stdin ends too
        os.write(1, READY)


def set_idle_priority() -> None:
    """Take a processor only while nobody else wants it."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:
        os.nice(19)


def make_inspector(plan: ShadowPlan, clock: Clock) -> FrameInspector:
    """The judge of a plan, its engines proven.

    Raises:
        EdgeInspectError: A model is refused, or a library is not installed.
    """
    engines: dict[str, Engine] = {}
    for role, wanted in plan.engines.items():
        module = registry.load_plugin("backend", wanted.type)
        options = decode_json(wanted.options, module.Options)
        engines[role] = module.build(options, clock, store=ModelStore(Path(plan.store)))
        verify_engine(engines[role])
    causes = Provenance("shadow", (), "", 0, None, None)
    pair = WorkerEngines(engines.get("gate"), engines.get("segmenter"))
    return FrameInspector(pair, plan.rules, causes, clock)


if __name__ == "__main__":
    sys.exit(main())
