"""What a line PC's environment consists of: a bill of materials, licences, and exact versions.

    .venv/bin/python install/bill.py                  CycloneDX 1.5, as JSON
    .venv/bin/python install/bill.py --constraints    the versions, for install/constraints.txt

No time and no random id stands in it: equal environments give equal bytes.
Source: https://cyclonedx.org/docs/1.5/json/; PEP 639 (licence expressions).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Iterable
from hashlib import sha256
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "install"))

from requirements import TOOLS, required  # noqa: E402

from edgeinspect import __version__  # noqa: E402


def main() -> int:
    """Print the one or the other."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--constraints", action="store_true")
    wanted = parser.parse_args()
    names = sorted(required())
    print("\n".join(constraints(names)) if wanted.constraints else bill(names))
    return 0


def constraints(names: Iterable[str]) -> list[str]:
    """`name==version` of each distribution of this environment."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in names if name not in TOOLS]


def bill(names: Iterable[str]) -> str:
    """The bill of materials as JSON."""
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "name": "edgeinspect", "version": __version__}
        },
        "components": [_component(importlib.metadata.distribution(name)) for name in names],
    }
    return json.dumps(document, indent=1)


def licence_table(names: Iterable[str]) -> str:
    """Name, version and licence of each distribution, for the package's copyright file."""
    rows = []
    for name in names:
        found = importlib.metadata.distribution(name)
        rows.append(f"  {name:<28} {found.version:<16} {licence(found)}")
    return "\n".join(rows)


def licence(found: Distribution) -> str:
    """A distribution's licence in a line, from the newest field that says it."""
    said = found.metadata.get("License-Expression")
    if said:
        return str(said)
    classified = [
        text.rpartition(" :: ")[2]
        for text in found.metadata.get_all("Classifier") or ()
        if text.startswith("License :: OSI Approved :: ")
    ]
    if classified:
        return ", ".join(classified)
    text = str(found.metadata.get("License") or "").strip()
    return text.splitlines()[0][:60] if text else "see its folder"


def _component(found: Distribution) -> dict[str, Any]:
    name, version = found.metadata["Name"], found.version
    record = found.read_text("RECORD") or ""
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{version}",
        "licenses": [{"license": {"name": licence(found)}}],
        # Of the list of its files with their hashes, without what was compiled here.
        "hashes": [{"alg": "SHA-256", "content": sha256(_shipped(record).encode()).hexdigest()}],
    }


def _shipped(record: str) -> str:
    lines = (line for line in record.splitlines() if ",sha256=" in line)
    return "\n".join(sorted(line for line in lines if not line.startswith("..")))


if __name__ == "__main__":
    sys.exit(main())
