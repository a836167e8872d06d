"""Who may have written this? Looked at before it is loaded, mapped or believed.

The owner of a file or folder must be root, the user of this process or one that is named,
and nobody else may be able to write it. A folder that root placed where nobody else can put
anything (as systemd does below /run) is trusted whoever owns it: root chose its owner.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OwnershipProblem:
    """Why a file or folder is not trusted."""

    problem: str
    remedy: str
    """Begins in lower case with what to do."""


def user_name(uid: int) -> str:
    """`user anna`, or `user 1000` where nobody has the number."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def find_user_id(name: str) -> int | None:
    """The number of a user that is given by name or number; None if there is none."""
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def owner_problem(found: os.stat_result, owners: Collection[int]) -> OwnershipProblem | None:
    """Whether an entry belongs to root, to this process's user or to one of `owners`."""
    if found.st_uid in {0, os.geteuid(), *owners}:
        return None
    ours = user_name(os.geteuid())
    return OwnershipProblem(
        f"belongs to {user_name(found.st_uid)}, who is neither root nor {ours}",
        f"chown it to root or to {ours.removeprefix('user ')}",
    )


def write_permission_problem(found: os.stat_result) -> OwnershipProblem | None:
    """Whether somebody else than its owner can write an entry."""
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IWOTH:
        who = "everybody"
    elif mode & stat.S_IWGRP and not _is_private_group(found.st_uid, found.st_gid):
        who = f"the group {_group_name(found.st_gid)}"
    else:
        return None
    return OwnershipProblem(f"can be written by {who} (mode {mode:04o})", "chmod go-w")


def folder_problem(path: Path, owners: Collection[int] = ()) -> OwnershipProblem | None:
    """Whether somebody else may exchange what lies in a folder.

    Args:
        path: The folder itself, not a link to it.
        owners: More users that are trusted.

    Raises:
        OSError: It cannot be looked at.
    """
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return OwnershipProblem("is a link", "give the folder itself")
    if not stat.S_ISDIR(found.st_mode):
        return OwnershipProblem("is no folder", "give a folder, or move this file away")
    distrust = owner_problem(found, owners)
    if distrust is not None and not _parent_is_root_only(path):
        return distrust
    return write_permission_problem(found) or _ancestor_problem(path)


def _parent_is_root_only(path: Path) -> bool:
    above = os.stat(path.absolute().parent)
    return above.st_uid == 0 and not above.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _ancestor_problem(path: Path) -> OwnershipProblem | None:
    """A folder above in which anybody may rename what belongs to others."""
    for above in path.absolute().parents:
        found = os.stat(above)
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            return OwnershipProblem(
                f"lies below {above}, which everybody can write and which is not sticky",
                f"chmod o-w {above}",
            )
    return None


def _is_private_group(uid: int, gid: int) -> bool:
    """True for the group that many systems make for each user, with nobody else in it."""
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    alone = not group.gr_mem or group.gr_mem == [user.pw_name]
    return uid != 0 and user.pw_gid == gid and group.gr_name == user.pw_name and alone


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
