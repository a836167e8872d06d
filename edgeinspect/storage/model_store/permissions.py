"""Who may have written this? A model file is native code in the daemon's own process.

A file or folder of the store must belong to root or to the daemon's user, and nobody else
may be able to write it. The checks look at what they are given and at nothing above it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgeinspect.errors import ModelError
from edgeinspect.system import find_user_id, owner_problem, write_permission_problem

OWNER_VARIABLE = "EDGEINSPECT_STORE_OWNER"
"""Environment variable: one more user, by name or number, whose files are trusted."""


def trusted_owners() -> frozenset[int]:
    """Users whose files may be loaded: root, our own, and the one that `OWNER` names."""
    named = os.environ.get(OWNER_VARIABLE, "")
    if not named:
        return frozenset({0, os.geteuid()})
    uid = find_user_id(named)
    if uid is None:
        raise ModelError(
            f"there is no user '{named}'", where=OWNER_VARIABLE, remedy="Name a user, or unset it"
        )
    return frozenset({0, os.geteuid(), uid})


def check_permissions(path: Path, *, parent: bool = False) -> None:
    """Refuse what somebody else may have written.

    Args:
        path: A file or folder of the store.
        parent: True for a folder that only holds the folder that matters: a sticky one
            (as /tmp) then keeps others from exchanging it.

    Raises:
        ModelError: Its owner or its mode is wrong, or it is a link. What does not exist
            is passed over: whoever opens it will say so.
    """
    try:
        found = path.lstat()
    except OSError:
        return
    where = str(path)
    if stat.S_ISLNK(found.st_mode):
        if parent:
            return  # what it points to is looked at under its own name
        raise ModelError("is a link", where=where, remedy="Put the file itself into the store")
    owner = owner_problem(found, trusted_owners())
    if owner is not None:
        raise ModelError(
            owner.problem,
            where=where,
            remedy=f"Whoever owns it can run code here: chown it to root, or set {OWNER_VARIABLE}",
        )
    if parent and found.st_mode & stat.S_ISVTX:
        return
    written = write_permission_problem(found)
    if written is not None:
        raise ModelError(
            written.problem,
            where=where,
            remedy="Whoever can write it can run code here: chmod go-w",
        )
