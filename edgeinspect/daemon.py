"""The daemon: a configuration becomes a running line; signals reload its engines and end it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

import structlog

from edgeinspect import events
from edgeinspect.config.load import Loaded, PartChoice, load
from edgeinspect.config.places import memory_folder
from edgeinspect.domain.clock import Clock, SystemClock
from edgeinspect.errors import (
    ConfigError,
    EdgeInspectError,
    Fault,
    InternalError,
    LawError,
    ModelError,
)
from edgeinspect.pipeline.line import Engines, Line
from edgeinspect.pipeline.requirements import unmet
from edgeinspect.pipeline.shadow import Shadow, find_candidates, make_plan
from edgeinspect.pipeline.shadow_record import SUFFIX
from edgeinspect.ports import Camera, Engine
from edgeinspect.sdnotify import Pulse, notify
from edgeinspect.store import Store, default_root
from edgeinspect.wire import Counts

_log = structlog.get_logger()


def run(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    announce: Callable[[Line], None] = lambda line: None,
) -> Counts:
    """Run the line of a configuration file until a signal, the last frame, or a failure.

    Args:
        path: The configuration.
        overrides: `key.of.a.table=VALUE`; see `config.load.load`.
        announce: Called with the line once it captures.

    Returns:
        The final counters; every frame is closed.

    Raises:
        ConfigError: The configuration cannot be used.
        ModelError: A model is refused.
        CameraLostError: A camera stayed away through all its retries.
        LawError: A frame has no verdict: a bug.
    """
    loaded = load(path, overrides)
    _log.info(events.CONFIG_LOADED, where=loaded.where, config_hash=loaded.hash)
    clock = SystemClock()
    ended = threading.Event()
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        ended.set()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    line = build(loaded, clock, on_failure=fail, on_end=ended.set)
    reloader = Reloader(line, loaded, path, overrides)

    def on_reload(_number: int, _frame: FrameType | None) -> None:
        reloader.ask()

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, on_reload)
    try:
        line.start()
        try:
            reloader.start()
            announce(line)
            attend(line, ended)
        finally:  # whatever happens: a line that runs is stopped before it is taken apart
            notify("STOPPING=1")
            reloader.stop()
            counts = line.stop()
    finally:
        line.dispose()
        for number, handler in before.items():
            signal.signal(number, handler)
    if failures:
        raise failures[0]
    if counts.open or counts.captured != counts.passed + counts.reject + counts.no_verdict:
        raise LawError(f"{counts.open} frames without a verdict", where=loaded.config.line)
    return counts


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def attend(line: Line, ended: threading.Event) -> None:
    """Tell systemd how the line is until `ended`; its watchdog is fed while the line gets on.

    A line that stands still is not told to end: what of it works goes on giving verdicts
    until systemd ends it and starts it anew (`WatchdogSec=` of the unit).
    """
    pulse = Pulse(line.clock)
    notify("READY=1")
    said = stood = ""
    # A bounded wait lets Python run its signal handlers.
    while not ended.wait(min(0.5, pulse.period_s)):
        problem = line.progress.problem()
        if not problem:
            pulse.beat()
        elif problem != stood:
            _log.error(events.LINE_STALLED, line=line.config.line, problem=problem)
        stood = problem
        if problem:
            problem += ": the watchdog is not fed"
        words = problem or line.health.alarm or f"inspecting {line.config.line}"
        if words != said:
            notify(f"STATUS={words}")
            said = words


class Reloader:
    """Takes engines and thresholds anew while the line runs. `ask` is safe in a signal handler.

    What fails leaves the line as it was: an alarm says why, until a reload succeeds.
    """

    def __init__(self, line: Line, loaded: Loaded, path: Path, overrides: Sequence[str]) -> None:
        self._line = line
        self._loaded = loaded
        self._path = path
        self._overrides = overrides
        self._asked: SimpleQueue[bool] = SimpleQueue()  # may be put to in a signal handler
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def ask(self) -> None:
        """Reload soon; several askings may become one reload."""
        self._asked.put(True)

    def stop(self) -> None:
        """End the thread; a reload in progress is waited for, 5 s at most."""
        self._asked.put(False)
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        self._work(reshadow, self._line, self._loaded)
        while self._asked.get():
            while not self._asked.empty():
                if not self._asked.get():
                    return
            notify("RELOADING=1", f"MONOTONIC_USEC={self._line.clock.now_ns() // 1000}")
            self._work(self.reload)
            self._work(reshadow, self._line, self._loaded)
            notify("READY=1")

    def _work(self, duty: Callable[..., object], *arguments: object) -> None:
        """Do it, so that an alarm stands if it does not end."""
        swap = self._line.swap
        swap.reloading_since_ns = self._line.clock.now_ns()
        try:
            duty(*arguments)
        finally:
            swap.reloading_since_ns = 0

    def reload(self) -> bool:
        """Reload now, in the caller's thread; False if it was refused."""
        try:
            loaded = load(self._path, self._overrides)
            refit(self._line, self._loaded, loaded)
        except EdgeInspectError as error:
            self._line.swap.refuse(error)
            return False
        except Exception as error:  # a library's own: the line goes on, and a person is called
            words = f"{type(error).__name__}: {error}"
            self._line.swap.refuse(ModelError(words, where=str(self._path)))
            return False
        self._loaded = loaded
        return True


def refit(line: Line, now: Loaded, wanted: Loaded) -> None:
    """Give a running line the engines and thresholds of another configuration of it.

    Raises:
        ConfigError: More is changed than a running line can take.
        ModelError: A model is refused.
        MissingExtraError: A backend's library is not installed.
    """
    config = wanted.config
    changed = [
        name
        for name in config.__struct_fields__
        if name not in _RELOADED and getattr(config, name) != getattr(now.config, name)
    ]
    if changed:
        what = "cannot be changed while the line runs: restart it"
        raise ConfigError([Fault(name, what) for name in changed], where=wanted.where)
    workers = make_workers(wanted, line.clock, line.swap.wait_for_slack)
    line.swap.refit(config, wanted.hash, workers)


def reshadow(line: Line, loaded: Loaded) -> None:
    """Let the versions that are in shadow now judge beside the line; a refused one is logged."""
    line.set_shadow(None)
    config = loaded.config
    store = Store(Path(config.store) if config.store else default_root())
    folder = Path(config.ledger.folder) if config.ledger else memory_folder(config)
    try:
        candidates = find_candidates(loaded, store)
        if not candidates:
            return
        plan = make_plan(
            loaded,
            store,
            line.inspectors[0].current,
            candidates,
            memory_folder(config) / f"{config.line}.shadow.pixels",
            folder / f"{config.line}{SUFFIX}",
        )
        line.set_shadow(Shadow(plan, line.spool.epoch))
    except (EdgeInspectError, OSError) as error:
        _log.error(events.SHADOW_STOPPED, models="", problem=str(error))


_RELOADED = frozenset({"engines", "decide", "optics", "store"})
"""Sections that a running line takes anew."""


def build(
    loaded: Loaded,
    clock: Clock,
    *,
    on_failure: Callable[[BaseException], None],
    on_end: Callable[[], None],
    cameras: Mapping[str, Camera] | None = None,
) -> Line:
    """A line from a checked configuration, not yet started.

    Args:
        loaded: From `config.load.load`.
        clock: All deadlines.
        on_failure: Told of an error that ended a thread.
        on_end: Told when no camera will deliver any more.
        cameras: Cameras made already, instead of the configured ones.
    """
    config = loaded.config
    # Before the models, which take a second to load.
    for problem in unmet(config, len(loaded.cameras)):
        raise problem
    workers = make_workers(loaded, clock)
    try:
        return Line(
            config,
            config_hash=loaded.hash,
            cameras=cameras
            or {name: make_camera(choice, clock) for name, choice in loaded.cameras.items()},
            workers=workers,
            clock=clock,
            on_failure=on_failure,
            on_end=on_end,
        )
    except BaseException:
        for engines in workers:
            engines.close()
        raise


def make_workers(
    loaded: Loaded, clock: Clock, wait: Callable[[], None] = lambda: None
) -> list[Engines]:
    """The engines of every worker, loaded, with `wait` before each; raises as `make_engines`."""
    config = loaded.config
    store = Store(Path(config.store) if config.store else default_root())
    workers: list[Engines] = []
    try:
        for _ in range(config.inspect.workers):
            workers.append(make_engines(loaded, clock, store, wait))
    except BaseException:
        for engines in workers:
            engines.close()
        raise
    return workers


def make_engines(
    loaded: Loaded, clock: Clock, store: Store, wait: Callable[[], None] = lambda: None
) -> Engines:
    """One worker's engines, loaded.

    Raises:
        ModelError: A model is refused.
        MissingExtraError: The backend's library is not installed.
    """
    gate = segmenter = None
    if "gate" in loaded.engines:
        wait()
        gate = make_engine(loaded.engines["gate"], clock, store)
    if "segmenter" in loaded.engines:
        try:
            wait()
            segmenter = make_engine(loaded.engines["segmenter"], clock, store)
        except BaseException:
            if gate is not None:
                gate.close()
            raise
    return Engines(gate, segmenter)


def make_engine(choice: PartChoice, clock: Clock, store: Store) -> Engine:
    """One engine, loaded; raises as `make_engines`."""
    engine = choice.module.build(choice.options, clock, store=store)
    if not isinstance(engine, Engine):
        raise InternalError(f"backend {choice.type} does not build an Engine")
    spec = engine.spec
    _log.info(events.ENGINE_LOADED, engine=spec.kind.value, model=str(spec.id), backend=choice.type)
    return engine


def make_camera(choice: PartChoice, clock: Clock) -> Camera:
    """One camera, not opened."""
    camera = choice.module.build(choice.options, clock)
    if not isinstance(camera, Camera):
        raise InternalError(f"camera {choice.type} does not build a Camera")
    return camera
