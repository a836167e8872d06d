"""The daemon: a configuration becomes a running line, and signals end it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

import structlog

from edgeinspect import events, realtime
from edgeinspect.config.load import Loaded, PartChoice, load
from edgeinspect.domain.clock import Clock, SystemClock
from edgeinspect.errors import InternalError, LawError
from edgeinspect.pipeline.line import Engines, Line
from edgeinspect.ports import Camera, Engine
from edgeinspect.sdnotify import notify
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
    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        line.start()
        announce(line)
        notify("READY=1", f"STATUS=inspecting {loaded.config.line}")
        while not ended.wait(0.5):  # a bounded wait lets Python run its signal handlers
            pass
        notify("STOPPING=1")
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
    realtime.apply(config.real_time)
    store = Store(Path(config.store) if config.store else default_root())
    workers: list[Engines] = []
    try:
        for _ in range(config.inspect.workers):
            workers.append(make_engines(loaded, clock, store))
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


def make_engines(loaded: Loaded, clock: Clock, store: Store) -> Engines:
    """One worker's engines, loaded.

    Raises:
        ModelError: A model is refused.
        MissingExtraError: The backend's library is not installed.
    """
    gate = segmenter = None
    if "gate" in loaded.engines:
        gate = make_engine(loaded.engines["gate"], clock, store)
    if "segmenter" in loaded.engines:
        segmenter = make_engine(loaded.engines["segmenter"], clock, store)
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
