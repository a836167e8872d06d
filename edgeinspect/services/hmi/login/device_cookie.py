"""Device cookies: recognise browsers in which a user has logged in before.

A cookie is signed with the user's password hash, so the HMI stores nothing, cookies survive a
restart, and a new password revokes them. A cookie does not log in: its browser is only exempt
from delays that other clients' wrong passwords cause.
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
    """Return the cookie name of one user; several may share a panel."""
    return _COOKIE + name


def make_device_cookie(name: str, user: User) -> str:
    """Return the value of a new cookie."""
    device = secrets.token_urlsafe(16)
    return f"{device}.{_sign(device, name, user)}"


def known_device_id(cookies: Mapping[str, str], name: str, user: User | None) -> str:
    """Return the browser's id if this user has logged in with it before, else an empty text."""
    value = cookies.get(device_cookie_name(name), "")
    device, _, signature = value.partition(".")
    if user is None or len(device) != _ID_CHARACTERS:
        return ""
    is_valid = hmac.compare_digest(signature.encode(), _sign(device, name, user).encode())
    return device if is_valid else ""


def _sign(device: str, name: str, user: User) -> str:
    return hmac.new(user.hash.encode(), f"{device} {name}".encode(), hashlib.sha256).hexdigest()
