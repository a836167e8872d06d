from __future__ import annotations

import pytest

from edgeinspect.errors import ConfigError
from edgeinspect.services.gateway.config import parse_config
from edgeinspect.services.gateway.part_memory import CELL_BYTES, TRIGGERS_MAX
from edgeinspect.system.regular_file import TEXT_BYTES_MAX

GOOD = "schema: 1\ngateway: plc-1\nfeed: {line: press}\nlink: {type: modbus}\ncursor: /tmp/j\n"


def faults(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert caught.value.exit_code == 78
    return {fault.path: fault.problem for fault in caught.value.faults}


def test_defaults() -> None:
    loaded = parse_config(GOOD)
    assert loaded.config.fail_safe_ms == 300
    assert loaded.config.no_verdict_as == "reject"
    assert (loaded.link.type, loaded.link.options.port) == ("modbus", 502)


def test_all_faults_are_reported() -> None:
    found = faults(
        "schema: 0\ngateway: PLC 1\nfeed: {line: press, verdicts: nowhere, foo: 1}\n"
        "link: {type: modbus, port: 99999}\nfail_safe_ms: 1\nno_verdict_as: pass\n"
    )
    assert set(found) == {
        "schema",
        "gateway",
        "feed.verdicts",
        "feed.foo",
        "link.port",
        "fail_safe_ms",
        "no_verdict_as",
        "cursor",
    }


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("{port: 1}", "required: one of modbus, mqtt, opcua, s7"),
        ("{type: modbsu}", "no such link; there are: modbus, mqtt, opcua, s7; did you mean"),
        ("{type: 7}", "no such link"),
    ],
)
def test_an_unknown_link_lists_the_known_ones(link: str, problem: str) -> None:
    assert faults(GOOD.replace("{type: modbus}", link))["link.type"].startswith(problem)


def test_overlapping_blocks_are_refused() -> None:
    text = GOOD.replace("{type: modbus}", "{type: modbus, input_address: 70}")
    assert "overlap" in faults(text)["link"]
    text = GOOD.replace(
        "{type: modbus}", "{type: s7, host: plc, output_db: 1, input_db: 1, input_start: 40}"
    )
    assert "overlap in DB 1" in faults(text)["link"]


def test_a_heartbeat_slower_than_the_fail_safe_is_refused() -> None:
    assert "at most fail_safe_ms" in faults(GOOD + "heartbeat_ms: 500\n")["heartbeat_ms"]


def test_the_largest_journal_and_memory_can_be_read_again() -> None:
    for key, head in (("journal", 1), ("part_memory", 3 + TRIGGERS_MAX)):
        assert set(faults(f"{GOOD}{key}: 1000001\n")) == {key}
        assert parse_config(f"{GOOD}{key}: 1000000\n")
        assert (1_000_000 + head) * CELL_BYTES <= TEXT_BYTES_MAX
