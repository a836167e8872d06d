"""The licences of a line PC's libraries: SPDX expressions, full texts, what is inside wheels.

Fails on a distribution, or on a shared library inside one, whose licence is not known: what is
shipped is licensed by somebody, and this says by whom and under which terms.

Source: PEP 639 (licence expressions and files); https://spdx.org/licenses/.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path, PurePosixPath

TEXTS = Path(__file__).resolve().parent / "licences"
"""Texts that a distribution should have and has not."""

CLASSIFIERS = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
}
OLD_FIELD = {
    "MIT": "MIT",
    "Apache-2.0": "Apache-2.0",
    "MIT License": "MIT",
    "3-Clause BSD License": "BSD-3-Clause",
}
"""Values of the field `License`, which had no vocabulary."""
EVERYWHERE = "Apache-2.0"
"""Its text is the project's own LICENSE, for a distribution that has no file with it."""


@dataclass(frozen=True)
class Bundled:
    """A library inside a wheel."""

    pattern: str
    name: str
    licence: str
    source: str


BUNDLED = (
    Bundled(r"libav(codec|format|util)|libsw(resample|scale)", "FFmpeg", "LGPL-2.1-or-later", "https://ffmpeg.org/"),
    Bundled(r"lib(crypto|ssl)\b", "OpenSSL", "OpenSSL", "https://openssl-library.org/"),
    Bundled(r"libopenblas|libscipy_openblas", "OpenBLAS", "BSD-3-Clause", "https://www.openblas.net/"),
    Bundled(r"libgfortran", "GNU Fortran runtime", "GPL-3.0-or-later WITH GCC-exception-3.1", "https://gcc.gnu.org/"),
    Bundled(r"libquadmath", "GCC quad-precision library", "LGPL-2.1-or-later", "https://gcc.gnu.org/"),
    Bundled(r"libgomp|libstdc|libgcc", "GCC runtime", "GPL-3.0-or-later WITH GCC-exception-3.1", "https://gcc.gnu.org/"),
    Bundled(r"libzmq", "libzmq", "MPL-2.0", "https://github.com/zeromq/libzmq"),
    Bundled(r"libsodium", "libsodium", "ISC", "https://libsodium.org/"),
    Bundled(r"libaom", "libaom", "BSD-2-Clause", "https://aomedia.googlesource.com/aom"),
    Bundled(r"libavif", "libavif", "BSD-2-Clause", "https://github.com/AOMediaCodec/libavif"),
    Bundled(r"libvpx", "libvpx", "BSD-3-Clause", "https://www.webmproject.org/"),
    Bundled(r"libdrm", "libdrm", "MIT", "https://dri.freedesktop.org/"),
    Bundled(r"libpng", "libpng", "libpng-2.0", "http://www.libpng.org/"),
    Bundled(r"libtbb", "oneTBB", "Apache-2.0", "https://github.com/uxlfoundation/oneTBB"),
    Bundled(r"libhwloc", "hwloc", "BSD-3-Clause", "https://www.open-mpi.org/projects/hwloc/"),
    Bundled(r"certifi", "certifi, the list of certificate authorities", "MPL-2.0", "https://github.com/certifi/python-certifi"),
)  # fmt: skip
OWN_LIBRARIES = r"libopenvino|libonnxruntime"
"""Shared libraries that are the distribution itself."""
SOURCES = {
    "onnxruntime": "https://github.com/microsoft/onnxruntime",
    "openvino": "https://github.com/openvinotoolkit/openvino",
    "protobuf": "https://github.com/protocolbuffers/protobuf",
}
"""Of distributions whose metadata name another page."""
COPYLEFT = re.compile(r"\b(A?GPL|LGPL|MPL|EPL)-")


def licence(distribution: Distribution) -> str:
    """Return a distribution's SPDX expression, from the newest metadata field that has it."""
    metadata = distribution.metadata
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    field = str(metadata.get("License") or "").strip()
    if field in OLD_FIELD:
        return OLD_FIELD[field]
    classified = [
        CLASSIFIERS[text.rpartition(" :: ")[2]]
        for text in metadata.get_all("Classifier") or ()
        if text.rpartition(" :: ")[2] in CLASSIFIERS
    ]
    if not classified:
        sys.exit(
            f"licences: {metadata['Name']} {distribution.version} has no licence that is known "
            f"here ({field[:40]!r}): add it to install/licences.py"
        )
    return " AND ".join(classified)


def source(distribution: Distribution) -> str:
    """Return where a distribution's source is; empty if its metadata do not say."""
    if distribution.metadata["Name"] in SOURCES:
        return SOURCES[distribution.metadata["Name"]]
    labelled = (text.split(", ", 1) for text in distribution.metadata.get_all("Project-URL") or ())
    by_label = {label.lower(): address for label, address in labelled}
    for label in ("source", "source code", "repository", "github", "code", "homepage", "home"):
        if label in by_label:
            return by_label[label]
    return str(distribution.metadata.get("Home-page") or "")


def bundled(distribution: Distribution) -> list[Bundled]:
    """Return the libraries inside a distribution."""
    found = {}
    for file in distribution.files or ():
        part = _bundled_library(file)
        if part is None:
            continue
        known = next((each for each in BUNDLED if re.match(each.pattern, part)), None)
        if known is None:
            sys.exit(
                f"licences: {file} in {distribution.metadata['Name']} {distribution.version} is "
                "not known here: add it to install/licences.py"
            )
        found[known.name] = known
    return [found[name] for name in sorted(found)]


def texts(distribution: Distribution) -> Iterator[tuple[str, str]]:
    """Yield name and text of each licence file of a distribution."""
    name = distribution.metadata["Name"]
    seen = set()
    for file in sorted(distribution.files or (), key=str):
        if _is_text(file) and file.locate().is_file():
            text = Path(str(file.locate())).read_text(encoding="utf-8", errors="replace")
            if text not in seen:
                seen.add(text)
                yield str(PurePosixPath(*_after_metadata_folder(file.parts))), text
    supplement = TEXTS / f"{name}.txt"
    if supplement.exists():
        yield "LICENSE", supplement.read_text(encoding="utf-8")
    elif not seen:
        if licence(distribution) != EVERYWHERE:
            sys.exit(
                f"licences: {name} {distribution.version} has no file with its licence: add "
                f"install/licences/{name}.txt"
            )
        yield "LICENSE", (TEXTS.parents[1] / "LICENSE").read_text(encoding="utf-8")


def table(distributions: Iterable[Distribution]) -> str:
    """Return name, version, licence and source of each distribution and of what is inside."""
    rows = []
    for each in distributions:
        name = each.metadata["Name"]
        rows.append(f"{name} {each.version}: {licence(each)}\n    source: {source(each)}\n")
        rows += [
            f"    contains {part.name}: {part.licence}, {part.source}\n" for part in bundled(each)
        ]
    return "".join(rows)


def copyleft(distributions: Iterable[Distribution]) -> str:
    """Return the parts under a licence that gives whoever receives them a right to their source."""
    rows = []
    for each in distributions:
        if COPYLEFT.search(licence(each)):
            rows.append(f"- {each.metadata['Name']} ({licence(each)}): {source(each)}\n")
        rows += [
            f"- {part.name} ({part.licence}), in {each.metadata['Name']}: {part.source}\n"
            for part in bundled(each)
            if COPYLEFT.search(part.licence)
        ]
    return "".join(rows)


def _bundled_library(file: PurePosixPath) -> str | None:
    """Return the name of a library of somebody else, if this file is one."""
    if file.parts[-2:] == ("certifi", "cacert.pem"):
        return "certifi"
    is_library = re.search(r"\.so(\.[\w.]+)?$", file.name) and file.name.startswith("lib")
    if not is_library or re.match(OWN_LIBRARIES, file.name):
        return None
    return file.name


def _is_text(file: PurePosixPath) -> bool:
    name = file.name.lower()
    in_metadata = file.parts[0].endswith(".dist-info")
    listed = in_metadata and "licenses" in file.parts
    named = name.startswith(("licen", "copying", "notice", "thirdparty", "third-party"))
    return listed or (named and file.suffix in ("", ".txt", ".md"))


def _after_metadata_folder(parts: tuple[str, ...]) -> tuple[str, ...]:
    kept = parts[1:] if parts[0].endswith(".dist-info") else parts
    return kept[1:] if kept[0] == "licenses" else kept
