"""A line: `check`, `run`, `record`, `demo`."""

from __future__ import annotations

import msgspec


class CheckReport(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.check/1"):
    """`check`: whether a line can run on this PC."""

    file: str
    passed: bool
    """True if there is no problem. Without opening (`--no-open`), the file alone."""
    exit_code: int
    line: str | None = None
    """None if the configuration is invalid; so are the following."""
    config_hash: str | None = None
    opened: bool = False
    """False with `--no-open`: models and cameras were not opened."""
    running: bool = False
    """True if the line runs: its addresses and memory were not checked."""
    budget_ms: float | None = None
    models_p99_ms: float | None = None
    """Time of all models together; None if not measured."""
    cameras: list[CheckedCamera] = []
    models: list[CheckedModel] = []
    verdicts: str | None = None
    """Address of the verdicts."""
    replay: str | None = None
    """Address of requests."""
    rules: list[RejectRule] = []
    problems: list[Problem] = []
    notes: list[str] = []


class CheckedCamera(msgspec.Struct, kw_only=True):
    """A camera of a line."""

    name: str
    type: str
    failed: bool
    found: str
    """What was found when it was opened."""


class CheckedModel(msgspec.Struct, kw_only=True):
    """A model of a line."""

    role: str
    """`gate`, `segmenter` or `unknown`."""
    backend: str
    failed: bool
    found: str
    model: str | None = None
    """Name, version and hash; None if it was not loaded."""
    precision: str | None = None
    frame: str | None = None
    """Size of the frames that it takes."""
    p50_ms: float | None = None
    p99_ms: float | None = None


class RejectRule(msgspec.Struct, kw_only=True):
    """A rule of `decide`."""

    rule: str
    """`gate: suspect`, `gate: reject`, `gate: reject, no time left`, or a class."""
    score: float
    area_px: float | None = None
    area_mm2: float | None = None
    severity: int | None = None
    reject_code: int | None = None


class Problem(msgspec.Struct, kw_only=True):
    """One error, as it would be reported if it stood alone."""

    text: str
    exit_code: int


class RunOutcome(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.run/1"):
    """`run`: the counts when the line ended."""

    line: str
    captured: int
    passed: int
    reject: int
    no_verdict: int
    late: int
    degraded: int
    reasons: dict[str, int]
    """Of no verdict."""


class RecordOutcome(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.record/1"):
    """`record`: what was recorded."""

    out: str
    frames: int
    without_image: int
    missed: int
    """Verdicts that the recorder did not get."""
    end_reason: str


class DemoOutcome(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.demo/1"):
    """`demo`: counts, truth and times."""

    captured: int
    passed: int
    reject: int
    no_verdict: int
    late: int
    degraded: int
    reasons: dict[str, int]
    received: int
    """Verdicts received on the wire."""
    truth: dict[str, int]
    """What the generator knows: `defective`, `clean`, `escapes`, `overkills`, …"""
    latency_us: dict[str, int]
    """From capture to verdict: `p50`, `p99`, `p999`, `max`, …"""
    engine_us: dict[str, int]
    overhead_us: dict[str, int]
    past_deadline_us: dict[str, int]
    budget_ms: float
    rate_hz: float
    backend: str
