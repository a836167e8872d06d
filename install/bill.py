"""The bill of materials of a line PC's environment: CycloneDX 1.6, as JSON.

    .venv/bin/python install/bill.py

It has no time and no random id: equal environments give equal bytes. Written here and not by
cyclonedx-python-lib, which the environment of a line PC would then have to have; the tests
validate it with that library against the schema.

Source: https://cyclonedx.org/docs/1.6/json/; https://github.com/package-url/purl-spec.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterable
from hashlib import sha256
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "install"))

import licences  # noqa: E402
from requirements import TOOLS, own_requirements, required  # noqa: E402

from edgeinspect import __version__  # noqa: E402


def main() -> int:
    """Print the bill of materials."""
    argparse.ArgumentParser(description=__doc__, allow_abbrev=False).parse_args()
    print(bill(importlib.metadata.distribution(name) for name in required()))
    return 0


def bill(distributions: Iterable[Distribution]) -> str:
    """Return the bill of materials of these distributions as JSON."""
    by_name = {normalised(each.metadata["Name"]): each for each in distributions}
    by_name.pop("edgeinspect", None)
    names = sorted(by_name)
    reference = {name: f"pkg:pypi/{name}@{by_name[name].version}" for name in names}
    own = f"pkg:pypi/edgeinspect@{__version__}"
    requirements = {own: {normalised(text) for text in (*own_requirements(), *TOOLS)}}
    for name in names:
        texts = by_name[name].requires or ()
        requirements[reference[name]] = {
            normalised(text) for text in texts if "extra ==" not in text
        }
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": "edgeinspect",
                "version": __version__,
                "purl": own,
                "licenses": [{"expression": "Apache-2.0"}],
            }
        },
        "components": [component(by_name[name], reference[name]) for name in names],
        "dependencies": [
            {"ref": each, "dependsOn": [reference[name] for name in names if name in wanted]}
            for each, wanted in requirements.items()
        ],
    }
    return json.dumps(document, indent=1)


def component(distribution: Distribution, reference: str) -> dict[str, Any]:
    """Return the entry of one distribution, with the libraries inside it."""
    entry: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference,
        "name": distribution.metadata["Name"],
        "version": distribution.version,
        "purl": reference,
        "licenses": [{"expression": licences.licence(distribution)}],
        # Of the list of its files with their hashes, without files that an installation makes.
        "properties": [{"name": "edgeinspect:record-sha256", "value": record_hash(distribution)}],
    }
    source = licences.source(distribution)
    if source:
        entry["externalReferences"] = [
            {"type": "vcs" if "git" in source else "website", "url": source}
        ]
    inside = [
        {
            "type": "library",
            "bom-ref": f"{reference}#{part.name}",
            "name": part.name,
            "licenses": [{"expression": part.licence}],
            "externalReferences": [{"type": "website", "url": part.source}],
        }
        for part in licences.bundled(distribution)
    ]
    return entry | ({"components": inside} if inside else {})


def record_hash(distribution: Distribution) -> str:
    """Return a hash over what a wheel contains, the same in every environment."""
    lines = (distribution.read_text("RECORD") or "").splitlines()
    made = re.compile(r"\.\./|[^,]*\.dist-info/(INSTALLER|REQUESTED|direct_url\.json),")
    shipped = sorted(line for line in lines if ",sha256=" in line and not made.match(line))
    return sha256("\n".join(shipped).encode()).hexdigest()


def normalised(requirement: str) -> str:
    """Return the name in a requirement, as the package index writes it."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else requirement


if __name__ == "__main__":
    sys.exit(main())
