"""Which class names mean "nothing wrong with it".

The rule: a name is cut into words at anything that is no letter, and at capitals. It is good if
it says good (`ok_front`, `good`, `MT_Free`) and neither negates it (`not_ok`) nor names a
defect, or if it negates a defect (`no_defect`, `defect-free`, `NonDefective`). Who knows better
says so: `--good NAME`.
"""

from __future__ import annotations

import re

_GOOD = frozenset(
    ("ok", "okay", "good", "free", "normal", "clean", "pass", "passed", "perfect", "intact",
     "healthy", "acceptable", "accepted", "undamaged", "uncracked", "flawless", "nodefect",
     "nodefects", "nondefective", "nondefect", "defectless", "defectfree", "negative", "fine")
)  # fmt: skip
_DEFECT = frozenset(
    ("def", "defect", "defects", "defective", "damaged", "damage", "crack", "cracks", "cracked",
     "scratch", "scratches", "anomaly", "anomalous", "fault", "faults", "faulty", "flaw", "flaws",
     "abnormal", "bad", "error")
)  # fmt: skip
_NOT = frozenset(["no", "not", "non", "without", "un", "nok"])


def is_good(name: str, named: tuple[str, ...] = ()) -> bool:
    """True if a class of this name holds good pictures.

    Args:
        name: Of a folder or a class.
        named: The good names as a person gave them; then these alone, in any case.
    """
    if named:
        return name.lower() in {word.lower() for word in named}
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = set(re.split(r"[^a-z]+", spaced.lower())) - {""}
    if words & _DEFECT:
        return bool(words & (_NOT | {"free"}))
    return bool(words & _GOOD) and not words & _NOT
