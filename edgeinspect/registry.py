"""The plugins: one module each, found without importing them, imported when they are built.

A camera, a backend or a PLC link is one module that exposes `Options` (a frozen msgspec.Struct)
and `build`. Its `type:` in a configuration is the name of its file in the package of its kind, or
that of an entry point with which another installed package declares it, in the group of the
kind's package:

    [options.entry_points]
    edgeinspect.cameras =
        acme = acme_cameras.line_scan

No heavy library is imported to list plugins or to check a configuration.
Source: docs/reference/api/plugins.md
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import re
from collections.abc import Callable
from typing import Any, Literal, Protocol, cast, runtime_checkable

import msgspec

from edgeinspect.errors import EdgeInspectError, InternalError, UsageError, install_command

PluginKind = Literal["camera", "backend", "plclink"]

PLUGIN_PACKAGES: dict[str, str] = {
    "camera": "edgeinspect.cameras",
    "backend": "edgeinspect.backends",
    "plclink": "edgeinspect.plclinks",
}
"""The package of the plugins of each kind, and the group of the entry points of others."""

EXTRAS: dict[str, str] = {
    "openvino": "cpu",
    "onnxruntime": "cpu",
    "tensorrt": "trt",
    "pycuda": "trt",
    "torch": "train",
    "onnx": "onnx",
    "onnxscript": "train",
    "timm": "zoo",
    "torchvision": "zoo",
    "segmentation_models_pytorch": "zoo",
    "starlette": "hmi",
    "uvicorn": "hmi",
    "prometheus_client": "hmi",
    "pymodbus": "plc",
    "asyncua": "plc",
    "snap7": "plc",
    "paho": "plc",
    "ray": "ray",
    "harvesters": "genicam",
    "pypylon": "pylon",
    "mcap": "record",
    "zstandard": "record",
    "pyarrow": "parquet",
}
"""The extra that installs an optional package, by import name."""


_TYPE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@runtime_checkable
class PluginModule(Protocol):
    """What the module of a plugin exposes.

    It may also expose `REQUIRES: tuple[tuple[str, str], ...]`, pairs of an import name and the
    extra of its distribution that installs it.
    """

    Options: type[msgspec.Struct]
    build: Callable[..., Any]


def plugin_names(kind: PluginKind) -> tuple[str, ...]:
    """Return the plugins of a kind by `type:`, sorted, without importing them."""
    return tuple(sorted({*_own_names(kind), *_entry_points(PLUGIN_PACKAGES[kind])}))


def load_plugin(kind: PluginKind, name: str) -> PluginModule:
    """Import one plugin.

    Args:
        kind: `camera`, `backend` or `plclink`.
        name: Its `type:`.

    Raises:
        UsageError: There is no such plugin, and the message lists those that exist; or several
            installed packages declare it.
        InternalError: It does not expose `Options` and `build`.
        ImportError: It imports a package at the top that is not installed; or it is another
            package's, and fails when it is imported.
    """
    existing = plugin_names(kind)
    if name not in existing:
        listing = ", ".join(existing) or "none"
        raise UsageError(f"there is no {kind} of type '{name}'", remedy=f"There are: {listing}")
    module_name = _module_name(kind, name)
    try:
        module = importlib.import_module(module_name)
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        if name in _own_names(kind):
            raise
        raise ImportError(f"{module_name}: {type(error).__name__}: {error}") from error
    options = getattr(module, "Options", None)
    if not (isinstance(options, type) and issubclass(options, msgspec.Struct)):
        raise InternalError("does not expose `Options`, a msgspec.Struct", where=module.__name__)
    if not callable(getattr(module, "build", None)):
        raise InternalError("does not expose `build`", where=module.__name__)
    return cast(PluginModule, module)


def plugin_distribution(kind: PluginKind, name: str) -> str:
    """Return the name of the distribution that a plugin is part of."""
    points = _entry_points(PLUGIN_PACKAGES[kind]).get(name, ())
    if name in _own_names(kind) or not points:
        return "edgeinspect"
    return points[0].dist.name if points[0].dist is not None else points[0].module


def missing_reason(kind: PluginKind, name: str) -> str | None:
    """Return why a plugin cannot be built on this machine; None if it can.

    Raises:
        UsageError: There is no such plugin.
    """
    try:
        module = load_plugin(kind, name)
    except ImportError as error:
        return f"cannot be imported: {error}"
    except EdgeInspectError as error:
        if name not in plugin_names(kind):
            raise
        return str(error)
    distribution = plugin_distribution(kind, name)
    for package, extra in getattr(module, "REQUIRES", ()):
        if not is_installed(package):
            command = install_command(f"{distribution}[{extra}]")
            return f"{package} is not installed: {command}"
    return None


def _own_names(kind: PluginKind) -> tuple[str, ...]:
    """Return the plugins that are files in the package of their kind."""
    spec = importlib.util.find_spec(PLUGIN_PACKAGES[kind])
    if spec is None or spec.submodule_search_locations is None:
        return ()
    modules = pkgutil.iter_modules(spec.submodule_search_locations)
    return tuple(entry.name for entry in modules if not entry.name.startswith("_"))


@functools.cache
def _entry_points(group: str) -> dict[str, tuple[importlib.metadata.EntryPoint, ...]]:
    """Return the plugins that installed packages declare in a group, by name.

    Cached, since it reads the metadata of each installed package.
    """
    found: dict[str, tuple[importlib.metadata.EntryPoint, ...]] = {}
    for point in importlib.metadata.entry_points(group=group):
        if _TYPE_NAME.fullmatch(point.name):
            found[point.name] = (*found.get(point.name, ()), point)
    return found


def _module_name(kind: PluginKind, name: str) -> str:
    """Return the module of an existing plugin; one that is shipped cannot be replaced."""
    if name in _own_names(kind):
        return f"{PLUGIN_PACKAGES[kind]}.{name}"
    points = _entry_points(PLUGIN_PACKAGES[kind])[name]
    modules = sorted({point.module for point in points})
    if len(modules) > 1:
        raise UsageError(
            f"several installed packages declare the {kind} '{name}': {', '.join(modules)}",
            remedy="Uninstall all but one",
        )
    return modules[0]


def is_installed(package: str) -> bool:
    """Return whether a package can be imported. Imports its parent packages only."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    # A folder of that name on the path is a namespace package, not the library.
    return spec is not None and spec.origin is not None
