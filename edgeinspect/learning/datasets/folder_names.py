"""What the names of folders say of their images beside a class: not labelled, a day, set aside.

Folders of images are read as classes, but not all are. `unlabeled/` and `unsure/` say that nobody
has decided, `2024-01-03/` and `cam2/` where images are from, `backup/` and `old/` that they were
put away. Names that may be a class stay one: `unknown`, `other`, `misc`, `no_label`.
"""

from __future__ import annotations

import re

from edgeinspect.learning.datasets.class_names import is_good_class, says_only_defective
from edgeinspect.learning.datasets.class_words import CAMERA_WORDS, ORIGIN_WORDS, PLACE_WORDS
from edgeinspect.learning.datasets.vocabulary import IMAGE_FOLDER_NAMES, split_words, word_set

_UNLABELLED = re.compile(
    r"(?:un ?|not (?:yet )?|non )"
    r"(?:labell?ed|annotated|sorted|classified|reviewed|checked|decided|sure|clear|certain)"
    r"|(?:to |to be |for |needs? )"
    r"(?:label(?:l?ed)?|annotated?|sort(?:ed)?|classif(?:y|ied)|review(?:ed)?|check(?:ed)?)"
    r"|to ?do|doubts?|doubtful|undecided|review|ignored?|"
    r"unklar|unsicher|unsortiert|nicht (?:gelabelt|sortiert|sicher|klar)"
)
_SET_ASIDE_WORDS = word_set(
    "backup backups bak trash deleted duplicate duplicates dupes old new tmp temp copy copies"
)
_MIN_DATE_DIGITS = 4
_MIN_CODE_DIGITS = 3


def is_unlabelled_folder(name: str) -> bool:
    """Return whether a folder name says that its images have no label: `to_label`, `ok_unsure`."""
    words = [
        word
        for word in split_words(name)
        if word not in IMAGE_FOLDER_NAMES and not (is_good_class(word) or says_only_defective(word))
    ]
    return bool(_UNLABELLED.fullmatch(" ".join(words)))


def is_set_aside_folder(name: str) -> bool:
    """Return whether a folder name says that its images were put away: `backup`, `old`."""
    words = [word for word in split_words(name) if word not in IMAGE_FOLDER_NAMES]
    return bool(words) and all(word in _SET_ASIDE_WORDS for word in words)


def is_origin_folder(name: str) -> bool:
    """Return whether a folder name says where images are from: `2024-01-03`, `cam2`, `batch_A`."""
    words = split_words(name)
    digits = sum(letter.isdigit() for letter in name)
    if not name.isascii():
        return False
    if not words or words in (["t"], ["z"], ["t", "z"]):  # 20240103T1015
        return digits >= _MIN_DATE_DIGITS
    places = PLACE_WORDS if CAMERA_WORDS & set(words) else frozenset[str]()
    is_numbered = bool(digits or places & set(words)) or any(len(word) == 1 for word in words)
    return (
        is_numbered
        and bool(ORIGIN_WORDS & set(words))
        and all(word in ORIGIN_WORDS | places or len(word) == 1 for word in words)
    )


def is_code(name: str) -> bool:
    """Return whether a folder name is the number of a part, or a code of a defect: `S0001`."""
    words = split_words(name)
    return (
        bool(words)
        and name.isascii()
        and all(len(word) <= 2 for word in words)
        and sum(letter.isdigit() for letter in name) >= _MIN_CODE_DIGITS
    )


def may_be_kind(name: str) -> bool:
    """Return whether a folder below one of defects may name a kind of them: neither 3 nor A7."""
    return not is_origin_folder(name) and any(
        len(word) > 1 for word in re.findall(r"[^\W\d_]+", name)
    )


def is_place(name: str) -> bool:
    """Return whether a folder name may be a side of a part as well as a kind of defect."""
    words = split_words(name)
    return bool(words) and all(word in PLACE_WORDS | CAMERA_WORDS for word in words)
