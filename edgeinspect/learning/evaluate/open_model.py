"""Loads a model, a run folder or a configured line as an `OfflineInspector`."""

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
from edgeinspect.domain import (
    BASE_CONTRACT,
    ENGINE_ROLES,
    MODEL_CONTRACTS,
    Decides,
    FrameShape,
    LearnedFrom,
    ModelId,
    ModelKind,
    ModelSpec,
    Precision,
    SystemClock,
)
from edgeinspect.errors import ConfigError, ConfigFault, MissingExtraError, ModelError, UsageError
from edgeinspect.learning.evaluate.metrics.thresholds import MIN_AREA_PX
from edgeinspect.learning.evaluate.offline_inspector import OfflineInspector
from edgeinspect.pipeline.inspection import (
    ClassLimits,
    DecisionRules,
    GateLimits,
    KindLimits,
    UnknownLimits,
    decision_rules,
)
from edgeinspect.ports import Engine
from edgeinspect.storage.model_store import MANIFEST_FILE, ModelStore, read_model
from edgeinspect.system import decode_json, escape_name, sha256_of

CHECKPOINT_FILE = "checkpoint.pt"
"""A folder with this file is a training run."""
RUN_FILE = "run.json"
"""Of one that was killed before its first checkpoint, this alone."""
DEFAULT_BACKEND = "ort"
_DEFAULT_THRESHOLD = 0.5
_MAX_REGIONS = 16


class SingleModelStore(ModelStore):
    """A store that resolves every reference to one model, for a file without a manifest."""

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
        backend: A plugin of kind `backend`, as `ort`, `ov`, `trt`.
        store: Resolves names, before a folder of the same name does. Without it the default
            store does, after folders.

    Raises:
        ModelError: There is no such model, or it breaks the contract.
        UsageError: There is no such backend.
        MissingExtraError: The backend's library is not installed.
    """
    plugin = registry.load_plugin("backend", backend)
    model_store, ref = resolve_model(model, store or ModelStore(), store_first=store is not None)
    engine: Engine = plugin.build(plugin.Options(model=ref), SystemClock(), store=model_store)
    return engine


def resolve_model(
    model: str, store: ModelStore, *, store_first: bool = False
) -> tuple[ModelStore, str]:
    """Return the store that has the model, and the reference in it.

    Args:
        model: As `load_engine`.
        store: Resolves names.
        store_first: The user named the store: its model is meant, not a folder of its name.

    Raises:
        ModelError: There is no such file or folder, or a folder holds no model.
    """
    if store_first and store.has_name(model):
        return store, model
    path = Path(model)
    if path.is_file():
        if (path.parent / MANIFEST_FILE).is_file() and path.suffix == ".onnx":
            spec = read_model(path.parent.absolute())
            if spec.path == path.resolve():
                return store, str(path.parent.absolute())
        return SingleModelStore(read_graph_metadata(path)), model
    if path.is_dir():
        return store, str(_find_model_folder(path).absolute())
    if not store.is_reference(model) or path.suffix == ".onnx":
        raise ModelError(
            "there is no such file or folder, and it is no name of a model",
            where=escape_name(model),
            remedy="Give NAME or NAME/VERSION of the store, a training run's or a model's folder, "
            "or an ONNX file",
        )
    return store, model


def _find_model_folder(path: Path) -> Path:
    """Return the folder of a manifest: `path`, or the newest version below it."""
    if (path / MANIFEST_FILE).is_file():
        return path
    folders = [
        file.parent
        for file in (*path.glob(f"*/{MANIFEST_FILE}"), *path.glob(f"*/*/{MANIFEST_FILE}"))
    ]
    versions = [folder for folder in folders if re.fullmatch("[1-9][0-9]{0,8}", folder.name)]
    names = {folder.parent for folder in versions}
    if len(names) > 1:
        listing = ", ".join(sorted(str(name) for name in names))
        raise ModelError("holds several models", where=str(path), remedy=f"Name one: {listing}")
    if not versions:
        is_run = (path / CHECKPOINT_FILE).is_file() or (path / RUN_FILE).is_file()
        finish = "Finish it: the same `edgeinspect train` command, with --resume for a gate or a "
        raise ModelError(
            "is a training run without an exported model"
            if is_run
            else f"holds no {MANIFEST_FILE}",
            where=str(path),
            remedy=finish + "segmenter, exports the model"
            if is_run
            else "Give a model's folder, an ONNX file, or NAME/VERSION of the store",
        )
    return max(versions, key=lambda folder: int(folder.name))


def read_graph_metadata(path: Path) -> ModelSpec:
    """Read the spec of a contract graph without a manifest from its ONNX metadata.

    Raises:
        ModelError: It is not an ONNX file, or its metadata is incomplete.
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
    metadata = {
        key.removeprefix("edgeinspect."): value
        for key, value in session.get_modelmeta().custom_metadata_map.items()
    }
    try:
        _batch, height, width, channels = (int(size) for size in session.get_inputs()[0].shape)
        contract = metadata.get("contract", BASE_CONTRACT)
        if contract not in MODEL_CONTRACTS:
            raise ModelError(
                f"is for contract {contract}; this program supports {', '.join(MODEL_CONTRACTS)}",
                where=str(path),
                remedy="Install the version of edgeinspect that exported it, or a later one",
            )
        return ModelSpec(
            id=ModelId(path.stem, 1, sha256_of(path)),
            kind=ModelKind(metadata["kind"]),
            path=path.resolve(),
            shape=FrameShape(height, width, channels),
            color=metadata.get("color", "mono" if channels == 1 else "bgr"),
            classes=tuple(decode_json(metadata.get("classes", "[]"), list[str])),
            output_stride=int(metadata.get("output_stride", "1")),
            precision=Precision.FP32,
            thresholds=MappingProxyType(
                decode_json(metadata.get("thresholds", "{}"), dict[str, Any])
            ),
            contract=contract,
            decides=Decides(metadata.get("decides", Decides.DEFECTS.value)),
            learned_from=LearnedFrom(metadata.get("learned_from", LearnedFrom.LABELS.value)),
            pretrained=metadata.get("pretrained", ""),
            pretrained_sha256=metadata.get("pretrained_sha256", ""),
        )
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ModelError(
            "has no manifest beside it, and its metadata is incomplete",
            where=str(path),
            remedy="Bring it under the model contract with `edgeinspect models import`",
        ) from error


def build_inspector(
    engine: Engine, gate: Engine | None = None, *, label: str = ""
) -> OfflineInspector:
    """Build an inspector from loaded engines, with the thresholds of their manifests.

    Raises:
        UsageError: `gate` is not a gate, `engine` is one too, or their frames differ.
    """
    label = label or str(engine.spec.id)
    segmenter: Engine | None = engine
    unknown: Engine | None = None
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
        label = f"{label} after {gate.spec.id}"
    elif engine.spec.kind is ModelKind.GATE:
        gate, segmenter = engine, None
    if engine.spec.is_good_parts:
        unknown, segmenter = engine, None
    rules, notes = manifest_thresholds(*map(_spec_of, (gate, segmenter, unknown)))
    return OfflineInspector(
        gate=gate, segmenter=segmenter, unknown=unknown, rules=rules, label=label, notes=notes
    )


def _spec_of(engine: Engine | None) -> ModelSpec | None:
    return engine.spec if engine is not None else None


def load_line_inspector(path: Path, *, backend: str | None = None) -> OfflineInspector:
    """Load the models of a configured line, with its backends and thresholds.

    Args:
        path: The line's configuration.
        backend: Replaces those of the configuration.

    Raises:
        ConfigError: The configuration is invalid, or does not match its models.
        ModelError: As `load_engine`.
    """
    loaded = load_config(path)
    store = ModelStore(Path(loaded.config.store) if loaded.config.store else None)
    with contextlib.ExitStack() as on_error:
        engines: dict[str, Engine] = {}
        for name, choice in loaded.engines.items():
            if backend:
                engines[name] = load_engine(choice.options.model, backend, store=store)
            else:
                engines[name] = choice.module.build(choice.options, SystemClock(), store=store)
            on_error.callback(engines[name].close)
        gate, segmenter, unknown = (engines.get(role) for role in ENGINE_ROLES)
        rules, note = _line_thresholds(loaded, gate, segmenter, unknown)
        on_error.pop_all()
    return OfflineInspector(
        gate=gate,
        segmenter=segmenter,
        unknown=unknown,
        rules=rules,
        label=f"line {loaded.config.line}",
        notes=(note,),
    )


def with_line_thresholds(inspector: OfflineInspector, path: Path) -> OfflineInspector:
    """Return the same engines with the thresholds of a line's configuration.

    Raises:
        ConfigError: The configuration is invalid, or has no thresholds for these models.
    """
    loaded = load_config(path)
    gate, segmenter, unknown = inspector.gate, inspector.segmenter, inspector.unknown
    rules, note = _line_thresholds(loaded, gate, segmenter, unknown)
    if gate and loaded.config.decide.gate is None:
        fault = ConfigFault("decide.gate", f"required: {gate.spec.id} is a gate")
        raise ConfigError([fault], where=loaded.where)
    if unknown and loaded.config.decide.unknown is None:
        fault = ConfigFault("decide.unknown", f"required: {unknown.spec.id} is a good-parts model")
        raise ConfigError([fault], where=loaded.where)
    if gate is None:
        rules = replace(rules, gate=None)
    return OfflineInspector(
        gate=gate,
        segmenter=segmenter,
        unknown=unknown,
        rules=rules,
        label=inspector.label,
        notes=(note,),
    )


def _line_thresholds(loaded: LoadedConfig, *engines: Engine | None) -> tuple[DecisionRules, str]:
    """Return the decision rules of a line for these models, by role, and a note that names it."""
    gate, segmenter, unknown = map(_spec_of, engines)
    check_models(loaded.config, gate, segmenter, unknown, where=loaded.where)
    note = f"thresholds of line {loaded.config.line}, configuration {loaded.hash}"
    return decision_rules(loaded.config, gate, segmenter, unknown), note


def manifest_thresholds(
    gate: ModelSpec | None, segmenter: ModelSpec | None, unknown: ModelSpec | None = None
) -> tuple[DecisionRules, tuple[str, ...]]:
    """Return decision rules with the thresholds of the manifests, and notes on them.

    A gate alone rejects at its `degraded` threshold, as it does on the line when no time
    remains for the segmenter.
    """
    notes: list[str] = []
    limits = _gate_thresholds(gate, alone=segmenter is None, notes=notes) if gate else None
    classes = {}
    for index, name in enumerate(segmenter.classes if segmenter else ()):
        assert segmenter is not None
        score, area_px = _class_thresholds(segmenter.thresholds.get(name), name, notes)
        classes[index + 1] = ClassLimits(name, score, area_px, 5, index + 1)
    stride = segmenter.output_stride if segmenter else 1
    third = _unknown_thresholds(unknown, len(classes) + 1, notes) if unknown is not None else None
    return DecisionRules(limits, classes, stride, 1.0, 1.0, _MAX_REGIONS, third), tuple(notes)


def _unknown_thresholds(spec: ModelSpec, class_id: int, notes: list[str]) -> UnknownLimits:
    """Return the rule that a good-parts model proposes: `reject`, and `area_px` if it has one."""
    reject_at, area_px = spec.thresholds.get("reject"), spec.thresholds.get("area_px", 0)
    if not isinstance(reject_at, (int, float)) or not isinstance(area_px, (int, float)):
        notes.append(f"{spec.id} proposes no threshold: {_DEFAULT_THRESHOLD} is used")
        reject_at, area_px = _DEFAULT_THRESHOLD, 0
    return UnknownLimits(
        name=spec.classes[0],
        class_id=class_id,
        reject_at=float(reject_at),
        area_px=float(area_px),
        severity=5,
        reject_code=1,
        rejects=True,
        required=False,
        stride=spec.output_stride,
    )


def _gate_thresholds(spec: ModelSpec, *, alone: bool, notes: list[str]) -> GateLimits:
    kinds = tuple(KindLimits(name, None, 5, i) for i, name in enumerate(spec.kinds, start=1))
    values: list[Any] = [spec.thresholds.get(key) for key in ("suspect", "reject", "degraded")]
    if not all(isinstance(value, (int, float)) for value in values):
        notes.append(f"{spec.id} proposes no thresholds: {_DEFAULT_THRESHOLD} is used")
        half = _DEFAULT_THRESHOLD
        return GateLimits(half, half, half, 1, kinds)
    suspect, reject, degraded = map(float, values)
    if alone:
        notes.append(f"a gate alone rejects at its manifest's `degraded` threshold, {degraded:g}")
        return GateLimits(degraded, degraded, degraded, 1, kinds)
    notes.append(f"thresholds proposed by the manifest of {spec.id}")
    return GateLimits(suspect, reject, degraded, 1, kinds)


def _class_thresholds(proposed: object, name: str, notes: list[str]) -> tuple[float, float]:
    if isinstance(proposed, Mapping) and {"score", "area_px"} <= proposed.keys():
        return float(proposed["score"]), float(proposed["area_px"])
    notes.append(
        f"the manifest proposes no threshold for {name}: score {_DEFAULT_THRESHOLD} and "
        f"{MIN_AREA_PX:g} px are used"
    )
    return _DEFAULT_THRESHOLD, MIN_AREA_PX
