"""Import of an ONNX network from another tool: interpret, convert, verify, install.

Source: docs/howto/models.md
"""

from __future__ import annotations

import datetime
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import (
    BASE_CONTRACT,
    EXTENDED_CONTRACT,
    Decides,
    ModelKind,
    Pixels,
    model_outputs,
)
from edgeinspect.errors import DataError, EdgeInspectError, ModelError, OutputError, UsageError
from edgeinspect.imaging import IMAGE_SUFFIXES, letterbox_image, load_declaration, read_image
from edgeinspect.learning.datasets import find_bit_depth
from edgeinspect.learning.onnx_graphs.graph import (
    copy_model,
    error_text,
    opset_version,
    serialize_model,
)
from edgeinspect.learning.onnx_graphs.importer.contract_graph import (
    FOREIGN_PREFIX,
    RESIZE_MODE_OPSET,
    build_contract_graph,
)
from edgeinspect.learning.onnx_graphs.importer.foreign_file import load_foreign_model
from edgeinspect.learning.onnx_graphs.importer.inputs import find_input
from edgeinspect.learning.onnx_graphs.importer.outputs import choose_output, interpret_output
from edgeinspect.learning.onnx_graphs.importer.request import (
    GraphInterpretation,
    ImportRequest,
    InputSpec,
    UndeterminedOptionError,
    kind_indices,
)
from edgeinspect.learning.onnx_graphs.importer.unsupported_models import (
    IMAGE_SIDES,
    all_nodes,
    check_map_proportions,
    check_not_detector,
    invert_half,
    raise_not_spatial,
    responds_locally,
)
from edgeinspect.learning.onnx_graphs.importer.verification import (
    EquivalenceReport,
    prepare_input,
    verify_equivalence,
)
from edgeinspect.learning.onnx_graphs.manifest import (
    ModelCard,
    graph_metadata,
    set_metadata,
    write_manifest,
)
from edgeinspect.learning.onnx_graphs.session import open_session, run_session
from edgeinspect.storage.model_store import (
    MANIFEST_FILE,
    ModelVersions,
    check_lineage,
    read_manifest,
    read_model,
)
from edgeinspect.system import escape_name, sha256_of

if TYPE_CHECKING:
    import onnx

_QUANTIZED_OPS = frozenset(
    (
        "QuantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
    )
)


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
    folder = _next_version_folder(store, name, version)
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
    notes, raw_outputs, reading = _examine(model, request, frames)
    built = build_contract_graph(model, request, reading)
    card = _model_card(request, folder, raw_outputs, kind_indices(request, reading.output_spec))
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
    _install(folder, data, card, metadata, opset_version(built), request, _precision(built))
    return ImportResult(folder, tuple(notes), report)


def _examine(
    model: onnx.ModelProto, request: ImportRequest, frames: list[tuple[str, Pixels]]
) -> tuple[list[str], list[NDArray[Any]], GraphInterpretation]:
    """Interpret the graph, and ask for all options that it leaves open at once.

    Returns:
        What was found, the outputs on the samples, and the interpretation.

    Raises:
        UsageError: One or more options are missing.
        EdgeInspectError: The graph cannot be used.
    """
    missing: dict[str, UndeterminedOptionError] = {}
    while True:
        notes: list[str] = []
        try:
            input_spec = find_input(model, request, notes)
            notes += _opset_notes(model)
            outputs, reading = _interpret(model, request, input_spec, frames, notes)
        except UndeterminedOptionError as error:
            if error.remedy in missing:
                break
            missing[error.remedy] = error
            assumed: Any = error.assumed
            request = replace(request, **assumed)
            continue
        except EdgeInspectError:
            if not missing:
                raise
            break  # perhaps an assumption is wrong
        if not missing:
            return notes, outputs, reading
        break
    first, *others = missing.values()
    if not others:
        raise first
    raise UsageError(
        "; ".join(each.what for each in missing.values()),
        where=str(request.file),
        remedy=". ".join(missing),
    )


def _opset_notes(model: onnx.ModelProto) -> Iterator[str]:
    ops = {node.op_type for node in all_nodes(model.graph)}
    if (opset := opset_version(model)) < RESIZE_MODE_OPSET and ops & {"Upsample", "Resize"}:
        yield (
            f"opset {opset} does not state the resize mode, and the exporter may have meant "
            "another: export it at opset 11 or later (or run onnx.version_converter), and compare"
        )


def _check_not_uniform(report: EquivalenceReport, request: ImportRequest) -> None:
    if report.uniform_result and not request.allow_uniform:
        raise ModelError(
            f"gives {report.uniform_result} ({report.sample_count}): it separates nothing",
            where=str(request.file),
            remedy="Correct --scale, --mean, --std, --activation or the index; give --samples with "
            "good and defective parts; or accept it with --allow-uniform",
        )


def read_samples(
    folder: Path, request: ImportRequest, max_samples: int
) -> list[tuple[str, Pixels]]:
    """Return names and frames uint8 (H, W, C) of images, letterboxed if of another size.

    Raises:
        DataError: The folder does not exist, or contains no readable image.
    """
    if not folder.is_dir():
        raise DataError(
            "there is no such folder",
            where=str(folder),
            remedy="Name a folder of images with --samples",
        )
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    depth = find_bit_depth(files, load_declaration(folder), escape_name(folder))
    if len(files) > max_samples:
        files = [
            files[round(i * (len(files) - 1) / max(1, max_samples - 1))] for i in range(max_samples)
        ]
    color = "mono" if request.channels == 1 else request.frame_color
    reading, frames, first_error = depth.read_settings(color), [], None
    for path in files:
        try:
            image = read_image(path, reading)
        except DataError as error:
            first_error = first_error or error
            continue
        frame, _scale, _left, _top = letterbox_image(image, request.height_px, request.width_px)
        frames.append((escape_name(path.relative_to(folder)), np.ascontiguousarray(frame)))
    if not frames:
        raise DataError(
            "contains no readable image" + (f"; the first: {first_error}" if first_error else ""),
            where=str(folder),
            remedy="The import is verified on images: give some",
        )
    return frames


def _interpret(
    model: onnx.ModelProto,
    request: ImportRequest,
    input_spec: InputSpec,
    frames: list[tuple[str, Pixels]],
    notes: list[str],
) -> tuple[list[NDArray[Any]], GraphInterpretation]:
    """Run the foreign graph on every sample and interpret its output."""
    where = str(request.file)
    session = open_session(model.SerializeToString(), where)
    names = [value.name for value in session.get_outputs()]
    first = {input_spec.name: prepare_input(frames[0][1], request, input_spec)}
    outputs = zip(names, run_session(session, first, None, where), strict=True)
    values = {name: value for name, value in outputs if isinstance(value, np.ndarray)}
    name, is_intermediate = choose_output(model, request, values, notes)
    if is_intermediate:
        session = open_session(_expose_output(model, name), where)
    first_value = values.get(name)
    if request.kind is ModelKind.SEGMENTER and first_value is not None and first_value.ndim == 3:
        check_map_proportions(name, first_value.shape, first_value.shape[1:], request, input_spec)
        for side in IMAGE_SIDES:
            other = {input_spec.name: invert_half(first[input_spec.name], input_spec.layout, side)}
            changed = run_session(session, other, [name], where)[0]
            if not responds_locally(first_value, changed, side):
                raise_not_spatial(name, first_value.shape, request)
    raw_outputs = []
    for _sample, pixels in frames:
        given = {input_spec.name: prepare_input(pixels, request, input_spec)}
        raw_outputs.append(run_session(session, given, [name], where)[0])
    output_spec = interpret_output(model, request, input_spec, name, raw_outputs, notes)
    return raw_outputs, GraphInterpretation(input_spec, output_spec, tuple(notes))


def _expose_output(model: onnx.ModelProto, name: str) -> bytes:
    """Return the graph with one more output."""
    import onnx

    copy = copy_model(model)
    copy.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return serialize_model(copy)


def _model_card(
    request: ImportRequest, folder: Path, raw_outputs: list[NDArray[Any]], kinds: Sequence[int]
) -> ModelCard:
    gate_classes = tuple(request.classes[i] for i in kinds) or ("defect",)
    digest = sha256_of(request.file)
    specified = {
        "file": request.file.name,
        "sha256": digest,
        "scale": request.scale,
        "mean": [float(value) for value in request.mean],
        "std": [float(value) for value in request.std],
        "color": request.color,
        "good_index": request.good_index,
        "defect_index": request.defect_index,
        "outputs": list(request.classes) if request.kind is ModelKind.GATE else None,
        "thresholds": list(request.thresholds) if request.kind is ModelKind.SEGMENTER else None,
        "samples": len(raw_outputs),
    }
    return ModelCard(
        name=folder.parent.name,
        version=int(folder.name),
        classes=gate_classes if request.kind is ModelKind.GATE else tuple(request.classes),
        run=f"import-{digest[:12]}",
        thresholds={},
        training={
            "run": f"import-{digest[:12]}",
            "imported": {key: value for key, value in specified.items() if value is not None},
        },
        accuracy={},
        created=datetime.date.today().isoformat(),
        contract=EXTENDED_CONTRACT if kinds else BASE_CONTRACT,
        decides=Decides.KINDS if request.kinds_only else Decides.DEFECTS,
    )


def _next_version_folder(store: Path, name: str, version: int | None) -> Path:
    """Return the folder of the new version.

    Raises:
        UsageError: The name is invalid.
        OutputError: The version exists.
    """
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_"
    if not name or len(name) > 64 or name[0] in "-_" or set(name) - set(allowed):
        raise UsageError(
            f"'{name}' is not a valid model name",
            where="--name",
            remedy="Use lower-case letters, digits, - and _",
        )
    existing = [int(path.name) for path in (store / name).glob("*") if path.name.isdecimal()]
    if version is None:
        version = max(existing, default=0) + 1
    elif version in existing:
        raise OutputError(
            f"{name}/{version} exists already",
            where="--version",
            remedy="Leave --version out for the next free one",
        )
    return store / name / str(version)


def _precision(model: onnx.ModelProto) -> str:
    """Return the type of most of the arithmetic, by operators and weights."""
    import onnx

    if any(node.op_type in _QUANTIZED_OPS for node in model.graph.node):
        return "int8"
    constants = [
        attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    sizes = {onnx.TensorProto.FLOAT: 0, onnx.TensorProto.FLOAT16: 0}
    for tensor in model.graph.initializer:
        if tensor.data_type in sizes and tensor.name.startswith(
            FOREIGN_PREFIX
        ):  # ours do not count
            sizes[tensor.data_type] += int(np.prod(tensor.dims, dtype=np.int64))
    for tensor in constants:
        if tensor.data_type in sizes:
            sizes[tensor.data_type] += int(np.prod(tensor.dims, dtype=np.int64))
    return "fp16" if sizes[onnx.TensorProto.FLOAT16] > sizes[onnx.TensorProto.FLOAT] else "fp32"


def _install(
    folder: Path,
    data: bytes,
    card: ModelCard,
    metadata: dict[str, str],
    opset: int,
    request: ImportRequest,
    precision: str,
) -> None:
    """Write graph and manifest into a temporary folder, read them as a line does, then rename it.

    Raises:
        ModelError: A line would reject the version, or it is another model than those of its name.
        OutputError: The store cannot be written.
    """
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".import-", dir=folder.parent))
        temporary.chmod(0o755)  # mkdtemp makes 0700; the line may run as another user
        path = temporary / "model.onnx"
        path.write_bytes(data)
        dims = (request.height_px, request.width_px, request.channels)
        write_manifest(temporary, path, card, metadata, opset, dims, precision=precision)
        read_model(temporary)
        if not request.replaces_lineage:
            check_lineage(ModelVersions(folder.parent), read_manifest(temporary / MANIFEST_FILE))
        temporary.rename(folder)
    except OSError as error:
        raise OutputError(
            f"cannot be written: {error.strerror}", where=str(folder), remedy="Nothing was changed"
        ) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
