"""The rules by which a line rejects, one row each, for `check`."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.cli._results.line import RejectRule
from edgeinspect.config import LineConfig


def reject_rules(config: LineConfig) -> Iterator[RejectRule]:
    """Yield the rules of the gate, its kinds, the classes, and the good-parts model."""
    rule = config.decide.gate
    if rule is not None:
        yield RejectRule(rule="gate: suspect", score=rule.suspect_at)
        code = rule.reject_code
        yield RejectRule(rule="gate: reject", score=rule.reject_at, reject_code=code)
        yield RejectRule(
            rule="gate: reject, no time left", score=rule.degraded_reject_at, reject_code=code
        )
        for name, kind in rule.classes.items():
            yield RejectRule(
                rule=f"gate: {name}",
                score=rule.reject_at if kind.prob is None else kind.prob,
                severity=kind.severity,
                reject_code=kind.reject_code,
            )
    for name, limits in config.decide.classes.items():
        yield RejectRule(
            rule=name,
            score=limits.score,
            area_px=limits.area_px or None,
            area_mm2=None if limits.area_px else limits.area_mm2,
            severity=limits.severity,
            reject_code=limits.reject_code,
        )
    yield from _unknown_rule(config)


def _unknown_rule(config: LineConfig) -> Iterator[RejectRule]:
    rule = config.decide.unknown
    if rule is not None:
        yield RejectRule(
            rule="unknown" if rule.action == "reject" else "unknown: for review",
            score=rule.reject_at,
            area_px=rule.area_px,
            severity=rule.severity,
            reject_code=rule.reject_code,
        )
