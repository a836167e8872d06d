"""From what a person names (a model, a folder, a line) to a judge with engines and rules."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeinspect import registry
from edgeinspect.config import LoadedConfig, check_models, load_config
from edgeinspect.domain import FrameShape, ModelId, ModelKind, ModelSpec, Precision, SystemClock
from edgeinspect.errors import ConfigError, ConfigFault, MissingExtraError, ModelError, UsageError
from edgeinspect.learning.evaluate.metrics.thresholds import MIN_AREA_PX
from edgeinspect.learning.evaluate.offline_inspector import OfflineInspector
from edgeinspect.pipeline.inspection import ClassLimits, DecisionRules, GateLimits, decision_rules
from edgeinspect.ports import Engine
from edgeinspect.storage.model_store import MANIFEST_FILE, ModelStore, read_model
from edgeinspect.system import decode_json, sha256_of

CHECKPOINT_FILE = "checkpoint.pt"
"""What makes a folder a training run."""
DEFAULT_BACKEND = "ort"
_DEFAULT_THRESHOLD = 0.5
_MAX_REGIONS = 16


class SingleModelStore(ModelStore):
    """A store that has one model, whatever is asked for: for a file without a manifest."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec.path.parent)
        self._spec = spec

    def resolve(self, ref: str) -> ModelSpec:
        return self._spec


def load_engine(model: str, backend: str, *, store: ModelStore | None = None) -> Engine:
    """Load a model through a backend.

    Args:
        model: `NAME`, `NAME/VERSION` of the store; the folder of a manifest; an ONNX file
            under the model contract; a training run's folder (its newest export).
        backend: A part of kind `backend`, as `ort`, `ov`, `trt`.
        store: Where names are looked up.

    Raises:
        ModelError: There is no such model, or it breaks the contract.
        UsageError: There is no such backend.
        MissingExtraError: The backend's library is not installed.
    """
    part = registry.load_plugin("backend", backend)
    source, ref = resolve_model(model, store or ModelStore())
    engine: Engine = part.build(part.Options(model=ref), SystemClock(), store=source)
    return engine


def resolve_model(model: str, store: ModelStore) -> tuple[ModelStore, str]:
    """The store, and the reference in it, that a person's words mean.

    Raises:
        ModelError: There is no such file, or a folder holds no model.
    """
    path = Path(model)
    if path.is_file():
        if (path.parent / MANIFEST_FILE).is_file() and path.suffix == ".onnx":
            spec = read_model(path.parent.absolute())
            if spec.path == path.resolve():
                return store, str(path.parent.absolute())
        return SingleModelStore(read_graph_metadata(path)), model
    if path.is_dir():
        return store, str(_find_model_folder(path).absolute())
    if model.startswith(("/", "./", "../", "~")) or path.suffix == ".onnx":
        raise ModelError(
            "there is no such model",
            where=model,
            remedy="Give NAME/VERSION of the store, a folder or a file",
        )
    return store, model


def _find_model_folder(path: Path) -> Path:
    """The folder of a manifest: itself, or a run's or a name's newest version."""
    if (path / MANIFEST_FILE).is_file():
        return path
    found = [
        each.parent
        for each in (*path.glob(f"*/{MANIFEST_FILE}"), *path.glob(f"*/*/{MANIFEST_FILE}"))
    ]
    found = [each for each in found if re.fullmatch("[1-9][0-9]{0,8}", each.name)]
    names = {each.parent for each in found}
    if len(names) > 1:
        listing = ", ".join(sorted(str(each) for each in names))
        raise ModelError("holds several models", where=str(path), remedy=f"Name one: {listing}")
    if not found:
        run = (path / CHECKPOINT_FILE).is_file()
        raise ModelError(
            "is a training run without an exported model" if run else f"holds no {MANIFEST_FILE}",
            where=str(path),
            remedy="Write its graph with `edgeinspect export`"
            if run
            else "Give a model's folder, an ONNX file, or NAME/VERSION of the store",
        )
    return max(found, key=lambda each: int(each.name))


def read_graph_metadata(path: Path) -> ModelSpec:
    """What a bare contract graph says of itself in its metadata.

    Raises:
        ModelError: It is no ONNX file, or says too little.
        MissingExtraError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("cpu", "onnxruntime", where=str(path)) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # its own exceptions share no base class below this one
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"is no ONNX graph that loads: {reason}", where=str(path)) from error
    said = {
        key.removeprefix("edgeinspect."): value
        for key, value in session.get_modelmeta().custom_metadata_map.items()
    }
    try:
        shape = session.get_inputs()[0].shape
        _one, height, width, channels = (int(size) for size in shape)
        return ModelSpec(
            id=ModelId(path.stem, 1, sha256_of(path)),
            kind=ModelKind(said["kind"]),
            path=path.resolve(),
            shape=FrameShape(height, width, channels),
            color=said.get("color", "mono" if channels == 1 else "bgr"),
            classes=tuple(decode_json(said.get("classes", "[]"), list[str])),
            output_stride=int(said.get("output_stride", "1")),
            precision=Precision.FP32,
            thresholds=MappingProxyType(decode_json(said.get("thresholds", "{}"), dict[str, Any])),
        )
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ModelError(
            "has no manifest beside it, and says too little of itself in its metadata",
            where=str(path),
            remedy="Bring it under the model contract with `edgeinspect models import`",
        ) from error


def load_inspector(
    model: str,
    *,
    gate: str | None = None,
    backend: str = DEFAULT_BACKEND,
    store: ModelStore | None = None,
) -> OfflineInspector:
    """A judge with the thresholds that the manifests propose.

    Args:
        model: A gate or a segmenter, as `open_engine`.
        gate: A gate to go before a segmenter.
        backend: Of both.
        store: Where names are looked up.

    Raises:
        UsageError: `gate` names no gate, or `model` is a gate itself.
        ModelError: As `open_engine`.
    """
    first = load_engine(model, backend, store=store)
    return build_inspector(
        first,
        load_engine(gate, backend, store=store) if gate else None,
        label=f"{model} ({backend})",
    )


def build_inspector(
    engine: Engine, gate: Engine | None = None, *, label: str = ""
) -> OfflineInspector:
    """A judge of loaded engines, with the thresholds that their manifests propose.

    Raises:
        UsageError: `gate` is no gate, `engine` is one too, or they take different frames.
    """
    named = label or str(engine.spec.id)
    if gate is not None:
        kinds = (engine.spec.kind, gate.spec.kind)
        if kinds != (ModelKind.SEGMENTER, ModelKind.GATE):
            raise UsageError(
                f"--gate goes with a segmenter: MODEL is a {kinds[0].value}, "
                f"--gate names a {kinds[1].value}"
            )
        if (engine.spec.shape, engine.spec.color) != (gate.spec.shape, gate.spec.color):
            raise UsageError(
                f"both models must take the same frame: {gate.spec.id} takes "
                f"{gate.spec.shape} {gate.spec.color}, {engine.spec.id} "
                f"{engine.spec.shape} {engine.spec.color}"
            )
        label = f"{named} after {gate.spec.id}"
    elif engine.spec.kind is ModelKind.GATE:
        gate, engine_or_none = engine, None
        rules, notes = manifest_thresholds(gate.spec, None)
        return OfflineInspector(
            gate=gate, segmenter=engine_or_none, rules=rules, label=named, notes=notes
        )
    rules, notes = manifest_thresholds(gate.spec if gate else None, engine.spec)
    return OfflineInspector(
        gate=gate, segmenter=engine, rules=rules, label=label or named, notes=notes
    )


def load_line_inspector(
    path: Path, *, backend: str | None = None
) -> tuple[OfflineInspector, LoadedConfig]:
    """The judge of a configured line: its models, its backends, its thresholds.

    Args:
        path: The line's configuration.
        backend: Instead of those of the configuration.

    Raises:
        ConfigError: The configuration has faults, or speaks of other models.
        ModelError: As `open_engine`.
    """
    loaded = load_config(path)
    store = ModelStore(Path(loaded.config.store) if loaded.config.store else None)
    with contextlib.ExitStack() as undo:
        engines: dict[str, Engine] = {}
        for name, choice in loaded.engines.items():
            if backend:
                engines[name] = load_engine(choice.options.model, backend, store=store)
            else:
                engines[name] = choice.module.build(choice.options, SystemClock(), store=store)
            undo.callback(engines[name].close)
        gate, segmenter = engines.get("gate"), engines.get("segmenter")
        check_models(
            loaded.config,
            gate.spec if gate else None,
            segmenter.spec if segmenter else None,
            where=loaded.where,
        )
        undo.pop_all()
    rules = decision_rules(loaded.config, segmenter.spec if segmenter else None)
    note = f"thresholds of line {loaded.config.line}, configuration {loaded.hash}"
    label = f"line {loaded.config.line}"
    return OfflineInspector(
        gate=gate, segmenter=segmenter, rules=rules, label=label, notes=(note,)
    ), loaded


def with_line_thresholds(inspector: OfflineInspector, path: Path) -> OfflineInspector:
    """The same engines under the thresholds of a line's configuration.

    Raises:
        ConfigError: The configuration has faults, or has no rule for what these models find.
    """
    loaded = load_config(path)
    gate = inspector.gate.spec if inspector.gate else None
    segmenter = inspector.segmenter.spec if inspector.segmenter else None
    check_models(loaded.config, gate, segmenter, where=loaded.where)
    faults = []
    if gate and loaded.config.decide.gate is None:
        faults.append(ConfigFault("decide.gate", f"required: {gate.id} is a gate"))
    if faults:
        raise ConfigError(faults, where=loaded.where)
    rules = decision_rules(loaded.config, segmenter)
    if gate is None:  # the line's gate rule speaks of a model that is not asked
        rules = replace(rules, gate=None)
    note = f"thresholds of line {loaded.config.line}, configuration {loaded.hash}"
    return OfflineInspector(
        gate=inspector.gate,
        segmenter=inspector.segmenter,
        rules=rules,
        label=inspector.label,
        notes=(note,),
    )


def manifest_thresholds(
    gate: ModelSpec | None, segmenter: ModelSpec | None
) -> tuple[DecisionRules, tuple[str, ...]]:
    """The decision's rules from manifests, and what must be said of them.

    A gate alone decides as it does on the line when no time is left for the segmenter: at
    its `degraded` threshold.
    """
    notes: list[str] = []
    limits = _gate_thresholds(gate, alone=segmenter is None, notes=notes) if gate else None
    classes = {}
    for index, name in enumerate(segmenter.classes if segmenter else ()):
        assert segmenter is not None
        score, area_px = _class_thresholds(segmenter.thresholds.get(name), name, notes)
        classes[index + 1] = ClassLimits(name, score, area_px, 5, index + 1)
    stride = segmenter.output_stride if segmenter else 1
    return DecisionRules(limits, classes, stride, 1.0, 1.0, _MAX_REGIONS), tuple(notes)


def _gate_thresholds(spec: ModelSpec, *, alone: bool, notes: list[str]) -> GateLimits:
    said: Mapping[str, Any] = spec.thresholds
    keys = ("suspect", "reject", "degraded")
    if not all(isinstance(said.get(key), (int, float)) for key in keys):
        notes.append(f"{spec.id} proposes no thresholds: {_DEFAULT_THRESHOLD} stands in for them")
        return GateLimits(_DEFAULT_THRESHOLD, _DEFAULT_THRESHOLD, _DEFAULT_THRESHOLD, 1)
    suspect, reject, degraded = (float(said[key]) for key in keys)
    if alone:
        notes.append(f"a gate alone rejects at its manifest's `degraded` threshold, {degraded:g}")
        return GateLimits(degraded, degraded, degraded, 1)
    notes.append(f"thresholds proposed by the manifest of {spec.id}")
    return GateLimits(suspect, reject, degraded, 1)


def _class_thresholds(proposed: object, name: str, notes: list[str]) -> tuple[float, float]:
    if isinstance(proposed, Mapping) and {"score", "area_px"} <= proposed.keys():
        return float(proposed["score"]), float(proposed["area_px"])
    notes.append(
        f"the manifest proposes no threshold for {name}: score {_DEFAULT_THRESHOLD} and "
        f"{MIN_AREA_PX:g} px stand in for it"
    )
    return _DEFAULT_THRESHOLD, MIN_AREA_PX
