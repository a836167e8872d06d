"""Which names of a folder are pictures, for data sets and the folder camera alike."""

from __future__ import annotations

import hashlib
import os

from edgeinspect.imaging.image_file import IMAGE_SUFFIXES
from edgeinspect.system import escape_name

LABEL_BYTES = 96
"""Of a label in UTF-8; the spool keeps no more."""
_SYSTEM_NAMES = frozenset(("__macosx", "thumbs.db", "desktop.ini", "lost+found"))
_DIGEST_CHARACTERS = 10


def is_hidden(name: str) -> bool:
    """True for names that systems and programs make for themselves, files and folders.

    `.DS_Store`, a Mac's `._` twins, what rsync is still copying, `~$` locks, `Thumbs.db`.
    """
    return name.startswith((".", "~")) or name.lower() in _SYSTEM_NAMES


def is_image_name(name: str) -> bool:
    """True for the file name of a picture that is not hidden."""
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def image_label(name: str) -> str:
    """A picture's name as its verdict carries it: printable, at most `LABEL_BYTES` long.

    Different names have different labels: what is cut out of a longer one is replaced by a
    digest of the whole.
    """
    label = escape_name(name)
    data = label.encode()
    if len(data) <= LABEL_BYTES:
        return label
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:_DIGEST_CHARACTERS]
    tail = data[-24:].decode(errors="ignore")
    room = LABEL_BYTES - len(tail.encode()) - len(digest) - 2
    return f"{data[:room].decode(errors='ignore')}~{digest}~{tail}"
