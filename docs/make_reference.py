"""Generate the parts of the documentation that follow from the code.

    python docs/make_reference.py            after a change of a key, message, event or command
    python docs/make_reference.py --check    report what is out of date; exit 1 if anything is

It fills the parts of pages between `<!-- generated: NAME -->` and `<!-- end -->`, writes
the JSON Schemas, and puts the shipped models' thresholds into the examples. A test calls it.
"""

from __future__ import annotations

import ast
import functools
import inspect as source_of
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click
import msgspec
import yaml
from msgspec import NODEFAULT, inspect

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import remedies  # noqa: E402
from wire_examples import EXAMPLES  # noqa: E402

from edgeinspect import errors, registry  # noqa: E402
from edgeinspect.cli._exit_codes import EXIT_CODES  # noqa: E402
from edgeinspect.cli._json_output import json_options  # noqa: E402
from edgeinspect.cli.main import COMMANDS, cli  # noqa: E402
from edgeinspect.config import LineConfig, describe_type  # noqa: E402
from edgeinspect.domain import CAUSES, AlarmCode, PartVerdict, PlcError  # noqa: E402
from edgeinspect.domain import verdict as verdict_module  # noqa: E402
from edgeinspect.services.archiver.config import ArchiveConfig  # noqa: E402
from edgeinspect.services.gateway.config import GatewayConfig  # noqa: E402
from edgeinspect.services.hmi.alarm_remedies import remedy_for  # noqa: E402
from edgeinspect.services.hmi.config import HmiConfig  # noqa: E402
from edgeinspect.system import log_events  # noqa: E402
from edgeinspect.wire import messages, requests  # noqa: E402

_BLOCK = re.compile(r"(<!-- generated: ([a-z0-9_-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

PAGES = (
    "README.md",
    "docs/reference/archive.md",
    "docs/reference/gateway.md",
    "docs/howto/calibration.md",
    "docs/reference/configuration.md",
    "docs/reference/events.md",
    "docs/troubleshooting.md",
    "docs/reference/models.md",
    "docs/reference/hmi.md",
    "docs/reference/cli.md",
    "docs/reference/wire.md",
    "docs/howto/README.md",
    "docs/reference/README.md",
    "docs/reference/json.md",
    "docs/reference/schema/README.md",
    "docs/explanation/README.md",
    "docs/explanation/decisions/README.md",
)


# -- what the sources say ----------------------------------------------------------------


def one_line(text: str | None) -> str:
    """A docstring as one line that can stand in a table."""
    return " ".join((text or "").split()).replace("|", "\\|")


@functools.cache
def _tree(module_file: str) -> ast.Module:
    return ast.parse(Path(module_file).read_text(encoding="utf-8"))


def _documented(body: list[ast.stmt]) -> dict[str, str]:
    """Map each assigned name to the docstring below it."""
    found = {}
    for statement, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        name = ""
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
        if name:
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = str(after.value.value)
            found[name] = one_line(text)
    return found


def field_docs(cls: type) -> dict[str, str]:
    """Field to the docstring under it, in a class of this project and those it extends."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if not each.__module__.startswith("edgeinspect."):
            continue
        for node in _tree(source_of.getfile(each)).body:
            if isinstance(node, ast.ClassDef) and node.name == each.__name__:
                found |= _documented(node.body)
    return found


MEANINGS = {
    "line": "The line's name.",
    "camera": "The camera's name.",
    "label": "The camera's name for the image, such as a file name; null for a live camera.",
    "part_id": "The part's id, from the trigger.",
    "encoder_count": "Encoder count at the trigger.",
    "camera_frame_id": "The camera's own frame counter.",
    "captured_at_utc_ns": "Instant of the exposure, or of arrival if the camera gives none.",
    "clock_source": "Source of the timestamp: `host`, `camera` or `ptp`.",
    "deadline_utc_ns": "Exposure plus budget.",
    "decision": "The frame's decision, one of these three; no verdict is not a decision.",
    "reason": "Why; see the table below.",
    "simulated": "True for a challenge part.",
    "defect_prob": "The gate's defect probability, 0 to 1; null if no gate ran.",
    "letterbox": "How an image of another size was fitted into the frame; null if it had its size.",
    "gate": "The model that gave `defect_prob`; null if none ran.",
    "segmenter": "The model that gave the regions; null if none ran.",
    "config_hash": "Hash of the configuration it was inspected with.",
    "stages": "Time spent per stage.",
    "budget_us": "The line's budget per frame.",
    "class_id": "From 1, in the order of the model's classes.",
    "class_name": "The class's name.",
    "area_mm2": "The same in mm².",
    "box": "Bounding box in frame pixels.",
    "gate_us": "In the gate.",
    "segmenter_us": "In the segmenter; 0 if it did not run.",
    "regions_us": "Connected components, decision and mask.",
    "period_ms": "Time between heartbeats.",
    "utc_ns": "When it was sent.",
    "epoch": "Start of the daemon.",
    "counts": "The counters of the invariant.",
    "captured": "Frames delivered by the cameras.",
    "passed": "PASS verdicts.",
    "reject": "REJECT verdicts.",
    "no_verdict": "NO_VERDICT verdicts.",
    "open": "Frames without a verdict yet.",
    "late": "Results that arrived after their frame was closed.",
    "degraded": "Verdicts by the gate alone, because time was short.",
    "rate_hz": "Frames per second.",
    "latency_p50_us": "Capture to published, median since the start, of inspected frames.",
    "latency_p99_us": "The same, 99th percentile.",
    "alarm": "Text of the active alarm; empty for none.",
    "seq": "The frame's seq.",
    "height_px": "Height.",
    "width_px": "Width.",
    "from_seq": "First seq requested.",
    "limit": "Maximum number of verdicts to send.",
    "name": "Its name.",
    "version": "Its version.",
    "sha256": "Hash of the ONNX file.",
    "calibration": "Calibration id of an INT8 model.",
    "accepted": "False if it was refused.",
    "problem": "Why not.",
    "schema": "Version of the keys.",
    "mm_per_px_x": "Size of a pixel on the part, along a row.",
    "mm_per_px_y": "Size of a pixel on the part, along a column.",
    "reject_code": "Number sent to the PLC, to sort rejects by.",
    "heartbeat_ms": "Time between heartbeats.",
    "status_ms": "Time between status messages, and between checks of the clients' keys.",
    "no_verdict_in_row": "Alarm after this many consecutive NO_VERDICTs.",
    "degraded_in_row": "Alarm after this many consecutive verdicts by the gate alone.",
    "scale_ratio": "Frame pixels per camera pixel.",
    "left_px": "Frame pixels left of the image.",
    "top_px": "Frame pixels above the image.",
    "pace": "At a rate, as fast as possible, or on a trigger.",
}
"""Meanings of fields without a docstring of their own."""


def meaning_of(docs: dict[str, str], name: str) -> str:
    """Return a field's docstring, or the usual meaning of its name."""
    return docs.get(name) or MEANINGS.get(name, "")


def module_docs(module: ModuleType) -> dict[str, str]:
    """Constant to the docstring under it."""
    assert module.__file__
    return _documented(_tree(module.__file__).body)


# -- configuration -----------------------------------------------------------------------


def configuration() -> str:
    """Every section of a line's file as a table."""
    return "\n".join(_section("", "The whole file", LineConfig))


def hmi_keys() -> str:
    """Every section of an HMI file as a table."""
    return "\n".join(_section("", "The whole file", HmiConfig))


def archive_keys() -> str:
    """Every section of an archive's file as a table."""
    return "\n".join(_section("", "The whole file", ArchiveConfig))


def gateway_keys() -> str:
    """Every section of a gateway's file as a table."""
    return "\n".join(_section("", "The whole file", GatewayConfig))


def _section(path: str, title: str, cls: type) -> Iterator[str]:
    yield f"### {title}\n"
    if path:
        yield f"{one_line(cls.__doc__)}\n"
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    docs = field_docs(cls)
    later: list[tuple[str, type]] = []
    kind = inspect.type_info(cls)
    assert isinstance(kind, inspect.StructType)
    for entry in kind.fields:
        name = f"{path}{entry.encode_name}"
        inner = _struct_of(entry.type)
        is_table = isinstance(_bare(entry.type), inspect.DictType)
        heading = f"{name}.<name>" if is_table else name
        anchor = f" See [{heading}](#{_anchor(heading)})" if inner else ""
        meaning = docs.get(entry.name, "") or one_line(inner.__doc__ if inner else "")
        meaning = meaning or meaning_of(docs, entry.name)
        yield f"| `{name}` | {_words(entry)} | {_default(entry)} | {meaning}{anchor} |"
        if inner:
            later.append((f"{heading}.", inner))
    yield ""
    for name, inner in later:
        yield from _section(name, f"`{name.rstrip('.')}`", inner)


def _bare(kind: inspect.Type) -> inspect.Type:
    if isinstance(kind, inspect.UnionType):
        kind = next(k for k in kind.types if not isinstance(k, inspect.NoneType))
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _struct_of(kind: inspect.Type) -> type | None:
    kind = _bare(kind)
    if isinstance(kind, inspect.DictType):
        kind = _bare(kind.value_type)
    return kind.cls if isinstance(kind, inspect.StructType) else None


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "", name.lower())


def _words(entry: inspect.Field) -> str:
    kind = _bare(entry.type)
    if isinstance(kind, inspect.DictType) and isinstance(_bare(kind.value_type), inspect.AnyType):
        return "a plugin: `type` and its options"
    if isinstance(kind, inspect.DictType) and isinstance(_bare(kind.value_type), inspect.DictType):
        return "a table, each entry a plugin: `type` and its options"
    text = describe_type(entry.type)
    return text.replace("|", "\\|").replace("[", "\\[")


def _default(entry: inspect.Field) -> str:
    if entry.required:
        return "**required**"
    value: Any = entry.default
    if entry.default_factory is not NODEFAULT:
        value = entry.default_factory()
    if isinstance(value, msgspec.Struct):
        return "its defaults"
    if value is None:
        return "none"
    return f"`{json.dumps(value)}`"


def plugins(kind: registry.PluginKind) -> Callable[[], str]:
    """The options of every part of a kind."""

    def render() -> str:
        lines = []
        for name in registry.plugin_names(kind):
            module = registry.load_plugin(kind, name)
            assert isinstance(module, ModuleType)
            lines += [
                f"### `type: {name}`\n",
                f"{one_line(module.__doc__)}\n",
                "| key | value | default | meaning |",
                "|---|---|---|---|",
            ]
            lines += [*_rows(module.Options), ""]
        return "\n".join(lines)

    return render


def _rows(cls: type, path: str = "") -> Iterator[str]:
    """A row for each option, and below a table those of its own keys."""
    docs = field_docs(cls)
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    for entry in info.fields:
        meaning = meaning_of(docs, entry.name)
        name = f"{path}{entry.encode_name}"
        yield f"| `{name}` | {_words(entry)} | {_default(entry)} | {meaning} |"
        inner = _struct_of(entry.type)
        if inner is not None:
            yield from _rows(inner, f"{name}.")


# -- events, commands, exit codes ----------------------------------------------------------


_NO_WARNING = {"info", "debug", "record_event", "_record_event"}
"""Calls that write an event without a warning."""


class EventUse(NamedTuple):
    """How the code writes one event."""

    fields: set[str]
    calls: set[str]
    """Names of the functions that are called with it, such as `warning`."""

    @property
    def level(self) -> str:
        """`error`, `warning`, or `info`; the highest of several."""
        warnings = self.calls - _NO_WARNING
        return "info" if not warnings else "warning" if warnings <= {"warning", "log"} else "error"


def event_uses() -> dict[str, EventUse]:
    """Event constant to how it is written, also where the call names a variable for it."""
    found: dict[str, EventUse] = {}
    for path in sorted((ROOT / "edgeinspect").rglob("*.py")):
        nodes = list(ast.walk(_tree(str(path))))
        variables = {
            target.id: constants
            for node in nodes
            if isinstance(node, ast.Assign) and (constants := _event_constants(node.value))
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in nodes:
            if not (isinstance(node, ast.Call) and node.args):
                continue
            first = node.args[0]
            constants = variables.get(first.id, []) if isinstance(first, ast.Name) else []
            for constant in constants or _event_constants(first):
                use = found.setdefault(constant, EventUse(set(), set()))
                use.fields.update(word.arg or "the counters" for word in node.keywords)
                use.calls.add(getattr(node.func, "attr", getattr(node.func, "id", "")))
    return found


def _event_constants(node: ast.expr) -> list[str]:
    """The constants of `log_events` that an expression is, or chooses from."""
    if isinstance(node, ast.IfExp):
        return [*_event_constants(node.body), *_event_constants(node.orelse)]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return [node.attr] if node.value.id == "log_events" else []
    return []


def event_catalogue() -> str:
    """Every log event that is written, with its fields; then those that only have a name."""
    uses = event_uses()
    lines = ["| event | when | fields |", "|---|---|---|"]
    reserved = []
    for constant, text in module_docs(log_events).items():
        name = getattr(log_events, constant)
        when, _, _ = text.partition(" Fields: ")
        if constant in uses:
            fields = ", ".join(
                f"`{each}`" if " " not in each else each for each in sorted(uses[constant].fields)
            )
            lines.append(f"| `{name}` | {when} | {fields} |")
        else:
            reserved.append(f"`{name}`")
    if reserved:
        lines += ["", f"Named, and not written by this version: {', '.join(reserved)}."]
    return "\n".join(lines) + "\n"


# -- troubleshooting -----------------------------------------------------------------------


def event_remedies() -> str:
    """Every event of level warning or error, with what to do."""
    lines = ["| event | level | meaning | what to do |", "|---|---|---|---|"]
    uses, left = event_uses(), dict(remedies.EVENTS)
    for constant, text in sorted(module_docs(log_events).items()):
        level = uses[constant].level if constant in uses else "info"
        if level != "info":
            name = getattr(log_events, constant)
            when, _, _ = text.partition(" Fields: ")
            lines.append(f"| `{name}` | {level} | {when} | {one_line(left.pop(name))} |")
    assert not left, f"remedies for events that are no warnings: {sorted(left)}"
    return "\n".join(lines) + "\n"


def reason_remedies() -> str:
    """Every reason of a NO_VERDICT, with what to do."""
    docs, left = field_docs(verdict_module.Reason), dict(remedies.REASONS)
    lines = ["| reason | PLC cause | meaning | what to do |", "|---|---|---|---|"]
    for name, text in docs.items():
        reason = verdict_module.Reason[name]
        decision, _, meaning = text.partition(": ")
        if decision == verdict_module.Decision.NO_VERDICT.value:
            meaning, remedy = meaning[0].upper() + meaning[1:], one_line(left.pop(reason))
            lines.append(f"| `{reason.value}` | {CAUSES[reason]} | {meaning} | {remedy} |")
    assert not left, f"remedies for reasons that are no NO_VERDICT: {sorted(left)}"
    return "\n".join(lines) + "\n"


_COMMAND = re.compile(r"(systemctl|journalctl)( [a-z-]+)* [a-z-]+@[A-Z]+")


def alarm_remedies() -> str:
    """Every alarm, with the remedy that the HMI shows."""
    lines = ["| code | text, for example | what to do |", "|---|---|---|"]
    for code in AlarmCode:
        text = remedies.ALARM_TEXTS[code]
        remedy = _COMMAND.sub(r"`\g<0>`", one_line(remedy_for(code, "NAME")))
        lines.append(f"| `{code.value}` | {text} | {remedy} |")
    return "\n".join(lines) + "\n"


def plc_errors() -> str:
    """Every `ErrorCode` that a gateway shows the PLC."""
    docs = field_docs(PlcError)
    lines = ["| ErrorCode | name | meaning | what to do |", "|---|---|---|---|"]
    for error in PlcError:
        if error:
            name, remedy = error.name, one_line(remedies.PLC_ERRORS[error])
            lines.append(f"| {error.value} | {name} | {docs[name]} | {remedy} |")
    return "\n".join(lines) + "\n"


def error_classes() -> str:
    """Every class of errors, with its exit code."""
    lines = ["| class | meaning | exit code |", "|---|---|---|"]
    for name, cls in vars(errors).items():
        if isinstance(cls, type) and issubclass(cls, errors.EdgeInspectError):
            meaning = one_line((cls.__doc__ or "").partition("\n\n")[0])
            lines.append(f"| `{name}` | {meaning} | {cls.exit_code} |")
    return "\n".join(lines) + "\n"


def commands() -> str:
    """Every subcommand."""
    lines = ["| command | what it does |", "|---|---|"]
    lines += [f"| `edgeinspect {name}` | {words} |" for name, (_t, words) in COMMANDS.items()]
    return "\n".join(lines) + "\n"


def command_reference() -> str:
    """Every command's help: usage, text, options, examples."""
    context = click.Context(cli, info_name="edgeinspect")
    parts = []
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        parts.append("\n".join(_command_help(command, f"edgeinspect {name}", 2)))
    return "\n".join(parts)


def _command_help(command: click.Command, name: str, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{name}`\n"
    context = click.Context(command, info_name=name)
    yield from _paragraphs(command.help or "")
    if not isinstance(command, click.Group):
        yield f"```text\n{' '.join([name, *command.collect_usage_pieces(context)])}\n```\n"
    rows = [
        f"| `{record[0].replace('|', chr(92) + '|')}` | {_plain(record[1])} |"
        for option in command.get_params(context)
        if "--help" not in option.opts and (record := option.get_help_record(context)) and record[1]
    ]
    if rows:
        yield from ("| option | meaning |", "|---|---|", *rows, "")
    examples = getattr(command, "examples", ())
    if examples:
        yield "```"
        yield from (f"# {purpose}\n{line}" for purpose, line in examples)
        yield "```\n"
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            inner = command.get_command(context, each)
            if inner is not None and not inner.hidden:
                yield from _command_help(inner, f"{name} {each}", level + 1)


def _paragraphs(text: str) -> Iterator[str]:
    """A help text as Markdown; paragraphs that click must not wrap stay as they are."""
    for paragraph in source_of.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield f"```text\n{paragraph[2:]}\n```\n"
        else:
            yield f"{_plain(paragraph)}\n"


def _plain(text: str) -> str:
    """Text in which only backticks are markup."""
    parts = re.split(r"(`[^`]*`)", one_line(text))
    return "".join(
        part if part.startswith("`") else re.sub(r"([\[\]<>*_])", r"\\\1", part) for part in parts
    )


def exit_codes() -> str:
    """Every exit code."""
    lines = ["| code | meaning | look at |", "|---|---|---|"]
    lines += [f"| {code} | {each.meaning} | {each.remedy} |" for code, each in EXIT_CODES.items()]
    return "\n".join(lines) + "\n"


def pages_of(folder: str) -> Callable[[], str]:
    """A folder's pages by title, each with its first sentence."""

    def render() -> str:
        rows = []
        for path in (ROOT / "docs" / folder).glob("*.md"):
            if path.name in {"README.md", "index.md"}:
                continue
            title, _, body = path.read_text(encoding="utf-8").partition("\n")
            title = title.removeprefix("# ")
            first = re.split(r"\n\s*\n", body.strip(), maxsplit=1)[0]
            sentence = re.split(r"(?<=\.)\s", one_line(first))[0]
            rows.append(f"| [{title}]({path.name}) | {sentence} |")
        return "\n".join(["| page | |", "|---|---|", *sorted(rows, key=str.casefold)]) + "\n"

    return render


def decisions() -> str:
    """The decision records by number."""
    rows = []
    for path in sorted((ROOT / "docs" / "explanation" / "decisions").glob("[0-9]*.md")):
        number, _, title = path.read_text(encoding="utf-8").partition("\n")[0][2:].partition(" · ")
        rows.append(f"| {number} | [{title}]({path.name}) |")
    return "\n".join(["| | decision |", "|---|---|", *rows]) + "\n"


def schemas() -> str:
    """The JSON Schemas, one a message."""
    rows = (f"| `{tag(cls)}` | [{schema_name(cls)}]({schema_name(cls)}) |" for cls in MESSAGES)
    return "\n".join(["| message | schema |", "|---|---|", *rows]) + "\n"


# -- the wire ------------------------------------------------------------------------------

MESSAGES: tuple[type[msgspec.Struct], ...] = (
    verdict_module.Verdict,
    PartVerdict,
    messages.Heartbeat,
    messages.Status,
    messages.Mask,
    *requests.LineRequest.__args__,
    *requests.LineReply.__args__,
)


def tag(cls: type[msgspec.Struct]) -> str:
    """`edgeinspect.verdict/1`."""
    found = cls.__struct_config__.tag
    assert isinstance(found, str)
    return found


def schema_name(cls: type[msgspec.Struct]) -> str:
    """`verdict-1.json`."""
    return tag(cls).removeprefix("edgeinspect.").replace("/", "-") + ".json"


def schema(cls: type, title: str = "") -> str:
    """The JSON Schema of a message or document, with the docstring of every field."""
    whole = msgspec.json.schema(cls)
    reachable = {cls.__name__: cls, **_structs_in(cls)}
    for name, definition in whole.get("$defs", {}).items():
        if "description" in definition:  # Python 3.13 takes the indentation out itself
            definition["description"] = source_of.cleandoc(definition["description"])
        docs = field_docs(reachable[name]) if name in reachable else {}
        for key, prop in definition.get("properties", {}).items():
            if docs.get(key):
                prop["description"] = docs[key].replace("\\|", "|")
    draft = "https://json-schema.org/draft/2020-12/schema"
    whole = {"$schema": draft, "title": title or tag(cls), **whole}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _structs_in(cls: type) -> dict[str, type]:
    """Every struct a message is made of."""
    found: dict[str, type] = {}

    def walk(kind: Any) -> None:
        if isinstance(kind, (inspect.StructType, inspect.DataclassType)):
            if kind.cls.__name__ in found:
                return
            found[kind.cls.__name__] = kind.cls
            for entry in kind.fields:
                walk(entry.type)
        for inner in ("type", "item_type", "value_type"):
            if hasattr(kind, inner):
                walk(getattr(kind, inner))
        for inner in ("types", "item_types"):
            for each in getattr(kind, inner, ()):
                walk(each)

    walk(inspect.type_info(cls))
    return found


def message(cls: type[msgspec.Struct]) -> Callable[[], str]:
    """A message's fields, and one of it in JSON."""

    def render() -> str:
        lines = [
            f"{one_line(cls.__doc__)} Schema: [`{tag(cls)}`](schema/{schema_name(cls)}).\n",
            *_fields(cls),
        ]
        inner = [c for name, c in _structs_in(cls).items() if name != cls.__name__]
        for each in inner:
            if not each.__struct_config__.array_like:  # type: ignore[attr-defined]
                lines += [f"\n`{each.__name__}`: {one_line(each.__doc__)}\n", *_fields(each)]
        body = messages.encode_message(EXAMPLES[cls.__name__])
        pretty = msgspec.json.format(body, indent=2).decode()
        lines += ["", "```json", _compact(pretty), "```"]
        return "\n".join(lines) + "\n"

    return render


def _compact(text: str) -> str:
    """Short lists on one line."""
    return re.sub(
        r"\[\s+([^\[\]{}]{1,80}?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text
    )


def _fields(cls: type) -> list[str]:
    docs = field_docs(cls)
    lines = ["| field | type | meaning |", "|---|---|---|"]
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    if info.tag is not None:
        lines.append(f"| `{info.tag_field}` | text | always `{info.tag}` |")
    for entry in info.fields:
        optional = "" if entry.required else ", may be absent"
        lines.append(
            f"| `{entry.encode_name}` | {_json_type(entry.type)}{optional} "
            f"| {meaning_of(docs, entry.name)} |"
        )
    return lines


def _json_type(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.UnionType):
        return _json_type(_bare(kind)) + " or null"
    if isinstance(kind, inspect.Metadata):
        return _json_type(kind.type)
    if isinstance(kind, inspect.StructType):
        name = kind.cls.__name__
        return "[x, y, width, height]" if name == "Box" else f"`{name}`"
    if isinstance(kind, inspect.EnumType):
        return "one of " + ", ".join(f"`{member.value}`" for member in kind.cls)
    if isinstance(kind, inspect.DictType):
        return "object"
    if isinstance(kind, inspect.TupleType):
        return "[" + ", ".join(_json_type(item) for item in kind.item_types) + "]"
    if isinstance(kind, (inspect.VarTupleType, inspect.ListType)):
        return f"list of {_json_type(kind.item_type)}"
    words = {
        inspect.IntType: "integer",
        inspect.FloatType: "number",
        inspect.StrType: "text",
        inspect.BoolType: "true or false",
    }
    return words.get(type(kind), "any")


# -- documents of the command line -----------------------------------------------------------


@functools.cache
def json_documents() -> dict[str, tuple[str, bool, list[type]]]:
    """Command to its name, whether it prints lines, and the types of its documents."""
    return {name: (name, option.lines, option.load_types()) for name, option in json_options(cli)}


def document_schema_name(cls: type) -> str:
    """`cli-ledger_row.json`."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
    return f"cli-{snake}.json"


def document_tables() -> str:
    """The commands with `--json`, then the keys of each document."""
    lines = ["| command | prints | schema |", "|---|---|---|"]
    documents: dict[str, type] = {}
    for name, is_lines, types in json_documents().values():
        documents |= {cls.__name__: cls for cls in types}
        links = ", ".join(f"[{cls.__name__}](schema/{document_schema_name(cls)})" for cls in types)
        lines.append(f"| `{name}` | {'lines' if is_lines else 'one document'} | {links} |")
    shown = set()
    for cls in documents.values():
        if not cls.__module__.startswith("edgeinspect.cli._results."):
            continue  # described where it is defined: the wire, evaluation, archive
        lines += [f"\n### {cls.__name__}\n", f"{one_line(cls.__doc__)}\n", *_fields(cls)]
        for name, inner in _structs_in(cls).items():
            if inner is not cls and name not in shown:
                shown.add(name)
                lines += [f"\n`{name}`: {one_line(inner.__doc__)}\n", *_fields(inner)]
    return "\n".join(lines) + "\n"


def reasons() -> str:
    """Every reason of a verdict."""
    docs = field_docs(verdict_module.Reason)
    lines = ["| `reason` | decision | meaning |", "|---|---|---|"]
    for name, text in docs.items():
        decision, _, meaning = text.partition(": ")
        lines.append(f"| `{verdict_module.Reason[name].value}` | {decision} | {meaning} |")
    return "\n".join(lines) + "\n"


# -- the shipped models --------------------------------------------------------------------

GATE = ROOT / "engines" / "strip-gate" / "1" / "manifest.yaml"
SEGMENTER = ROOT / "engines" / "strip-segmenter" / "1" / "manifest.yaml"


def _manifest(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def figures() -> str:
    """What the manifests of the shipped models say."""
    gate, segmenter = _manifest(GATE), _manifest(SEGMENTER)
    lines = ["| | strip-gate/1 | strip-segmenter/1 |", "|---|---|---|"]
    for words, key in (("parameters", "parameters"), ("trained", "run"), ("minutes", "minutes")):
        lines.append(f"| {words} | {gate['training'][key]} | {segmenter['training'][key]} |")
    files = (
        f"{each['size_bytes'] / 1e6:.2f} MB, {each['precision']}" for each in (gate, segmenter)
    )
    lines.append(f"| file | {' | '.join(files)} |")
    lines.append(f"| sha256 | `{gate['sha256'][:12]}…` | `{segmenter['sha256'][:12]}…` |")
    accuracy = gate["accuracy"]
    lines += [
        "",
        f"On {accuracy['pictures']} images ({accuracy['set']}, seed "
        f"{accuracy['seed']}); intervals are 95 % (Wilson):\n",
        "| figure | value |",
        "|---|---|",
        f"| gate, area under the ROC curve | {accuracy['auc']} |",
    ]
    for rate in ("1%", "5%"):
        found = accuracy[f"recall_at_{rate}_false_rejects"]
        low, high = found["interval"]
        lines.append(
            f"| gate alone, recall at {rate} false rejects | {found['recall']:.1%} "
            f"({low:.1%} to {high:.1%}) |"
        )
    areas = segmenter["accuracy"]
    for name, dice in areas["dice"].items():
        lines.append(
            f"| segmenter, Dice of {name} (at frame size / at output stride) | {dice} / "
            f"{areas['dice_at_stride'][name]} |"
        )
    lines.append(f"| segmenter, mean IoU with background, at frame size | {areas['miou']} |")
    line = areas["line"]
    low, high = line["recall_interval"]
    rejected = f"{line['rejected']} of {line['defective']}, {line['recall']:.1%}"
    lines.append(
        f"| the line's rule: defective images rejected | {rejected} ({low:.1%} to {high:.1%}) |"
    )
    low, high = line["overkill_interval"]
    lines.append(
        f"| the line's rule: clean images rejected | {line['overkill']:.2%} of "
        f"{line['clean']} ({low:.2%} to {high:.2%}) |"
    )
    return "\n".join(lines) + "\n"


def int8_figures() -> str:
    """What the manifests of the shipped INT8 versions say of them against FP32."""
    lines = ["| model | figure | FP32 | INT8 |", "|---|---|---|---|"]
    for path in (GATE, SEGMENTER):
        found = _manifest(path.parents[1] / "2" / "manifest.yaml")
        proof, made = found["accuracy"]["against_fp32"], found["accuracy"]["calibration"]
        name = f"{found['name']}/{found['version']}"
        size = f"{found['size_bytes'] / 1e6:.2f} MB"
        parent = f"{_manifest(path)['size_bytes'] / 1e6:.2f} MB"
        lines.append(f"| {name} | file | {parent} | {size} |")
        lines.append(f"| {name} | layers in int8 | 0 | {made['int8_layers']} of {made['layers']} |")
        for words, pair in proof["checks"].items():
            lines.append(f"| {name} | {words} | {pair['fp32']:.4f} | {pair['int8']:.4f} |")
        lines.append(
            f"| {name} | verdicts that agree, of {proof['frames']} | | "
            f"{proof['verdicts_that_agree']:.2%} |"
        )
    return "\n".join(lines) + "\n"


def with_thresholds(text: str) -> str:
    """An example with the thresholds that the shipped models' manifests propose."""
    gate, classes = _manifest(GATE)["thresholds"], _manifest(SEGMENTER)["thresholds"]
    wanted = {
        "suspect_at": gate["suspect"],
        "reject_at": gate["reject"],
        "degraded_reject_at": gate["degraded"],
    }
    for key, value in wanted.items():
        text = re.sub(rf"(\b(?<!_){key}: )[0-9.]+", rf"\g<1>{value:g}", text)
    for name, rule in classes.items():
        text = re.sub(
            rf"(^ +{name}: {{score: )[0-9.]+(, area_px: )[0-9]+",
            rf"\g<1>{rule['score']:g}\g<2>{max(1, round(rule['area_px']))}",
            text,
            flags=re.MULTILINE,
        )
    return text


# -- files -----------------------------------------------------------------------------------

BLOCKS: dict[str, Callable[[], str]] = {
    "archive": archive_keys,
    "gateway": gateway_keys,
    "plclinks": plugins("plclink"),
    "commands": commands,
    "command-reference": command_reference,
    "exit-codes": exit_codes,
    "configuration": configuration,
    "hmi": hmi_keys,
    "cameras": plugins("camera"),
    "backends": plugins("backend"),
    "events": event_catalogue,
    "event-remedies": event_remedies,
    "reason-remedies": reason_remedies,
    "alarm-remedies": alarm_remedies,
    "plc-errors": plc_errors,
    "error-classes": error_classes,
    "figures": figures,
    "int8": int8_figures,
    "reasons": reasons,
    "decisions": decisions,
    "schemas": schemas,
    "json-documents": document_tables,
    **{f"pages-{folder}": pages_of(folder) for folder in ("howto", "reference", "explanation")},
    **{schema_name(cls)[: -len(".json")]: message(cls) for cls in MESSAGES},
}


def rendered() -> dict[Path, str]:
    """Every file with a generated part, as it should be."""
    files = {}
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        files[ROOT / page] = _BLOCK.sub(lambda m: f"{m[1]}{BLOCKS[m[2]]()}{m[3]}", text)
    for cls in MESSAGES:
        files[ROOT / "docs" / "reference" / "schema" / schema_name(cls)] = schema(cls)
    for _name, _lines, types in json_documents().values():
        for document in types:
            path = ROOT / "docs" / "reference" / "schema" / document_schema_name(document)
            files[path] = schema(document, document.__name__)
    for name in ("strip.yaml", "folder.yaml", "service/example.yaml"):
        path = ROOT / "examples" / name
        files[path] = with_thresholds(path.read_text(encoding="utf-8"))
    return files


def stale() -> list[Path]:
    """The files that are not what the code says."""
    return [
        path
        for path, text in rendered().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Write, or with --check only look."""
    check = "--check" in sys.argv[1:]
    wanted = rendered()
    for path in stale():
        print(f"{'out of date' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
