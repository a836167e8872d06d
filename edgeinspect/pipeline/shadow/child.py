"""The shadow process: `python -m edgeinspect.pipeline.shadow.child`, started by the line.

Stdin: a `ShadowPlan`, then one `ShadowSample` per line, whose image is in the mailbox. Stdout: one
byte whenever the mailbox is free. The process ends when stdin does.
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
from edgeinspect.domain import ENGINE_ROLES, NS_PER_US, Clock, SystemClock
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
    """Inspect the samples until stdin ends; return the exit code."""
    set_idle_priority()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the line, which ends this process
    plan = decode_json(sys.stdin.buffer.readline(), ShadowPlan)
    try:
        inspector = make_inspector(plan, SystemClock())
    except EdgeInspectError as error:
        _print_error(plan, f"refused: {error}")
        return EXIT_DATAERR
    handle = open_line_file(Path(plan.mailbox), write=True)
    memory = mmap.mmap(handle, 0)  # writable, as some libraries require
    os.close(handle)
    image = np.frombuffer(memory, np.uint8).reshape(plan.dims)
    try:
        results = ShadowResultWriter(Path(plan.record), plan.live, plan.shadow)
    except (DataError, sqlite3.Error) as error:
        _print_error(plan, f"{plan.record}: {error}")
        return EXIT_DATAERR
    gc.freeze()
    decode: Decoder[ShadowSample] = json_decoder(ShadowSample)
    flush_at = time.monotonic() + _FLUSH_S
    _signal_ready()
    for line in sys.stdin.buffer:
        live = decode(line)
        began_ns = time.monotonic_ns()
        try:
            result = inspector.inspect_untimed(image)
        except EngineFault as fault:
            _print_error(plan, str(fault))
            return fault.exit_code
        took_us = (time.monotonic_ns() - began_ns) // NS_PER_US
        shadow = to_sample(result, live.seq, live.epoch, live.at_utc_ns)
        results.add(live, shadow, took_us)
        if results.pending_count >= _FLUSH_FRAMES or time.monotonic() >= flush_at:
            results.flush()
            flush_at = time.monotonic() + _FLUSH_S
        _signal_ready()
    results.close()
    return 0


def _print_error(plan: ShadowPlan, problem: str) -> None:
    print(escape_lines(f"edgeinspect: shadow {plan.shadow}: {problem}"), file=sys.stderr)


def _signal_ready() -> None:
    with contextlib.suppress(BrokenPipeError):  # the line has died: stdin ends as well
        os.write(1, READY)


def set_idle_priority() -> None:
    """Use a processor only while no other process needs it."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:
        os.nice(19)


def make_inspector(plan: ShadowPlan, clock: Clock) -> FrameInspector:
    """Return the inspector of a plan, with its engines verified.

    Raises:
        EdgeInspectError: A model is refused, or a library is not installed.
    """
    engines: dict[str, Engine] = {}
    for role, config in plan.engines.items():
        module = registry.load_plugin("backend", config.type)
        options = decode_json(config.options, module.Options)
        engines[role] = module.build(options, clock, store=ModelStore(Path(plan.store)))
        verify_engine(engines[role])
    provenance = Provenance("shadow", (), "", 0, None, None)
    pair = WorkerEngines(*map(engines.get, ENGINE_ROLES))
    return FrameInspector(pair, plan.rules, provenance, clock)


if __name__ == "__main__":
    sys.exit(main())
