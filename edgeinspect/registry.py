"""The plugins: one file each, found by listing folders, imported when they are built.

A camera, a backend or a PLC link is one file in its package that exposes `Options` (a
frozen msgspec.Struct) and `build`. Its `type:` in a configuration is the file's name.
No heavy library is imported to list plugins or to check a configuration.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from typing import Any, Literal, Protocol, cast, runtime_checkable

import msgspec

from edgeinspect.errors import InternalError, UsageError

PluginKind = Literal["camera", "backend", "plclink"]

PLUGIN_PACKAGES: dict[str, str] = {
    "camera": "edgeinspect.cameras",
    "backend": "edgeinspect.backends",
    "plclink": "edgeinspect.plclinks",
}
"""The package of the plugins of each kind."""

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


@runtime_checkable
class PluginModule(Protocol):
    """What the file of a plugin exposes.

    It may also expose `REQUIRES: tuple[tuple[str, str], ...]`, pairs of an import name and the
    extra that installs it.
    """

    Options: type[msgspec.Struct]
    build: Callable[..., Any]


def plugin_names(kind: PluginKind) -> tuple[str, ...]:
    """Return the plugins of a kind by `type:`, sorted, without importing them."""
    spec = importlib.util.find_spec(PLUGIN_PACKAGES[kind])
    if spec is None or spec.submodule_search_locations is None:
        return ()
    modules = pkgutil.iter_modules(spec.submodule_search_locations)
    return tuple(sorted(entry.name for entry in modules if not entry.name.startswith("_")))


def load_plugin(kind: PluginKind, name: str) -> PluginModule:
    """Import one plugin.

    Args:
        kind: `camera`, `backend` or `plclink`.
        name: Its `type:`.

    Raises:
        UsageError: There is no such plugin; the message lists those that exist.
        InternalError: Its file does not expose `Options` and `build`.
        ImportError: Its file imports a package at the top that is not installed.
    """
    existing = plugin_names(kind)
    if name not in existing:
        listing = ", ".join(existing) or "none"
        raise UsageError(f"there is no {kind} of type '{name}'", remedy=f"There are: {listing}")
    module = importlib.import_module(f"{PLUGIN_PACKAGES[kind]}.{name}")
    options = getattr(module, "Options", None)
    if not (isinstance(options, type) and issubclass(options, msgspec.Struct)):
        raise InternalError("does not expose `Options`, a msgspec.Struct", where=module.__name__)
    if not callable(getattr(module, "build", None)):
        raise InternalError("does not expose `build`", where=module.__name__)
    return cast(PluginModule, module)


def missing_reason(kind: PluginKind, name: str) -> str | None:
    """Return why a plugin cannot be built on this machine; None if it can."""
    try:
        module = load_plugin(kind, name)
    except ImportError as error:
        return f"cannot be imported: {error}"
    for package, extra in getattr(module, "REQUIRES", ()):
        if not is_installed(package):
            return f"{package} is not installed: pip install 'edgeinspect[{extra}]'"
    return None


def is_installed(package: str) -> bool:
    """Return whether a package can be imported. Imports its parent packages only."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    # A folder of that name on the path is a namespace package, not the library.
    return spec is not None and spec.origin is not None
