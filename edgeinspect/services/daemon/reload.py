"""Reloads engines and thresholds of a running line, on SIGHUP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

import structlog

from edgeinspect.config import LoadedConfig, load_config
from edgeinspect.errors import (
    ConfigError,
    ConfigFault,
    EdgeInspectError,
    ModelError,
)
from edgeinspect.pipeline.factory import load_engines
from edgeinspect.pipeline.line import Line
from edgeinspect.pipeline.shadow import ShadowProcess, find_candidates, make_plan
from edgeinspect.storage.model_store import ModelStore, default_root
from edgeinspect.storage.paths import shared_memory_folder
from edgeinspect.storage.shadow_results import RESULTS_SUFFIX
from edgeinspect.system import log_events, sd_notify

_log = structlog.get_logger()


class Reloader:
    """Reloads engines and thresholds in a thread, while the line runs.

    `request_reload` is safe in a signal handler. A failed reload leaves the line unchanged and
    raises an alarm until a reload succeeds.
    """

    def __init__(
        self, line: Line, loaded: LoadedConfig, path: Path, overrides: Sequence[str]
    ) -> None:
        self._line = line
        self._loaded = loaded
        self._path = path
        self._overrides = overrides
        self._requests: SimpleQueue[bool] = SimpleQueue()  # its `put` is safe in a signal handler
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request_reload(self) -> None:
        """Reload soon; several requests may become one reload."""
        self._requests.put(True)

    def stop(self) -> None:
        """End the thread; wait for a reload in progress, 5 s at most."""
        self._requests.put(False)
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        self._run_step(restart_shadow, self._line, self._loaded)
        while self._requests.get():
            while not self._requests.empty():
                if not self._requests.get():
                    return
            sd_notify("RELOADING=1", f"MONOTONIC_USEC={self._line.clock.now_ns() // 1000}")
            self._run_step(self.reload_now)
            self._run_step(restart_shadow, self._line, self._loaded)
            sd_notify("READY=1")

    def _run_step(self, step: Callable[..., object], *arguments: object) -> None:
        """Run a step; an alarm is raised if it does not return."""
        swap = self._line.engine_swap
        swap.reloading_since_ns = self._line.clock.now_ns()
        try:
            step(*arguments)
        finally:
            swap.reloading_since_ns = 0

    def reload_now(self) -> bool:
        """Reload now, in the caller's thread; return False if it was refused."""
        try:
            loaded = load_config(self._path, self._overrides)
            reload_engines(self._line, self._loaded, loaded)
        except EdgeInspectError as error:
            self._line.engine_swap.report_refusal(error)
            return False
        except Exception as error:  # of a library; the line continues, with an alarm
            problem = f"{type(error).__name__}: {error}"
            self._line.engine_swap.report_refusal(ModelError(problem, where=str(self._path)))
            return False
        self._loaded = loaded
        return True


def reload_engines(line: Line, current: LoadedConfig, new: LoadedConfig) -> None:
    """Apply the engines and thresholds of a new configuration to a running line.

    Raises:
        ConfigError: It changes more than a running line can reload.
        ModelError: A model is refused.
        MissingExtraError: A backend's library is not installed.
    """
    config = new.config
    changed = [
        name
        for name in config.__struct_fields__
        if name not in _RELOADABLE_SECTIONS
        and getattr(config, name) != getattr(current.config, name)
    ]
    if changed:
        problem = "cannot be changed while the line runs: restart it"
        raise ConfigError([ConfigFault(name, problem) for name in changed], where=new.where)
    workers = load_engines(new, line.clock, line.engine_swap.wait_for_idle)
    line.engine_swap.apply(config, new.hash, workers)


def restart_shadow(line: Line, loaded: LoadedConfig) -> None:
    """Run the versions whose state is `shadow` beside the line; log why if they are refused."""
    line.set_shadow(None)
    config = loaded.config
    store = ModelStore(Path(config.store) if config.store else default_root())
    folder = Path(config.ledger.folder) if config.ledger else shared_memory_folder(config)
    try:
        candidates = find_candidates(loaded, store)
        if not candidates:
            return
        plan = make_plan(
            loaded,
            store,
            line.workers[0].inspector,
            candidates,
            shared_memory_folder(config) / f"{config.line}.shadow.pixels",
            folder / f"{config.line}{RESULTS_SUFFIX}",
        )
        line.set_shadow(ShadowProcess(plan, line.spool.epoch))
    except (EdgeInspectError, OSError) as error:
        _log.error(log_events.SHADOW_STOPPED, models="", problem=str(error))


_RELOADABLE_SECTIONS = frozenset({"engines", "decide", "optics", "store"})
"""Sections that a running line can reload."""
