"""Recognises what a server gives instead of a file: a pointer of Git LFS, or a web page."""

from __future__ import annotations

START_BYTES = 128
"""This much of a file is needed to recognise them."""
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_WEB_PAGE = (b"<!doctype html", b"<html")


def describe_foreign_content(start: bytes) -> str:
    """Return what a file is instead of labels, by its start; empty if it seems to be labels."""
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(_LFS_POINTER):
        return "is a Git LFS pointer, not the file: `git lfs pull` fetches it"
    if start.lower().startswith(_WEB_PAGE):
        return "is a web page (HTML), not the file: download it again"
    return ""
