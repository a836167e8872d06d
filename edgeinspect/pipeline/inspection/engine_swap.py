"""The engine swap: other engines on a running line, without losing a frame.

Loading, warm-up and golden frames run in the caller's thread while the old engines
inspect; then each worker switches its inspector between two frames. A failure before that
changes nothing, and raises an alarm.
Source: docs/explanation/decisions/0010-model-store.md
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from edgeinspect.config import LineConfig
from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, model_name
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
"""Maximum wait for a moment without a frame; a fully loaded line has none."""
_REST_RATIO = 3
"""Pause after each step, as a multiple of the time that the step took."""
_REST_MAX_NS = 300 * NS_PER_MS
_RELOAD_ALARM_NS = 60 * NS_PER_S
"""A reload that takes longer raises an alarm."""
_SWITCH_ATTEMPTS = 200
_SWITCH_WAIT_S = 0.05


class EngineSwap:
    """Replaces the inspectors of a running line. Thread-safe; one swap at a time.

    Args:
        workers: Of the line.
        frame_queue: Wakes the workers.
        closer: Its provenance changes with the engines.
        clock: Measures waits and the reload.
        record_event: Records (kind, detail) in the ledger.
    """

    def __init__(
        self,
        workers: Sequence[InspectionWorker],
        frame_queue: FrameQueue,
        closer: VerdictCloser,
        clock: Clock,
        record_event: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self.problem = ""
        """Why the last swap was refused; an alarm until one succeeds."""
        self.reloading_since_ns = 0
        """When the reload in progress began, monotonic; 0 if there is none."""
        self.swap_count = 0
        self._workers = workers
        self._frame_queue = frame_queue
        self._closer = closer
        self._clock = clock
        self._record_event = record_event
        self._lock = threading.Lock()
        self._work_began_at_ns = clock.now_ns()
        self._owned_engines = [worker.inspector.engines for worker in workers]

    @property
    def alarm(self) -> str:
        """That a reload takes too long, or why the last one was refused; empty for neither."""
        since_ns = self.reloading_since_ns
        if since_ns and self._clock.now_ns() - since_ns > _RELOAD_ALARM_NS:
            return "new engines are not loaded after 60 s: the line goes on with the old ones"
        return self.problem

    def apply(
        self, config: LineConfig, config_hash: str, worker_engines: Sequence[WorkerEngines]
    ) -> None:
        """Inspect with other engines and thresholds from the next frame on.

        Args:
            config: Of the same line; only its engines, thresholds and optics are applied.
            config_hash: For the verdicts from the next frame on.
            worker_engines: One per worker, loaded; owned by this object from here on, also if
                they are refused.

        Raises:
            ModelError: They fail, give wrong outputs for the golden frames, or need another
                frame size.
            ConfigError: They do not fit the thresholds.
        """
        with self._lock:
            try:
                inspectors = self._prepare(config, config_hash, worker_engines)
            except BaseException:
                for engines in worker_engines:
                    engines.close()
                raise
            before = self._closer.provenance
            self._switch_workers(inspectors)
            provenance = self._closer.provenance = inspectors[0].provenance
            self.problem = ""
            self.swap_count += 1
            fields = {
                "gate": model_name(provenance.gate),
                "segmenter": model_name(provenance.segmenter),
                "gate_before": model_name(before.gate),
                "segmenter_before": model_name(before.segmenter),
                "config_hash": provenance.config_hash,
            }
            if provenance.unknown or before.unknown:
                fields["unknown"] = model_name(provenance.unknown)
                fields["unknown_before"] = model_name(before.unknown)
            self._record_event(log_events.ENGINE_CHANGED, fields)
            _log.info(log_events.ENGINE_CHANGED, **fields)

    def report_refusal(self, error: EdgeInspectError) -> None:
        """Report refused engines by an alarm, in the log and in the ledger."""
        self.problem = f"new engines were refused: {error}"[:400]
        self._record_event(log_events.ENGINE_REFUSED, {"problem": str(error)[:2000]})
        _log.error(log_events.ENGINE_REFUSED, problem=str(error))

    def wait_for_idle(self) -> None:
        """Pause so that frames get the processor, then wait for a moment without a frame.

        Called between two steps of preparing new engines, by one thread at a time.
        """
        clock = self._clock
        now_ns = clock.now_ns()
        clock.sleep_until(
            now_ns + min(_REST_RATIO * (now_ns - self._work_began_at_ns), _REST_MAX_NS)
        )
        until_ns = clock.now_ns() + _IDLE_WAIT_MAX_NS
        while clock.now_ns() < until_ns:
            if not len(self._frame_queue) and not any(w.is_inspecting for w in self._workers):
                break
            clock.sleep_until(clock.now_ns() + NS_PER_MS)
        self._work_began_at_ns = clock.now_ns()

    def close(self) -> None:
        """Close every engine that is still loaded, after the workers have ended."""
        while self._owned_engines:
            self._owned_engines.pop().close()

    # -- inside ---------------------------------------------------------------------

    def _prepare(
        self, config: LineConfig, config_hash: str, worker_engines: Sequence[WorkerEngines]
    ) -> list[FrameInspector]:
        cameras = self._closer.provenance.cameras
        inspectors = make_frame_inspectors(
            config, config_hash, cameras, worker_engines, self._clock
        )
        now = self._workers[0].inspector.engines.line_model
        for engines in worker_engines:
            new = engines.line_model
            if (new.shape, new.color) != (now.shape, now.color):
                raise ModelError(
                    f"{new.id} takes {new.shape} {new.color}; the line's frames are "
                    f"{now.shape} {now.color}",
                    remedy="Other frames need a restart of the line",
                )
        for inspector in inspectors:
            for _role, engine in inspector.engines.by_role():
                if engine is not None:
                    verify_engine(engine, self.wait_for_idle)
            try:
                inspector.warm_up(_WARM_UP_ROUNDS, self.wait_for_idle)
            except EngineFault as fault:
                raise ModelError(f"fails when warmed up: {fault}") from fault
        return inspectors

    def _switch_workers(self, inspectors: Sequence[FrameInspector]) -> None:
        """Switch each worker to its new inspector, and close the old engines."""
        old_engines = [worker.inspector.engines for worker in self._workers]
        self._owned_engines.extend(inspector.engines for inspector in inspectors)
        for worker, inspector in zip(self._workers, inspectors, strict=True):
            worker.set_next_inspector(inspector)
        waiting = list(self._workers)
        for _ in range(_SWITCH_ATTEMPTS):
            self._frame_queue.wake_workers(len(waiting))
            waiting = [w for w in waiting if not w.wait_switched(_SWITCH_WAIT_S)]
            if not waiting:
                break
        # A worker whose engine hangs switches later; its old engines are closed at the end.
        for worker, engines in zip(self._workers, old_engines, strict=True):
            if worker not in waiting:
                self._owned_engines.remove(engines)
                engines.close()
