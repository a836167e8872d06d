"""What `edgeinspect engines` does with a version: load it, prove it, time it, count its shadow."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edgeinspect import registry
from edgeinspect.domain.clock import SystemClock
from edgeinspect.domain.model import ModelSpec
from edgeinspect.errors import EngineFault, ModelError, UsageError
from edgeinspect.ports import Engine
from edgeinspect.storage.model_store import Store, read_manifest
from edgeinspect.storage.model_store.golden_frames import amend_manifest, make_golden, prove
from edgeinspect.storage.shadow_results import SUFFIX, Comparison, compare, model_key
from edgeinspect.system.gpu_devices import devices

BACKENDS = ("ov", "ort")
"""What a graph is loaded with, in this order, if nobody says otherwise."""
PLAN_BACKEND = "trt"
_LEDGERS = Path("/var/lib/edgeinspect/ledger")


def pick_backend(spec: ModelSpec, named: str) -> str:
    """The backend to load a version with; empty if none is installed.

    Args:
        spec: A plan needs the backend that made it.
        named: A backend, `auto`, or `none`.

    Raises:
        UsageError: The named one cannot be used here.
    """
    if named == "none":
        return ""
    if named != "auto":
        reason = registry.missing_reason("backend", named)
        if reason:
            raise UsageError(f"backend {named}: {reason}")
        return named
    wanted = BACKENDS if spec.path.suffix == ".onnx" else (PLAN_BACKEND,)
    existing = registry.names("backend")
    for name in wanted:
        if name in existing and registry.missing_reason("backend", name) is None:
            return name
    return ""


def load(store: Store, spec: ModelSpec, backend: str) -> Engine:
    """A version as an engine; raises as the backend's `build`."""
    module = registry.part("backend", backend)
    options = msgspec.convert({"model": str(spec.path.parent.absolute())}, module.Options)
    engine: Engine = module.build(options, SystemClock(), store=store)
    return engine


def verify(store: Store, ref: str, named: str) -> str:
    """Verify a version's files, load it and hold it against its golden frames.

    Returns:
        What was shown, in words.

    Raises:
        ModelError: It is refused.
        UsageError: As `pick_backend`.
    """
    spec = store.resolve(ref)
    backend = pick_backend(spec, named)
    if not backend:
        return "its files are the accepted ones; it was not loaded"
    engine = load(store, spec, backend)
    try:
        return f"{backend}: {prove(engine)}"
    finally:
        engine.close()


def keep_golden(store: Store, ref: str, named: str, pictures: Sequence[Path], who: str) -> int:
    """Make golden frames of pictures, cut or letterboxed to the model's frame; how many.

    Raises:
        DataError: A picture cannot be read, or there are too many.
        ModelError: The version is refused, or cannot be written.
    """
    import numpy as np

    from edgeinspect.imaging.image_file import read
    from edgeinspect.imaging.letterbox import letterbox
    from edgeinspect.imaging.read_settings import Declared, declared
    from edgeinspect.learning.datasets.bit_depth import find_depth

    spec = store.resolve(ref)
    backend = pick_backend(spec, named)
    if not backend:
        raise UsageError("golden frames need a backend to make them with")
    height, width, _channels = spec.shape.dims
    images = []
    said = declared(pictures[0].parent) if pictures else Declared()
    reading = find_depth(pictures, said, "the golden pictures").reading(spec.color)
    for path in pictures:
        fitted = letterbox(read(path, reading), height, width)[0]
        images.append(np.ascontiguousarray(fitted.reshape(spec.shape.dims)))
    engine = load(store, spec, backend)
    try:
        prove(engine)
        make_golden(engine, images)
    except EngineFault as fault:
        raise ModelError(str(fault), where=str(spec.path)) from fault
    finally:
        engine.close()
    store.shelf(spec.id.name).reseal(spec.id.version, "golden frames", who)
    return len(images)


def measure(store: Store, ref: str, named: str, who: str) -> tuple[int, int]:
    """Time a version on this machine and write p50 and p99, in µs, into its manifest."""
    from edgeinspect.cli.check import measure as time_engine

    spec = store.resolve(ref)
    backend = pick_backend(spec, named)
    if not backend:
        raise UsageError("a latency needs a backend to be measured with")
    engine = load(store, spec, backend)
    try:
        timing = time_engine(engine, SystemClock())
    except EngineFault as fault:
        raise ModelError(str(fault), where=str(spec.path)) from fault
    finally:
        engine.close()
    device = (devices() or ("",))[0] if backend == PLAN_BACKEND else processor()
    folder = spec.path.parent
    kept = [
        each
        for each in read_manifest(folder / "manifest.yaml").latency
        if (each.backend, each.device) != (backend, device)
    ]
    p50_us, p99_us = timing.p50_ns // 1000, timing.p99_ns // 1000
    fresh = {
        "backend": backend,
        "device": device,
        "p50_us": p50_us,
        "p99_us": p99_us,
        "at": datetime.now(timezone.utc).date().isoformat(),
    }
    amend_manifest(folder, latency=[*map(msgspec.to_builtins, kept), fresh])
    store.shelf(spec.id.name).reseal(spec.id.version, "latency", who)
    return p50_us, p99_us


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                return value.strip()
    except OSError:
        pass
    return platform.machine()


def records(line: Path | None, record: Path | None) -> list[Path]:
    """The shadow's records: the one that is named, a line's, or all of this machine."""
    if record is not None:
        return [record]
    if line is None:
        return sorted(_LEDGERS.glob(f"*{SUFFIX}"))
    from edgeinspect.config.loader import load as load_config
    from edgeinspect.storage.paths import memory_folder

    config = load_config(line).config
    folder = Path(config.ledger.folder) if config.ledger else memory_folder(config)
    return [folder / f"{config.line}{SUFFIX}"]


def shadow_of(store: Store, name: str, version: int, paths: Sequence[Path]) -> list[Comparison]:
    """What the records say of this very file of a version."""
    sha256 = read_manifest(store.root / name / str(version) / "manifest.yaml").sha256
    return compare(paths, model_key(name, version, sha256))


def demand_shadow(
    store: Store, name: str, version: int, paths: Sequence[Path], frames: int, at_most: float
) -> None:
    """Refuse a promotion without enough agreement in shadow.

    Raises:
        ModelError: Fewer frames than demanded against what is live now, or the upper end of
            the interval of its disagreement is above the bound.
    """
    from edgeinspect.learning.evaluate.metrics.scores import wilson

    live = store.resolve(name).id
    key = model_key(live.name, live.version, live.sha256)
    found = [one for one in shadow_of(store, name, version, paths) if key in one.live.split(" ")]
    seen = sum(one.frames for one in found)
    differ = sum(one.disagreements for one in found)
    where = ", ".join(map(str, paths)) or str(_LEDGERS)
    if seen < frames:
        raise ModelError(
            f"{name}/{version} has judged {seen} frames in shadow of {live}; {frames} are demanded",
            where=where,
            remedy=f"edgeinspect engines shadow {name}/{version} --start, then reload the line",
        )
    upper = wilson(differ, seen)[1]
    if upper > at_most:
        raise ModelError(
            f"{name}/{version} decided otherwise on {differ} of {seen} frames: up to {upper:.2%} "
            f"(95 %), more than {at_most:.2%}",
            where=where,
            remedy=f"Look at them: edgeinspect engines shadow {name}/{version}",
        )
