"""Creates a line from its configuration: cameras, engines, and the line itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from edgeinspect.config import LoadedConfig, PluginSelection
from edgeinspect.domain import ENGINE_ROLES, Clock
from edgeinspect.errors import InternalError
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
    """Return a line that is not started yet.

    Args:
        loaded: From `config.load_config`.
        clock: See `Line`.
        on_failure: See `Line`.
        on_end: See `Line`.
        cameras: To be used instead of the configured ones.

    Raises:
        EdgeInspectError: The first unmet requirement, or what `load_engines` and `Line` raise.
    """
    config = loaded.config
    # Before the models, which take a second to load.
    for problem in unmet_requirements(config, len(loaded.cameras)):
        raise problem
    worker_engines = load_engines(loaded, clock)
    try:
        return Line(
            config,
            config_hash=loaded.hash,
            cameras=cameras
            or {name: make_camera(choice, clock) for name, choice in loaded.cameras.items()},
            worker_engines=worker_engines,
            clock=clock,
            on_failure=on_failure,
            on_end=on_end,
        )
    except BaseException:
        for engines in worker_engines:
            engines.close()
        raise


def load_engines(
    loaded: LoadedConfig, clock: Clock, before_load: Callable[[], None] = lambda: None
) -> list[WorkerEngines]:
    """Load the engines of every worker.

    Args:
        loaded: From `config.load_config`.
        clock: For the backends.
        before_load: Called before each engine.

    Raises:
        ModelError: A model is refused.
        MissingExtraError: The backend's library is not installed.
    """
    config = loaded.config
    store = ModelStore(Path(config.store) if config.store else default_root())
    worker_engines: list[WorkerEngines] = []
    with contextlib.ExitStack() as on_error:
        for _ in range(config.inspect.workers):
            engines: dict[str, Engine] = {}
            for role in ENGINE_ROLES:
                if role in loaded.engines:
                    before_load()
                    engines[role] = load_engine(loaded.engines[role], clock, store)
                    on_error.callback(engines[role].close)
            worker_engines.append(WorkerEngines(*map(engines.get, ENGINE_ROLES)))
        on_error.pop_all()
    return worker_engines


def load_engine(choice: PluginSelection, clock: Clock, store: ModelStore) -> Engine:
    """Load one engine; raise as `load_engines`."""
    engine = choice.module.build(choice.options, clock, store=store)
    if not isinstance(engine, Engine):
        raise InternalError(f"backend {choice.type} does not build an Engine")
    spec = engine.spec
    _log.info(log_events.ENGINE_LOADED, engine=spec.role, model=str(spec.id), backend=choice.type)
    return engine


def make_camera(choice: PluginSelection, clock: Clock) -> Camera:
    """Create one camera, not opened."""
    camera = choice.module.build(choice.options, clock)
    if not isinstance(camera, Camera):
        raise InternalError(f"camera {choice.type} does not build a Camera")
    return camera
