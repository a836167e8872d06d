"""From the configuration's words to the flow's numbers."""

from __future__ import annotations

from collections.abc import Sequence

from edgeinspect.config.checks import match_models
from edgeinspect.config.schema import CameraActBy, LineConfig
from edgeinspect.domain.clock import NS_PER_MS, Clock
from edgeinspect.domain.tensor import ModelSpec
from edgeinspect.domain.verdict import ModelRef
from edgeinspect.errors import ModelError
from edgeinspect.parts import PartBook
from edgeinspect.pipeline.closing import Causes
from edgeinspect.pipeline.decide import ClassLimits, GateLimits, Rules
from edgeinspect.pipeline.judge import Engines, Judge
from edgeinspect.pipeline.opening import CaptureRules
from edgeinspect.pipeline.picture import PictureLimits


def model_ref(spec: ModelSpec | None) -> ModelRef | None:
    """How verdicts name a model."""
    if spec is None:
        return None
    return ModelRef(spec.id.name, spec.id.version, spec.id.sha256, spec.id.calibration)


def model_name(ref: ModelRef | None) -> str | None:
    """`name/version`, for people."""
    return f"{ref.name}/{ref.version}" if ref is not None else None


def line_judges(
    config: LineConfig,
    config_hash: str,
    cameras: Sequence[str],
    workers: Sequence[Engines],
    clock: Clock,
) -> list[Judge]:
    """One judge per worker, all with the same rules and causes.

    Raises:
        ConfigError: The models contradict the thresholds.
        ModelError: The workers do not all have the same models.
    """
    first = workers[0]
    if any(_ids(engines) != _ids(first) for engines in workers):
        raise ModelError(
            "another version was promoted while the models were loaded",
            where=config.line,
            remedy="Start or reload again",
        )
    gate = first.gate.spec if first.gate else None
    segmenter = first.segmenter.spec if first.segmenter else None
    match_models(config, gate, segmenter, where=config.line)
    rules = decision_rules(config, segmenter)
    causes = Causes(
        line=config.line,
        cameras=tuple(cameras),
        config_hash=config_hash,
        budget_us=round(config.budget_ms * 1000),
        gate=model_ref(gate),
        segmenter=model_ref(segmenter),
    )
    return [
        Judge(engines, rules, causes, clock, send_mask=config.publish.mask) for engines in workers
    ]


def _ids(engines: Engines) -> list[ModelRef | None]:
    both = (engines.gate, engines.segmenter)
    return [model_ref(engine.spec) if engine else None for engine in both]


def decision_rules(config: LineConfig, segmenter: ModelSpec | None) -> Rules:
    """The decision's rules; `match_models` has seen that every class has one."""
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
    return Rules(
        gate=(
            GateLimits(gate.suspect_at, gate.reject_at, gate.degraded_reject_at, gate.reject_code)
            if gate
            else None
        ),
        classes=limits,
        stride=segmenter.output_stride if segmenter else 1,
        mm_per_px_x=config.optics.mm_per_px_x,
        mm_per_px_y=config.optics.mm_per_px_y,
        max_regions=decide.max_regions,
    )


def capture_rules(config: LineConfig, camera: str, lane: int) -> CaptureRules:
    """How one camera's frames are taken in."""
    capture, act_by = config.capture, config.act_by
    own = act_by.cameras.get(camera, CameraActBy())
    travel_ms = act_by.travel_ms if own.travel_ms is None else own.travel_ms
    distance = own.gate_distance_counts
    return CaptureRules(
        camera=camera,
        lane=lane,
        budget_ns=round(config.budget_ms * NS_PER_MS),
        overload=capture.overload,
        letterbox=capture.wrong_shape == "letterbox",
        timeout_ns=round(capture.timeout_ms * NS_PER_MS),
        attempts=capture.reconnect.attempts,
        first_pause_ns=round(capture.reconnect.first_ms * NS_PER_MS),
        max_pause_ns=round(capture.reconnect.max_ms * NS_PER_MS),
        travel_ns=round(travel_ms * NS_PER_MS),
        gate_distance_counts=act_by.gate_distance_counts if distance is None else distance,
        picture=PictureLimits(
            capture.health.dark_level, capture.health.bright_level, capture.health.frozen_frames
        ),
    )


def part_book(config: LineConfig, cameras: Sequence[str]) -> PartBook | None:
    """The parts of the line, if it makes verdicts of them."""
    if config.parts is None:
        return None
    return PartBook(
        config.line, config.parts.cameras or cameras, round(config.parts.window_ms * NS_PER_MS)
    )
