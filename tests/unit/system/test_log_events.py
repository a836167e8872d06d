from __future__ import annotations

import re

from edgeinspect.system import log_events


def test_every_event_is_a_noun_and_a_past_verb() -> None:
    names = {key: value for key, value in vars(log_events).items() if key.isupper()}
    assert names
    for key, value in names.items():
        assert re.fullmatch(r"[a-z]+\.[a-z]+", value), key
        assert value.replace(".", "_").upper() == key
    assert len(set(names.values())) == len(names)
