"""Browsers in which a person has logged in before, known by a cookie.

The cookie is signed with the person's own password hash, so the page keeps nothing, a restart
forgets nobody, and another password ends it. It lets nobody in: it only frees from the waits
that other people's wrong passwords cause.
Source: OWASP, "Slow Down Online Guessing Attacks with Device Cookies".
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from edgeinspect.system import User

MAX_AGE_S = 180 * 24 * 3600
_COOKIE = "edgeinspect_device_"
_ID_CHARACTERS = 22


def device_cookie_name(name: str) -> str:
    """Of one person; a panel may be known to several."""
    return _COOKIE + name


def make_device_cookie(name: str, user: User) -> str:
    """A new cookie's value."""
    device = secrets.token_urlsafe(16)
    return f"{device}.{_sign(device, name, user)}"


def known_device_id(cookies: Mapping[str, str], name: str, user: User | None) -> str:
    """The id of the browser if this person has logged in with it before, else empty."""
    value = cookies.get(device_cookie_name(name), "")
    device, _, signature = value.partition(".")
    if user is None or len(device) != _ID_CHARACTERS:
        return ""
    good = hmac.compare_digest(signature.encode(), _sign(device, name, user).encode())
    return device if good else ""


def _sign(device: str, name: str, user: User) -> str:
    return hmac.new(user.hash.encode(), f"{device} {name}".encode(), hashlib.sha256).hexdigest()
