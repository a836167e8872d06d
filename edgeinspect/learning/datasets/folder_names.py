"""Which folder names mean masks, or visualizations that are neither image nor mask."""

from __future__ import annotations

import re

_MASK_WORDS = frozenset(
    (
        "mask",
        "masks",
        "label",
        "labels",
        "annotation",
        "annotations",
        "annot",
        "annots",
        "anno",
        "groundtruth",
        "gt",
        "gts",
        "segmentation",
        "segmentations",
        "seg",
        "segm",
        "segmap",
        "segmaps",
        "segmentationclass",
    )
)
_VISUALIZATION_WORDS = frozenset(
    (
        "visualization",
        "visualisation",
        "visualized",
        "viz",
        "vis",
        "overlay",
        "overlays",
        "preview",
        "previews",
        "instance",
        "instances",
        "drawing",
        "drawings",
    )
)
_NEUTRAL_WORDS = frozenset(
    (
        "dir",
        "folder",
        "png",
        "pngs",
        "bmp",
        "tif",
        "tiff",
        "jpg",
        "jpeg",
        "npy",
        "binary",
        "bw",
        "semantic",
        "class",
        "classes",
        "object",
        "objects",
        "map",
        "maps",
        "file",
        "files",
        "raw",
        "pixel",
        "pixels",
        "id",
        "ids",
        "index",
        "grey",
        "gray",
        "color",
        "colour",
        "final",
        "all",
        "data",
        "tr",
        "ts",
        "train",
        "training",
        "val",
        "valid",
        "validation",
        "test",
        "testing",
        "image",
        "images",
        "img",
        "imgs",
        "public",
        "of",
        "the",
    )
)


def split_words(name: str) -> list[str]:
    """Return the words of a name in lower case, split at non-letters and before capitals."""
    cut = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    words = [word.lower() for word in re.split(r"[^A-Za-z]+", cut) if word]
    joined = " ".join(words).replace("ground truth", "groundtruth")
    return joined.split()


def is_mask_folder(name: str) -> bool:
    """Return whether a folder name means masks and nothing else: `mask_dir`, `train_labels`.

    A defect class may contain such a word too (`solder_mask_damage`), but among others.
    """
    telling = set(split_words(name)) - _NEUTRAL_WORDS
    return bool(telling & _MASK_WORDS) and telling <= _MASK_WORDS | _VISUALIZATION_WORDS


def is_visualization_folder(name: str) -> bool:
    """Return whether a folder name means visualizations, or instance ids.

    `SegmentationClassVisualization`, `SegmentationObject`: neither images nor semantic masks.
    """
    words = set(split_words(name))
    return bool(words & _VISUALIZATION_WORDS) or {"segmentation", "object"} <= words


def is_annotation_folder(name: str) -> bool:
    """Return whether a folder name means anything but images of parts."""
    return is_mask_folder(name) or is_visualization_folder(name)
