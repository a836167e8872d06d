"""What the words in folder and class names mean: splits, images, masks, good, defective.

A class name is split into words at everything that is not a letter, and before capitals. A word
for good (`ok_front`, `Gutteile`) or for a defect is inverted by a negation directly before it
(`not_ok`, `no_defect`, `nicht in Ordnung`), a defect also by `free` after it (`scratch-free`).
A name is good if it has a word for good and none for a defect: `nok_crack` and `not_ok_dent` are
defects. `--good-class NAME` overrides the rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Folder names of splits, in lower case."""
IMAGE_FOLDER_NAMES = word_set(
    """
    images image imgs img img_dir pictures picture jpegimages originals original input inputs rgb
    train_images photos data leftimg8bit
    """
)
"""Names of folders that hold images and carry no label, in lower case."""

_MASK_WORDS = word_set(
    """
    mask masks label labels annotation annotations annot annots anno ann groundtruth gt gts
    segmentation segmentations seg segm segmap segmaps segmentationclass
    """
)
_SHORT_MASK_WORDS = word_set("lab lbl msk")
_VISUALIZATION_WORDS = word_set(
    """
    visualization visualisation visualized viz vis overlay overlays preview previews instance
    instances drawing drawings
    """
)
_NEUTRAL_WORDS = word_set(
    """
    dir folder png pngs bmp tif tiff jpg jpeg npy binary bw semantic class classes object objects
    map maps file files raw pixel pixels id ids index grey gray color colour final all data tr ts
    train training val valid validation test testing image images img imgs public of the fine
    coarse
    """
)
_GOOD_WORDS = word_set(
    """
    ok okay good normal clean pass passed perfect intact healthy acceptable accepted accept
    undamaged uncracked flawless nodefect nodefects nondefective nondefect defectless defectfree
    negative conforming conforme gut gute gutteil gutteile fehlerfrei einwandfrei bon bonne buono
    bueno buena bom boa goed goede dobry dobre dobra
    """
)
_DEFECT_WORDS = word_set(
    """
    def defect defects defective damaged damage damages crack cracks cracked scratch scratches
    anomaly anomalies anomalous fault faults faulty flaw flaws abnormal bad error errors ng ko nok
    fail failed reject rejected rejects scrap broken nonconforming fehler fehlerhaft defekt
    defekte schlecht schlechtteile ausschuss mauvais mauvaise malo mala difettoso difettosi
    defectuoso defeituoso fout foute slecht slechte wadliwy wadliwe wadliwa
    """
)
_NEGATIONS = word_set("no not non without un nicht ohne kein keine sans senza sin niet nie")
_FILLERS = word_set("any visible a the")
"""Words allowed between a negation and the word that it negates."""
_WHOLE_WORDS = (
    (re.compile(r"(?<![a-z])n[\W_]{0,2}i[\W_]{0,2}o(?![a-z])", re.IGNORECASE), " nok "),
    (re.compile(r"(?<![a-z])nicht[\W_]*in[\W_]*ordnung", re.IGNORECASE), " nok "),
    (re.compile(r"(?<![a-z])i[\W_]{0,2}o(?![a-z])", re.IGNORECASE), " ok "),
    (re.compile(r"(?<![a-z])in[\W_]*ordnung", re.IGNORECASE), " ok "),
    (re.compile("不良|不合格|異常|异常|缺陷|欠陥|瑕疵|불량"), " nok "),
    (re.compile("良品|合格|正常|양품|정상"), " ok "),
)
"""German `i.O.` (OK) and `n.i.O.` (not OK) in their spellings, and Chinese, Japanese and Korean
words, which have no blanks around them; the negated forms first."""


def split_words(name: str) -> list[str]:
    """Return the words of a name in lower case, split at non-letters and before capitals."""
    cut = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    words = [word.lower() for word in re.split(r"[^A-Za-z]+", cut) if word]
    joined = " ".join(words).replace("ground truth", "groundtruth")
    return joined.split()


def find_split_name(parts: Iterable[str]) -> str | None:
    """Return the split of the first folder name that names one."""
    return next((SPLIT_NAMES[p.lower()] for p in parts if p.lower() in SPLIT_NAMES), None)


def is_mask_folder(name: str) -> bool:
    """Return whether a folder name means masks and nothing else: `mask_dir`, `train_labels`.

    A defect class may contain such a word too (`solder_mask_damage`), but among others.
    """
    informative = set(split_words(name)) - _NEUTRAL_WORDS
    return bool(informative & _MASK_WORDS) and informative <= _MASK_WORDS | _VISUALIZATION_WORDS


def has_mask_word(name: str) -> bool:
    """Return whether a word of a file name means a mask: `p1_mask (1)`, `p1_gt2`, `mask_p1`."""
    return not (_MASK_WORDS | _SHORT_MASK_WORDS).isdisjoint(split_words(name))


def is_visualization_folder(name: str) -> bool:
    """Return whether a folder name means visualizations, or instance ids.

    `SegmentationClassVisualization`, `SegmentationObject`: neither images nor semantic masks.
    """
    words = set(split_words(name))
    return bool(words & _VISUALIZATION_WORDS) or {"segmentation", "object"} <= words


def is_annotation_folder(name: str) -> bool:
    """Return whether a folder name means anything but images of parts."""
    return is_mask_folder(name) or is_visualization_folder(name)


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
    for pattern, word in _WHOLE_WORDS:
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
