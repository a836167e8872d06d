"""Import of an ONNX network from another tool: interpret, convert, verify, install.

Source: docs/howto/models.md
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.domain import model_outputs
from edgeinspect.errors import EdgeInspectError, ModelError
from edgeinspect.learning.onnx_graphs.graph import error_text, opset_version, serialize_model
from edgeinspect.learning.onnx_graphs.importer.contract_graph import build_contract_graph
from edgeinspect.learning.onnx_graphs.importer.examination import examine_model
from edgeinspect.learning.onnx_graphs.importer.foreign_file import load_foreign_model
from edgeinspect.learning.onnx_graphs.importer.installation import (
    graph_precision,
    install_version,
    model_card,
    next_version_folder,
)
from edgeinspect.learning.onnx_graphs.importer.request import ImportRequest, kind_indices
from edgeinspect.learning.onnx_graphs.importer.samples import read_samples
from edgeinspect.learning.onnx_graphs.importer.unsupported_models import check_not_detector
from edgeinspect.learning.onnx_graphs.importer.verification import (
    EquivalenceReport,
    verify_equivalence,
)
from edgeinspect.learning.onnx_graphs.manifest import graph_metadata, set_metadata
from edgeinspect.learning.onnx_graphs.session import open_session


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The installed version and the inferred facts."""

    folder: Path
    notes: tuple[str, ...]
    """What was inferred from the graph rather than specified."""
    equivalence: EquivalenceReport


def import_model(
    request: ImportRequest,
    store: Path,
    name: str,
    samples: Path,
    *,
    version: int | None = None,
    max_samples: int = 16,
) -> ImportResult:
    """Import a foreign network into a store; on an error leave the store unchanged.

    Args:
        request: What the user specified.
        store: Folder of the store; created if absent.
        name: The model's name in the store.
        samples: Folder of images for the verification.
        version: Version to write; the next free one when None.
        max_samples: Images to use, evenly spread over the folder.

    Raises:
        UsageError: An option is missing, or contradicts another one or the graph.
        DataError: There are no samples.
        ModelError: The file cannot be used, or the result disagrees with it.
        OutputError: The store cannot be written.
        MissingExtraError: onnx or ONNX Runtime is not installed.
    """
    request.validate()
    folder = next_version_folder(store, name, version)
    with _library_errors_as_model_error(str(request.file)):
        return _import_into(request, folder, samples, max_samples)


@contextmanager
def _library_errors_as_model_error(where: str) -> Iterator[None]:
    """Convert any library error to a ModelError: a foreign graph may contain anything."""
    try:
        yield
    except (EdgeInspectError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(
            f"its graph cannot be used: {type(error).__name__}: {error_text(error)}",
            where=where,
            remedy="Export it again with standard operators and fixed shapes",
        ) from error


def _import_into(request: ImportRequest, folder: Path, samples: Path, most: int) -> ImportResult:
    model = load_foreign_model(request.file)
    check_not_detector(model, request)
    frames = read_samples(samples, request, most)
    notes, raw_outputs, reading = examine_model(model, request, frames)
    built = build_contract_graph(model, request, reading)
    card = model_card(request, folder, raw_outputs, kind_indices(request, reading.output_spec))
    color = "mono" if request.channels == 1 else request.frame_color
    metadata = graph_metadata(request.kind, card, color, reading.output_spec.stride)
    set_metadata(built, metadata)
    data = serialize_model(built)
    session = open_session(data, str(request.file))
    names = model_outputs(request.kind, card.contract)
    report = verify_equivalence(session, names, frames, raw_outputs, request, reading)
    _check_not_uniform(report, request)
    custom_domains = sorted({entry.domain for entry in built.opset_import} - {"", "ai.onnx"})
    if custom_domains:
        notes.append(f"operators of {', '.join(custom_domains)}: other backends may refuse them")
    install_version(
        folder, data, card, metadata, opset_version(built), request, graph_precision(built)
    )
    return ImportResult(folder, tuple(notes), report)


def _check_not_uniform(report: EquivalenceReport, request: ImportRequest) -> None:
    if report.uniform_result and not request.allow_uniform:
        raise ModelError(
            f"gives {report.uniform_result} ({report.sample_count}): it separates nothing",
            where=str(request.file),
            remedy="Correct --scale, --mean, --std, --activation or the index; give --samples with "
            "good and defective parts; or accept it with --allow-uniform",
        )
