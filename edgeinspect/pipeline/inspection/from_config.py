"""Creates frame inspectors and their decision rules from a configuration."""

from __future__ import annotations

from collections.abc import Sequence

from edgeinspect.config import GateThresholds, LineConfig, UnknownThresholds, check_models
from edgeinspect.domain import Clock, ModelRef, ModelSpec, model_ref
from edgeinspect.errors import ModelError
from edgeinspect.pipeline.inspection.decision import (
    ClassLimits,
    DecisionRules,
    GateLimits,
    KindLimits,
    UnknownLimits,
)
from edgeinspect.pipeline.inspection.frame_inspector import FrameInspector, WorkerEngines
from edgeinspect.pipeline.verdicts import Provenance


def make_frame_inspectors(
    config: LineConfig,
    config_hash: str,
    cameras: Sequence[str],
    worker_engines: Sequence[WorkerEngines],
    clock: Clock,
) -> list[FrameInspector]:
    """Return one inspector per worker, all with the same rules and provenance.

    Raises:
        ConfigError: The models contradict the thresholds.
        ModelError: The workers do not all have the same models.
    """
    first = worker_engines[0]
    if any(_model_refs(engines) != _model_refs(first) for engines in worker_engines):
        raise ModelError(
            "another version was promoted while the models were loaded",
            where=config.line,
            remedy="Start or reload again",
        )
    gate = first.gate.spec if first.gate else None
    segmenter = first.segmenter.spec if first.segmenter else None
    unknown = first.unknown.spec if first.unknown else None
    check_models(config, gate, segmenter, unknown, where=config.line)
    rules = decision_rules(config, gate, segmenter, unknown)
    provenance = Provenance(
        line=config.line,
        cameras=tuple(cameras),
        config_hash=config_hash,
        budget_us=round(config.budget_ms * 1000),
        gate=model_ref(gate),
        segmenter=model_ref(segmenter),
        unknown=model_ref(unknown),
        pretrained={
            role: f"{engine.spec.pretrained} {engine.spec.pretrained_sha256}".strip()
            for role, engine in first.by_role()
            if engine is not None and engine.spec.pretrained
        },
    )
    return [
        FrameInspector(engines, rules, provenance, clock, send_mask=config.publish.mask)
        for engines in worker_engines
    ]


def _model_refs(engines: WorkerEngines) -> list[ModelRef | None]:
    return [model_ref(engine.spec) if engine else None for _role, engine in engines.by_role()]


def decision_rules(
    config: LineConfig,
    gate_model: ModelSpec | None,
    segmenter: ModelSpec | None,
    unknown: ModelSpec | None = None,
) -> DecisionRules:
    """Return the rules of the decision; `check_models` ensures that every class has one."""
    decide = config.decide
    classes = segmenter.classes if segmenter else ()
    mm2_per_px = config.optics.mm_per_px_x * config.optics.mm_per_px_y
    limits = {}
    for index, name in enumerate(classes):
        rule = decide.classes[name]
        area_px = rule.area_px if rule.area_px is not None else (rule.area_mm2 or 0) / mm2_per_px
        limits[index + 1] = ClassLimits(
            name, rule.score, float(area_px), rule.severity, rule.reject_code
        )
    gate = decide.gate
    return DecisionRules(
        gate=(
            GateLimits(
                gate.suspect_at,
                gate.reject_at,
                gate.degraded_reject_at,
                gate.reject_code,
                tuple(_kind_limits(name, gate) for name in gate_model.kinds) if gate_model else (),
            )
            if gate
            else None
        ),
        classes=limits,
        stride=segmenter.output_stride if segmenter else 1,
        mm_per_px_x=config.optics.mm_per_px_x,
        mm_per_px_y=config.optics.mm_per_px_y,
        max_regions=decide.max_regions,
        unknown=_unknown_limits(decide.unknown, unknown, len(classes) + 1)
        if unknown is not None and decide.unknown is not None
        else None,
    )


def _unknown_limits(rule: UnknownThresholds, model: ModelSpec, class_id: int) -> UnknownLimits:
    return UnknownLimits(
        name=model.classes[0],
        class_id=class_id,
        reject_at=rule.reject_at,
        area_px=float(rule.area_px or 0),
        severity=rule.severity or 0,
        reject_code=rule.reject_code or 0,
        rejects=rule.action == "reject",
        required=rule.required,
        stride=model.output_stride,
    )


def _kind_limits(name: str, gate: GateThresholds) -> KindLimits:
    """Return the rule of one kind; without rules of kinds it only names a reject."""
    rule = gate.classes.get(name)
    if rule is None:
        return KindLimits(name, None, 0, gate.reject_code)
    return KindLimits(name, rule.prob, rule.severity, rule.reject_code)
