"""Configuration sections of the HTTP server."""

from __future__ import annotations

from edgeinspect.config import Section


class TlsConfig(Section, frozen=True):
    """What the page proves itself with, and is encrypted by."""

    certificate: str
    """PEM file."""
    key: str
    """PEM file with its secret key, without a password; mode 0600, or 0640 with the page's
    group."""
