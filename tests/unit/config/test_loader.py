from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.cameras import folder
from edgeinspect.config import yaml_document
from edgeinspect.config.cross_checks import check_models
from edgeinspect.config.loader import LoadedConfig, dump_canonical, load_config, parse_config
from edgeinspect.domain import FrameShape, LearnedFrom, ModelKind, ModelSpec
from edgeinspect.errors import ConfigError, ConfigFault
from edgeinspect.testing.doubles import model_spec

GOOD: dict[str, Any] = {
    "schema": 1,
    "line": "strip-1",
    "budget_ms": 150,
    "cameras": {"top": {"type": "folder", "path": "pictures"}},
    "engines": {
        "gate": {"type": "ov", "model": "strip-gate"},
        "segmenter": {"type": "ort", "model": "strip-segmenter/1"},
    },
    "optics": {"mm_per_px_x": 0.5, "mm_per_px_y": 0.5},
    "decide": {
        "gate": {
            "suspect_at": 0.3,
            "reject_at": 0.95,
            "degraded_reject_at": 0.6,
            "reject_code": 1,
        },
        "classes": {
            "pit": {"score": 0.5, "area_px": 40, "severity": 3, "reject_code": 11},
            "scratch": {"score": 0.5, "area_mm2": 12.5, "severity": 4, "reject_code": 12},
        },
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with one value replaced; None as value removes the key."""
    tree = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    node = tree
    for key in parents:
        node = node.setdefault(key, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return tree


def read(tree: dict[str, Any]) -> LoadedConfig:
    return parse_config(yaml.safe_dump(tree, sort_keys=False))


def faults(source: dict[str, Any] | str) -> list[ConfigFault]:
    text = source if isinstance(source, str) else yaml.safe_dump(source, sort_keys=False)
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert caught.value.exit_code == 78
    return list(caught.value.faults)


def only(source: dict[str, Any] | str) -> ConfigFault:
    found = faults(source)
    assert len(found) == 1, found
    return found[0]


def test_a_good_file() -> None:
    loaded = read(GOOD)
    assert loaded.config.line == "strip-1"
    assert loaded.config.budget_ms == 150.0
    assert isinstance(loaded.config.budget_ms, float)
    assert loaded.cameras["top"].options == folder.Options(path="pictures")
    assert loaded.cameras["top"].module is folder
    assert loaded.engines["gate"].options.model == "strip-gate"
    assert loaded.engines["segmenter"].type == "ort"
    assert loaded.config.decide.classes["pit"].area_px == 40
    assert loaded.config.publish.heartbeat_ms == 50
    assert len(loaded.hash) == 12


def test_load_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "line.yaml"
    path.write_text(yaml.safe_dump(GOOD), encoding="utf-8-sig")
    assert load_config(path) == load_config(str(path))
    assert load_config(path).where == str(path)
    assert load_config(path).hash == read(GOOD).hash


def test_the_hash_is_of_the_meaning() -> None:
    base = read(GOOD).hash
    turned = dict(reversed(GOOD.items()))
    assert read(turned).hash == base
    assert read(changed("publish", {"mask": False})).hash == base, "a default, written out"
    assert read(changed("cameras.top.repeat", False)).hash == base, "a part's default"
    assert parse_config("# remark\n" + yaml.safe_dump(GOOD)).hash == base
    assert read(changed("decide.gate.reject_at", 0.94)).hash != base
    assert read(changed("engines.gate.model", "strip-gate/1")).hash != base
    assert read(changed("cameras.top.type", "folder")).hash == base


def test_five_mistakes_are_five_faults_in_the_order_of_lines() -> None:
    text = """\
schema: 1
line: Strip One
budget_ms: -20
cameras:
  top: {type: foldr, path: pictures}
engines:
  gate: {type: ov, model: strip-gate, treads: 2}
optics: {mm_per_px_x: 0.5, mm_per_px_y: 0.5}
decide:
  gate: {suspect_at: 1.3, reject_at: 0.9, degraded_reject_at: 0.5, reject_code: 1}
"""
    found = faults(text)
    assert [(fault.line, fault.path) for fault in found] == [
        (2, "line"),
        (3, "budget_ms"),
        (5, "cameras.top.type"),
        (7, "engines.gate.treads"),
        (10, "decide.gate.suspect_at"),
    ]
    assert "a name of lower-case letters" in found[0].problem
    assert (found[1].problem, found[1].value) == ("must be a number above 0, at most 600000", "-20")
    assert "there are: aravis, folder, " in found[2].problem
    assert "; did you mean `folder`?" in found[2].problem
    assert found[3].problem == "unknown key; did you mean `threads`?"
    assert (found[4].problem, found[4].value) == ("must be a number from 0 to 1", "1.3")


@pytest.mark.parametrize(
    ("path", "value", "at", "words"),
    [
        ("schema", 2, "schema", "upgrade edgeinspect"),
        ("schema", None, "schema", "required: 1"),
        ("schema", True, "schema", "must be 1"),
        ("line", None, "line", "required: a name"),
        ("line", 7, "line", 'write "7" in quotes'),
        ("line", "a\n", "line", "a name of lower-case"),
        ("budget_ms", "150", "budget_ms", "must be a number above 0"),
        ("budget_ms", True, "budget_ms", "must be a number above 0"),
        ("budget_ms", float("nan"), "budget_ms", "must be a number above 0"),
        ("budget_ms", float("inf"), "budget_ms", "must be a number above 0"),
        ("budget_ms", 0, "budget_ms", "must be a number above 0"),
        ("budget_ms", [1], "budget_ms", "must be a number above 0"),
        ("budgetms", 1, "budgetms", "did you mean `budget_ms`?"),
        ("xyzzy", {}, "xyzzy", "unknown key; known here: schema, line, budget_ms"),
        ("cameras", {}, "cameras", "at least one camera"),
        ("cameras", [], "cameras", "must be a table"),
        ("cameras", None, "cameras", "required: a table"),
        ("cameras.top", "folder", "cameras.top", "must be a table"),
        ("cameras.Top", {"type": "folder", "path": "x"}, "cameras.Top", "the key must be a name"),
        ("cameras.top", {"path": "x"}, "cameras.top.type", "required: one of aravis, folder"),
        ("cameras.top.type", 3, "cameras.top.type", "no such camera; there are: aravis, folder"),
        ("cameras.top.path", None, "cameras.top.path", "required: text"),
        ("cameras.top.rate_hz", 0, "cameras.top.rate_hz", "a number above 0, at most 10000"),
        ("cameras.top.pace", "fast", "cameras.top.pace", "must be one of"),
        ("engines.gate.threads", 1.5, "engines.gate.threads", "a whole number from 0 to 256"),
        ("engines.gate.type", "trtt", "engines.gate.type", "no such backend; there are: ort, ov"),
        ("engines.third", {"type": "ov"}, "engines.third", "unknown key"),
        ("engines.gate", None, "decide.gate", "has no engine"),
        ("engines.segmenter", None, "decide.classes", "has no engine"),
        ("decide.gate", None, "decide.gate", "required, since there is engines.gate"),
        ("decide.classes", {}, "decide.classes", "one rule for each class"),
        ("decide.gate.suspect_at", 0.96, "decide.gate.suspect_at", "at most reject_at"),
        ("decide.gate.degraded_reject_at", 1, "decide.gate.degraded_reject_at", "0.95"),
        ("decide.classes.pit.area_px", None, "decide.classes.pit", "neither is given"),
        ("decide.classes.pit.area_mm2", 3, "decide.classes.pit", "both are given"),
        ("decide.classes.pit.severity", 10, "decide.classes.pit.severity", "from 1 to 9"),
        ("capture.overload", "drop_oldst", "capture.overload", "did you mean `drop_oldest`?"),
        ("capture.reconnect.attempts", -1, "capture.reconnect.attempts", "from 0 to 1000000"),
        ("capture.reconnect.first_ms", 6000, "capture.reconnect.first_ms", "at most max_ms"),
        ("capture", 3, "capture", "must be a table"),
        ("act_by.travel_ms", 20, "act_by.travel_ms", "at least budget_ms, which is 150"),
        ("act_by.cameras", {"side": {}}, "act_by.cameras.side", "there is no camera side"),
        ("act_by.cameras", {"top": {"travel_ms": 20}}, "act_by.cameras.top.travel_ms", "is 150"),
        ("parts", {"window_ms": 20}, "parts.window_ms", "at least budget_ms, which is 150"),
        ("parts", {"window_ms": 200, "cameras": ["side"]}, "parts.cameras[0]", "no camera side"),
        ("real_time.cpus", [0, -1], "real_time.cpus[1]", "from 0 to 4096"),
        ("real_time.cpus", 3, "real_time.cpus", "must be a list"),
        ("real_time.lock_memory", "yes please", "real_time.lock_memory", "true or false"),
        ("publish.verdicts", "udp://x", "publish.verdicts", "must be tcp://HOST:PORT"),
        ("publish.verdicts", "tcp://127.0.0.1", "publish.verdicts", "must be tcp://HOST:PORT"),
        ("publish.verdicts", "tcp://127.0.0.1:99999", "publish.verdicts", "1 to 65535"),
        ("publish.verdicts", "tcp://*:5", "publish.verdicts", "insecure: true"),
        ("publish.verdicts", "tcp://10.0.0.1:5", "publish.verdicts", "insecure: true"),
        ("publish.verdicts", "tcp://[::]:5", "publish.verdicts", "insecure: true"),
        ("publish.verdicts", "ipc:///" + "x" * 120, "publish.verdicts", "longer than 107"),
        (
            "publish",
            {"verdicts": "ipc:///a", "replay": "ipc:///a"},
            "publish.replay",
            "must differ",
        ),
        ("store", 5, "store", "must be text"),
        ("spool.folder", "a\0b", "spool.folder", "must be text"),
    ],
)
def test_one_mistake_is_one_fault(path: str, value: Any, at: str, words: str) -> None:
    fault = only(changed(path, value))
    assert fault.path == at
    assert words in fault.problem
    assert fault.line is not None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("act_by.travel_ms", 150),
        ("publish", {"verdicts": "tcp://0.0.0.0:5590", "insecure": True}),
        ("publish", {"verdicts": "tcp://0.0.0.0:5590", "curve": "/etc/keys"}),
        ("publish.verdicts", "tcp://[::1]:5"),
        ("publish.verdicts", "tcp://localhost:*"),
        ("publish", {"verdicts": "tcp://127.0.0.1:*", "replay": "tcp://127.0.0.1:*"}),
        ("publish.verdicts", "ipc:///run/edgeinspect/verdicts"),
        ("publish.verdicts", "inproc://verdicts"),
        ("real_time.cpus", [0, 1]),
        ("cameras.side", {"type": "synthetic"}),
        ("decide.gate.suspect_at", 0.95),
    ],
)
def test_what_is_allowed(path: str, value: Any) -> None:
    read(changed(path, value))


def test_a_gate_alone_and_a_segmenter_alone() -> None:
    alone = changed("engines.segmenter", None)
    alone["decide"]["classes"] = {}
    assert set(read(alone).engines) == {"gate"}
    alone["engines"]["segmenter"] = None
    assert set(read(alone).engines) == {"gate"}
    alone = changed("engines.gate", None)
    del alone["decide"]["gate"]
    assert set(read(alone).engines) == {"segmenter"}
    alone["engines"] = {"gate": None}
    assert {fault.path for fault in faults(alone)} == {"engines", "decide.classes"}


def test_a_part_with_a_fault_hides_no_other() -> None:
    tree = changed("cameras.top.type", "none")
    tree["engines"]["gate"]["threads"] = -1
    tree["budget_ms"] = 0
    assert [fault.path for fault in faults(tree)] == [
        "budget_ms",
        "cameras.top.type",
        "engines.gate.threads",
    ]


def test_secrets_are_not_shown() -> None:
    assert only(changed("cameras.top.password", "hunter2")).value == "***"


def test_a_long_value_is_cut() -> None:
    assert len(only(changed("line", "x" * 500)).value) <= 48


def test_nothing_heavy_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for package in ("openvino", "onnxruntime", "tensorrt", "pycuda"):
        monkeypatch.setitem(sys.modules, package, None)
    assert read(GOOD).engines["gate"].options


# --- hostile files ------------------------------------------------------------------------

HEAD = yaml.safe_dump(GOOD, sort_keys=False)
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# only a remark\n", "is empty"),
        ("---\n...\n", "is empty"),
        ("just words", "must be a table"),
        ("- a\n- b\n", "must be a table"),
        ("42", "must be a table"),
        ("a: b: c", "is not YAML"),
        ("{a: 1", "is not YAML"),
        ("schema: 1\n\tline: x", "a tab"),
        ("schema: 1\x00", "YAML does not allow"),
        ("\x7fELF\x02\x01", "YAML does not allow"),
        (HEAD + "---\nschema: 1\n", "a second document"),
        (LAUGHS, "more than 20000 values"),
        ("a: &a [*a]\n", "contains itself"),
        ("a: *b\n", "is not defined above"),
        ("[" * 5_000, "nested deeper than 32"),
        ("a: " + "[" * 500 + "]" * 500, "nested deeper than 32"),
        ("a: !!python/object/apply:os.system ['true']", "tags are not supported"),
        ("a: !!binary aGk=", "tags are not supported"),
        ("a: !x {}", "tags are not supported"),
        ("x: [" + "1," * 30_000 + "]", "more than 20000 values"),
        ("<<: 3\nschema: 1\n", "not followed by a table"),
        ("%YAML 9.9\n---\na: 1\n", "is not YAML"),
    ],
)
def test_hostile_text(text: str, words: str) -> None:
    fault = only(text)
    assert words in fault.problem
    assert fault.path == "file"


def test_a_key_written_twice() -> None:
    fault = only(HEAD + "budget_ms: 5\n")
    assert fault.path == "budget_ms"
    assert "is a duplicate; first in line 3" in fault.problem


@pytest.mark.parametrize("key", ["1", "true", "null", "1.5", "on", "[a]", "{a: b}", "? x\n"])
def test_a_key_that_is_no_text(key: str) -> None:
    assert faults(HEAD + f"{key}: 5\n")


@pytest.mark.parametrize("word", ["on", "yes", "No", "OFF", "true"])
def test_a_yes_where_text_belongs(word: str) -> None:
    fault = only(HEAD.replace("line: strip-1", f"line: {word}"))
    assert f'YAML parses this as true or false: write "{word}" in quotes' in fault.problem
    assert parse_config(HEAD.replace("line: strip-1", f'line: "{word.lower()}"')).config.line


def test_words_that_yaml_would_turn_into_numbers() -> None:
    assert parse_config(HEAD.replace("line: strip-1", "line: 012")).config.line == "012"
    assert "must be a number" in only(HEAD.replace("budget_ms: 150", "budget_ms: 1:30")).problem
    assert parse_config(HEAD.replace("budget_ms: 150", "budget_ms: 1e2")).config.budget_ms == 100


def test_anchors_and_merges_work() -> None:
    text = HEAD.replace("  classes:\n    pit:\n", "  classes:\n    pit: &pit\n")
    text += "    crack:\n      <<: *pit\n      area_px: 9\n"
    rules = parse_config(text).config.decide.classes
    assert rules["crack"].area_px == 9
    assert rules["crack"].severity == rules["pit"].severity


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


def test_hostile_files(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent.yaml")
    assert "is a folder" in refused(tmp_path)
    assert "not a regular file" in refused(Path("/dev/zero"))
    assert "is not a path" in refused(Path("a\0b"))
    assert "cannot be read" in refused(tmp_path / ("x" * 300))
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (yaml_document.MAX_BYTES + 1))
    assert "is larger than 1048576 bytes" in refused(huge)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"schema: 1\nline: stra\xdfe\n")
    assert "line 2: file: is not text in UTF-8" in refused(latin)
    link = tmp_path / "loop.yaml"
    link.symlink_to(link)
    assert "cannot be read" in refused(link)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=8,
)
LEAVES = [
    "schema",
    "line",
    "budget_ms",
    "cameras",
    "cameras.top",
    "cameras.top.type",
    "cameras.top.path",
    "cameras.top.rate_hz",
    "engines",
    "engines.gate",
    "engines.gate.model",
    "engines.segmenter.type",
    "optics",
    "optics.mm_per_px_x",
    "decide",
    "decide.gate",
    "decide.gate.suspect_at",
    "decide.classes",
    "decide.classes.pit",
    "capture",
    "publish",
    "publish.verdicts",
    "publish.replay",
    "act_by",
    "act_by.travel_ms",
    "real_time",
    "real_time.cpus",
    "spool",
    "store",
    "alarms",
    "inspect.workers",
    "nonsense",
]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.sampled_from(LEAVES), VALUES)
def test_any_value_anywhere_is_taken_or_refused(path: str, value: Any) -> None:
    tree = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    node: Any = tree
    for key in parents:
        node = node.setdefault(key, {})
    node[last] = value
    try:
        loaded = parse_config(yaml.safe_dump(tree, allow_unicode=True))
    except ConfigError as error:
        assert error.faults
        assert all(fault.problem and fault.path for fault in error.faults)
    else:
        assert loaded.hash


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="ab:{}[]&*!<>-?|'\"#%@`, \n\t01", max_size=80))
def test_any_text_is_taken_or_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text)


# -- kinds of a gate --------------------------------------------------------------------------


def kinds_of(classes: Any) -> Any:
    return changed("decide.gate.classes", classes)


def test_keys_that_came_later_do_not_change_the_hash_of_older_files() -> None:
    assert '"classes":{}' not in dump_canonical(read(GOOD)).split('"gate"')[1].split("}")[0]
    assert read(kinds_of({})).hash == read(GOOD).hash
    ruled = read(kinds_of({"pit": {"severity": 3, "reject_code": 7}}))
    assert ruled.hash != read(GOOD).hash
    assert parse_config(dump_canonical(ruled)).hash == ruled.hash


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ({"prob": 0, "severity": 1, "reject_code": 1}, "pit.prob"),
        ({"prob": 1.1, "severity": 1, "reject_code": 1}, "pit.prob"),
        ({"prob": float("nan"), "severity": 1, "reject_code": 1}, "pit.prob"),
        ({"severity": 10, "reject_code": 1}, "pit.severity"),
        ({"severity": 1}, "pit.reject_code"),
        ({"severity": 1, "reject_code": 0}, "pit.reject_code"),
        ({"severity": 1, "reject_code": 1, "area_px": 3}, "pit.area_px"),
        ([], "pit"),
    ],
)
def test_a_wrong_rule_of_a_kind_is_named(rule: Any, path: str) -> None:
    with pytest.raises(ConfigError, match=f"decide.gate.classes.{path}"):
        read(kinds_of({"pit": rule}))


def test_rules_of_kinds_are_the_models_all_or_none() -> None:
    gate = model_spec(ModelKind.GATE, FrameShape(8, 8, 1), ("pit", "burr"), contract="2")
    rule = {"severity": 3, "reject_code": 7}

    def check(classes: Any, model: ModelSpec = gate) -> None:
        config = read(kinds_of(classes)).config
        check_models(config, model, None)

    check({})
    check({"pit": rule, "burr": rule})
    with pytest.raises(ConfigError, match=r"decide.gate.classes.burr: required, as other kinds"):
        check({"pit": rule})
    with pytest.raises(ConfigError, match=r"no such kind; it has pit, burr.*did you mean"):
        check({"pit": rule, "burr": rule, "burrr": rule})
    plain = model_spec(ModelKind.GATE, FrameShape(8, 8, 1))
    with pytest.raises(ConfigError, match="tells no kinds of defects apart"):
        check({"pit": rule}, plain)


# -- a good-parts model -----------------------------------------------------------------------

UNKNOWN_ENGINE = {"type": "ort", "model": "good-parts"}
UNKNOWN_RULE = {"reject_at": 0.8, "action": "reject", "severity": 5, "reject_code": 90}


def with_unknown(rule: Any = UNKNOWN_RULE, **engines: Any) -> dict[str, Any]:
    tree = copy.deepcopy(GOOD)
    tree["engines"] |= {"unknown": UNKNOWN_ENGINE, **engines}
    tree["decide"]["unknown"] = rule
    return tree


def test_a_third_engine() -> None:
    loaded = read(with_unknown())
    assert list(loaded.engines) == ["gate", "segmenter", "unknown"]
    assert loaded.hash != read(GOOD).hash
    assert parse_config(dump_canonical(loaded)).hash == loaded.hash
    review = read(with_unknown({"reject_at": 0.8, "action": "review"}))
    assert review.config.decide.unknown is not None
    assert review.config.decide.unknown.severity is None


def test_a_good_parts_model_alone() -> None:
    tree = with_unknown()
    tree["engines"] = {"unknown": UNKNOWN_ENGINE}
    tree["decide"] = {"unknown": UNKNOWN_RULE}
    assert list(read(tree).engines) == ["unknown"]


@pytest.mark.parametrize(
    ("tree", "path", "problem"),
    [
        (with_unknown(None), "decide.unknown", "required, since there is engines.unknown"),
        (changed("decide.unknown", UNKNOWN_RULE), "decide.unknown", "has no engine"),
        (
            with_unknown({"reject_at": 0.8, "action": "reject", "reject_code": 9}),
            "decide.unknown.severity",
            "required, since action is reject",
        ),
        (with_unknown({**UNKNOWN_RULE, "action": "both"}), "decide.unknown.action", ""),
        (with_unknown({**UNKNOWN_RULE, "reject_at": 0}), "decide.unknown.reject_at", "above 0"),
        (with_unknown({**UNKNOWN_RULE, "area_px": 0}), "decide.unknown.area_px", ""),
        (with_unknown({"action": "review"}), "decide.unknown.reject_at", "required"),
        (changed("engines", {}), "engines", "gate, segmenter, unknown or several"),
    ],
)
def test_a_wrong_third_opinion_is_named(tree: dict[str, Any], path: str, problem: str) -> None:
    found = {fault.path: str(fault) for fault in faults(tree)}
    assert path in found
    assert problem in found[path]


def test_the_third_model_must_have_learned_from_good_parts() -> None:
    shape = FrameShape(8, 8, 1)
    config = read(with_unknown()).config
    gate = model_spec(ModelKind.GATE, shape)
    segmenter = model_spec(ModelKind.SEGMENTER, shape, ("pit", "scratch"))

    def good_parts(shape: FrameShape = shape, name: str = "unknown") -> ModelSpec:
        return model_spec(
            ModelKind.SEGMENTER, shape, (name,), contract="2", learned_from=LearnedFrom.GOOD
        )

    check_models(config, gate, segmenter, good_parts())
    with pytest.raises(ConfigError, match=r"engines.unknown.model: must name a good-parts model"):
        check_models(config, gate, segmenter, segmenter)
    with pytest.raises(ConfigError, match="its class pit is one of"):
        check_models(config, gate, segmenter, good_parts(name="pit"))
    with pytest.raises(ConfigError, match="all models must take the same frame"):
        check_models(config, gate, segmenter, good_parts(FrameShape(8, 9, 1)))
