"""The inspector: a worker that turns waiting frames into findings."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_US, Clock
from edgeinspect.domain.verdict import Reason, StageTimes
from edgeinspect.errors import EngineFault
from edgeinspect.imaging.regions import find_blobs
from edgeinspect.imaging.runlength import encode_classes
from edgeinspect.pipeline.closing import Closer, Evidence
from edgeinspect.pipeline.decide import (
    Finding,
    Rules,
    decide_by_gate,
    decide_by_regions,
    decide_degraded,
)
from edgeinspect.pipeline.frames import Inbox, OpenFrame
from edgeinspect.ports import Engine
from edgeinspect.spool import Spool
from edgeinspect.stats import Estimate
from edgeinspect.wire import Mask, encode

_MARGIN_NS = NS_PER_MS
"""Kept free for regions, decision and publishing when a stage is weighed against the budget."""


class Inspector:
    """One worker with engines of its own. `run` is its thread; nothing else may call `judge`."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        closer: Closer,
        spool: Spool,
        clock: Clock,
        rules: Rules,
        gate: Engine | None,
        segmenter: Engine | None,
        keep_warm_ns: int,
        send_mask: bool = False,
        on_fault: Callable[[EngineFault], None] = lambda fault: None,
    ) -> None:
        self.gate = gate
        self.segmenter = segmenter
        self.gate_time = Estimate()
        self.segmenter_time = Estimate()
        self._inbox = inbox
        self._closer = closer
        self._spool = spool
        self._clock = clock
        self._rules = rules
        self._keep_warm_ns = keep_warm_ns
        self._send_mask = send_mask
        self._on_fault = on_fault
        self._stop = False

    # -- thread ---------------------------------------------------------------------

    def run(self) -> None:
        """The worker's thread, until `stop`."""
        timeout_ms = self._keep_warm_ns / NS_PER_MS if self._keep_warm_ns else None
        while not self._stop:
            frame = self._inbox.take(timeout_ms)
            if frame is not None:
                self.judge(frame)
            elif self._keep_warm_ns and not self._stop:
                self.warm_up(1)
                gc.collect(1)

    def stop(self) -> None:
        """End the thread at its next turn; wake it through the inbox. Thread-safe."""
        self._stop = True

    def warm_up(self, rounds: int) -> None:
        """Run both engines on an empty picture, `rounds` times, and learn their times."""
        for engine, estimate in (
            (self.gate, self.gate_time),
            (self.segmenter, self.segmenter_time),
        ):
            if engine is None:
                continue
            picture = np.zeros(engine.spec.shape.dims, np.uint8)
            for _ in range(rounds):
                before_ns = self._clock.now_ns()
                try:
                    engine.infer(picture)
                except EngineFault as fault:
                    self._on_fault(fault)
                    return
                if rounds > 1:
                    estimate.add(self._clock.now_ns() - before_ns)

    # -- one frame ------------------------------------------------------------------

    def judge(self, frame: OpenFrame) -> None:
        """Judge one frame and close it, whatever happens; gives its slot back."""
        try:
            if self._spool.is_open(frame.seq):
                self._judge(frame)
        except EngineFault as fault:
            self._on_fault(fault)
            self._closer.close_without(frame, Reason.ENGINE_ERROR, str(fault)[:400])
        finally:
            frame.free_slot()

    def _judge(self, frame: OpenFrame) -> None:
        clock = self._clock
        began_ns = clock.now_ns()
        queue_us = (began_ns - frame.captured_at_ns) // NS_PER_US
        first = self.gate_time if self.gate else self.segmenter_time
        left_ns = frame.deadline_ns - began_ns
        if left_ns < first.p50_ns:
            # Started now it would most likely end late, and make the next frame late too.
            first.decay()
            self._closer.close_without(
                frame,
                Reason.DEADLINE,
                f"not started: {left_ns // NS_PER_US} us left, "
                f"{first.p50_ns // NS_PER_US} us needed",
            )
            return
        gated_ns = began_ns
        prob: float | None = None
        finding: Finding | None = None
        if self.gate is not None:
            prob = float(self.gate.infer(frame.pixels)[0][0])
            gated_ns = clock.now_ns()
            self.gate_time.add(gated_ns - began_ns)
            if prob != prob:
                raise EngineFault("gave a probability that is not a number", where="gate")
            finding = decide_by_gate(prob, self._rules)
        segmented_ns = gated_ns
        mask: bytes | None = None
        if finding is None and prob is not None and self._no_time_left(frame, gated_ns):
            finding = decide_degraded(prob, self._rules)
        segmenter_ran = finding is None
        if finding is None:
            assert self.segmenter is not None
            outputs = self.segmenter.infer(frame.pixels)
            segmented_ns = clock.now_ns()
            self.segmenter_time.add(segmented_ns - gated_ns)
            class_map = cast(NDArray[np.uint8], outputs[0][0])
            areas = cast(NDArray[np.float32], outputs[1][0])
            scores = cast(NDArray[np.float32], outputs[2][0])
            blobs = find_blobs(class_map, areas, scores)
            finding = decide_by_regions(prob, blobs, self._rules)
            if self._send_mask:
                mask = self._mask(frame.seq, class_map)
        ended_ns = clock.now_ns()
        stages = StageTimes(
            queue_us=queue_us,
            gate_us=(gated_ns - began_ns) // NS_PER_US,
            segmenter_us=(segmented_ns - gated_ns) // NS_PER_US,
            regions_us=(ended_ns - segmented_ns) // NS_PER_US,
        )
        evidence = Evidence(
            defect_prob=None if prob is None else round(prob, 5),
            stages=stages,
            engine_ns=segmented_ns - began_ns,
            gate_ran=self.gate is not None,
            segmenter_ran=segmenter_ran,
        )
        self._closer.close(frame, finding, evidence, mask)

    def _no_time_left(self, frame: OpenFrame, now_ns: int) -> bool:
        """True if the segmenter's p99 does not fit the rest of the budget."""
        left_ns = frame.deadline_ns - now_ns - _MARGIN_NS
        if left_ns >= self.segmenter_time.p99_ns:
            return False
        self.segmenter_time.decay()
        return True

    def _mask(self, seq: int, class_map: NDArray[np.uint8]) -> bytes:
        height, width = class_map.shape
        return encode(
            Mask(
                seq=seq,
                height_px=height,
                width_px=width,
                stride=self._rules.stride,
                runs=encode_classes(class_map),
            )
        )
