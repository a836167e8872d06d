"""Checks of owner and permissions, before a file is loaded, mapped or trusted.

The owner of a file or folder must be root, the user of this process or one of the given users,
and no other user may be able to write it. A folder that root created where only root can write
(as systemd does below /run) is trusted with any owner: root chose it.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OwnershipProblem:
    """Why a file or folder is not trusted."""

    problem: str
    remedy: str
    """What to do, beginning in lower case."""


def user_name(uid: int) -> str:
    """Return `user anna`, or `user 1000` for an id without a name."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def find_user_id(name: str) -> int | None:
    """Return the id of a user given by name or number; None if there is no such user."""
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def owner_problem(found: os.stat_result, owners: Collection[int]) -> OwnershipProblem | None:
    """Check that a file belongs to root, to this process's user or to one of `owners`."""
    if found.st_uid in {0, os.geteuid(), *owners}:
        return None
    trusted = {"root", user_name(os.geteuid()).removeprefix("user ")}
    return OwnershipProblem(
        f"belongs to {user_name(found.st_uid)}, which is not trusted",
        f"chown it to {' or '.join(sorted(trusted))}",
    )


def write_permission_problem(found: os.stat_result) -> OwnershipProblem | None:
    """Check that only the owner can write a file."""
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IWOTH:
        who = "all users"
    elif mode & stat.S_IWGRP and not _is_private_group(found.st_uid, found.st_gid):
        who = f"the group {_group_name(found.st_gid)}"
    else:
        return None
    return OwnershipProblem(f"can be written by {who} (mode {mode:04o})", "chmod go-w")


def folder_problem(path: Path, owners: Collection[int] = ()) -> OwnershipProblem | None:
    """Check that no untrusted user can replace files in a folder.

    Args:
        path: The folder itself, not a link to it.
        owners: Ids of further trusted users.

    Raises:
        OSError: Its status cannot be read.
    """
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return OwnershipProblem("is a link", "name the folder itself")
    if not stat.S_ISDIR(found.st_mode):
        return OwnershipProblem("is not a folder", "name a folder, or move this file away")
    problem = owner_problem(found, owners)
    if problem is not None and not _parent_is_root_only(path):
        return problem
    return write_permission_problem(found) or _ancestor_problem(path)


def _parent_is_root_only(path: Path) -> bool:
    above = os.stat(path.absolute().parent)
    return above.st_uid == 0 and not above.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _ancestor_problem(path: Path) -> OwnershipProblem | None:
    """Find a parent folder in which any user may rename the files of others."""
    for above in path.absolute().parents:
        found = os.stat(above)
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            return OwnershipProblem(
                f"is below {above}, which all users can write and which is not sticky",
                f"chmod o-w {shlex.quote(str(above))}",
            )
    return None


def _is_private_group(uid: int, gid: int) -> bool:
    """True for the group that many systems create per user, with no other member."""
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
