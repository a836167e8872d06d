"""Reloading engines and thresholds of a running line, on SIGHUP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

import structlog

from edgeinspect.config.loader import Loaded, load
from edgeinspect.errors import (
    ConfigError,
    EdgeInspectError,
    Fault,
    ModelError,
)
from edgeinspect.pipeline.factory import make_workers
from edgeinspect.pipeline.line import Line
from edgeinspect.pipeline.shadow.shadow import Shadow, find_candidates, make_plan
from edgeinspect.storage.model_store import Store, default_root
from edgeinspect.storage.paths import memory_folder
from edgeinspect.storage.shadow_results import SUFFIX
from edgeinspect.system import log_events
from edgeinspect.system.systemd import notify

_log = structlog.get_logger()


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
        _log.error(log_events.SHADOW_STOPPED, models="", problem=str(error))


_RELOADED = frozenset({"engines", "decide", "optics", "store"})
"""Sections that a running line takes anew."""
