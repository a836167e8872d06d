"""What is installed on this PC: `version`, `doctor`, `keys`."""

from __future__ import annotations

import msgspec


class VersionResult(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.version/1"):
    """`version`: the installed version, its plugins and models."""

    edgeinspect: str
    """Version of this package."""
    python: str
    platform: str
    """Kernel, processor and C library."""
    backends: dict[str, PluginResult]
    cameras: dict[str, PluginResult]
    plclinks: dict[str, PluginResult]
    store: StoreResult


class PluginResult(msgspec.Struct, kw_only=True):
    """A plugin, and whether it can be used."""

    available: bool
    reason: str | None
    """Why it is not available."""
    packages: dict[str, str]
    """Version of each package that it uses."""


class StoreResult(msgspec.Struct, kw_only=True):
    """The model store of this machine."""

    root: str
    models: dict[str, list[int]]
    """Name to its versions."""


class DoctorReport(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.doctor/1"):
    """`doctor`: how this PC is set up."""

    passed: bool
    """True if the exit code is 0."""
    exit_code: int
    counts: dict[str, int]
    """Number of diagnostics by `state`."""
    diagnostics: list[DiagnosticResult]


class DiagnosticResult(msgspec.Struct, kw_only=True):
    """One check."""

    check: str
    """Name of the check, as `processor.governor`; stable."""
    state: str
    """`good`, `warn`, `bad`, or `none` if it does not apply."""
    found: str
    remedy: str
    """Empty if nothing is needed."""


class ClientKeys(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.keys/1"):
    """`keys list`: the clients admitted to a line."""

    folder: str
    clients: list[ClientKey]


class ClientKey(msgspec.Struct, kw_only=True):
    """A client's key."""

    client: str
    public_key: str
