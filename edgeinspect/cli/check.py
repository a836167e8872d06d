"""`edgeinspect check FILE`: would this line run, and in time?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._terminal import Console, echo
from edgeinspect.config import LineConfig, LoadedConfig, PluginSelection, check_models, load_config
from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, Grab, ModelSpec, SystemClock
from edgeinspect.errors import (
    EXIT_CONFIG,
    EXIT_DATAERR,
    EXIT_TEMPFAIL,
    EXIT_UNAVAILABLE,
    ConfigError,
    ConfigFault,
    EdgeInspectError,
    exit_code_of,
)
from edgeinspect.pipeline.start_checks import is_running, unmet_requirements
from edgeinspect.ports import Camera, CameraFinished, Engine
from edgeinspect.storage.model_store import MANIFEST_FILE, ModelStore, read_manifest
from edgeinspect.storage.paths import bind_addresses, shared_memory_folder

WARM_UP_RUNS = 10
MAX_TIMED_RUNS = 50
"""Timed inferences an engine, or as many as fit into `SAMPLING_NS`."""
MAX_TIMING_NS = 5 * NS_PER_S
GRAB_TIMEOUT_NS = 2 * NS_PER_S

_EXIT_CODE_PRIORITY = (EXIT_CONFIG, EXIT_DATAERR, EXIT_UNAVAILABLE, EXIT_TEMPFAIL)
"""Which exit code is given when faults of several kinds were found."""


@dataclass(frozen=True, slots=True)
class EngineTiming:
    """One engine's measured inference time."""

    p50_ns: int
    p99_ns: int

    def __str__(self) -> str:
        return f"p50 {self.p50_ns / NS_PER_MS:.1f} ms, p99 {self.p99_ns / NS_PER_MS:.1f} ms"


@dataclass(slots=True)
class CheckResult:
    """What opening the line's parts showed."""

    errors: list[EdgeInspectError] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    """By `cameras.<name>` or `engines.<name>`."""
    failed: set[str] = field(default_factory=set)
    specs: dict[str, ModelSpec] = field(default_factory=dict)
    timings: dict[str, EngineTiming] = field(default_factory=dict)

    def add_failure(self, path: str, error: EdgeInspectError) -> None:
        """Note that one part cannot be used."""
        self.errors.append(error)
        self.failed.add(path)
        self.notes[path] = str(error)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace one value, as cameras.top.path=/data; may be given often.",
)
@click.option("--no-open", is_flag=True, help="Only read FILE; open no model and no camera.")
def check(file: Path, overrides: tuple[str, ...], no_open: bool) -> int:
    """Check the line described in FILE, without running it.

    Reads the configuration, verifies and times the models, opens the cameras, and tries out
    what `run` needs: its memory, its addresses, its keys, what real time asks of the kernel.
    Every fault is listed; a line whose time budget cannot be met is refused.
    """
    loaded = load_config(file, overrides)
    console = Console()
    findings = CheckResult()
    running = is_running(loaded.config)
    if not no_open:
        with console.status("loading the models and timing them ..."):
            open_plugins(loaded, SystemClock(), findings)
    shape = next((spec.shape for spec in findings.specs.values()), None)
    lacking = unmet_requirements(loaded.config, len(loaded.cameras), shape)
    if no_open:  # the file may be another PC's
        for error in lacking:
            echo(f"edgeinspect: note: on this PC it could not start: {error}", err=True)
    else:
        findings.errors += lacking
    console.print(_plugin_table(loaded, findings))
    console.print(_reject_rule_table(loaded.config))
    if findings.timings:
        console.print(_budget_text(loaded.config, findings))
    for note in _depth_notes(loaded, findings):
        echo(f"edgeinspect: note: {note}", err=True)
    for error in findings.errors:
        echo(f"edgeinspect: error: {error}", err=True)
    if not findings.errors:
        seen = "the file has no fault" if no_open else "this line can run"
        if running:
            seen += ", and it runs now: its addresses and its memory were not tried"
        console.print(Text(f"{seen}  (configuration {loaded.hash})", style="bold green"))
        return 0
    codes = [exit_code_of(error) for error in findings.errors]
    return next((code for code in _EXIT_CODE_PRIORITY if code in codes), codes[0])


def open_plugins(loaded: LoadedConfig, clock: Clock, findings: CheckResult) -> None:
    """Open what can be opened; every failure becomes an entry of `findings`."""
    config = loaded.config
    store = ModelStore(Path(config.store) if config.store else None)
    for name, choice in loaded.engines.items():
        _check_engine(f"engines.{name}", name, choice, clock, store, findings)
    try:
        gate, segmenter = findings.specs.get("gate"), findings.specs.get("segmenter")
        check_models(config, gate, segmenter, where=loaded.where)
    except ConfigError as error:
        findings.errors.append(error)
    for name, choice in loaded.cameras.items():
        _check_camera(f"cameras.{name}", choice, clock, findings)
    if faults := _budget_faults(config, findings.timings):
        findings.errors.append(ConfigError(faults, where=loaded.where))


def _depth_notes(loaded: LoadedConfig, findings: CheckResult) -> list[str]:
    """Cameras of another depth than the pictures that a model was trained on.

    Both are shifted to 8 bits by their own, so two cameras may differ. Where it is one camera,
    the training took a dark set for a shallower one, and the line shows it darker.
    """
    notes = []
    for name, spec in findings.specs.items():
        training = read_manifest(spec.path.parent / MANIFEST_FILE).training
        trained = training.get("bits") if isinstance(training, dict) else None
        for camera, choice in loaded.cameras.items():
            has = getattr(choice.options, "bits", None) or 8
            if isinstance(trained, int) and min(has, trained) > 8 and has != trained:
                notes.append(
                    f"cameras.{camera} has pictures of {has} bits, and engines.{name} was trained "
                    f"on {trained}: if it is one camera, one of the two is wrong. Declare it in "
                    "the training set's reading.yaml and train again, or correct `bits` here"
                )
    return notes


def time_engine(engine: Engine, clock: Clock) -> EngineTiming:
    """Time an engine on noise, after warming it up.

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
    findings: CheckResult,
) -> None:
    try:
        engine: Engine = choice.module.build(choice.options, clock, store=store)
        try:
            spec = findings.specs[name] = engine.spec
            timing = findings.timings[name] = time_engine(engine, clock)
        finally:
            engine.close()
    except EdgeInspectError as error:
        findings.add_failure(path, error)
        return
    findings.notes[path] = f"{spec.id} {spec.precision.value}, takes {spec.shape}, {timing}"


def _check_camera(path: str, choice: PluginSelection, clock: Clock, findings: CheckResult) -> None:
    try:
        camera: Camera = choice.module.build(choice.options, clock)
        try:
            camera.open()
            # A camera that waits for a trigger has nothing to show now.
            grab = camera.grab(GRAB_TIMEOUT_NS) if camera.period_ns is not None else None
            skipped = getattr(camera, "skipped", "")
            passed_over = f"; passed over: {skipped}" if skipped else ""
            alarm = getattr(camera, "alarm", "")
            findings.notes[path] = (
                _describe_grab(grab, findings)
                + passed_over
                + (f"; ALARM: {alarm}" if alarm else "")
            )
            if grab is not None:
                camera.release(grab)
        finally:
            camera.close()
    except CameraFinished:
        findings.notes[path] = "opened; it has no frame"
    except EdgeInspectError as error:
        findings.add_failure(path, error)


def _describe_grab(grab: Grab | None, findings: CheckResult) -> str:
    if grab is None:
        return "opened; no frame yet"
    if grab.pixels is None:
        return f"opened; its first frame cannot be read: {grab.problem}"
    size = "x".join(map(str, grab.pixels.shape))
    shapes = {spec.shape.dims for spec in findings.specs.values()}
    if shapes and grab.pixels.shape not in shapes:
        wanted = " or ".join("x".join(map(str, dims)) for dims in sorted(shapes))
        return f"opened; delivers {size}, the models take {wanted}: see capture.wrong_shape"
    return f"opened; delivers {size}"


def _budget_faults(config: LineConfig, timings: dict[str, EngineTiming]) -> list[ConfigFault]:
    total_ms = _total_ms(timings)
    if total_ms <= config.budget_ms:
        return []
    stages = " + ".join(f"{name} {t.p99_ns / NS_PER_MS:.1f}" for name, t in timings.items())
    problem = (
        f"cannot be met on this machine: {stages} = {total_ms:.1f} ms at p99. Raise it, use "
        "INT8 models, or a faster machine"
    )
    return [ConfigFault("budget_ms", problem, f"{config.budget_ms:g}")]


def _total_ms(timings: dict[str, EngineTiming]) -> float:
    return sum(timing.p99_ns for timing in timings.values()) / NS_PER_MS


def _plugin_table(loaded: LoadedConfig, findings: CheckResult) -> Table:
    config = loaded.config
    title = f"line {config.line}: {config.budget_ms:g} ms from capture to verdict"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("part", "type", "found"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for section, parts in (("cameras", loaded.cameras), ("engines", loaded.engines)):
        for name, choice in parts.items():
            path = f"{section}.{name}"
            style = "red" if path in findings.failed else "green"
            found = Text(findings.notes.get(path, "not opened"), style=style)
            table.add_row(path, choice.type, found)
    verdicts, replay = bind_addresses(config, shared_memory_folder(config))
    table.add_row("verdicts", "PUB", Text(verdicts))
    table.add_row("replay", "ROUTER", Text(replay))
    return table


def _reject_rule_table(config: LineConfig) -> Table:
    table = Table(box=None, pad_edge=False, title="rejects", title_justify="left")
    for heading in ("rule", "at score", "and area", "severity", "code"):
        table.add_column(heading, header_style="dim")
    rule = config.decide.gate
    if rule is not None:
        table.add_row("gate: suspect", f"{rule.suspect_at:g}", "", "", "")
        table.add_row("gate: reject", f"{rule.reject_at:g}", "", "", str(rule.reject_code))
        alone = f"{rule.degraded_reject_at:g}"
        table.add_row("gate: reject, no time left", alone, "", "", str(rule.reject_code))
    for name, limits in config.decide.classes.items():
        area = f"{limits.area_px} px" if limits.area_px else f"{limits.area_mm2:g} mm²"
        table.add_row(
            Text(name), f"{limits.score:g}", area, str(limits.severity), str(limits.reject_code)
        )
    return table


def _budget_text(config: LineConfig, findings: CheckResult) -> Text:
    total_ms = _total_ms(findings.timings)
    share = total_ms / config.budget_ms
    style = "red" if share > 1 else "yellow" if share > 0.7 else "green"
    words = f"engines take {total_ms:.1f} of {config.budget_ms:g} ms at p99 ({share:.0%})"
    return Text(words, style=style)
