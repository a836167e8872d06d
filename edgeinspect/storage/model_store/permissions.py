"""Checks who can write the model store: a model file is native code in the daemon's process.

A file or folder of the store must belong to root or to the daemon's user, and no other user may
be able to write it. Only the given path is checked, not the folders above it.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from edgeinspect.errors import ModelError
from edgeinspect.system import find_user_id, owner_problem, write_permission_problem

OWNER_VARIABLE = "EDGEINSPECT_STORE_OWNER"
"""Environment variable: an additional trusted owner, by name or number."""


def trusted_owners() -> frozenset[int]:
    """Return the users whose files are loaded: root, our own, and that of `OWNER_VARIABLE`."""
    named = os.environ.get(OWNER_VARIABLE, "")
    if not named:
        return frozenset({0, os.geteuid()})
    uid = find_user_id(named)
    if uid is None:
        raise ModelError(
            f"there is no user '{named}'",
            where=OWNER_VARIABLE,
            remedy="Set it to a user, or unset it",
        )
    return frozenset({0, os.geteuid(), uid})


def check_permissions(path: Path, *, parent: bool = False) -> None:
    """Refuse a path that another user can write.

    Args:
        path: A file or folder of the store.
        parent: True for a folder that only contains the folder that matters: if it is sticky
            (as /tmp), others cannot replace that one.

    Raises:
        ModelError: Its owner or its mode is wrong, or it is a symbolic link. A missing path
            passes: the call that opens it reports that.
    """
    try:
        status = path.lstat()
    except OSError:
        return
    where = str(path)
    if stat.S_ISLNK(status.st_mode):
        if parent:
            return  # its target is checked by its own path
        raise ModelError("is a link", where=where, remedy="Copy the file itself into the store")
    owner = owner_problem(status, trusted_owners())
    if owner is not None:
        raise ModelError(
            owner.problem,
            where=where,
            remedy=f"Its owner can run code here: chown it to root, or set {OWNER_VARIABLE}",
        )
    if parent and status.st_mode & stat.S_ISVTX:
        return
    written = write_permission_problem(status)
    if written is not None:
        raise ModelError(
            written.problem,
            where=where,
            remedy="Users who can write it can run code here: chmod -R go-w "
            + shlex.quote(str(path if stat.S_ISDIR(status.st_mode) else path.parent)),
        )
