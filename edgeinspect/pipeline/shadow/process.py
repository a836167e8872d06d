"""The shadow: candidate models inspect copies of frames, in idle time and without effect.

They run in a process of their own at the kernel's idle priority: it gets a processor only while
no other process needs one, it holds no lock of the line, and a crash of native code there does
not end the line. This module is the line's side: a mailbox of one image, filled only when no
frame waits.
Source: docs/explanation/decisions/0010-model-store.md
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

from edgeinspect.config import LoadedConfig, PluginSelection
from edgeinspect.domain import FrameShape, Int64, ModelSpec
from edgeinspect.errors import DeviceLostError, ModelError
from edgeinspect.pipeline.inspection import DecisionRules, FrameInspector, UntimedResult
from edgeinspect.pipeline.verdicts import OpenFrame
from edgeinspect.storage.model_store import ModelStore
from edgeinspect.storage.shadow_results import ShadowSample, model_key, set_key
from edgeinspect.storage.shared_memory import allocate_file
from edgeinspect.system import log_events

REVIEW_CLASS = "(review)"
"""Stands for a mark of the good-parts model among the classes that are compared."""
READY = b"r"
"""Sent by the child when the mailbox is free."""
_log = structlog.get_logger()


class ShadowEngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How one engine of the shadow is loaded."""

    type: str
    options: bytes
    """The backend's `Options`, as JSON."""


class ShadowPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The first line on the child's stdin."""

    store: str
    engines: dict[str, ShadowEngineConfig]
    """By role."""
    rules: DecisionRules
    dims: tuple[Int64, Int64, Int64]
    mailbox: str
    record: str
    live: str
    shadow: str


def find_candidates(loaded: LoadedConfig, store: ModelStore) -> dict[str, ModelSpec]:
    """Return the shadow versions of the models that a configuration names without a version.

    Returns:
        By role; empty if there is none.

    Raises:
        ModelError: One is refused.
    """
    specs = {}
    for role, choice in loaded.engines.items():
        name = choice.options.model
        if "/" in name or not store.versions(name):
            continue
        shadow = store.model_versions(name).read_state().shadow
        if shadow is not None:
            specs[role] = store.resolve(f"{name}/{shadow}")
    return specs


def make_plan(
    loaded: LoadedConfig,
    store: ModelStore,
    inspector: FrameInspector,
    candidates: Mapping[str, ModelSpec],
    mailbox: Path,
    record: Path,
) -> ShadowPlan:
    """Return the plan of a child: the line's engines, with candidates in their places.

    Raises:
        ModelError: A candidate's frame size or classes differ from the line's.
    """
    engines, live, shadow = {}, [], []
    dims = (0, 0, 0)
    for role, engine in inspector.engines.by_role():
        if engine is None:
            continue
        now = engine.spec
        dims = now.shape.dims
        spec = candidates.get(role, now)
        if (spec.role, spec.shape, spec.classes) != (now.role, now.shape, now.classes):
            raise ModelError(
                f"{spec.id} cannot be the shadow of {now.id}: its frame size or its classes differ"
            )
        live.append(model_key(now.id.name, now.id.version, now.id.sha256))
        shadow.append(model_key(spec.id.name, spec.id.version, spec.id.sha256))
        engines[role] = _engine_config(loaded.engines[role], spec)
    return ShadowPlan(
        store=str(store.root),
        engines=engines,
        rules=inspector.rules,
        dims=dims,
        mailbox=str(mailbox),
        record=str(record),
        live=set_key(live),
        shadow=set_key(shadow),
    )


def _engine_config(choice: PluginSelection, spec: ModelSpec) -> ShadowEngineConfig:
    changes: dict[str, object] = {"model": str(spec.path.parent.absolute())}
    if hasattr(choice.options, "threads"):
        changes["threads"] = 1  # the other processors are left to the line
    options = msgspec.structs.replace(choice.options, **changes)
    return ShadowEngineConfig(type=choice.type, options=msgspec.json.encode(options))


class ShadowProcess:
    """The line's side of a running shadow.

    `submit` may be called by any worker, `check_child` and `close` by one other thread.
    """

    def __init__(self, plan: ShadowPlan, epoch: int) -> None:
        """Start the child.

        Raises:
            DeviceLostError: There is no memory for the mailbox.
        """
        self.models = plan.shadow
        self.submitted_count = 0
        """Frames that were copied for the child."""
        self._epoch = epoch
        self._lock = threading.Lock()
        self._is_ready = False
        self._has_reported_stop = False
        self._mailbox = Path(plan.mailbox)
        shape = FrameShape(*plan.dims)
        try:
            self._map = allocate_file(self._mailbox, shape.size_bytes)
        except OSError as error:
            raise DeviceLostError(
                f"no memory for a shadow: {error.strerror}", where=plan.mailbox
            ) from error
        self._mailbox_pixels = np.frombuffer(self._map, np.uint8).reshape(shape.dims)
        self._child = subprocess.Popen(
            [sys.executable, "-m", "edgeinspect.pipeline.shadow.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # No session of its own: the kernel may schedule sessions before priorities.
        )
        with contextlib.suppress(OSError):  # the child does so itself, but after its imports
            os.sched_setscheduler(self._child.pid, os.SCHED_IDLE, os.sched_param(0))
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._to_child, self._from_child = self._child.stdin.fileno(), self._child.stdout.fileno()
        self._child.stdin.write(msgspec.json.encode(plan) + b"\n")
        os.set_blocking(self._to_child, False)
        os.set_blocking(self._from_child, False)
        _log.info(log_events.SHADOW_STARTED, models=self.models, record=plan.record)

    def submit(self, frame: OpenFrame, result: UntimedResult) -> None:
        """Copy an inspected frame for the child, if it waits for one. Never blocks."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if not self._is_ready and not self._is_child_ready():
                return
            self._is_ready = False
            np.copyto(self._mailbox_pixels, frame.pixels)
            captured_at_utc_ns = frame.record.captured_at_utc_ns
            sample = to_sample(result, frame.seq, self._epoch, captured_at_utc_ns)
            os.write(self._to_child, msgspec.json.encode(sample) + b"\n")
            self.submitted_count += 1
        except OSError:
            pass  # the child has died, which `check_child` reports
        finally:
            self._lock.release()

    def _is_child_ready(self) -> bool:
        try:
            return os.read(self._from_child, 16) != b""
        except BlockingIOError:
            return False

    def check_child(self) -> bool:
        """Return whether the child runs; report once that it does not."""
        code = self._child.poll()
        if code is not None and not self._has_reported_stop:
            self._has_reported_stop = True
            _log.error(log_events.SHADOW_STOPPED, models=self.models, problem=f"ended with {code}")
        return code is None

    def close(self) -> None:
        """End the child; its results are saved if it ends within 5 s."""
        with self._lock:
            assert self._child.stdin is not None
            assert self._child.stdout is not None
            self._child.stdin.close()
            with contextlib.suppress(
                OSError
            ):  # at idle priority it would end late on a busy machine
                os.sched_setscheduler(self._child.pid, os.SCHED_OTHER, os.sched_param(0))
            try:
                self._child.wait(5)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._child.stdout.close()
            self._is_ready = False
            self._to_child = self._from_child = -1
            self._mailbox.unlink(missing_ok=True)
        if not self._has_reported_stop:
            self._has_reported_stop = True
            _log.info(log_events.SHADOW_STOPPED, models=self.models, problem="")


def to_sample(result: UntimedResult, seq: int, epoch: int, at_utc_ns: int) -> ShadowSample:
    """Return what is compared of a result."""
    assessment = result.assessment
    classes = assessment.reject_classes
    if assessment.review:  # it changes no decision, but two models may differ in it
        classes = (*classes, REVIEW_CLASS)
    return ShadowSample(
        seq=seq,
        epoch=epoch,
        at_utc_ns=at_utc_ns,
        decision=assessment.decision.value,
        classes=classes,
        prob=result.defect_prob,
    )
