"""What the words in folder names mean: splits, images, masks, visualizations.

What they say of the parts in the images is in `class_names.py`.
"""

from __future__ import annotations

import re
import unicodedata
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
    train_images photos data leftimg8bit bild bilder imagenes immagini imagens imágenes obrazy
    zdjecia zdjęcia afbeeldingen 图像 图片 圖像 画像 이미지
    """
)
"""Names of folders that hold images and carry no label, in lower case."""

_MASK_WORDS = word_set(
    """
    mask masks label labels annotation annotations annot annots anno ann groundtruth gt gts
    segmentation segmentations seg segm segmap segmaps segmentationclass
    maske masken masque masques maschera maschere mascara mascaras maska maski masker maskers
    掩码 掩碼 掩膜 遮罩 マスク 마스크
    """
)
_ACCENTS = re.compile("[\u0300-\u036f]")
_PLAIN_LETTERS = str.maketrans(
    {"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "ı": "i", "ß": "ss", "æ": "ae", "œ": "oe", "đ": "d"}
)
"""Letters that Unicode does not take apart into a letter and an accent."""
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


def plain_letters(text: str) -> str:
    """Return a text with Latin letters without accents, and no letters of double width."""
    parts = unicodedata.normalize("NFKD", text).translate(_PLAIN_LETTERS)
    return unicodedata.normalize("NFC", _ACCENTS.sub("", parts))


def split_words(name: str) -> list[str]:
    """Return the words of a name in lower case, split at non-letters and before capitals.

    Accents are left out: `máscaras` is `mascaras`.
    """
    plain = plain_letters(name)
    cut = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", plain)
    words = [word.lower() for word in re.split(r"[\W\d_]+", cut) if word]
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
