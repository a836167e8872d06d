"""What no single field can know: rules between the keys of a configuration."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from edgeinspect.config.schema import LineConfig
from edgeinspect.config.validation import INVALID, Validator, suggest_spelling
from edgeinspect.config.yaml_document import Node
from edgeinspect.domain import ModelKind, ModelSpec
from edgeinspect.errors import ConfigError, ConfigFault

MAX_IPC_BYTES = 107
"""Longest path of a socket file on Linux."""

_TCP = re.compile(r"tcp://(?P<host>\[[0-9a-fA-F:.%\w]+\]|[^:/\[\]]+):(?P<port>\d{1,5}|\*)$")


def check_line(collector: Validator, root: Node) -> None:
    """Add the faults between keys. What has a fault of its own is passed over."""
    _check_part_verdicts(collector, root)
    _check_gate(collector, root)
    _check_classes(collector, root)
    _check_addresses(collector, root)
    _check_times(collector, root)
    _check_cameras(collector, root)


def check_models(
    config: LineConfig, gate: ModelSpec | None, segmenter: ModelSpec | None, *, where: str = ""
) -> None:
    """Check that the models that were resolved are those the configuration speaks of.

    Raises:
        ConfigError: A model of the wrong kind, two models of different input, or class
            rules that are not exactly the segmenter's classes.
    """
    faults: list[ConfigFault] = []
    wanted = (("gate", gate, ModelKind.GATE), ("segmenter", segmenter, ModelKind.SEGMENTER))
    for name, spec, kind in wanted:
        if spec is not None and spec.kind is not kind:
            problem = f"must name a {kind.value}; {spec.id} is a {spec.kind.value}"
            faults.append(ConfigFault(f"engines.{name}.model", problem))
    if gate and segmenter and (gate.shape, gate.color) != (segmenter.shape, segmenter.color):
        problem = (
            f"both models must take the same frame: {gate.id} takes {gate.shape} {gate.color}, "
            f"{segmenter.id} takes {segmenter.shape} {segmenter.color}"
        )
        faults.append(ConfigFault("engines", problem))
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


def _find(root: Node, *keys: str) -> Node | None:
    """The node at a path; None where nothing, or null, is written."""
    node: Node | None = root
    for key in keys:
        if node is None or not isinstance(node.value, dict):
            return None
        node = node.value.get(key)
    return None if node is None or node.value is None else node


def _line(root: Node, *keys: str) -> int:
    """The line of the deepest node on a path that exists."""
    line = root.line
    for count in range(1, len(keys) + 1):
        node = _find(root, *keys[:count])
        if node is None:
            break
        line = node.line
    return line


def _check_part_verdicts(collector: Validator, root: Node) -> None:
    cameras = _find(root, "cameras")
    if cameras is not None and cameras.value == {}:
        collector.add_fault("cameras", "at least one camera is needed", cameras)
    engines = _find(root, "engines")
    if engines is None or not isinstance(engines.value, dict):
        return
    gate, segmenter = _find(engines, "gate"), _find(engines, "segmenter")
    if gate is None and segmenter is None:
        problem = "at least one engine is needed: gate, segmenter or both"
        collector.add_fault("engines", problem, line=engines.line)
    decide = _find(root, "decide")
    if decide is None or not isinstance(decide.value, dict):
        return
    rule, classes = _find(decide, "gate"), _find(decide, "classes")
    if gate is not None and rule is None:
        collector.add_fault(
            "decide.gate", "required, since there is engines.gate", line=decide.line
        )
    if gate is None and rule is not None:
        collector.add_fault("decide.gate", "has no engine: there is no engines.gate", rule)
    ruled = classes is not None and classes.value != {}
    if segmenter is not None and not ruled:
        problem = "required, one rule for each class, since there is engines.segmenter"
        collector.add_fault("decide.classes", problem, line=decide.line)
    if segmenter is None and ruled:
        problem = "has no engine: there is no engines.segmenter"
        collector.add_fault("decide.classes", problem, classes)


def _check_gate(collector: Validator, root: Node) -> None:
    reject_at = collector.value_at("decide.gate.reject_at")
    for name in ("suspect_at", "degraded_reject_at"):
        value = collector.value_at(f"decide.gate.{name}")
        if _all_numbers(value, reject_at) and value > reject_at:
            problem = f"must be at most reject_at, which is {reject_at}"
            collector.add_fault(f"decide.gate.{name}", problem, _find(root, "decide", "gate", name))


def _check_classes(collector: Validator, root: Node) -> None:
    classes = _find(root, "decide", "classes")
    if classes is None or not isinstance(classes.value, dict):
        return
    for name, rule in classes.value.items():
        if not isinstance(rule.value, dict):
            continue
        given = [key for key in ("area_px", "area_mm2") if _find(rule, key) is not None]
        if len(given) != 1:
            found = "neither stands there" if not given else "both stand there"
            problem = f"needs exactly one of area_px and area_mm2; {found}"
            collector.add_fault(f"decide.classes.{name}", problem, line=rule.line)


def _check_addresses(collector: Validator, root: Node) -> None:
    insecure = collector.value_at("publish.insecure")
    curve = collector.value_at("publish.curve")
    seen: dict[str, str] = {}
    for name in ("verdicts", "replay"):
        path = f"publish.{name}"
        address = collector.value_at(path)
        if address is None:
            _check_own_socket(collector, root, name)
        if not isinstance(address, str):
            continue
        node, line = _find(root, "publish", name), _line(root, "publish", name)
        problem = address_problem(address)
        if problem:
            collector.add_fault(path, problem, node, line)
            continue
        # A port left to the system is never the same one.
        if address in seen and not address.endswith((":*", ":0")):
            collector.add_fault(path, f"must differ from publish.{seen[address]}", node, line)
        seen[address] = name
        if insecure is False and curve is None and not is_local(address):
            problem = (
                "can be reached from other machines without encryption: bind 127.0.0.1, "
                "or name publish.curve, or write publish.insecure: true"
            )
            collector.add_fault(path, problem, node, line)


def _check_own_socket(collector: Validator, root: Node, name: str) -> None:
    """The path of a socket in the line's own folder is not too long."""
    folder, line = collector.value_at("spool.folder"), collector.value_at("line")
    if not isinstance(folder, str) or not isinstance(line, str):
        return
    path = f"{folder}/{line}.{name}"
    if len(path.encode("utf-8", "replace")) > MAX_IPC_BYTES:
        problem = (
            f"is too long for the line's socket {line}.{name} in it, whose path may have "
            f"{MAX_IPC_BYTES} bytes: give a shorter one, or write publish.{name} out"
        )
        collector.add_fault("spool.folder", problem, _find(root, "spool", "folder"))


def address_problem(address: str) -> str | None:
    """What is wrong with a ZeroMQ address; None if it can be bound or connected."""
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
    """True if only this machine can reach an address."""
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


def _check_times(collector: Validator, root: Node) -> None:
    travel_ms = collector.value_at("act_by.travel_ms")
    budget_ms = collector.value_at("budget_ms")
    if _all_numbers(travel_ms, budget_ms) and 0 < travel_ms < budget_ms:
        problem = (
            f"must be 0, or at least budget_ms, which is {budget_ms:g}: the ejector cannot "
            "need the verdict before it is due"
        )
        collector.add_fault("act_by.travel_ms", problem, _find(root, "act_by", "travel_ms"))
    first_ms = collector.value_at("capture.reconnect.first_ms")
    max_ms = collector.value_at("capture.reconnect.max_ms")
    if _all_numbers(first_ms, max_ms) and first_ms > max_ms:
        node = _find(root, "capture", "reconnect", "first_ms")
        line = _line(root, "capture", "reconnect", "first_ms")
        problem = f"must be at most max_ms, which is {max_ms:g}"
        collector.add_fault("capture.reconnect.first_ms", problem, node, line)


def _check_cameras(collector: Validator, root: Node) -> None:
    """Cameras that are named elsewhere exist, and a part's window is not too short."""
    cameras = collector.value_at("cameras")
    known = list(cameras) if isinstance(cameras, dict) else None
    named = collector.value_at("parts.cameras")
    for index, name in enumerate(named if isinstance(named, list) else ()):
        if known is not None and name not in known:
            problem = f"there is no camera {name}{suggest_spelling(name, known)}"
            collector.add_fault(
                f"parts.cameras[{index}]", problem, line=_line(root, "parts", "cameras")
            )
    table = collector.value_at("act_by.cameras")
    budget_ms = collector.value_at("budget_ms")
    for name in table if isinstance(table, dict) else ():
        path = f"act_by.cameras.{name}"
        if known is not None and name not in known:
            problem = f"there is no camera {name}{suggest_spelling(name, known)}"
            collector.add_fault(path, problem, line=_line(root, "act_by", "cameras", name))
        travel_ms = collector.value_at(f"{path}.travel_ms")
        if _all_numbers(travel_ms, budget_ms) and 0 < travel_ms < budget_ms:
            problem = f"must be 0, or at least budget_ms, which is {budget_ms:g}"
            line = _line(root, "act_by", "cameras", name)
            collector.add_fault(f"{path}.travel_ms", problem, line=line)
    window_ms = collector.value_at("parts.window_ms")
    if _all_numbers(window_ms, budget_ms) and window_ms < budget_ms:
        problem = f"must be at least budget_ms, which is {budget_ms:g}"
        collector.add_fault("parts.window_ms", problem, _find(root, "parts", "window_ms"))


def _all_numbers(*values: Any) -> bool:
    return not any(value is INVALID or value is None for value in values)
