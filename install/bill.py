"""The bill of materials and licences of a line PC's environment.

    .venv/bin/python install/bill.py       CycloneDX 1.5, as JSON

It has no time and no random id: equal environments give equal bytes.
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

from requirements import required  # noqa: E402

from edgeinspect import __version__  # noqa: E402


def main() -> int:
    """Print the bill of materials."""
    argparse.ArgumentParser(description=__doc__, allow_abbrev=False).parse_args()
    print(bill(sorted(required())))
    return 0


def bill(names: Iterable[str]) -> str:
    """Return the bill of materials as JSON."""
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
    """Return name, version and licence of each distribution, for the package's copyright file."""
    rows = []
    for name in names:
        distribution = importlib.metadata.distribution(name)
        rows.append(f"  {name:<28} {distribution.version:<16} {licence(distribution)}")
    return "\n".join(rows)


def licence(distribution: Distribution) -> str:
    """Return a distribution's licence, from the newest metadata field that has it."""
    expression = distribution.metadata.get("License-Expression")
    if expression:
        return str(expression)
    classified = [
        text.rpartition(" :: ")[2]
        for text in distribution.metadata.get_all("Classifier") or ()
        if text.startswith("License :: OSI Approved :: ")
    ]
    if classified:
        return ", ".join(classified)
    text = str(distribution.metadata.get("License") or "").strip()
    return text.splitlines()[0][:60] if text else "see its folder"


def _component(distribution: Distribution) -> dict[str, Any]:
    name, version = distribution.metadata["Name"], distribution.version
    record = distribution.read_text("RECORD") or ""
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{version}",
        "licenses": [{"license": {"name": licence(distribution)}}],
        # Hash of the list of its files with their hashes, without files compiled here.
        "hashes": [{"alg": "SHA-256", "content": sha256(_shipped(record).encode()).hexdigest()}],
    }


def _shipped(record: str) -> str:
    lines = (line for line in record.splitlines() if ",sha256=" in line)
    return "\n".join(sorted(line for line in lines if not line.startswith("..")))


if __name__ == "__main__":
    sys.exit(main())
