"""Which parts exist: one file each, found by listing folders, imported when built.

A camera, a backend or a PLC link is one file in its package that exposes `Options` (a
frozen msgspec.Struct) and `build`. Its `type:` in a configuration is the file's name.
Nothing heavy is imported to list what exists or to check a configuration.
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
"""Kind of part to the package its files stand in."""

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
"""Import name of an optional package to the extra that brings it."""


@runtime_checkable
class PluginModule(Protocol):
    """What a part's file exposes.

    It may also expose `REQUIRES: tuple[tuple[str, str], ...]`, pairs of an import name and
    the extra that brings it.
    """

    Options: type[msgspec.Struct]
    build: Callable[..., Any]


def plugin_names(kind: PluginKind) -> tuple[str, ...]:
    """The parts of a kind, by `type:`, sorted. Imports none of them."""
    spec = importlib.util.find_spec(PLUGIN_PACKAGES[kind])
    if spec is None or spec.submodule_search_locations is None:
        return ()
    found = pkgutil.iter_modules(spec.submodule_search_locations)
    return tuple(sorted(entry.name for entry in found if not entry.name.startswith("_")))


def load_plugin(kind: PluginKind, name: str) -> PluginModule:
    """Import one part.

    Args:
        kind: `camera`, `backend` or `plclink`.
        name: Its `type:`.

    Raises:
        UsageError: There is no such part; those that exist are listed.
        InternalError: Its file does not expose `Options` and `build`.
        ImportError: Its file imports at its top what is not installed.
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
    """Why a part cannot be built on this machine; None if its packages are there."""
    try:
        module = load_plugin(kind, name)
    except ImportError as error:
        return f"cannot be imported: {error}"
    for package, extra in getattr(module, "REQUIRES", ()):
        if not is_installed(package):
            return f"{package} is not installed: pip install 'edgeinspect[{extra}]'"
    return None


def is_installed(package: str) -> bool:
    """True if a package could be imported. Imports its parents only."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    # A bare folder of that name on the path is a namespace package, not the library.
    return spec is not None and spec.origin is not None
