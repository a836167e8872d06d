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

from edgeinspect.config.schema import LineConfig
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.domain.model import ModelSpec
from edgeinspect.domain.verdict import model_name
from edgeinspect.errors import EdgeInspectError, EngineFault, ModelError
from edgeinspect.pipeline.inspection.frame_inspector import Engines, Judge
from edgeinspect.pipeline.inspection.setup import line_judges
from edgeinspect.pipeline.inspection.worker import Inspector
from edgeinspect.pipeline.verdicts.closer import Closer
from edgeinspect.pipeline.verdicts.open_frames import Inbox
from edgeinspect.storage.model_store.golden_frames import prove
from edgeinspect.system import log_events

_log = structlog.get_logger()
_WARM_UPS = 6
_POLITE_NS = 50 * NS_PER_MS
"""Longest wait for a moment without a frame: a line at its limit has none, and waits for no one."""
_REST = 3
"""For each unit of time that new engines took, so many are the line's alone."""
_REST_MAX_NS = 300 * NS_PER_MS
_LONG_NS = 60 * NS_PER_S
_ADOPT_TRIES = 200
_ADOPT_S = 0.05


class Swap:
    """Exchanges the judges of a running line. Thread-safe; one exchange at a time."""

    def __init__(
        self,
        inspectors: Sequence[Inspector],
        inbox: Inbox,
        closer: Closer,
        clock: Clock,
        note: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self.problem = ""
        """Why the last exchange was refused; an alarm until one succeeds."""
        self.reloading_since_ns = 0
        """When the reload that is in progress began, on the clock; 0 if none is."""
        self.exchanges = 0
        self._inspectors = inspectors
        self._inbox = inbox
        self._closer = closer
        self._clock = clock
        self._note = note
        self._lock = threading.Lock()
        self._worked_from_ns = clock.now_ns()
        self._held = [inspector.current.engines for inspector in inspectors]

    @property
    def alarm(self) -> str:
        """That a reload does not end, or why the last one was refused; empty for neither."""
        since_ns = self.reloading_since_ns
        if since_ns and self._clock.now_ns() - since_ns > _LONG_NS:
            return "new engines are not loaded after 60 s: the line goes on with the old ones"
        return self.problem

    def refit(self, config: LineConfig, config_hash: str, workers: Sequence[Engines]) -> None:
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
                judges = self._prepare(config, config_hash, workers)
            except BaseException:
                for engines in workers:
                    engines.close()
                raise
            before = self._closer.causes
            self._exchange(judges)
            causes = self._closer.causes = judges[0].causes
            self.problem = ""
            self.exchanges += 1
            told = {
                "gate": model_name(causes.gate),
                "segmenter": model_name(causes.segmenter),
                "gate_before": model_name(before.gate),
                "segmenter_before": model_name(before.segmenter),
                "config_hash": causes.config_hash,
            }
            self._note(log_events.ENGINE_CHANGED, told)
            _log.info(log_events.ENGINE_CHANGED, **told)

    def refuse(self, error: EdgeInspectError) -> None:
        """Say that new engines were not taken: an alarm, the log and the ledger."""
        self.problem = f"new engines were refused: {error}"[:400]
        self._note(log_events.ENGINE_REFUSED, {"problem": str(error)[:2000]})
        _log.error(log_events.ENGINE_REFUSED, problem=str(error))

    def wait_for_slack(self) -> None:
        """Leave the machine to the line for a while, then wait for a moment without a frame.

        To be called between two pieces of work for new engines; for one thread at a time.
        """
        clock = self._clock
        now_ns = clock.now_ns()
        clock.sleep_until(now_ns + min(_REST * (now_ns - self._worked_from_ns), _REST_MAX_NS))
        until_ns = clock.now_ns() + _POLITE_NS
        while clock.now_ns() < until_ns:
            if not len(self._inbox) and not any(each.busy for each in self._inspectors):
                break
            clock.sleep_until(clock.now_ns() + NS_PER_MS)
        self._worked_from_ns = clock.now_ns()

    def dispose(self) -> None:
        """Close every engine that is still held. After the workers have ended."""
        while self._held:
            self._held.pop().close()

    # -- inside ---------------------------------------------------------------------

    def _prepare(
        self, config: LineConfig, config_hash: str, workers: Sequence[Engines]
    ) -> list[Judge]:
        causes = self._closer.causes
        judges = line_judges(config, config_hash, causes.cameras, workers, self._clock)
        now = _model(self._inspectors[0].current.engines)
        for engines in workers:
            new = _model(engines)
            if (new.shape, new.color) != (now.shape, now.color):
                raise ModelError(
                    f"{new.id} takes {new.shape} {new.color}; the line's frames are "
                    f"{now.shape} {now.color}",
                    remedy="Other frames need a restart of the line",
                )
        for judge in judges:
            for engine in (judge.gate, judge.segmenter):
                if engine is not None:
                    prove(engine, self.wait_for_slack)
            try:
                judge.warm_up(_WARM_UPS, self.wait_for_slack)
            except EngineFault as fault:
                raise ModelError(f"fails when warmed up: {fault}") from fault
        return judges

    def _exchange(self, judges: Sequence[Judge]) -> None:
        """Give each worker its new judge, and close those that were exchanged."""
        old = [inspector.current.engines for inspector in self._inspectors]
        self._held.extend(judge.engines for judge in judges)
        for inspector, judge in zip(self._inspectors, judges, strict=True):
            inspector.offer(judge)
        waiting = list(self._inspectors)
        for _ in range(_ADOPT_TRIES):
            self._inbox.wake(len(waiting))
            waiting = [each for each in waiting if not each.wait_adopted(_ADOPT_S)]
            if not waiting:
                break
        # A worker whose engine hangs adopts when it comes back; its old one is kept till the end.
        for inspector, engines in zip(self._inspectors, old, strict=True):
            if inspector not in waiting:
                self._held.remove(engines)
                engines.close()


def _model(engines: Engines) -> ModelSpec:
    engine = engines.gate or engines.segmenter
    assert engine is not None
    return engine.spec
