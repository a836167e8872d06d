"""The messages that stand in docs/reference/wire.md: one of every kind."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec

_PATH = Path(__file__).resolve().parents[2] / "docs" / "wire_examples.py"
_SPEC = importlib.util.spec_from_file_location("wire_examples", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)

EXAMPLES: dict[str, msgspec.Struct] = _MODULE.EXAMPLES
