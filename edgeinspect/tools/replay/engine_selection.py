"""Models of a replay: those that the recording names, or others instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edgeinspect import registry
from edgeinspect.config import LoadedConfig, PluginSelection, parse_config
from edgeinspect.domain import ENGINE_ROLES, FrameShape, ManualClock, ModelRef, SystemClock, Verdict
from edgeinspect.errors import DataError, ModelError, UsageError
from edgeinspect.pipeline.factory import load_engine
from edgeinspect.pipeline.inspection import FrameInspector, WorkerEngines, make_frame_inspectors
from edgeinspect.ports import Engine
from edgeinspect.storage.model_store import ModelStore, default_root
from edgeinspect.storage.recording import RecordedConfiguration
from edgeinspect.tools.replay.offline_line import ReplayedEngine


@dataclass(frozen=True, slots=True)
class ReplayOverrides:
    """What the replay changes compared with the recorded line."""

    models: Mapping[str, str] = field(default_factory=dict)
    """Model by role; see `models_by_role`."""
    backend: str | None = None
    settings: Sequence[str] = ()
    """`key.of.a.table=VALUE` for the recorded configuration."""
    store: Path | None = None

    @property
    def changes(self) -> list[str]:
        """The changes as text; with any, differences of verdicts are expected."""
        models = [f"{role} {ref}" for role, ref in self.models.items()]
        backend = [f"backend {self.backend}"] if self.backend else []
        return [*models, *backend, *self.settings]


@dataclass(slots=True)
class RecordedSegment:
    """Consecutive frames with one configuration and one set of models."""

    first_frame: int
    """Index of its first frame in the recording."""
    config_hash: str
    models: dict[str, ModelRef | None]
    """Model by role; None until a frame names it."""

    def accepts(self, verdict: Verdict) -> bool:
        """Return True if a verdict may belong to this segment; add the models that it names."""
        models = recorded_models(verdict)
        is_accepted = verdict.config_hash == self.config_hash and all(
            ref is None or self.models.get(role) in (None, ref) for role, ref in models.items()
        )
        if is_accepted:
            self.models.update({role: ref for role, ref in models.items() if ref is not None})
        return is_accepted


def recorded_models(verdict: Verdict) -> dict[str, ModelRef | None]:
    """Return the models that inspected a frame, by role; None where none ran."""
    models = {"gate": verdict.gate, "segmenter": verdict.segmenter}
    # Only of a line that has one: other recordings do not mention it.
    return models | ({"unknown": verdict.unknown_model} if verdict.unknown_check else {})


def models_by_role(refs: Sequence[str], store: ModelStore) -> dict[str, str]:
    """Return the models given on the command line by their role.

    Raises:
        ModelError: A model is rejected.
        UsageError: Two have the same role.
    """
    roles: dict[str, str] = {}
    for ref in refs:
        role = store.resolve(ref).role
        if role in roles:
            raise UsageError(f"{roles[role]} and {ref} are both a {role}", where="--model")
        roles[role] = ref
    return roles


class InspectorCache:
    """Creates inspectors on first use and keeps them. Not thread-safe."""

    def __init__(
        self,
        configurations: Mapping[str, RecordedConfiguration],
        overrides: ReplayOverrides,
        clock: ManualClock,
        where: str,
    ) -> None:
        self.current_models: dict[str, ModelRef] = {}
        """Models of the most recent inspector, by role."""
        self._configurations = configurations
        self._overrides = overrides
        self._clock = clock
        self._where = where
        self._loaded: dict[str, LoadedConfig] = {}
        self._engines: dict[bytes, Engine] = {}
        self._inspectors: dict[bytes, FrameInspector] = {}

    def config_for(self, config_hash: str) -> LoadedConfig:
        """Return a recorded configuration with the overrides of the replay.

        Raises:
            DataError: The recording does not contain it.
            ConfigError: It, or an override, is invalid in this version of edgeinspect.
        """
        loaded = self._loaded.get(config_hash)
        if loaded is None:
            recorded = self._configurations.get(config_hash)
            if recorded is None:
                raise DataError(
                    f"does not contain configuration {config_hash[:40]}, which its verdicts name",
                    where=self._where,
                    remedy="The file was changed while the recorder could not read it",
                )
            where = f"recorded configuration {config_hash[:40]}"
            loaded = parse_config(recorded.text, where, self._overrides.settings)
            self._loaded[config_hash] = loaded
        return loaded

    def inspector_for(self, segment: RecordedSegment) -> FrameInspector:
        """Return the inspector of a segment.

        Raises:
            ModelError: A model is rejected, or is not the recorded one.
            MissingExtraError: A backend's library is not installed.
        """
        loaded = self.config_for(segment.config_hash)
        recorded = self._configurations[segment.config_hash]
        selections, refs = {}, {}
        for role in loaded.engines:
            if role not in ENGINE_ROLES:
                continue
            refs[role] = segment.models.get(role) or getattr(recorded, role)
            selections[role] = self._backend_selection(loaded.engines[role], role, refs[role])
        for role in self._overrides.models:
            if role not in selections:
                raise UsageError(f"the recorded line has no {role}", where="--model")
        key = msgspec.json.encode(
            (
                segment.config_hash,
                {role: _selection_key(selection) for role, selection in selections.items()},
            )
        )
        inspector = self._inspectors.get(key)
        if inspector is None:
            engines = {
                role: self._get_engine(selections[role], role, refs[role], loaded)
                for role in selections
            }
            worker_engines = WorkerEngines(*map(engines.get, ENGINE_ROLES))
            cameras = tuple(loaded.config.cameras)
            # Not the hash computed now: a newer version of edgeinspect may have more keys.
            name = loaded.hash if self._overrides.settings else segment.config_hash
            inspector = make_frame_inspectors(
                loaded.config, name, cameras, [worker_engines], self._clock
            )[0]
            self._inspectors[key] = inspector
        provenance = inspector.provenance
        models = (provenance.gate, provenance.segmenter, provenance.unknown)
        self.current_models = {
            role: ref for role, ref in zip(ENGINE_ROLES, models, strict=True) if ref is not None
        }
        return inspector

    def frame_shape(self, inspector: FrameInspector) -> FrameShape:
        """Return the frame shape that an inspector takes."""
        return inspector.engines.line_model.shape

    def close(self) -> None:
        """Close every engine."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()

    def _backend_selection(
        self, selection: PluginSelection, role: str, ref: ModelRef | None
    ) -> PluginSelection:
        """Return the recorded engine's selection with the overrides of model and backend."""
        overrides = self._overrides
        model = selection.options.model
        if role in overrides.models:
            model = overrides.models[role]
        elif (
            ref is not None and "/" not in model
        ):  # a bare name: use the version that was live then
            model = f"{ref.name}/{ref.version}"
        if overrides.backend and overrides.backend != selection.type:
            module = registry.load_plugin("backend", overrides.backend)
            return PluginSelection("backend", overrides.backend, module.Options(model=model))
        options = msgspec.structs.replace(selection.options, model=model)
        return PluginSelection("backend", selection.type, options)

    def _get_engine(
        self, selection: PluginSelection, role: str, ref: ModelRef | None, loaded: LoadedConfig
    ) -> Engine:
        config = loaded.config
        root = self._overrides.store or (Path(config.store) if config.store else default_root())
        key = msgspec.json.encode((str(root), *_selection_key(selection)))
        engine = self._engines.get(key)
        if engine is None:
            engine = ReplayedEngine(
                load_engine(selection, SystemClock(), ModelStore(root)), self._clock
            )
            self._engines[key] = engine
        model = engine.spec.id
        if role not in self._overrides.models and ref is not None and model.sha256 != ref.sha256:
            raise ModelError(
                f"{model} is not the model that was recorded: its file's hash is "
                f"{model.sha256[:12]}, the recorded one's {ref.sha256[:12]}",
                where=str(root),
                remedy=f"Name the line's own store with --store, or use this model: "
                f"--model {model}",
            )
        return engine


def _selection_key(selection: PluginSelection) -> tuple[str, object]:
    return selection.type, msgspec.to_builtins(selection.options)
