"""Builds a line from its configuration: cameras, engines, pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from edgeinspect.config import LoadedConfig, PluginSelection
from edgeinspect.domain import Clock
from edgeinspect.errors import (
    InternalError,
)
from edgeinspect.pipeline.line import Line, WorkerEngines
from edgeinspect.pipeline.start_checks import unmet_requirements
from edgeinspect.ports import Camera, Engine
from edgeinspect.storage.model_store import ModelStore, default_root
from edgeinspect.system import log_events

_log = structlog.get_logger()


def build_line(
    loaded: LoadedConfig,
    clock: Clock,
    *,
    on_failure: Callable[[BaseException], None],
    on_end: Callable[[], None],
    cameras: Mapping[str, Camera] | None = None,
) -> Line:
    """A line from a checked configuration, not yet started.

    Args:
        loaded: From `config.load.load_arrays`.
        clock: All deadlines.
        on_failure: Told of an error that ended a thread.
        on_end: Told when no camera will deliver any more.
        cameras: Cameras made already, instead of the configured ones.
    """
    config = loaded.config
    # Before the models, which take a second to load.
    for problem in unmet_requirements(config, len(loaded.cameras)):
        raise problem
    workers = load_engines(loaded, clock)
    try:
        return Line(
            config,
            config_hash=loaded.hash,
            cameras=cameras
            or {name: make_camera(choice, clock) for name, choice in loaded.cameras.items()},
            worker_engines=workers,
            clock=clock,
            on_failure=on_failure,
            on_end=on_end,
        )
    except BaseException:
        for engines in workers:
            engines.close()
        raise


def load_engines(
    loaded: LoadedConfig, clock: Clock, before_load: Callable[[], None] = lambda: None
) -> list[WorkerEngines]:
    """The engines of every worker, loaded, with `wait` before each; raises as `make_engines`."""
    config = loaded.config
    store = ModelStore(Path(config.store) if config.store else default_root())
    workers: list[WorkerEngines] = []
    try:
        for _ in range(config.inspect.workers):
            workers.append(load_worker_engines(loaded, clock, store, before_load))
    except BaseException:
        for engines in workers:
            engines.close()
        raise
    return workers


def load_worker_engines(
    loaded: LoadedConfig,
    clock: Clock,
    store: ModelStore,
    before_load: Callable[[], None] = lambda: None,
) -> WorkerEngines:
    """One worker's engines, loaded.

    Raises:
        ModelError: A model is refused.
        MissingExtraError: The backend's library is not installed.
    """
    gate = segmenter = None
    if "gate" in loaded.engines:
        before_load()
        gate = load_engine(loaded.engines["gate"], clock, store)
    if "segmenter" in loaded.engines:
        try:
            before_load()
            segmenter = load_engine(loaded.engines["segmenter"], clock, store)
        except BaseException:
            if gate is not None:
                gate.close()
            raise
    return WorkerEngines(gate, segmenter)


def load_engine(choice: PluginSelection, clock: Clock, store: ModelStore) -> Engine:
    """One engine, loaded; raises as `make_engines`."""
    engine = choice.module.build(choice.options, clock, store=store)
    if not isinstance(engine, Engine):
        raise InternalError(f"backend {choice.type} does not build an Engine")
    spec = engine.spec
    _log.info(
        log_events.ENGINE_LOADED, engine=spec.kind.value, model=str(spec.id), backend=choice.type
    )
    return engine


def make_camera(choice: PluginSelection, clock: Clock) -> Camera:
    """One camera, not opened."""
    camera = choice.module.build(choice.options, clock)
    if not isinstance(camera, Camera):
        raise InternalError(f"camera {choice.type} does not build a Camera")
    return camera
