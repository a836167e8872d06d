"""CURVE keys of a client."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgeinspect.client.sockets import SocketSetup, no_encryption
from edgeinspect.config import ConfigSection
from edgeinspect.wire import use_client_keys


class ClientKeysConfig(ConfigSection, frozen=True):
    """Keys for a line on another machine; create them with `edgeinspect keys`."""

    secret: str
    """File with this client's secret key."""
    server: str
    """File with the line's public key."""


def client_keys_setup(keys: ClientKeysConfig | None) -> SocketSetup:
    """Return what sets the configured CURVE keys on a socket; nothing without keys."""
    if keys is None:
        return no_encryption
    return partial(use_client_keys, Path(keys.secret), Path(keys.server))
