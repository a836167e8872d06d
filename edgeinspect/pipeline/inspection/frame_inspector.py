"""The frame inspector: one worker's engines, with the decision rules and the provenance.

A frame is inspected by one inspector from start to end, and its verdict names that inspector's
models. To change the models of a running line, each worker gets another inspector between two
frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from edgeinspect.domain import (
    ENGINE_ROLES,
    NS_PER_MS,
    NS_PER_S,
    NS_PER_US,
    Assessment,
    Clock,
    Decision,
    KindProb,
    LatencyEstimate,
    ModelSpec,
    Pixels,
    Reason,
    StageTimes,
    UnknownCheck,
    UnknownState,
)
from edgeinspect.errors import EngineFault
from edgeinspect.imaging import Blobs, encode_classes, find_blobs
from edgeinspect.pipeline.inspection.decision import (
    DecisionRules,
    decide_by_gate,
    decide_by_regions,
    decide_by_unknown,
    decide_degraded,
    decide_without_unknown,
)
from edgeinspect.pipeline.verdicts import Measurements, OpenFrame, Provenance, VerdictCloser
from edgeinspect.ports import Engine
from edgeinspect.wire import HeatMap, Mask, encode_message

_MARGIN_NS = NS_PER_MS
"""Reserved for regions, decision and publishing when a stage is compared with the budget."""
_RETRY_NS = NS_PER_S
"""After this long without an inference its estimated time is lowered. Not sooner: under overload
frames are skipped all the time, and one that is started in vain delays the next."""
_LISTED_KINDS = 8
_LISTED_PROB = 0.01
"""Kinds below this probability are not in the verdict."""
Outputs = tuple[NDArray[np.generic], ...]
_HEAT_MAP = 4
"""Its place among the outputs of a good-parts model."""


@dataclass(frozen=True, slots=True)
class WorkerEngines:
    """The engines of one worker: a gate, a segmenter, a good-parts model, or several of them."""

    gate: Engine | None
    segmenter: Engine | None
    unknown: Engine | None = None

    @property
    def line_model(self) -> ModelSpec:
        """The model whose input is the line's frame: the first of them."""
        engine = self.gate or self.segmenter or self.unknown
        assert engine is not None
        return engine.spec

    def by_role(self) -> tuple[tuple[str, Engine | None], ...]:
        """Return each of `ENGINE_ROLES` with its engine."""
        return tuple(zip(ENGINE_ROLES, (self.gate, self.segmenter, self.unknown), strict=True))

    def close(self) -> None:
        """Free the engines."""
        for _role, engine in self.by_role():
            if engine is not None:
                engine.close()


@dataclass(frozen=True, slots=True)
class UntimedResult:
    """An assessment on which the time left had no influence, so that models can be compared."""

    assessment: Assessment
    defect_prob: float | None
    kind_probs: Sequence[float] = ()
    """Of a gate that tells kinds apart: one for each of its kinds."""
    unknown_prob: float | None = None
    """Of the good-parts model; None if it was not asked."""


@dataclass(frozen=True, slots=True)
class _Opinion:
    """What the good-parts model contributed to a frame."""

    assessment: Assessment | None
    check: UnknownCheck | UnsetType = UNSET
    engine_ns: int = 0
    prob: float | None = None
    mask: bytes | None = None

    @property
    def lacked_time(self) -> bool:
        """Whether it was not asked for lack of time."""
        check = self.check
        return isinstance(check, UnknownCheck) and check.state is UnknownState.NO_TIME


_NO_OPINION = _Opinion(None)


class FrameInspector:
    """Inspects frames with one set of engines. Used by one thread at a time.

    Args:
        engines: Loaded; closed by the caller.
        rules: Thresholds of the decision.
        provenance: For the verdicts.
        clock: For deadlines and times.
        send_mask: Send the segmenter's mask with each verdict.
    """

    def __init__(
        self,
        engines: WorkerEngines,
        rules: DecisionRules,
        provenance: Provenance,
        clock: Clock,
        *,
        send_mask: bool = False,
    ) -> None:
        self.engines = engines
        self.gate = engines.gate
        self.segmenter = engines.segmenter
        self.unknown = engines.unknown
        self._kinds = engines.gate.spec.kinds if engines.gate is not None else ()
        self.provenance = provenance
        self.gate_time = LatencyEstimate()
        self.segmenter_time = LatencyEstimate()
        self.unknown_time = LatencyEstimate()
        self.rules = rules
        self._clock = clock
        self._inferred_at_ns = 0
        self._send_mask = send_mask

    def warm_up(self, rounds: int, before_inference: Callable[[], None] = lambda: None) -> None:
        """Run the engines on an empty image `rounds` times and estimate their times.

        Args:
            rounds: A single one keeps the engines warm without an estimate.
            before_inference: Called before each inference.

        Raises:
            EngineFault: An inference failed.
        """
        for engine, estimate in (
            (self.gate, self.gate_time),
            (self.segmenter, self.segmenter_time),
            (self.unknown, self.unknown_time),
        ):
            if engine is None:
                continue
            image = np.zeros(engine.spec.shape.dims, np.uint8)
            for _ in range(rounds):
                before_inference()
                before_ns = self._clock.now_ns()
                engine.infer(image)
                if rounds > 1:
                    estimate.add(self._clock.now_ns() - before_ns)

    def inspect(self, frame: OpenFrame, closer: VerdictCloser) -> UntimedResult | None:
        """Inspect one frame and close it.

        Returns:
            The result; None if the time left had an influence on it, or if the frame had its
            verdict already.

        Raises:
            EngineFault: An inference failed; the frame is still open.
        """
        clock = self._clock
        began_ns = clock.now_ns()
        queue_us = (began_ns - frame.captured_at_ns) // NS_PER_US
        first = self._first_time
        left_ns = frame.deadline_ns - began_ns
        if left_ns < first.p50_ns:
            # It would most likely end late, and delay the next frame as well.
            if began_ns - self._inferred_at_ns > _RETRY_NS:
                first.decay()
            closer.close_as_no_verdict(
                frame,
                Reason.DEADLINE,
                f"not started: {left_ns // NS_PER_US} us left, "
                f"{first.p50_ns // NS_PER_US} us needed",
            )
            return None
        self._inferred_at_ns = gated_ns = began_ns
        prob: float | None = None
        kind_probs: Sequence[float] = ()
        assessment: Assessment | None = None
        if self.gate is not None:
            prob, kind_probs = self._run_gate(frame.pixels)
            gated_ns = clock.now_ns()
            self.gate_time.add(gated_ns - began_ns)
            assessment = decide_by_gate(prob, self.rules, kind_probs)
        segmented_ns = gated_ns
        mask: bytes | None = None
        if (
            assessment is None
            and prob is not None
            and self._lacks_time(frame, gated_ns, self.segmenter_time)
        ):
            assessment = decide_degraded(prob, self.rules, kind_probs)
        segmenter_ran = assessment is None and self.segmenter is not None
        if assessment is None and self.segmenter is not None:
            outputs = self.segmenter.infer(frame.pixels)
            segmented_ns = clock.now_ns()
            self.segmenter_time.add(segmented_ns - gated_ns)
            assessment = self._assess_regions(prob, kind_probs, outputs)
            if self._send_mask:
                mask = self._encode_mask(frame.seq, outputs)
        opinion = _NO_OPINION
        if self.unknown is not None:
            opinion = self._ask_unknown(frame, assessment)
            assessment, mask = opinion.assessment, opinion.mask or mask
        assert assessment is not None
        ended_ns = clock.now_ns()
        stages = StageTimes(
            queue_us=queue_us,
            gate_us=(gated_ns - began_ns) // NS_PER_US,
            segmenter_us=(segmented_ns - gated_ns) // NS_PER_US,
            regions_us=(ended_ns - segmented_ns - opinion.engine_ns) // NS_PER_US,
            unknown_us=UNSET if self.unknown is None else opinion.engine_ns // NS_PER_US,
        )
        measurements = Measurements(
            defect_prob=None if prob is None else round(prob, 5),
            stages=stages,
            engine_ns=segmented_ns - began_ns + opinion.engine_ns,
            gate_ran=self.gate is not None,
            segmenter_ran=segmenter_ran,
            provenance=self.provenance,
            kinds=self._list_kinds(kind_probs) if self._kinds else UNSET,
            unknown=opinion.check,
        )
        is_closed = closer.close(frame, assessment, measurements, mask)
        if not is_closed or assessment.degraded or opinion.lacked_time:
            return None
        return UntimedResult(assessment, prob, kind_probs, opinion.prob)

    @property
    def _first_time(self) -> LatencyEstimate:
        """The estimate of the engine that runs first."""
        if self.gate is not None:
            return self.gate_time
        return self.segmenter_time if self.segmenter is not None else self.unknown_time

    def _ask_unknown(self, frame: OpenFrame, before: Assessment | None) -> _Opinion:
        """Ask the good-parts model about a frame, unless it is rejected or there is no time."""
        assert self.unknown is not None
        if before is not None and before.decision is not Decision.PASS:
            return _Opinion(before, UnknownCheck(UnknownState.NOT_NEEDED))
        began_ns = self._clock.now_ns()
        if before is not None and self._lacks_time(frame, began_ns, self.unknown_time):
            assessment = decide_without_unknown(before, self.rules)
            return _Opinion(assessment, UnknownCheck(UnknownState.NO_TIME))
        outputs = self.unknown.infer(frame.pixels)
        engine_ns = self._clock.now_ns() - began_ns
        self.unknown_time.add(engine_ns)
        assessment, prob = self._assess_unknown(before, outputs)
        check = UnknownCheck(
            UnknownState.ASKED, round(prob, 5), assessment.review, self.provenance.unknown
        )
        rules = self.rules.unknown
        mask: bytes | None = None
        if self._send_mask and rules is not None and (outputs[1][0, 0] or prob >= rules.reject_at):
            mask = self._encode_mask(frame.seq, outputs, rules.stride, rules.class_id)
        return _Opinion(assessment, check, engine_ns, prob, mask)

    def _assess_unknown(
        self, before: Assessment | None, outputs: Outputs
    ) -> tuple[Assessment, float]:
        """Return the assessment with the good-parts model's opinion, and its score."""
        assert self.rules.unknown is not None
        prob = float(cast(NDArray[np.float32], outputs[3])[0])
        if prob != prob:
            raise EngineFault("returned a score that is not a number", where="unknown")
        blobs = _find_blobs(outputs) if prob >= self.rules.unknown.reject_at else ()
        return decide_by_unknown(before, prob, blobs, self.rules), prob

    def inspect_untimed(self, pixels: Pixels) -> UntimedResult:
        """Return what is decided of an image without a deadline.

        Raises:
            EngineFault: An inference failed.
        """
        prob: float | None = None
        kind_probs: Sequence[float] = ()
        assessment: Assessment | None = None
        if self.gate is not None:
            prob, kind_probs = self._run_gate(pixels)
            assessment = decide_by_gate(prob, self.rules, kind_probs)
        if assessment is None and self.segmenter is not None:
            assessment = self._assess_regions(prob, kind_probs, self.segmenter.infer(pixels))
        unknown_prob: float | None = None
        is_passed = assessment is None or assessment.decision is Decision.PASS
        if self.unknown is not None and is_passed:
            outputs = self.unknown.infer(pixels)
            assessment, unknown_prob = self._assess_unknown(assessment, outputs)
        assert assessment is not None
        return UntimedResult(assessment, prob, kind_probs, unknown_prob)

    def _run_gate(self, pixels: Pixels) -> tuple[float, Sequence[float]]:
        """Return the gate's probability, and those of its kinds."""
        assert self.gate is not None
        outputs = cast(tuple[NDArray[np.float32], ...], self.gate.infer(pixels))
        prob = float(outputs[0][0])
        kind_probs: Sequence[float] = outputs[1][0].tolist() if self._kinds else ()
        total = sum(kind_probs, prob)
        if total != total:
            raise EngineFault("returned a probability that is not a number", where="gate")
        return prob, kind_probs

    def _list_kinds(self, kind_probs: Sequence[float]) -> tuple[KindProb, ...]:
        """Return the most probable kinds for the verdict, the most probable first."""
        listed = [
            (prob, name)
            for prob, name in zip(kind_probs, self._kinds, strict=True)
            if prob >= _LISTED_PROB
        ]
        listed.sort(reverse=True)
        return tuple(KindProb(name, round(prob, 5)) for prob, name in listed[:_LISTED_KINDS])

    def _assess_regions(
        self, prob: float | None, kind_probs: Sequence[float], outputs: Outputs
    ) -> Assessment:
        return decide_by_regions(prob, _find_blobs(outputs), self.rules, kind_probs)

    def _lacks_time(self, frame: OpenFrame, now_ns: int, time: LatencyEstimate) -> bool:
        """Return whether an engine's p99 does not fit into the rest of the budget."""
        left_ns = frame.deadline_ns - now_ns - _MARGIN_NS
        if left_ns >= time.p99_ns:
            return False
        time.decay()
        return True

    def _encode_mask(
        self, seq: int, outputs: Outputs, stride: int | None = None, first_id: int = 1
    ) -> bytes:
        """Return the message of a class map, whose class 1 gets the id `first_id`."""
        class_map = cast(NDArray[np.uint8], outputs[0][0])
        height, width = class_map.shape
        runs = encode_classes(class_map)
        return encode_message(
            Mask(
                seq=seq,
                height_px=height,
                width_px=width,
                stride=stride or self.rules.stride,
                runs={class_id + first_id - 1: code for class_id, code in runs.items()},
                heat=_heat_map(outputs, self.rules),
            )
        )


def _heat_map(outputs: Outputs, rules: DecisionRules) -> HeatMap | UnsetType:
    """Return the heat map of a good-parts model; UNSET if it has none."""
    if len(outputs) <= _HEAT_MAP or rules.unknown is None:
        return UNSET
    cells = cast(NDArray[np.uint8], outputs[_HEAT_MAP][0])
    height, width = cells.shape
    return HeatMap(
        height=height,
        width=width,
        levels=cells.tobytes(),
        reject_level=round(255 * rules.unknown.reject_at),
    )


def _find_blobs(outputs: Outputs) -> Sequence[Blobs]:
    """Return the regions of a segmenter's outputs."""
    class_map = cast(NDArray[np.uint8], outputs[0][0])
    areas = cast(NDArray[np.float32], outputs[1][0])
    scores = cast(NDArray[np.float32], outputs[2][0])
    return find_blobs(class_map, areas, scores)
