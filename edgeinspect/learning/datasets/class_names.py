"""What the name of a class means: good, defective, neither, or unclear.

A name is split into words at everything that is not a letter, before capitals, and where the
script changes. A word for good (`ok_front`, `Gutteile`) is inverted by a negation directly before
it (`not_ok`, `pas bon`), one for a defect by a negation of its language (`no_defect`,
`sans défaut`) or by `free` behind it (`scratch-free`).

A name is good if it has a word for good and all others are known to be neutral: images, splits,
numbers, days, places. With a word for a defect, or a negated one for good, it is defective:
`nok_crack`, `not_ok_dent`. With a word for good and one that is unknown (`almost_good`,
`good_rework`), or a negation elsewhere (`ok_nicht`), it is unclear, and the set is refused until
the user names the good classes. `--good-class NAME` overrides the rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_words import (
    FEATURES,
    FILLERS,
    FREE_WORDS,
    GLUED_NOUNS,
    GOOD_ONLY_NOTS,
    LANGUAGES,
    LAX_GOOD_WORDS,
    NEUTRAL_WORDS,
    NOT_GOOD_WORDS,
    NOUNS,
    NUMBERED_WORDS,
    OR_WORDS,
    ORIGIN_WORDS,
    WRITTEN_WITHOUT_BLANKS,
)
from edgeinspect.learning.datasets.vocabulary import plain_letters, word_set
from edgeinspect.system import escape_name

_WHOLE_WORDS = (
    (re.compile(r"(?<![a-z])n[\W_]{0,2}i[\W_]{0,2}o(?![a-z])", re.IGNORECASE), " nok "),
    (re.compile(r"(?<![a-z])i[\W_]{0,2}o(?![a-z])", re.IGNORECASE), " ok "),
    (re.compile(r"(?<![a-z])in[\W_]*(?:ordnung|orde)(?![a-z])", re.IGNORECASE), " ok "),
    (re.compile(r"(?<![a-z])i[\W_]*(?:orden|ordning)(?![a-z])", re.IGNORECASE), " ok "),
    (re.compile(r"(?<![a-z])un[\W_]+(?=(?:damag|crack|scratch|brok)ed?)", re.IGNORECASE), " un"),
    (re.compile(r"(?<![a-z])(not|without)[\W_]+an?[\W_]+", re.IGNORECASE), r"\1 "),
    (re.compile(r"(?<![a-z])[dl]['\u2019](?=[a-z])", re.IGNORECASE), ""),
    (re.compile(r"(?<=[a-z]n)['\u2019]t(?![a-z])", re.IGNORECASE), "t"),
    (re.compile(r"(?<![A-Za-z])(OK|NOK|NG)(?=[a-z])(?!ay)"), r"\1 "),
)
"""German `i.O.` (OK) and `n.i.O.` (not OK) in their spellings, and other words of several parts;
the negated forms first."""
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_RUN = re.compile(r"\d+|[a-z]+|[^\W\d_a-z]+")
_MARKS = re.compile(r"[!?\u00ac\u00d7\u2260\u2715-\u2718\u274c\u274e]")
"""Signs that may negate: `!ok`."""
_MIN_CODE_DIGITS = 3


def _by_language(field: str) -> dict[str, frozenset[int]]:
    """Return the languages of each word."""
    found: dict[str, set[int]] = {}
    for number, language in enumerate(LANGUAGES):
        for word in word_set(getattr(language, field)):
            found.setdefault(word, set()).add(number)
    for key in _UNSPACED_FIELDS.get(field, ()):
        for word in WRITTEN_WITHOUT_BLANKS[key]:
            found.setdefault(plain_letters(word).casefold(), set()).add(len(LANGUAGES))
    return {word: frozenset(numbers) for word, numbers in found.items()}


_UNSPACED_FIELDS: Mapping[str, Sequence[str]] = {
    "nots": ("not",),
    "withouts": ("without",),
    "good": ("good",),
    "defects": ("defect",),
    "kinds": ("kind",),
}
_NOTS, _WITHOUTS, _GOOD = map(_by_language, ("nots", "withouts", "good"))
_DEFECTS, _KINDS, _PHRASE_KINDS = map(_by_language, ("defects", "kinds", "phrase_kinds"))
_BEHIND = WRITTEN_WITHOUT_BLANKS["without_behind"]
_UNSPACED = sorted(
    {plain_letters(word).casefold() for word in chain(*WRITTEN_WITHOUT_BLANKS.values())},
    key=len,
    reverse=True,
)
_NEUTRAL = NEUTRAL_WORDS | WRITTEN_WITHOUT_BLANKS["neutral"]
_FIRST = _GOOD.keys() | _DEFECTS.keys() | _KINDS.keys() | _NOTS.keys() | _WITHOUTS.keys()
_FREE_ENDS = FREE_WORDS - {"less"}
_SECOND = _GOOD.keys() | _DEFECTS.keys() | _KINDS.keys() | GLUED_NOUNS | _FREE_ENDS
_PREFIXES = tuple(
    prefix + sign
    for prefix in ("un", "non", "in", "im", "not", "no", "dis", "nicht", "nie", "niet", "on", "de")
    for sign in ("", "_", "-", " ")
)
_NUMBER = "0"
"""Stands for a number or a code with one."""


def is_good_class(name: str, good_names: tuple[str, ...] = ()) -> bool:
    """Return whether a class of this name holds good images.

    Args:
        name: Name of a folder or a class.
        good_names: The good classes as the user named them, in any case; if given, the rule is
            not applied.
    """
    if good_names:
        return name.lower() in {word.lower() for word in good_names}
    return _read_name(name).is_good


def is_defect_class(name: str) -> bool:
    """Return whether a name has a word for a defect, not only none for good."""
    return _read_name(name).is_defective


def names_a_kind(name: str) -> bool:
    """Return whether a name has a word for a defect, or one that parts may have too: `dents`."""
    return is_defect_class(name) or not _PHRASE_KINDS.keys().isdisjoint(_words(name))


def is_unclear_class(name: str) -> bool:
    """Return whether a name has a word for good, or a negated defect, beside an unknown word.

    `almost_good`, `ok_nicht`: neither good nor defective without a doubt.
    """
    return _read_name(name).is_unclear


def says_only_defective(name: str) -> bool:
    """Return whether a class name means defective, without a kind of defect: `NG`, `n.i.O.`."""
    meaning = _read_name(name)
    return meaning.is_defective and not meaning.says_more


def find_counterpart(names: Iterable[str]) -> tuple[str, str] | None:
    """Return a name that may be good because another is the same and says defective, and that one.

    `Class1` beside `Class1_def`, `qualified` beside `unqualified`, `crack_absent` beside
    `crack_present`.
    """
    known = {name.casefold(): name for name in names}
    words = {name: set(_words(name)) for name in known.values()}
    for low, name in known.items():
        for prefix in _PREFIXES:
            if low.startswith(prefix) and (other := known.get(low.removeprefix(prefix))):
                return other, name
        if (other := known.get(low.replace("present", "absent"))) not in (None, name):
            return str(other), name
        if is_defect_class(name):
            for other, parts in words.items():
                if parts - {_NUMBER} and parts < words[name] and not is_defect_class(other):
                    return other, name
    return None


def check_clear_names(names: Iterable[str], where: str, good_names: tuple[str, ...] = ()) -> None:
    """Check that no class has a name that may mean good as well as defective.

    Args:
        names: The classes, also the tags of images.
        where: Place of the set, for the message.
        good_names: The good classes as the user named them: then the names decide nothing.

    Raises:
        DataError: There is one.
    """
    name = next(filter(is_unclear_class, names), None) if not good_names else None
    if name is not None:
        shown = escape_name(name[:60])
        raise DataError(
            f"has a class '{shown}': it has a word for good, but the name as a whole does not tell "
            "whether its images are good",
            where=where,
            remedy=f"Give --good-class '{shown}' if they are; if not, name the classes that are "
            "good with --good-class NAME, or rename this one",
        )


@dataclass(slots=True)
class _Meaning:
    """What the words of a name say together."""

    has_good: bool = False
    is_defective: bool = False
    is_doubtful: bool = False
    """A negation of nothing that is known, an unknown word, or a negation of another language."""
    may_be_good: bool = False
    """A word for a defect is negated, but in another language."""
    says_more: bool = False
    """It has words beside those for good and defective, negations and `parts`."""

    @property
    def is_good(self) -> bool:
        return self.has_good and not self.is_defective and not self.is_doubtful

    @property
    def is_unclear(self) -> bool:
        return (self.has_good or self.may_be_good) and not self.is_defective and not self.is_good


@dataclass(frozen=True, slots=True)
class _Negation:
    """A negation before a word that is not reached yet."""

    languages: frozenset[int]
    is_not: bool
    """It makes good defective; `without` does not."""
    only_good: bool = False
    """It does not change a word for a defect."""
    is_double: bool = False


@lru_cache(maxsize=1 << 14)
def _read_name(name: str) -> _Meaning:
    """Return what a name means; not to be changed by the caller."""
    words = _words(name)
    meaning = _Meaning()
    pending: _Negation | None = None
    has_number = _NUMBER in words
    at = 0
    while at < len(words):
        word, behind = words[at], words[at + 1] if at + 1 < len(words) else ""
        at += 1
        if pending is not None and word in FILLERS:
            continue
        if word == "free" and behind in ("of", "from"):
            pending = _negate(pending, _Negation(frozenset({0}), is_not=False))
            at += 1
            continue
        is_known_defect = word in _DEFECTS or word in _KINDS
        if is_known_defect or (
            word in _PHRASE_KINDS and (pending is not None or behind in FREE_WORDS)
        ):
            is_free = behind in _BEHIND or (
                behind in FREE_WORDS and words[at + 1 : at + 2] not in (["of"], ["from"])
            )
            at += is_free
            negation, pending = pending, None
            is_inverted = _add_defect(meaning, word, negation, is_free=is_free)
            meaning.says_more |= word not in _DEFECTS
            if is_inverted and not is_free and at < len(words) and words[at] in OR_WORDS:
                pending = negation
                at += 1
            continue
        if (found := _negation_of(word)) is not None:
            pending = _negate(pending, found)
            continue
        if word in _GOOD or (word == "free" and _are_neutral(words[at:])):
            if pending is None:
                meaning.has_good = True
            elif pending.is_not and not pending.is_double:
                meaning.is_defective = True
            else:
                meaning.has_good = meaning.is_doubtful = True
            pending = None
            continue
        if pending is not None:
            meaning.is_doubtful = True
            pending = None
        is_neutral = word in _NEUTRAL and (word not in NUMBERED_WORDS or has_number)
        is_neutral |= len(word) == 1 and words[max(at - 2, 0)] in ORIGIN_WORDS  # `cam_A`
        if word != _NUMBER and not is_neutral:
            meaning.is_doubtful = True
        if word != _NUMBER and word not in NOUNS and word not in WRITTEN_WITHOUT_BLANKS["neutral"]:
            meaning.says_more = True
    meaning.is_doubtful |= pending is not None or _MARKS.search(name) is not None
    return meaning


def _add_defect(meaning: _Meaning, word: str, negation: _Negation | None, *, is_free: bool) -> bool:
    """Add a word for a defect; return whether it is inverted by a negation before it."""
    languages = frozenset[int]().union(
        *(words.get(word, ()) for words in (_DEFECTS, _KINDS, _PHRASE_KINDS))
    )
    if word in FEATURES or (negation is not None and word in NOT_GOOD_WORDS):
        meaning.may_be_good = meaning.is_doubtful = True
        return False
    if negation is None:
        meaning.has_good |= is_free
        meaning.is_defective |= not is_free
        return False
    if negation.only_good or negation.is_double or is_free:
        meaning.is_defective = True
        return False
    if languages & negation.languages:
        meaning.has_good = True
        return True
    meaning.may_be_good = meaning.is_doubtful = True
    return False


def _negation_of(word: str) -> _Negation | None:
    if word in GOOD_ONLY_NOTS:
        return _Negation(frozenset(), is_not=True, only_good=True)
    if word in _NOTS:
        return _Negation(_NOTS[word] | _WITHOUTS.get(word, frozenset()), is_not=True)
    return _Negation(_WITHOUTS[word], is_not=False) if word in _WITHOUTS else None


def _negate(before: _Negation | None, found: _Negation) -> _Negation:
    """Return a negation, and with one before it a double one."""
    if before is None:
        return found
    return _Negation(before.languages | found.languages, found.is_not, is_double=True)


def _are_neutral(words: Iterable[str]) -> bool:
    return all(word == _NUMBER or word in _NEUTRAL for word in words)


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case, with one sign for every number."""
    text = plain_letters(name)
    for pattern, word in _WHOLE_WORDS:
        text = pattern.sub(word, text)
    text = _CAPITAL.sub(" ", text).casefold()
    runs = list(_RUN.finditer(text))
    digits = sum(map(str.isdigit, text))
    words: list[str] = []
    for at, run in enumerate(runs):
        word = run[0]
        beside = [
            other[0]
            for other in (*runs[max(at - 1, 0) : at], *runs[at + 1 : at + 2])
            if other.end() == run.start() or other.start() == run.end()
        ]
        is_numbered = any(map(str.isdecimal, beside))
        max_letters = 1 + (digits >= _MIN_CODE_DIGITS)
        if word.isdecimal():
            words.append(_NUMBER)
        elif not word.isascii():
            words += _cut_unspaced(word)
        elif is_numbered and len(word) <= max_letters and not _is_known(word):
            words.append(_NUMBER)  # a code: A7, S0001
        else:
            words += [word] if _is_known(word) else _cut_glued(word)
    return words


def _is_known(word: str) -> bool:
    return len(word) > 1 and (word in _FIRST or word in _NEUTRAL or word in GOOD_ONLY_NOTS)


def _cut_glued(word: str) -> list[str]:
    """Return the two known words that a word consists of, or the word: `okparts`, `notok`."""
    # `nonok` is `non ok`, not `no nok`.
    cuts = sorted(range(2, len(word) - 1), key=lambda cut: word[cut:] in NOT_GOOD_WORDS)
    for cut in cuts:
        first, second = word[:cut], word[cut:]
        is_pair = (first in _FIRST or first in ("ne", "un")) and second in _SECOND
        is_pair |= first in _PHRASE_KINDS and second in _FREE_ENDS
        if is_pair and not (first in LAX_GOOD_WORDS and second in _GOOD):
            return [first, second]
    return [word]


def _cut_unspaced(text: str) -> list[str]:
    """Return the known words of a text without blanks, and what is between them."""
    words: list[str] = []
    rest = ""
    while text:
        found = next((word for word in _UNSPACED if text.startswith(word)), "")
        if found and rest:
            words.append(rest)
            rest = ""
        if found:
            words.append(found)
        else:
            rest += text[0]
        text = text[len(found) or 1 :]
    return [*words, rest] if rest else words
