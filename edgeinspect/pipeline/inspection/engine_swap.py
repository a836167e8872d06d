"""The swap: other engines on a running line, with no frame lost and none judged by halves.

Loading, warm-up and golden frames happen in the caller's thread while the old engines go on
judging; then each worker changes its judge between two frames. Whatever fails before that
leaves everything as it was, and an alarm that says why.
Source: docs/decisions/0010-engine-store.md
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from edgeinspect.config import LineConfig
from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, ModelSpec, model_name
from edgeinspect.errors import EdgeInspectError, EngineFault, ModelError
from edgeinspect.pipeline.inspection.frame_inspector import FrameInspector, WorkerEngines
from edgeinspect.pipeline.inspection.from_config import make_frame_inspectors
from edgeinspect.pipeline.inspection.worker import InspectionWorker
from edgeinspect.pipeline.verdicts import FrameQueue, VerdictCloser
from edgeinspect.storage.model_store import verify_engine
from edgeinspect.system import log_events

_log = structlog.get_logger()
_WARM_UP_ROUNDS = 6
_IDLE_WAIT_MAX_NS = 50 * NS_PER_MS
"""Longest wait for a moment without a frame: a line at its limit has none, and waits for no one."""
_REST_RATIO = 3
"""For each unit of time that new engines took, so many are the line's alone."""
_REST_MAX_NS = 300 * NS_PER_MS
_RELOAD_ALARM_NS = 60 * NS_PER_S
_SWITCH_ATTEMPTS = 200
_SWITCH_WAIT_S = 0.05


class EngineSwap:
    """Exchanges the judges of a running line. Thread-safe; one exchange at a time."""

    def __init__(
        self,
        workers: Sequence[InspectionWorker],
        frame_queue: FrameQueue,
        closer: VerdictCloser,
        clock: Clock,
        record_event: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self.problem = ""
        """Why the last exchange was refused; an alarm until one succeeds."""
        self.reloading_since_ns = 0
        """When the reload that is in progress began, on the clock; 0 if none is."""
        self.swap_count = 0
        self._workers = workers
        self._frame_queue = frame_queue
        self._closer = closer
        self._clock = clock
        self._record_event = record_event
        self._lock = threading.Lock()
        self._work_began_at_ns = clock.now_ns()
        self._owned_engines = [inspector.inspector.engines for inspector in workers]

    @property
    def alarm(self) -> str:
        """That a reload does not end, or why the last one was refused; empty for neither."""
        since_ns = self.reloading_since_ns
        if since_ns and self._clock.now_ns() - since_ns > _RELOAD_ALARM_NS:
            return "new engines are not loaded after 60 s: the line goes on with the old ones"
        return self.problem

    def apply(
        self, config: LineConfig, config_hash: str, worker_engines: Sequence[WorkerEngines]
    ) -> None:
        """Judge with other engines and thresholds from the next frame on.

        Args:
            config: Of the same line; only its engines, thresholds and optics are taken.
            config_hash: Named by verdicts from the next frame on.
            workers: One pair of engines per worker, loaded; owned by the line from here on,
                whether they are taken or refused.

        Raises:
            ModelError: They fail, give something else than they must, or take other frames.
            ConfigError: They do not fit the thresholds.
        """
        with self._lock:
            try:
                judges = self._prepare(config, config_hash, worker_engines)
            except BaseException:
                for engines in worker_engines:
                    engines.close()
                raise
            before = self._closer.provenance
            self._switch_workers(judges)
            causes = self._closer.provenance = judges[0].provenance
            self.problem = ""
            self.swap_count += 1
            told = {
                "gate": model_name(causes.gate),
                "segmenter": model_name(causes.segmenter),
                "gate_before": model_name(before.gate),
                "segmenter_before": model_name(before.segmenter),
                "config_hash": causes.config_hash,
            }
            self._record_event(log_events.ENGINE_CHANGED, told)
            _log.info(log_events.ENGINE_CHANGED, **told)

    def report_refusal(self, error: EdgeInspectError) -> None:
        """Say that new engines were not taken: an alarm, the log and the ledger."""
        self.problem = f"new engines were refused: {error}"[:400]
        self._record_event(log_events.ENGINE_REFUSED, {"problem": str(error)[:2000]})
        _log.error(log_events.ENGINE_REFUSED, problem=str(error))

    def wait_for_idle(self) -> None:
        """Leave the machine to the line for a while, then wait for a moment without a frame.

        To be called between two pieces of work for new engines; for one thread at a time.
        """
        clock = self._clock
        now_ns = clock.now_ns()
        clock.sleep_until(
            now_ns + min(_REST_RATIO * (now_ns - self._work_began_at_ns), _REST_MAX_NS)
        )
        until_ns = clock.now_ns() + _IDLE_WAIT_MAX_NS
        while clock.now_ns() < until_ns:
            if not len(self._frame_queue) and not any(each.is_inspecting for each in self._workers):
                break
            clock.sleep_until(clock.now_ns() + NS_PER_MS)
        self._work_began_at_ns = clock.now_ns()

    def close(self) -> None:
        """Close every engine that is still held. After the workers have ended."""
        while self._owned_engines:
            self._owned_engines.pop().close()

    # -- inside ---------------------------------------------------------------------

    def _prepare(
        self, config: LineConfig, config_hash: str, worker_engines: Sequence[WorkerEngines]
    ) -> list[FrameInspector]:
        causes = self._closer.provenance
        judges = make_frame_inspectors(
            config, config_hash, causes.cameras, worker_engines, self._clock
        )
        now = _line_model(self._workers[0].inspector.engines)
        for engines in worker_engines:
            new = _line_model(engines)
            if (new.shape, new.color) != (now.shape, now.color):
                raise ModelError(
                    f"{new.id} takes {new.shape} {new.color}; the line's frames are "
                    f"{now.shape} {now.color}",
                    remedy="Other frames need a restart of the line",
                )
        for judge in judges:
            for engine in (judge.gate, judge.segmenter):
                if engine is not None:
                    verify_engine(engine, self.wait_for_idle)
            try:
                judge.warm_up(_WARM_UP_ROUNDS, self.wait_for_idle)
            except EngineFault as fault:
                raise ModelError(f"fails when warmed up: {fault}") from fault
        return judges

    def _switch_workers(self, inspectors: Sequence[FrameInspector]) -> None:
        """Give each worker its new judge, and close those that were exchanged."""
        old = [inspector.inspector.engines for inspector in self._workers]
        self._owned_engines.extend(judge.engines for judge in inspectors)
        for inspector, judge in zip(self._workers, inspectors, strict=True):
            inspector.set_next_inspector(judge)
        waiting = list(self._workers)
        for _ in range(_SWITCH_ATTEMPTS):
            self._frame_queue.wake_workers(len(waiting))
            waiting = [each for each in waiting if not each.wait_switched(_SWITCH_WAIT_S)]
            if not waiting:
                break
        # A worker whose engine hangs adopts when it comes back; its old one is kept till the end.
        for inspector, engines in zip(self._workers, old, strict=True):
            if inspector not in waiting:
                self._owned_engines.remove(engines)
                engines.close()


def _line_model(engines: WorkerEngines) -> ModelSpec:
    engine = engines.gate or engines.segmenter
    assert engine is not None
    return engine.spec
