"""Rules between the keys of a configuration."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from edgeinspect.config.schema import GateThresholds, LineConfig
from edgeinspect.config.validation import INVALID, ConfigValidator, suggest_spelling
from edgeinspect.config.yaml_document import YamlNode
from edgeinspect.domain import ModelKind, ModelSpec
from edgeinspect.errors import ConfigError, ConfigFault

MAX_IPC_BYTES = 107
"""Maximum length of a socket's path on Linux."""

_TCP = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.%\w]+\]|[^:/\[\]]+):(?P<port>\d{1,5}|\*)$")


def check_line(validator: ConfigValidator, root: YamlNode) -> None:
    """Add faults that concern several keys; keys that are faulty themselves are skipped."""
    _check_part_verdicts(validator, root)
    _check_gate(validator, root)
    _check_classes(validator, root)
    _check_addresses(validator, root)
    _check_times(validator, root)
    _check_cameras(validator, root)


def check_models(
    config: LineConfig,
    gate: ModelSpec | None,
    segmenter: ModelSpec | None,
    unknown: ModelSpec | None = None,
    *,
    where: str = "",
) -> None:
    """Check that the resolved models fit the configuration.

    Raises:
        ConfigError: A model of the wrong kind, models with different inputs, or rules that
            differ from the classes of the segmenter or the kinds of the gate.
    """
    faults: list[ConfigFault] = []
    wanted = (("gate", gate, ModelKind.GATE), ("segmenter", segmenter, ModelKind.SEGMENTER))
    for name, spec, kind in wanted:
        if spec is not None and spec.kind is not kind:
            problem = f"must name a {kind.value}; {spec.id} is a {spec.kind.value}"
            faults.append(ConfigFault(f"engines.{name}.model", problem))
    if unknown is not None:
        faults += _unknown_faults(unknown, gate, segmenter)
    specs = [spec for spec in (gate, segmenter, unknown) if spec is not None]
    if len({(spec.shape, spec.color) for spec in specs}) > 1:
        listing = ", ".join(f"{spec.id} takes {spec.shape} {spec.color}" for spec in specs)
        word = "both" if len(specs) == 2 else "all"
        faults.append(ConfigFault("engines", f"{word} models must take the same frame: {listing}"))
    if gate is not None and gate.kind is ModelKind.GATE and config.decide.gate is not None:
        faults += _kind_faults(gate, config.decide.gate)
    if segmenter is not None and segmenter.kind is ModelKind.SEGMENTER:
        classes = ", ".join(segmenter.classes)
        for name in segmenter.classes:
            if name not in config.decide.classes:
                problem = f"required: {segmenter.id} finds the classes {classes}"
                faults.append(ConfigFault(f"decide.classes.{name}", problem))
        for name in config.decide.classes:
            if name not in segmenter.classes:
                hint = suggest_spelling(name, segmenter.classes)
                problem = f"{segmenter.id} has no such class; it finds {classes}{hint}"
                faults.append(ConfigFault(f"decide.classes.{name}", problem))
    if faults:
        raise ConfigError(faults, where=where)


def _kind_faults(gate: ModelSpec, rules: GateThresholds) -> list[ConfigFault]:
    """Return what is wrong with the rules of a gate's kinds: each has one, or none has."""
    kinds = ", ".join(gate.kinds)
    faults = []
    for name in rules.classes:
        if not gate.kinds:
            problem = f"{gate.id} tells no kinds of defects apart: remove `classes`"
            return [ConfigFault("decide.gate.classes", problem)]
        if name not in gate.kinds:
            hint = suggest_spelling(name, gate.kinds)
            problem = f"{gate.id} has no such kind; it has {kinds}{hint}"
            faults.append(ConfigFault(f"decide.gate.classes.{name}", problem))
    for name in gate.kinds if rules.classes else ():
        if name not in rules.classes:
            problem = f"required, as other kinds have a rule: {gate.id} has {kinds}"
            faults.append(ConfigFault(f"decide.gate.classes.{name}", problem))
    return faults


def _unknown_faults(
    unknown: ModelSpec, gate: ModelSpec | None, segmenter: ModelSpec | None
) -> list[ConfigFault]:
    if not unknown.is_good_parts:
        problem = (
            f"must name a good-parts model; {unknown.id} is a {unknown.kind.value} that learned "
            "from labels"
        )
        return [ConfigFault("engines.unknown.model", problem)]
    for spec in (gate, segmenter):
        if spec is not None and unknown.classes[0] in spec.classes:
            problem = f"its class {unknown.classes[0]} is one of {spec.id} too: rename it"
            return [ConfigFault("engines.unknown.model", problem)]
    return []


def _find(root: YamlNode, *keys: str) -> YamlNode | None:
    """Return the node at a path; None if it is absent or null."""
    node: YamlNode | None = root
    for key in keys:
        if node is None or not isinstance(node.value, dict):
            return None
        node = node.value.get(key)
    return None if node is None or node.value is None else node


def _line(root: YamlNode, *keys: str) -> int:
    """Return the line of the deepest existing node on a path."""
    line = root.line
    for count in range(1, len(keys) + 1):
        node = _find(root, *keys[:count])
        if node is None:
            break
        line = node.line
    return line


def _check_part_verdicts(validator: ConfigValidator, root: YamlNode) -> None:
    cameras = _find(root, "cameras")
    if cameras is not None and cameras.value == {}:
        validator.add_fault("cameras", "at least one camera is needed", cameras)
    engines = _find(root, "engines")
    if engines is None or not isinstance(engines.value, dict):
        return
    gate, segmenter = _find(engines, "gate"), _find(engines, "segmenter")
    unknown = _find(engines, "unknown")
    if gate is None and segmenter is None and unknown is None:
        problem = "at least one engine is needed: gate, segmenter, unknown or several of them"
        validator.add_fault("engines", problem, line=engines.line)
    decide = _find(root, "decide")
    if decide is None or not isinstance(decide.value, dict):
        return
    rule, classes = _find(decide, "gate"), _find(decide, "classes")
    if gate is not None and rule is None:
        validator.add_fault(
            "decide.gate", "required, since there is engines.gate", line=decide.line
        )
    if gate is None and rule is not None:
        validator.add_fault("decide.gate", "has no engine: there is no engines.gate", rule)
    ruled = classes is not None and classes.value != {}
    if segmenter is not None and not ruled:
        problem = "required, one rule for each class, since there is engines.segmenter"
        validator.add_fault("decide.classes", problem, line=decide.line)
    if segmenter is None and ruled:
        problem = "has no engine: there is no engines.segmenter"
        validator.add_fault("decide.classes", problem, classes)
    _check_unknown(validator, decide, has_engine=unknown is not None)


def _check_unknown(validator: ConfigValidator, decide: YamlNode, *, has_engine: bool) -> None:
    rule = _find(decide, "unknown")
    if has_engine and rule is None:
        problem = "required, since there is engines.unknown"
        validator.add_fault("decide.unknown", problem, line=decide.line)
    if rule is None:
        return
    if not has_engine:
        validator.add_fault("decide.unknown", "has no engine: there is no engines.unknown", rule)
    if validator.value_at("decide.unknown.action") != "reject":
        return
    for name in ("severity", "reject_code"):
        if _find(rule, name) is None:
            validator.add_fault(
                f"decide.unknown.{name}", "required, since action is reject", line=rule.line
            )


def _check_gate(validator: ConfigValidator, root: YamlNode) -> None:
    reject_at = validator.value_at("decide.gate.reject_at")
    for name in ("suspect_at", "degraded_reject_at"):
        value = validator.value_at(f"decide.gate.{name}")
        if _all_numbers(value, reject_at) and value > reject_at:
            problem = f"must be at most reject_at, which is {reject_at}"
            validator.add_fault(f"decide.gate.{name}", problem, _find(root, "decide", "gate", name))


def _check_classes(validator: ConfigValidator, root: YamlNode) -> None:
    classes = _find(root, "decide", "classes")
    if classes is None or not isinstance(classes.value, dict):
        return
    for name, rule in classes.value.items():
        if not isinstance(rule.value, dict):
            continue
        given = [key for key in ("area_px", "area_mm2") if _find(rule, key) is not None]
        if len(given) != 1:
            found = "neither is given" if not given else "both are given"
            problem = f"needs exactly one of area_px and area_mm2; {found}"
            validator.add_fault(f"decide.classes.{name}", problem, line=rule.line)


def _check_addresses(validator: ConfigValidator, root: YamlNode) -> None:
    insecure = validator.value_at("publish.insecure")
    curve = validator.value_at("publish.curve")
    seen: dict[str, str] = {}
    for name in ("verdicts", "replay"):
        path = f"publish.{name}"
        address = validator.value_at(path)
        if address is None:
            _check_own_socket(validator, root, name)
        if not isinstance(address, str):
            continue
        node, line = _find(root, "publish", name), _line(root, "publish", name)
        problem = address_problem(address)
        if problem:
            validator.add_fault(path, problem, node, line)
            continue
        # A port chosen by the system is never the same twice.
        if address in seen and not address.endswith((":*", ":0")):
            validator.add_fault(path, f"must differ from publish.{seen[address]}", node, line)
        seen[address] = name
        if insecure is False and curve is None and not is_local(address):
            problem = (
                "can be reached from other machines without encryption: bind 127.0.0.1, "
                "or name publish.curve, or write publish.insecure: true"
            )
            validator.add_fault(path, problem, node, line)


def _check_own_socket(validator: ConfigValidator, root: YamlNode, name: str) -> None:
    """Check that the path of a socket in the line's folder is not too long."""
    folder, line = validator.value_at("spool.folder"), validator.value_at("line")
    if not isinstance(folder, str) or not isinstance(line, str):
        return
    path = f"{folder}/{line}.{name}"
    if len(path.encode("utf-8", "replace")) > MAX_IPC_BYTES:
        problem = (
            f"is too long for the line's socket {line}.{name} in it, whose path may have "
            f"{MAX_IPC_BYTES} bytes: use a shorter one, or set publish.{name}"
        )
        validator.add_fault("spool.folder", problem, _find(root, "spool", "folder"))


def address_problem(address: str) -> str | None:
    """Return what is wrong with a ZeroMQ address; None if it is valid."""
    if match := _TCP.match(address):
        port = match["port"]
        if port != "*" and not int(port) <= 65_535:
            return "the port must be from 1 to 65535"
        return None
    scheme, _, rest = address.partition("://")
    if scheme == "inproc" and rest:
        return None
    if scheme == "ipc" and rest:
        if len(rest.encode()) > MAX_IPC_BYTES:
            return f"the socket's path is longer than {MAX_IPC_BYTES} bytes, Linux's limit"
        return None
    return "must be tcp://HOST:PORT, ipc://PATH or inproc://NAME"


def is_local(address: str) -> bool:
    """True if an address is reachable from this machine only."""
    match = _TCP.match(address)
    if not match:
        return True
    host = match["host"].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # `*`, or an interface
        return host == "lo"


def _check_times(validator: ConfigValidator, root: YamlNode) -> None:
    travel_ms = validator.value_at("act_by.travel_ms")
    budget_ms = validator.value_at("budget_ms")
    if _all_numbers(travel_ms, budget_ms) and 0 < travel_ms < budget_ms:
        problem = (
            f"must be 0, or at least budget_ms, which is {budget_ms:g}: the ejector cannot "
            "need the verdict before it is due"
        )
        validator.add_fault("act_by.travel_ms", problem, _find(root, "act_by", "travel_ms"))
    first_ms = validator.value_at("capture.reconnect.first_ms")
    max_ms = validator.value_at("capture.reconnect.max_ms")
    if _all_numbers(first_ms, max_ms) and first_ms > max_ms:
        node = _find(root, "capture", "reconnect", "first_ms")
        line = _line(root, "capture", "reconnect", "first_ms")
        problem = f"must be at most max_ms, which is {max_ms:g}"
        validator.add_fault("capture.reconnect.first_ms", problem, node, line)


def _check_cameras(validator: ConfigValidator, root: YamlNode) -> None:
    """Check that cameras named elsewhere exist and that a part's window is not too short."""
    cameras = validator.value_at("cameras")
    known = list(cameras) if isinstance(cameras, dict) else None
    named = validator.value_at("parts.cameras")
    for index, name in enumerate(named if isinstance(named, list) else ()):
        if known is not None and name not in known:
            problem = f"there is no camera {name}{suggest_spelling(name, known)}"
            validator.add_fault(
                f"parts.cameras[{index}]", problem, line=_line(root, "parts", "cameras")
            )
    table = validator.value_at("act_by.cameras")
    budget_ms = validator.value_at("budget_ms")
    for name in table if isinstance(table, dict) else ():
        path = f"act_by.cameras.{name}"
        if known is not None and name not in known:
            problem = f"there is no camera {name}{suggest_spelling(name, known)}"
            validator.add_fault(path, problem, line=_line(root, "act_by", "cameras", name))
        travel_ms = validator.value_at(f"{path}.travel_ms")
        if _all_numbers(travel_ms, budget_ms) and 0 < travel_ms < budget_ms:
            problem = f"must be 0, or at least budget_ms, which is {budget_ms:g}"
            line = _line(root, "act_by", "cameras", name)
            validator.add_fault(f"{path}.travel_ms", problem, line=line)
    window_ms = validator.value_at("parts.window_ms")
    if _all_numbers(window_ms, budget_ms) and window_ms < budget_ms:
        problem = f"must be at least budget_ms, which is {budget_ms:g}"
        validator.add_fault("parts.window_ms", problem, _find(root, "parts", "window_ms"))


def _all_numbers(*values: Any) -> bool:
    return not any(value is INVALID or value is None for value in values)
