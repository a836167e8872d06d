"""Image names: which names of a folder count as images, and the labels made from them."""

from __future__ import annotations

import hashlib
import os

from edgeinspect.system import escape_name

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".ppm"))
"""Suffixes of image file names, in lower case. The format is decided by the content."""
LABEL_BYTES = 96
"""Longest label in UTF-8, as the spool stores it."""
_SYSTEM_NAMES = frozenset(
    (
        "__macosx",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "lost+found",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "#recycle",
        "#snapshot",
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "thumbnails",
        "thumbs",
    )
)
"""In lower case. Folders of thumbnails hold each image again, without its label."""
_DIGEST_CHARACTERS = 10


def is_hidden(name: str) -> bool:
    """Return True for files and folders that systems and programs create for themselves.

    Examples: `.DS_Store`, macOS `._` files, partial files of rsync, `~$` locks, `Thumbs.db`, the
    thumbnails of a NAS in `@eaDir`, recycle bins.
    """
    return name.startswith((".", "~")) or name.lower() in _SYSTEM_NAMES


def is_image_name(name: str) -> bool:
    """Return True for the name of an image file that is not hidden."""
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def image_label(name: str) -> str:
    """Return the label of an image in its verdict: printable, at most `LABEL_BYTES` long.

    Different names have different labels: a long name is shortened around its digest.
    """
    label = escape_name(name)
    data = label.encode()
    if len(data) <= LABEL_BYTES:
        return label
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:_DIGEST_CHARACTERS]
    tail = data[-24:].decode(errors="ignore")
    room = LABEL_BYTES - len(tail.encode()) - len(digest) - 2
    return f"{data[:room].decode(errors='ignore')}~{digest}~{tail}"
