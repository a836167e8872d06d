"""`edgeinspect check FILE`: check whether a line can run within its time budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.text import Text

from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_json
from edgeinspect.cli._options import OVERRIDES
from edgeinspect.cli._paths import LINE_FILE
from edgeinspect.cli._reject_rules import reject_rules
from edgeinspect.cli._results.line import (
    CheckedCamera,
    CheckedModel,
    CheckReport,
    Problem,
)
from edgeinspect.cli._tables import Column, TextTable, number, print_table, print_text
from edgeinspect.cli._terminal import Console, echo
from edgeinspect.config import LineConfig, LoadedConfig, PluginSelection, check_models, load_config
from edgeinspect.domain import (
    KINDS_ONLY,
    NS_PER_MS,
    NS_PER_S,
    Clock,
    Decides,
    Grab,
    ModelSpec,
    SystemClock,
)
from edgeinspect.errors import (
    EXIT_CONFIG,
    EXIT_DATAERR,
    EXIT_OK,
    EXIT_TEMPFAIL,
    EXIT_UNAVAILABLE,
    ConfigError,
    ConfigFault,
    EdgeInspectError,
    exit_code_of,
)
from edgeinspect.pipeline.start_checks import is_running, unmet_requirements
from edgeinspect.ports import Camera, CameraFinished, Engine, ImageFileCamera
from edgeinspect.storage.model_store import MANIFEST_FILE, ModelStore, read_manifest
from edgeinspect.storage.paths import bind_addresses, shared_memory_folder

WARM_UP_RUNS = 10
MAX_TIMED_RUNS = 50
"""Timed inferences an engine, or as many as fit into the sampling time."""
MAX_TIMING_NS = 5 * NS_PER_S
GRAB_TIMEOUT_NS = 2 * NS_PER_S

_EXIT_CODE_PRIORITY = (EXIT_CONFIG, EXIT_DATAERR, EXIT_UNAVAILABLE, EXIT_TEMPFAIL)
"""Priority of exit codes when there are faults of several kinds."""


@dataclass(frozen=True, slots=True)
class EngineTiming:
    """One engine's measured inference time."""

    p50_ns: int
    p99_ns: int

    def __str__(self) -> str:
        return f"p50 {self.p50_ns / NS_PER_MS:.1f} ms, p99 {self.p99_ns / NS_PER_MS:.1f} ms"


@dataclass(slots=True)
class CheckResult:
    """Results of opening a line's cameras and engines."""

    errors: list[EdgeInspectError] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    """By `cameras.<name>` or `engines.<name>`."""
    failed: set[str] = field(default_factory=set)
    specs: dict[str, ModelSpec] = field(default_factory=dict)
    timings: dict[str, EngineTiming] = field(default_factory=dict)

    def add_failure(self, path: str, error: EdgeInspectError) -> None:
        """Record that a camera or engine cannot be used."""
        self.errors.append(error)
        self.failed.add(path)
        self.notes[path] = str(error)


@click.command(
    cls=Command,
    examples=[
        ("Check everything that `run` needs", "edgeinspect check line.yaml"),
        ("Read the file alone, for another PC", "edgeinspect check line.yaml --no-open"),
    ],
)
@click.argument("file", type=LINE_FILE)
@OVERRIDES
@click.option("--no-open", is_flag=True, help="Only read FILE; open no model and no camera.")
@json_option("edgeinspect.cli._results.line:CheckReport")
def check(file: Path, overrides: tuple[str, ...], no_open: bool, as_json: bool) -> int:
    """Check the line that FILE describes, without running it.

    Reads the configuration, verifies and times the models, opens the cameras, and checks what
    `run` needs: memory, addresses, keys, real-time permissions. Lists every fault; a time
    budget that cannot be met is a fault.
    """
    try:
        loaded = load_config(file, overrides)
    except ConfigError as error:
        if as_json:
            print_json(_report_invalid_file(file, error))
        raise
    result = CheckResult()
    running = is_running(loaded.config)
    if not no_open:
        with Console(stderr=True).status("loading the models and timing them ..."):
            open_plugins(loaded, SystemClock(), result)
    shape = next((spec.shape for spec in result.specs.values()), None)
    unmet = unmet_requirements(loaded.config, len(loaded.cameras), shape)
    notes = _depth_notes(loaded, result) + _kinds_only_notes(result)
    notes += _third_opinion_notes(loaded.config, result.timings)
    if no_open:  # the file may be for another PC
        notes += [f"on this PC it could not start: {error}" for error in unmet]
    else:
        result.errors += unmet
    codes = [exit_code_of(error) for error in result.errors]
    code = next((code for code in _EXIT_CODE_PRIORITY if code in codes), [*codes, EXIT_OK][0])
    if as_json:
        report = _report(file, loaded, result, notes, opened=not no_open, code=code)
        report.running = running
        print_json(report)
    else:
        _show_tables(loaded, result)
    for note in notes:
        echo(f"edgeinspect: note: {note}", err=True)
    for problem in result.errors:
        echo(f"edgeinspect: error: {problem}", err=True)
    if not result.errors and not as_json:
        summary = "the file is valid" if no_open else "this line can run"
        if running:
            summary += ", and it is running: its addresses and memory were not checked"
        print_text(Text(f"{summary}  (configuration {loaded.hash})", style="bold green"))
    return code


def _report_invalid_file(file: Path, error: ConfigError) -> CheckReport:
    code = exit_code_of(error)
    return CheckReport(
        file=str(file),
        passed=False,
        exit_code=code,
        problems=[Problem(text=str(error), exit_code=code)],
    )


def _report(
    file: Path,
    loaded: LoadedConfig,
    result: CheckResult,
    notes: list[str],
    *,
    opened: bool,
    code: int,
) -> CheckReport:
    config = loaded.config
    verdicts, replay = bind_addresses(config, shared_memory_folder(config))
    return CheckReport(
        file=str(file),
        passed=not result.errors,
        exit_code=code,
        line=config.line,
        config_hash=loaded.hash,
        opened=opened,
        budget_ms=config.budget_ms,
        models_p99_ms=_total_ms(result.timings) if result.timings else None,
        cameras=[
            CheckedCamera(name=name, type=choice.type, **_found(result, f"cameras.{name}"))
            for name, choice in loaded.cameras.items()
        ],
        models=[
            _checked_model(role, choice.type, result) for role, choice in loaded.engines.items()
        ],
        verdicts=verdicts,
        replay=replay,
        rules=list(reject_rules(config)),
        problems=[
            Problem(text=str(error), exit_code=exit_code_of(error)) for error in result.errors
        ],
        notes=notes,
    )


def _found(result: CheckResult, path: str) -> dict[str, Any]:
    return {"failed": path in result.failed, "found": result.notes.get(path, "not opened")}


def _checked_model(role: str, backend: str, result: CheckResult) -> CheckedModel:
    model = CheckedModel(role=role, backend=backend, **_found(result, f"engines.{role}"))
    if (spec := result.specs.get(role)) is not None:
        model.model, model.precision = str(spec.id), spec.precision.value
        model.frame = str(spec.shape)
    if (timing := result.timings.get(role)) is not None:
        model.p50_ms, model.p99_ms = timing.p50_ns / NS_PER_MS, timing.p99_ns / NS_PER_MS
    return model


def open_plugins(loaded: LoadedConfig, clock: Clock, result: CheckResult) -> None:
    """Open all cameras and engines; failures are added to `result`."""
    config = loaded.config
    store = ModelStore(Path(config.store) if config.store else None)
    for name, choice in loaded.engines.items():
        _check_engine(f"engines.{name}", name, choice, clock, store, result)
    try:
        gate, segmenter = result.specs.get("gate"), result.specs.get("segmenter")
        check_models(config, gate, segmenter, result.specs.get("unknown"), where=loaded.where)
    except ConfigError as error:
        result.errors.append(error)
    for name, choice in loaded.cameras.items():
        _check_camera(f"cameras.{name}", choice, clock, result)
    if faults := _budget_faults(config, result.timings):
        result.errors.append(ConfigError(faults, where=loaded.where))


def _depth_notes(loaded: LoadedConfig, result: CheckResult) -> list[str]:
    """Return notes on cameras whose bit depth differs from a model's training images.

    Each is shifted to 8 bits by its own depth, so two cameras may differ. For one camera,
    training has taken a dark set for one of lower depth, and the line's frames are darker.
    """
    notes = []
    for name, spec in result.specs.items():
        training = read_manifest(spec.path.parent / MANIFEST_FILE).training
        trained = training.get("bits") if isinstance(training, dict) else None
        for camera, choice in loaded.cameras.items():
            bits = getattr(choice.options, "bits", None) or 8
            if isinstance(trained, int) and min(bits, trained) > 8 and bits != trained:
                notes.append(
                    f"cameras.{camera} has images of {bits} bits, and engines.{name} was trained "
                    f"on {trained}: if it is one camera, one of the two is wrong. Declare it in "
                    "the training set's reading.yaml and train again, or correct `bits` here"
                )
    return notes


def _kinds_only_notes(result: CheckResult) -> list[str]:
    return [
        f"engines.{name}: {spec.id} has `decides: kinds`: {KINDS_ONLY}. Its defect_prob is 1 on "
        "every frame, so it rejects every part, and only its reject code and severity differ"
        for name, spec in result.specs.items()
        if spec.decides is Decides.KINDS
    ]


def time_engine(engine: Engine, clock: Clock) -> EngineTiming:
    """Measure an engine on noise, after a warm-up.

    Raises:
        EngineFault: An inference failed.
    """
    image = np.random.default_rng(0).integers(0, 256, engine.spec.shape.dims, np.uint8)
    for _ in range(WARM_UP_RUNS):
        engine.infer(image)
    times: list[int] = []
    until_ns = clock.now_ns() + MAX_TIMING_NS
    while len(times) < MAX_TIMED_RUNS and (not times or clock.now_ns() < until_ns):
        before_ns = clock.now_ns()
        engine.infer(image)
        times.append(clock.now_ns() - before_ns)
    times.sort()
    return EngineTiming(times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)])


def _check_engine(
    path: str,
    name: str,
    choice: PluginSelection,
    clock: Clock,
    store: ModelStore,
    result: CheckResult,
) -> None:
    try:
        engine: Engine = choice.module.build(choice.options, clock, store=store)
        try:
            spec = result.specs[name] = engine.spec
            timing = result.timings[name] = time_engine(engine, clock)
        finally:
            engine.close()
    except EdgeInspectError as error:
        result.add_failure(path, error)
        return
    result.notes[path] = f"{spec.id} {spec.precision.value}, takes {spec.shape}, {timing}"


def _check_camera(path: str, choice: PluginSelection, clock: Clock, result: CheckResult) -> None:
    try:
        camera: Camera = choice.module.build(choice.options, clock)
        try:
            camera.open()
            # A triggered camera delivers nothing now.
            grab = camera.grab(GRAB_TIMEOUT_NS) if camera.period_ns is not None else None
            note = _describe_grab(grab, result)
            if isinstance(camera, ImageFileCamera):
                note += f"; skipped: {camera.skipped_files}" if camera.skipped_files else ""
                note += f"; ALARM: {camera.alarm}" if camera.alarm else ""
            result.notes[path] = note
            if grab is not None:
                camera.release(grab)
        finally:
            camera.close()
    except CameraFinished:
        result.notes[path] = "opened; it has no frame"
    except EdgeInspectError as error:
        result.add_failure(path, error)


def _describe_grab(grab: Grab | None, result: CheckResult) -> str:
    if grab is None:
        return "opened; no frame yet"
    if grab.pixels is None:
        return f"opened; its first frame cannot be read: {grab.problem}"
    size = "x".join(map(str, grab.pixels.shape))
    shapes = {spec.shape.dims for spec in result.specs.values()}
    if shapes and grab.pixels.shape not in shapes:
        wanted = " or ".join("x".join(map(str, dims)) for dims in sorted(shapes))
        return f"opened; delivers {size}, the models take {wanted}: see capture.wrong_shape"
    return f"opened; delivers {size}"


def _needed_timings(
    config: LineConfig, timings: dict[str, EngineTiming]
) -> dict[str, EngineTiming]:
    """Return the timings of the engines without which a frame has no ordinary verdict."""
    rule = config.decide.unknown
    if rule is None or rule.required or len(timings) == 1:
        return timings
    return {name: timing for name, timing in timings.items() if name != "unknown"}


def _third_opinion_notes(config: LineConfig, timings: dict[str, EngineTiming]) -> list[str]:
    """Return a note if there is rarely time to ask the good-parts model."""
    total_ms = _total_ms(timings)
    if len(_needed_timings(config, timings)) == len(timings) or total_ms <= config.budget_ms:
        return []
    return [
        f"all engines take {total_ms:.1f} ms at p99, and the budget is {config.budget_ms:g} ms: "
        "engines.unknown will not be asked about frames for which the others need their p99, and "
        "their verdicts say so. decide.unknown.required: true makes this a fault"
    ]


def _budget_faults(config: LineConfig, timings: dict[str, EngineTiming]) -> list[ConfigFault]:
    timings = _needed_timings(config, timings)
    total_ms = _total_ms(timings)
    if total_ms <= config.budget_ms:
        return []
    times = " + ".join(f"{name} {t.p99_ns / NS_PER_MS:.1f}" for name, t in timings.items())
    problem = (
        f"cannot be met on this machine: {times} = {total_ms:.1f} ms at p99. Raise it, use "
        "INT8 models, or a faster machine"
    )
    return [ConfigFault("budget_ms", problem, f"{config.budget_ms:g}")]


def _total_ms(timings: dict[str, EngineTiming]) -> float:
    return sum(timing.p99_ns for timing in timings.values()) / NS_PER_MS


def _show_tables(loaded: LoadedConfig, result: CheckResult) -> None:
    config = loaded.config
    table = TextTable(
        Column("plugin", fixed=True),
        Column("type", fixed=True),
        "result",
        title=f"line {config.line}: {config.budget_ms:g} ms from capture to verdict",
    )
    for section, parts in (("cameras", loaded.cameras), ("engines", loaded.engines)):
        for name, choice in parts.items():
            path = f"{section}.{name}"
            style = "red" if path in result.failed else "green"
            status = Text(result.notes.get(path, "not opened"), style=style)
            table.add_row(path, choice.type, status)
    verdicts, replay = bind_addresses(config, shared_memory_folder(config))
    table.add_row("verdicts", "PUB", verdicts)
    table.add_row("replay", "ROUTER", replay)
    print_table(table)
    rules = TextTable(
        Column("rejects", fixed=True),
        number("at score"),
        number("and area"),
        number("severity"),
        number("code"),
    )
    for rule in reject_rules(config):
        area = "" if rule.area_mm2 is None else f"{rule.area_mm2:g} mm²"
        rules.add_row(
            rule.rule,
            f"{rule.score:g}",
            f"{rule.area_px:g} px" if rule.area_px else area,
            rule.severity if rule.severity is not None else "",
            rule.reject_code if rule.reject_code is not None else "",
        )
    print_table(rules)
    if result.timings:
        print_text(_budget_text(config, result))


def _budget_text(config: LineConfig, result: CheckResult) -> Text:
    total_ms = _total_ms(result.timings)
    share = total_ms / config.budget_ms
    style = "red" if share > 1 else "yellow" if share > 0.7 else "green"
    words = f"engines take {total_ms:.1f} of {config.budget_ms:g} ms at p99 ({share:.0%})"
    return Text(words, style=style)
