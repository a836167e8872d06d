"""Which class names mean "no defect".

The rule: a name is split into words at everything that is not a letter, and before capitals. A
word for good (`ok_front`, `Gutteile`) or for a defect is inverted by a negation directly before it
(`not_ok`, `no_defect`, `nicht in Ordnung`), a defect also by `free` after it (`scratch-free`).
A name is good if it has a word for good and none for a defect: `nok_crack` and `not_ok_dent` are
defects. `--good-class NAME` overrides the rule.
"""

from __future__ import annotations

import re

_GOOD_WORDS = frozenset(
    (
        "ok",
        "okay",
        "good",
        "normal",
        "clean",
        "pass",
        "passed",
        "perfect",
        "intact",
        "healthy",
        "acceptable",
        "accepted",
        "accept",
        "undamaged",
        "uncracked",
        "flawless",
        "nodefect",
        "nodefects",
        "nondefective",
        "nondefect",
        "defectless",
        "defectfree",
        "negative",
        "conforming",
        "conforme",
        "gut",
        "gute",
        "gutteil",
        "gutteile",
        "fehlerfrei",
        "einwandfrei",
        "bon",
        "bonne",
        "buono",
        "bueno",
        "buena",
    )
)
_DEFECT_WORDS = frozenset(
    (
        "def",
        "defect",
        "defects",
        "defective",
        "damaged",
        "damage",
        "damages",
        "crack",
        "cracks",
        "cracked",
        "scratch",
        "scratches",
        "anomaly",
        "anomalies",
        "anomalous",
        "fault",
        "faults",
        "faulty",
        "flaw",
        "flaws",
        "abnormal",
        "bad",
        "error",
        "errors",
        "ng",
        "ko",
        "nok",
        "fail",
        "failed",
        "reject",
        "rejected",
        "rejects",
        "scrap",
        "broken",
        "nonconforming",
        "fehler",
        "fehlerhaft",
        "defekt",
        "defekte",
        "schlecht",
        "schlechtteile",
        "ausschuss",
    )
)
_NEGATIONS = frozenset(
    ("no", "not", "non", "without", "un", "nicht", "ohne", "kein", "keine", "sans", "senza", "sin")
)
_FILLERS = frozenset(("any", "visible", "a", "the"))
"""Words allowed between a negation and the word that it negates."""
_IN_ORDNUNG = (
    (re.compile(r"(?<![a-z])n[\W_]{0,2}i[\W_]{0,2}o(?![a-z])", re.IGNORECASE), " nok "),
    (re.compile(r"(?<![a-z])nicht[\W_]*in[\W_]*ordnung", re.IGNORECASE), " nok "),
    (re.compile(r"(?<![a-z])i[\W_]{0,2}o(?![a-z])", re.IGNORECASE), " ok "),
    (re.compile(r"(?<![a-z])in[\W_]*ordnung", re.IGNORECASE), " ok "),
)
"""German `i.O.` (OK) and `n.i.O.` (not OK) in their spellings; the negated forms first."""


def is_good_class(name: str, good_names: tuple[str, ...] = ()) -> bool:
    """Return whether a class of this name holds good images.

    Args:
        name: Name of a folder or a class.
        good_names: The good classes as the user named them, in any case; if given, the rule is
            not applied.
    """
    if good_names:
        return name.lower() in {word.lower() for word in good_names}
    return _word_meanings(name) == {True}


def is_defect_class(name: str) -> bool:
    """Return whether a name has a word for a defect, not only none for good."""
    return False in _word_meanings(name)


def _word_meanings(name: str) -> set[bool]:
    """Return the meanings found in a name: True for good, False for defective."""
    for pattern, word in _IN_ORDNUNG:
        name = pattern.sub(word, name)
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word for word in re.split(r"[^a-z]+", spaced.lower()) if word]
    meanings: set[bool] = set()
    negated = False
    for at, word in enumerate(words):
        behind = words[at + 1 : at + 2]
        if word in _NEGATIONS or (word == "free" and behind and behind[0] in ("of", "from")):
            negated = True
        elif word in _GOOD_WORDS:
            meanings.add(not negated)
            negated = False
        elif word in _DEFECT_WORDS:
            meanings.add(negated or behind == ["free"])
            negated = False
        elif word == "free" and not behind:
            meanings.add(not negated or (at > 0 and words[at - 1] in _DEFECT_WORDS))
            negated = False
        elif word not in _FILLERS and word not in ("of", "from"):
            negated = False
    return meanings
