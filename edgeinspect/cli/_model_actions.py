"""Actions of `edgeinspect models` on one version: load, verify, measure, compare in shadow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edgeinspect import registry
from edgeinspect.domain import ModelSpec, SystemClock
from edgeinspect.errors import EngineFault, MissingExtraError, ModelError, UsageError
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
from edgeinspect.system import describe_machine, gpu_names

GRAPH_BACKENDS = ("ov", "ort")
"""Backends to load a graph with, in order of preference."""
PLAN_BACKEND = "trt"
_LEDGERS = Path("/var/lib/edgeinspect/ledger")


def choose_backend(spec: ModelSpec, requested: str) -> str:
    """Return the backend to load a version with; empty if none is installed.

    Args:
        spec: The version; a plan needs the backend that built it.
        requested: A backend, `auto`, or `none`.

    Raises:
        UsageError: There is no such backend.
        MissingExtraError: Its library is not installed.
    """
    if requested == "none":
        return ""
    if requested != "auto":
        module = registry.load_plugin("backend", requested)
        for package, extra in getattr(module, "REQUIRES", ()):
            if not registry.is_installed(package):
                raise MissingExtraError(extra, package, where=f"backend {requested}")
        return requested
    preferred = GRAPH_BACKENDS if spec.path.suffix == ".onnx" else (PLAN_BACKEND,)
    available = registry.plugin_names("backend")
    for name in preferred:
        if name in available and registry.missing_reason("backend", name) is None:
            return name
    return ""


def load_engine(store: ModelStore, spec: ModelSpec, backend: str) -> Engine:
    """Load a version; raises what the backend's `build` raises."""
    module = registry.load_plugin("backend", backend)
    options = msgspec.convert({"model": str(spec.path.parent.absolute())}, module.Options)
    engine: Engine = module.build(options, SystemClock(), store=store)
    return engine


def verify_version(store: ModelStore, ref: str, requested: str) -> str:
    """Verify a version's files, load it and run its golden frames; return a summary.

    Raises:
        ModelError: The version is rejected.
        UsageError: There is no such backend.
        MissingExtraError: Its library is not installed.
    """
    spec = store.resolve(ref)
    backend = choose_backend(spec, requested)
    if not backend:
        return "its files match its manifest; it was not loaded"
    engine = load_engine(store, spec, backend)
    try:
        return f"{backend}: {verify_engine(engine)}"
    finally:
        engine.close()


def save_golden_frames(
    store: ModelStore, ref: str, requested: str, image_paths: Sequence[Path], actor: str
) -> int:
    """Make golden frames from images, letterboxed to the model's frame; return the number.

    Raises:
        DataError: An image cannot be read, or there are too many.
        ModelError: The version is rejected, or cannot be written.
    """
    import numpy as np

    from edgeinspect.imaging import ReadDeclaration, letterbox_image, load_declaration, read_image
    from edgeinspect.learning.datasets import find_bit_depth

    spec = store.resolve(ref)
    backend = choose_backend(spec, requested)
    if not backend:
        raise UsageError("golden frames need a backend")
    height, width, _channels = spec.shape.dims
    images = []
    declaration = load_declaration(image_paths[0].parent) if image_paths else ReadDeclaration()
    settings = find_bit_depth(image_paths, declaration, "the golden images").read_settings(
        spec.color
    )
    for path in image_paths:
        frame = letterbox_image(read_image(path, settings), height, width)[0]
        images.append(np.ascontiguousarray(frame.reshape(spec.shape.dims)))
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
    """Measure a version here and write p50 and p99 into its manifest; return both in µs."""
    from edgeinspect.cli.check import time_engine

    spec = store.resolve(ref)
    backend = choose_backend(spec, requested)
    if not backend:
        raise UsageError("measuring latency needs a backend")
    engine = load_engine(store, spec, backend)
    try:
        timing = time_engine(engine, SystemClock())
    except EngineFault as fault:
        raise ModelError(str(fault), where=str(spec.path)) from fault
    finally:
        engine.close()
    device = (
        (gpu_names() or ("",))[0] if backend == PLAN_BACKEND else describe_machine()["processor"]
    )
    folder = spec.path.parent
    others = [
        each
        for each in read_manifest(folder / "manifest.yaml").latency
        if (each.backend, each.device) != (backend, device)
    ]
    p50_us, p99_us = timing.p50_ns // 1000, timing.p99_ns // 1000
    measured = {
        "backend": backend,
        "device": device,
        "p50_us": p50_us,
        "p99_us": p99_us,
        "at": datetime.now(timezone.utc).date().isoformat(),
    }
    update_manifest(folder, latency=[*map(msgspec.to_builtins, others), measured])
    store.model_versions(spec.id.name).reapprove(spec.id.version, "latency", actor)
    return p50_us, p99_us


def shadow_result_files(line: Path | None, results: Path | None) -> list[Path]:
    """Return the shadow result files: the one given, a line's, or all of this machine."""
    if results is not None:
        return [results]
    if line is None:
        return sorted(_LEDGERS.glob(f"*{RESULTS_SUFFIX}"))
    from edgeinspect.config import load_config
    from edgeinspect.storage.paths import shared_memory_folder

    config = load_config(line).config
    folder = Path(config.ledger.folder) if config.ledger else shared_memory_folder(config)
    return [folder / f"{config.line}{RESULTS_SUFFIX}"]


def shadow_results(
    store: ModelStore, name: str, version: int, paths: Sequence[Path]
) -> list[ShadowComparison]:
    """Return the comparisons of exactly this file of a version with what was live."""
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
    """Raise if a version has not agreed with the live one on enough frames in shadow.

    Raises:
        ModelError: Fewer than `min_frames` frames were compared with the live version, or the
            upper limit of the disagreement's 95 % interval exceeds `max_disagreement`.
    """
    from edgeinspect.learning.evaluate import wilson_interval

    live = store.resolve(name).id
    key = model_key(live.name, live.version, live.sha256)
    comparisons = [
        each for each in shadow_results(store, name, version, paths) if key in each.live.split(" ")
    ]
    compared = sum(each.frames for each in comparisons)
    different = sum(each.disagreements for each in comparisons)
    where = ", ".join(map(str, paths)) or str(_LEDGERS)
    command = f"edgeinspect models shadow {name}/{version}"
    if compared < min_frames:
        raise ModelError(
            f"{name}/{version} was compared with {live} on {compared} frames in shadow; "
            f"{min_frames} are required",
            where=where,
            remedy=f"{command} --start, then reload the line",
        )
    upper = wilson_interval(different, compared)[1]
    if upper > max_disagreement:
        raise ModelError(
            f"{name}/{version} decided differently on {different} of {compared} frames: up to "
            f"{upper:.2%} (95 %), more than {max_disagreement:.2%}",
            where=where,
            remedy=f"Compare the frames: {command}",
        )
