"""Who may have written this? A model file is native code in the daemon's own process.

A file or folder of the store must belong to root or to the daemon's user, and nobody else
may be able to write it. The checks look at what they are given and at nothing above it.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from edgeinspect.errors import ModelError

OWNER = "EDGEINSPECT_STORE_OWNER"
"""Environment variable: one more user, by name or number, whose files are trusted."""


def trusted_owners() -> frozenset[int]:
    """Users whose files may be loaded: root, our own, and the one that `OWNER` names."""
    named = os.environ.get(OWNER, "")
    extra: set[int] = set()
    if named.isdigit():
        extra.add(int(named))
    elif named:
        try:
            extra.add(pwd.getpwnam(named).pw_uid)
        except KeyError as error:
            raise ModelError(
                f"there is no user '{named}'", where=OWNER, remedy="Name a user, or unset it"
            ) from error
    return frozenset({0, os.geteuid(), *extra})


def check_trust(path: Path, *, parent: bool = False) -> None:
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
    if found.st_uid not in trusted_owners():
        raise ModelError(
            f"belongs to {_user(found.st_uid)}, who is neither root nor the daemon's user",
            where=where,
            remedy=f"Whoever owns it can run code here: chown it to root, or set {OWNER}",
        )
    mode = stat.S_IMODE(found.st_mode)
    if parent and mode & stat.S_ISVTX:
        return
    if mode & stat.S_IWOTH:
        who = "everybody"
    elif mode & stat.S_IWGRP and not _private_group(found.st_uid, found.st_gid):
        who = f"the group {_group(found.st_gid)}"
    else:
        return
    raise ModelError(
        f"can be written by {who} (mode {mode:04o})",
        where=where,
        remedy="Whoever can write it can run code here: chmod go-w",
    )


def _private_group(uid: int, gid: int) -> bool:
    """True for the group that many systems make for each user, with nobody else in it."""
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    alone = not group.gr_mem or group.gr_mem == [user.pw_name]
    return uid != 0 and user.pw_gid == gid and group.gr_name == user.pw_name and alone


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
