"""The shadow: candidates judge in slack time what the line has judged, and nobody acts on it.

They run in a process of their own at the kernel's idle priority: it gets a processor only
while nobody else wants one, it holds no lock of ours, and native code that dies there kills
no line. Here is the line's side: a mailbox of one picture, filled only when no frame waits.
Source: docs/decisions/0010-engine-store.md
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import structlog

from edgeinspect.config.loader import Loaded, PartChoice
from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.model import ModelSpec
from edgeinspect.domain.numbers import Int64
from edgeinspect.domain.verdict import Finding
from edgeinspect.errors import DeviceLostError, ModelError
from edgeinspect.pipeline.inspection.decision import Rules
from edgeinspect.pipeline.inspection.frame_inspector import Judge, Opinion
from edgeinspect.pipeline.verdicts.open_frames import OpenFrame
from edgeinspect.storage.model_store import Store
from edgeinspect.storage.shadow_results import Shown, model_key, set_key
from edgeinspect.storage.shared_memory.folder import allocate
from edgeinspect.system import log_events

READY = b"r"
"""What the child says when the mailbox is its no longer."""
_log = structlog.get_logger()


class ShadowEngine(msgspec.Struct, frozen=True, kw_only=True):
    """How one engine of the shadow is built."""

    type: str
    options: bytes
    """The backend's `Options`, as JSON."""


class ShadowPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is told first."""

    store: str
    engines: dict[str, ShadowEngine]
    """`gate`, `segmenter` or both."""
    rules: Rules
    dims: tuple[Int64, Int64, Int64]
    mailbox: str
    record: str
    live: str
    shadow: str


def find_candidates(loaded: Loaded, store: Store) -> dict[str, ModelSpec]:
    """The versions in shadow of the models that a configuration names without a version.

    Returns:
        By `gate` or `segmenter`; empty if there is none.

    Raises:
        ModelError: One is refused.
    """
    specs = {}
    for role, choice in loaded.engines.items():
        name = choice.options.model
        if "/" in name or not store.versions(name):
            continue
        shadow = store.shelf(name).register().shadow
        if shadow is not None:
            specs[role] = store.resolve(f"{name}/{shadow}")
    return specs


def make_plan(
    loaded: Loaded,
    store: Store,
    judge: Judge,
    candidates: Mapping[str, ModelSpec],
    mailbox: Path,
    record: Path,
) -> ShadowPlan:
    """What the child needs: the line's engines, with the candidates in their places.

    Raises:
        ModelError: A candidate takes other frames or finds other classes than the line's.
    """
    engines, live, shadow = {}, [], []
    dims = (0, 0, 0)
    for role, engine in (("gate", judge.gate), ("segmenter", judge.segmenter)):
        if engine is None:
            continue
        now = engine.spec
        dims = now.shape.dims
        spec = candidates.get(role, now)
        if (spec.kind, spec.shape, spec.classes) != (now.kind, now.shape, now.classes):
            raise ModelError(
                f"{spec.id} cannot be the shadow of {now.id}: it takes other frames "
                "or finds other classes"
            )
        live.append(model_key(now.id.name, now.id.version, now.id.sha256))
        shadow.append(model_key(spec.id.name, spec.id.version, spec.id.sha256))
        engines[role] = _engine(loaded.engines[role], spec)
    return ShadowPlan(
        store=str(store.root),
        engines=engines,
        rules=judge.rules,
        dims=dims,
        mailbox=str(mailbox),
        record=str(record),
        live=set_key(live),
        shadow=set_key(shadow),
    )


def _engine(choice: PartChoice, spec: ModelSpec) -> ShadowEngine:
    changes: dict[str, object] = {"model": str(spec.path.parent.absolute())}
    if hasattr(choice.options, "threads"):
        changes["threads"] = 1  # the other processors stay the line's
    options = msgspec.structs.replace(choice.options, **changes)
    return ShadowEngine(type=choice.type, options=msgspec.json.encode(options))


class Shadow:
    """The line's side of a running shadow.

    `show` may be called by any worker, `check` and `close` by one other thread.
    """

    def __init__(self, plan: ShadowPlan, epoch: int) -> None:
        """Start the child; it says when it is ready.

        Raises:
            DeviceLostError: There is no memory for the mailbox.
        """
        self.models = plan.shadow
        self.shown = 0
        """Frames that were handed over."""
        self._epoch = epoch
        self._lock = threading.Lock()
        self._ready = False
        self._told = False
        self._mailbox = Path(plan.mailbox)
        shape = FrameShape(*plan.dims)
        try:
            self._map = allocate(self._mailbox, shape.size_bytes)
        except OSError as error:
            raise DeviceLostError(
                f"no memory for a shadow: {error.strerror}", where=plan.mailbox
            ) from error
        self._picture = np.frombuffer(self._map, np.uint8).reshape(shape.dims)
        self._child = subprocess.Popen(
            [sys.executable, "-m", "edgeinspect.pipeline.shadow.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # No session of its own: the kernel may weigh sessions before priorities.
        )
        with contextlib.suppress(OSError):  # it does so itself, but after its imports
            os.sched_setscheduler(self._child.pid, os.SCHED_IDLE, os.sched_param(0))
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._to, self._from = self._child.stdin.fileno(), self._child.stdout.fileno()
        self._child.stdin.write(msgspec.json.encode(plan) + b"\n")
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        _log.info(log_events.SHADOW_STARTED, models=self.models, record=plan.record)

    def show(self, frame: OpenFrame, opinion: Opinion) -> None:
        """Hand over a frame that was judged, if the child waits for one. Never blocks."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if not self._ready and not self._hears():
                return
            self._ready = False
            np.copyto(self._picture, frame.pixels)
            record = frame.record
            shown = shown_of(
                opinion.finding,
                opinion.defect_prob,
                frame.seq,
                self._epoch,
                record.captured_at_utc_ns,
            )
            os.write(self._to, msgspec.json.encode(shown) + b"\n")
            self.shown += 1
        except OSError:
            pass  # the child is gone, and `check` will say so
        finally:
            self._lock.release()

    def _hears(self) -> bool:
        try:
            return os.read(self._from, 16) != b""
        except BlockingIOError:
            return False

    def check(self) -> bool:
        """True while the child lives; says once that it does not."""
        code = self._child.poll()
        if code is not None and not self._told:
            self._told = True
            _log.error(log_events.SHADOW_STOPPED, models=self.models, problem=f"ended with {code}")
        return code is None

    def close(self) -> None:
        """End the child; what it has judged is written, if it ends within 5 s."""
        with self._lock:
            assert self._child.stdin is not None
            assert self._child.stdout is not None
            self._child.stdin.close()
            with contextlib.suppress(OSError):  # idle on a busy machine, it would end late
                os.sched_setscheduler(self._child.pid, os.SCHED_OTHER, os.sched_param(0))
            try:
                self._child.wait(5)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._child.stdout.close()
            self._ready = False
            self._to = self._from = -1
            self._mailbox.unlink(missing_ok=True)
        if not self._told:
            self._told = True
            _log.info(log_events.SHADOW_STOPPED, models=self.models, problem="")


def shown_of(finding: Finding, prob: float | None, seq: int, epoch: int, at_utc_ns: int) -> Shown:
    """What is compared of a finding."""
    return Shown(
        seq=seq,
        epoch=epoch,
        at_utc_ns=at_utc_ns,
        decision=finding.decision.value,
        classes=tuple(sorted({region.class_name for region in finding.regions if region.fatal})),
        prob=prob,
    )
