"""What the names of folders say of their images beside a class: not labelled, a day, set aside.

Folders of images are read as classes, but not all are. `unlabeled/` and `unsure/` say that nobody
has decided, `2024-01-03/` and `cam2/` where images are from, `backup/` and `old/` that they were
put away. Names that may be a class stay one: `unknown`, `other`, `misc`, `no_label`.
"""

from __future__ import annotations

import re

from edgeinspect.learning.datasets.vocabulary import (
    IMAGE_FOLDER_NAMES,
    is_defect_class,
    is_good_class,
    split_words,
    word_set,
)

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
_ORIGIN_WORDS = word_set(
    """
    day date week month year cam camera kamera batch lot charge line shift session run part piece
    product sample series serie serial station machine coil roll sheet order customer supplier
    plant operator image img frame video scene visit tag schicht linie los teil
    jan feb mar apr may jun jul aug sep sept oct nov dec january february march april june july
    august september october november december monday tuesday wednesday thursday friday saturday
    sunday kw
    """
)
_CAMERA_WORDS = word_set("cam camera kamera")
_PLACE_WORDS = word_set(
    "left right top bottom front back rear upper lower side inner outer links rechts oben unten "
    "vorne hinten view position pos"
)
_GENERAL_WORDS = word_set(
    """
    def defect defects defective damaged anomaly anomalies anomalous fault faults faulty abnormal
    bad error errors ng ko nok fail failed reject rejected rejects scrap nonconforming fehler
    fehlerhaft defekt defekte schlecht schlechtteile ausschuss n i o in ordnung nicht not no non
    ok okay good gut part parts teil teile all class classes any
    """
)
_MIN_DATE_DIGITS = 4
_MIN_CODE_DIGITS = 3


def is_unlabelled_folder(name: str) -> bool:
    """Return whether a folder name says that its images have no label: `to_label`, `ok_unsure`."""
    words = [
        word
        for word in split_words(name)
        if word not in IMAGE_FOLDER_NAMES
        and not (is_good_class(word) or (word in _GENERAL_WORDS and is_defect_class(word)))
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
    places = _PLACE_WORDS if _CAMERA_WORDS & set(words) else frozenset[str]()
    is_numbered = bool(digits or places & set(words)) or any(len(word) == 1 for word in words)
    return (
        is_numbered
        and bool(_ORIGIN_WORDS & set(words))
        and all(word in _ORIGIN_WORDS | places or len(word) == 1 for word in words)
    )


def is_code(name: str) -> bool:
    """Return whether a folder name is the number of a part, or a code of a defect: `S0001`."""
    words = split_words(name)
    return (
        bool(words)
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
    return bool(words) and all(word in _PLACE_WORDS | _CAMERA_WORDS for word in words)


def says_only_defective(name: str) -> bool:
    """Return whether a class name means defective, without a kind of defect: `NG`, `n.i.O.`."""
    return is_defect_class(name) and all(word in _GENERAL_WORDS for word in split_words(name))
