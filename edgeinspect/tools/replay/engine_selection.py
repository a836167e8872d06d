"""Who judges in a replay: the models that the recording names, or others in their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edgeinspect import registry
from edgeinspect.config import LoadedConfig, PluginSelection, parse_config
from edgeinspect.domain import FrameShape, ManualClock, ModelKind, ModelRef, SystemClock, Verdict
from edgeinspect.errors import DataError, ModelError, UsageError
from edgeinspect.pipeline.factory import load_engine
from edgeinspect.pipeline.inspection import FrameInspector, WorkerEngines, make_frame_inspectors
from edgeinspect.ports import Engine
from edgeinspect.storage.model_store import ModelStore, default_root
from edgeinspect.storage.recording import RecordedConfiguration
from edgeinspect.tools.replay.offline_line import ReplayedEngine

ROLES = tuple(kind.value for kind in ModelKind)


@dataclass(frozen=True, slots=True)
class ReplayOverrides:
    """What the replay shall do otherwise than the line did."""

    models: Mapping[str, str] = field(default_factory=dict)
    """By role, as `find_roles` gives them."""
    backend: str | None = None
    settings: Sequence[str] = ()
    """`key.of.a.table=VALUE` for the recorded configuration."""
    store: Path | None = None

    @property
    def changes(self) -> list[str]:
        """What is otherwise, in words; with any, verdicts may rightly differ."""
        models = [f"{role} {ref}" for role, ref in self.models.items()]
        backend = [f"backend {self.backend}"] if self.backend else []
        return [*models, *backend, *self.settings]


@dataclass(slots=True)
class RecordedSegment:
    """Frames that one configuration and one set of models judged."""

    first_frame: int
    """Its first frame, counted from 0 over the whole recording."""
    config_hash: str
    models: dict[str, ModelRef | None]
    """By role; None as long as no frame says."""

    def accepts(self, verdict: Verdict) -> bool:
        """True if a verdict can be of this segment; notes the models that it names."""
        named = recorded_models(verdict)
        fits = verdict.config_hash == self.config_hash and all(
            ref is None or self.models[role] in (None, ref) for role, ref in named.items()
        )
        if fits:
            self.models.update({role: ref for role, ref in named.items() if ref is not None})
        return fits


def recorded_models(verdict: Verdict) -> dict[str, ModelRef | None]:
    """The models that judged a frame, by role; None where none ran."""
    return {"gate": verdict.gate, "segmenter": verdict.segmenter}


def models_by_role(refs: Sequence[str], store: ModelStore) -> dict[str, str]:
    """Models given on the command line, by the role that each has.

    Raises:
        ModelError: One is refused.
        UsageError: Two have the same role.
    """
    roles: dict[str, str] = {}
    for ref in refs:
        role = store.resolve(ref).kind.value
        if role in roles:
            raise UsageError(f"{roles[role]} and {ref} are both a {role}", where="--engine")
        roles[role] = ref
    return roles


class InspectorCache:
    """Makes each judge when it is needed first, and keeps it. One thread."""

    def __init__(
        self,
        configurations: Mapping[str, RecordedConfiguration],
        wanted: ReplayOverrides,
        clock: ManualClock,
        where: str,
    ) -> None:
        self.current_models: dict[str, ModelRef] = {}
        """The models of the newest judge, by role."""
        self._configurations = configurations
        self._overrides = wanted
        self._clock = clock
        self._where = where
        self._loaded: dict[str, LoadedConfig] = {}
        self._engines: dict[bytes, Engine] = {}
        self._inspectors: dict[bytes, FrameInspector] = {}

    def config_for(self, config_hash: str) -> LoadedConfig:
        """A recorded configuration, with the replay's own changes.

        Raises:
            DataError: The recording does not hold it.
            ConfigError: This version of edgeinspect does not take it, or a change is wrong.
        """
        found = self._loaded.get(config_hash)
        if found is None:
            told = self._configurations.get(config_hash)
            if told is None:
                raise DataError(
                    f"does not hold configuration {config_hash[:40]}, which its verdicts name",
                    where=self._where,
                    remedy="It was changed while the recorder could not see the file",
                )
            where = f"recorded configuration {config_hash[:40]}"
            found = parse_config(told.text, where, self._overrides.settings)
            self._loaded[config_hash] = found
        return found

    def inspector_for(self, segment: RecordedSegment) -> FrameInspector:
        """The judge of a segment.

        Raises:
            ModelError: A model is refused, or is not the one that was recorded.
            MissingExtraError: A backend's library is not installed.
        """
        loaded = self.config_for(segment.config_hash)
        told = self._configurations[segment.config_hash]
        choices, refs = {}, {}
        for role in loaded.engines:
            if role not in ROLES:
                continue
            refs[role] = segment.models.get(role) or getattr(told, role)
            choices[role] = self._backend_selection(loaded.engines[role], role, refs[role])
        for role in self._overrides.models:
            if role not in choices:
                raise UsageError(f"the recorded line has no {role}", where="--engine")
        key = msgspec.json.encode(
            (
                segment.config_hash,
                {role: _selection_key(choice) for role, choice in choices.items()},
            )
        )
        judge = self._inspectors.get(key)
        if judge is None:
            engines = {
                role: self._get_engine(choices[role], role, refs[role], loaded) for role in choices
            }
            pair = WorkerEngines(engines.get("gate"), engines.get("segmenter"))
            cameras = tuple(loaded.config.cameras)
            # Not its hash of today: a newer version of edgeinspect may have more keys.
            name = loaded.hash if self._overrides.settings else segment.config_hash
            judge = make_frame_inspectors(loaded.config, name, cameras, [pair], self._clock)[0]
            self._inspectors[key] = judge
        self.current_models = {
            role: ref
            for role, ref in (
                ("gate", judge.provenance.gate),
                ("segmenter", judge.provenance.segmenter),
            )
            if ref is not None
        }
        return judge

    def frame_shape(self, judge: FrameInspector) -> FrameShape:
        """Of the frames that a judge takes."""
        engine = judge.gate or judge.segmenter
        assert engine is not None
        return engine.spec.shape

    def close(self) -> None:
        """Free every engine."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()

    def _backend_selection(
        self, choice: PluginSelection, role: str, ref: ModelRef | None
    ) -> PluginSelection:
        """The recorded engine's options with the model and backend that shall judge."""
        wanted = self._overrides
        model = choice.options.model
        if role in wanted.models:
            model = wanted.models[role]
        elif ref is not None and "/" not in model:  # its name: which version was live then?
            model = f"{ref.name}/{ref.version}"
        if wanted.backend and wanted.backend != choice.type:
            module = registry.load_plugin("backend", wanted.backend)
            return PluginSelection("backend", wanted.backend, module.Options(model=model))
        options = msgspec.structs.replace(choice.options, model=model)
        return PluginSelection("backend", choice.type, options)

    def _get_engine(
        self, choice: PluginSelection, role: str, ref: ModelRef | None, loaded: LoadedConfig
    ) -> Engine:
        config = loaded.config
        root = self._overrides.store or (Path(config.store) if config.store else default_root())
        key = msgspec.json.encode((str(root), *_selection_key(choice)))
        engine = self._engines.get(key)
        if engine is None:
            engine = ReplayedEngine(
                load_engine(choice, SystemClock(), ModelStore(root)), self._clock
            )
            self._engines[key] = engine
        found = engine.spec.id
        if role not in self._overrides.models and ref is not None and found.sha256 != ref.sha256:
            raise ModelError(
                f"{found} is not the model that was recorded: its file's hash is "
                f"{found.sha256[:12]}, the recorded one's {ref.sha256[:12]}",
                where=str(root),
                remedy=f"Name the line's own store with --store, or judge with this one: "
                f"--engine {found}",
            )
        return engine


def _selection_key(choice: PluginSelection) -> tuple[str, object]:
    return choice.type, msgspec.to_builtins(choice.options)
