"""What `edgeinspect engines` does with a version: load it, prove it, time it, count its shadow."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edgeinspect import registry
from edgeinspect.domain import ModelSpec, SystemClock
from edgeinspect.errors import EngineFault, ModelError, UsageError
from edgeinspect.ports import Engine
from edgeinspect.storage.model_store import (
    ModelStore,
    create_golden_frames,
    read_manifest,
    update_manifest,
    verify_engine,
)
from edgeinspect.storage.shadow_results import (
    RESULTS_SUFFIX,
    ShadowComparison,
    model_key,
    read_comparisons,
)
from edgeinspect.system import gpu_names

GRAPH_BACKENDS = ("ov", "ort")
"""What a graph is loaded with, in this order, if nobody says otherwise."""
PLAN_BACKEND = "trt"
_LEDGERS = Path("/var/lib/edgeinspect/ledger")


def choose_backend(spec: ModelSpec, requested: str) -> str:
    """The backend to load a version with; empty if none is installed.

    Args:
        spec: A plan needs the backend that made it.
        named: A backend, `auto`, or `none`.

    Raises:
        UsageError: The named one cannot be used here.
    """
    if requested == "none":
        return ""
    if requested != "auto":
        reason = registry.missing_reason("backend", requested)
        if reason:
            raise UsageError(f"backend {requested}: {reason}")
        return requested
    wanted = GRAPH_BACKENDS if spec.path.suffix == ".onnx" else (PLAN_BACKEND,)
    existing = registry.plugin_names("backend")
    for name in wanted:
        if name in existing and registry.missing_reason("backend", name) is None:
            return name
    return ""


def load_engine(store: ModelStore, spec: ModelSpec, backend: str) -> Engine:
    """A version as an engine; raises as the backend's `build`."""
    module = registry.load_plugin("backend", backend)
    options = msgspec.convert({"model": str(spec.path.parent.absolute())}, module.Options)
    engine: Engine = module.build(options, SystemClock(), store=store)
    return engine


def verify_version(store: ModelStore, ref: str, requested: str) -> str:
    """Verify a version's files, load it and hold it against its golden frames.

    Returns:
        What was shown, in words.

    Raises:
        ModelError: It is refused.
        UsageError: As `pick_backend`.
    """
    spec = store.resolve(ref)
    backend = choose_backend(spec, requested)
    if not backend:
        return "its files are the accepted ones; it was not loaded"
    engine = load_engine(store, spec, backend)
    try:
        return f"{backend}: {verify_engine(engine)}"
    finally:
        engine.close()


def save_golden_frames(
    store: ModelStore, ref: str, requested: str, pictures: Sequence[Path], actor: str
) -> int:
    """Make golden frames of pictures, cut or letterboxed to the model's frame; how many.

    Raises:
        DataError: A picture cannot be read, or there are too many.
        ModelError: The version is refused, or cannot be written.
    """
    import numpy as np

    from edgeinspect.imaging import ReadDeclaration, load_declaration, read_image
    from edgeinspect.imaging.letterbox import letterbox
    from edgeinspect.learning.datasets import find_bit_depth

    spec = store.resolve(ref)
    backend = choose_backend(spec, requested)
    if not backend:
        raise UsageError("golden frames need a backend to make them with")
    height, width, _channels = spec.shape.dims
    images = []
    said = load_declaration(pictures[0].parent) if pictures else ReadDeclaration()
    reading = find_bit_depth(pictures, said, "the golden pictures").read_settings(spec.color)
    for path in pictures:
        fitted = letterbox(read_image(path, reading), height, width)[0]
        images.append(np.ascontiguousarray(fitted.reshape(spec.shape.dims)))
    engine = load_engine(store, spec, backend)
    try:
        verify_engine(engine)
        create_golden_frames(engine, images)
    except EngineFault as fault:
        raise ModelError(str(fault), where=str(spec.path)) from fault
    finally:
        engine.close()
    store.model_versions(spec.id.name).reapprove(spec.id.version, "golden frames", actor)
    return len(images)


def measure_latency(store: ModelStore, ref: str, requested: str, actor: str) -> tuple[int, int]:
    """Time a version on this machine and write p50 and p99, in µs, into its manifest."""
    from edgeinspect.cli.check import time_engine as time_engine

    spec = store.resolve(ref)
    backend = choose_backend(spec, requested)
    if not backend:
        raise UsageError("a latency needs a backend to be measured with")
    engine = load_engine(store, spec, backend)
    try:
        timing = time_engine(engine, SystemClock())
    except EngineFault as fault:
        raise ModelError(str(fault), where=str(spec.path)) from fault
    finally:
        engine.close()
    device = (gpu_names() or ("",))[0] if backend == PLAN_BACKEND else processor_name()
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
    update_manifest(folder, latency=[*map(msgspec.to_builtins, kept), fresh])
    store.model_versions(spec.id.name).reapprove(spec.id.version, "latency", actor)
    return p50_us, p99_us


def processor_name() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                return value.strip()
    except OSError:
        pass
    return platform.machine()


def shadow_result_files(line: Path | None, record: Path | None) -> list[Path]:
    """The shadow's records: the one that is named, a line's, or all of this machine."""
    if record is not None:
        return [record]
    if line is None:
        return sorted(_LEDGERS.glob(f"*{RESULTS_SUFFIX}"))
    from edgeinspect.config import load_config as load_config
    from edgeinspect.storage.paths import shared_memory_folder

    config = load_config(line).config
    folder = Path(config.ledger.folder) if config.ledger else shared_memory_folder(config)
    return [folder / f"{config.line}{RESULTS_SUFFIX}"]


def shadow_results(
    store: ModelStore, name: str, version: int, paths: Sequence[Path]
) -> list[ShadowComparison]:
    """What the records say of this very file of a version."""
    sha256 = read_manifest(store.root / name / str(version) / "manifest.yaml").sha256
    return read_comparisons(paths, model_key(name, version, sha256))


def require_shadow_agreement(
    store: ModelStore,
    name: str,
    version: int,
    paths: Sequence[Path],
    min_frames: int,
    max_disagreement: float,
) -> None:
    """Refuse a promotion without enough agreement in shadow.

    Raises:
        ModelError: Fewer frames than demanded against what is live now, or the upper end of
            the interval of its disagreement is above the bound.
    """
    from edgeinspect.learning.evaluate import wilson_interval

    live = store.resolve(name).id
    key = model_key(live.name, live.version, live.sha256)
    found = [
        one for one in shadow_results(store, name, version, paths) if key in one.live.split(" ")
    ]
    seen = sum(one.frames for one in found)
    differ = sum(one.disagreements for one in found)
    where = ", ".join(map(str, paths)) or str(_LEDGERS)
    if seen < min_frames:
        raise ModelError(
            f"{name}/{version} has judged {seen} frames in shadow of {live}; {min_frames} are "
            "demanded",
            where=where,
            remedy=f"edgeinspect engines shadow {name}/{version} --start, then reload the line",
        )
    upper = wilson_interval(differ, seen)[1]
    if upper > max_disagreement:
        raise ModelError(
            f"{name}/{version} decided otherwise on {differ} of {seen} frames: up to {upper:.2%} "
            f"(95 %), more than {max_disagreement:.2%}",
            where=where,
            remedy=f"Look at them: edgeinspect engines shadow {name}/{version}",
        )
