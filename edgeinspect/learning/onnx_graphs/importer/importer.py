"""A foreign ONNX network becomes a model of ours, and is proved equal on samples.

Reading (`importing_source`, `importing_outcome`), writing (`importing_graph`) and proof
(`importing_proof`) are apart; this module is their order. Source: docs/models.md
"""

from __future__ import annotations

import datetime
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelKind, Pixels
from edgeinspect.errors import DataError, EdgeInspectError, ModelError, StorageError, UsageError
from edgeinspect.imaging import IMAGE_SUFFIXES, load_declaration, read_image
from edgeinspect.imaging.letterbox import letterbox
from edgeinspect.learning.datasets import find_bit_depth
from edgeinspect.learning.onnx_graphs.importer.contract_graph import (
    FOREIGN_PREFIX,
    RESIZE_MODE_OPSET,
    build_contract_graph,
)
from edgeinspect.learning.onnx_graphs.importer.inputs import (
    find_input,
    load_foreign_model,
    open_session,
    opset_of,
    run_session,
)
from edgeinspect.learning.onnx_graphs.importer.model_kind import (
    IMAGE_SIDES,
    all_nodes,
    check_map_proportions,
    check_not_detector,
    invert_half,
    raise_not_spatial,
    responds_locally,
)
from edgeinspect.learning.onnx_graphs.importer.outputs import choose_output, interpret_output
from edgeinspect.learning.onnx_graphs.importer.request import (
    GraphInterpretation,
    ImportRequest,
    InputSpec,
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
from edgeinspect.storage.model_store import read_model
from edgeinspect.system import escape_name, sha256_of

if TYPE_CHECKING:
    import onnx

CONTRACT_OUTPUTS = {
    ModelKind.GATE: ("defect_prob",),
    ModelKind.SEGMENTER: ("class_map", "class_area_px", "class_score"),
}


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
    """What came of an import."""

    folder: Path
    notes: tuple[str, ...]
    """What was found in the graph rather than told."""
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
    """Import a foreign network into a store, or leave the store as it was.

    Args:
        request: What is known of it.
        store: Folder of the store; made if absent.
        name: The model's name in it.
        samples: Folder of pictures, for the proof.
        version: To write; the next free one when None.
        most: Pictures of it to use, evenly spread.

    Raises:
        UsageError: An option is missing or contradicts another or the graph.
        DataError: There are no samples.
        ModelError: The file cannot be used, or the result disagrees with it.
        StorageError: The store cannot be written.
        MissingExtraError: onnx or ONNX Runtime is not installed.
    """
    request.validate()
    folder = _next_version_folder(store, name, version)
    with _library_errors_as_model_error(str(request.file)):
        return _import_into(request, folder, samples, max_samples)


@contextmanager
def _library_errors_as_model_error(where: str) -> Iterator[None]:
    """Whatever a library makes of a foreign graph is one error: a graph can hold anything."""
    try:
        yield
    except (EdgeInspectError, MemoryError):
        raise
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(
            f"its graph cannot be used: {words[:240]}",
            where=where,
            remedy="Export it again with standard operators and fixed shapes",
        ) from error


def _import_into(request: ImportRequest, folder: Path, samples: Path, most: int) -> ImportResult:
    model = load_foreign_model(request.file)
    check_not_detector(model, request)
    findings: list[str] = []
    intake = find_input(model, request, findings)
    frames = read_samples(samples, request, most)
    ops = {node.op_type for node in all_nodes(model.graph)}
    if (opset := opset_of(model)) < RESIZE_MODE_OPSET and ops & {"Upsample", "Resize"}:
        findings.append(
            f"opset {opset} cannot say how it resizes, and the exporter may have meant otherwise: "
            "export it at opset 11 or later (or run onnx.version_converter), and compare"
        )
    raws, reading = _interpret(model, request, intake, frames, findings)
    built = build_contract_graph(model, request, reading)
    card = _model_card(request, folder, raws)
    color = "mono" if request.channels == 1 else request.frame_color
    metadata = graph_metadata(request.kind, card, color, reading.output_spec.stride)
    set_metadata(built, metadata)
    data = built.SerializeToString(deterministic=True)
    session = open_session(data, str(request.file))
    proof = verify_equivalence(
        session, CONTRACT_OUTPUTS[request.kind], frames, raws, request, reading
    )
    _check_not_uniform(proof, request)
    foreign = sorted({entry.domain for entry in built.opset_import} - {"", "ai.onnx"})
    if foreign:
        findings.append(f"operators of {', '.join(foreign)}: other backends may refuse them")
    _install(folder, data, card, metadata, opset_of(built), request, _precision(built))
    return ImportResult(folder, tuple(findings), proof)


def _check_not_uniform(proof: EquivalenceReport, request: ImportRequest) -> None:
    if proof.uniform_result and not request.allow_uniform:
        raise ModelError(
            f"says {proof.uniform_result} ({proof.sample_count}): it tells no parts apart",
            where=str(request.file),
            remedy="Correct --scale, --mean, --std, --activation or the index; give --samples with "
            "good and defective parts; or take it as it is with --allow-uniform",
        )


def read_samples(
    folder: Path, request: ImportRequest, max_samples: int
) -> list[tuple[str, Pixels]]:
    """Names and frames uint8 (H, W, C) of pictures, letterboxed where they have another size.

    Raises:
        DataError: There is no such folder, or no picture in it can be read.
    """
    if not folder.is_dir():
        raise DataError(
            "there is no such folder",
            where=str(folder),
            remedy="Name a folder of pictures with --samples",
        )
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    depth = find_bit_depth(files, load_declaration(folder), escape_name(folder))
    if len(files) > max_samples:
        files = [
            files[round(i * (len(files) - 1) / max(1, max_samples - 1))] for i in range(max_samples)
        ]
    color = "mono" if request.channels == 1 else request.frame_color
    reading, frames, broken = depth.read_settings(color), [], None
    for path in files:
        try:
            picture = read_image(path, reading)
        except DataError as error:
            broken = broken or error
            continue
        frame, _scale, _left, _top = letterbox(picture, request.height_px, request.width_px)
        frames.append((escape_name(path.relative_to(folder)), np.ascontiguousarray(frame)))
    if not frames:
        raise DataError(
            "holds no picture that can be read" + (f"; the first: {broken}" if broken else ""),
            where=str(folder),
            remedy="Equality is proved on pictures: give some",
        )
    return frames


def _interpret(
    model: onnx.ModelProto,
    request: ImportRequest,
    intake: InputSpec,
    frames: list[tuple[str, Pixels]],
    findings: list[str],
) -> tuple[list[NDArray[Any]], GraphInterpretation]:
    """Run the foreign graph on every sample and read what it gives."""
    where = str(request.file)
    session = open_session(model.SerializeToString(), where)
    names = [value.name for value in session.get_outputs()]
    first = {intake.name: prepare_input(frames[0][1], request, intake)}
    given_back = zip(names, run_session(session, first, None, where), strict=True)
    values = {name: value for name, value in given_back if isinstance(value, np.ndarray)}
    chosen = choose_output(model, request, values, findings)
    if chosen[1]:
        session = open_session(_expose_output(model, chosen[0]), where)
    first_value = values.get(chosen[0])
    if request.kind is ModelKind.SEGMENTER and first_value is not None and first_value.ndim == 3:
        check_map_proportions(chosen[0], first_value.shape, first_value.shape[1:], request, intake)
        for side in IMAGE_SIDES:
            other = {intake.name: invert_half(first[intake.name], intake.layout, side)}
            changed = run_session(session, other, [chosen[0]], where)[0]
            if not responds_locally(first_value, changed, side):
                raise_not_spatial(chosen[0], first_value.shape, request)
    raws = []
    for _name, pixels in frames:
        given = {intake.name: prepare_input(pixels, request, intake)}
        raws.append(run_session(session, given, [chosen[0]], where)[0])
    outcome = interpret_output(model, request, intake, chosen, raws, findings)
    return raws, GraphInterpretation(intake, outcome, tuple(findings))


def _expose_output(model: onnx.ModelProto, name: str) -> bytes:
    """The graph with one more output."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return bytes(copy.SerializeToString())


def _model_card(request: ImportRequest, folder: Path, raws: list[NDArray[Any]]) -> ModelCard:
    digest = sha256_of(request.file)
    asked = {
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
        "samples": len(raws),
    }
    return ModelCard(
        name=folder.parent.name,
        version=int(folder.name),
        classes=("defect",) if request.kind is ModelKind.GATE else tuple(request.classes),
        run=f"import-{digest[:12]}",
        thresholds={},
        training={
            "run": f"import-{digest[:12]}",
            "imported": {key: value for key, value in asked.items() if value is not None},
        },
        accuracy={},
        created=datetime.date.today().isoformat(),
    )


def _next_version_folder(store: Path, name: str, version: int | None) -> Path:
    """Where the model will stand.

    Raises:
        UsageError: The name cannot be used, or the version is taken.
    """
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_"
    if not name or len(name) > 64 or name[0] in "-_" or set(name) - set(allowed):
        raise UsageError(
            f"'{name}' is no model's name",
            where="--name",
            remedy="Use small letters, digits, - and _",
        )
    taken = [int(path.name) for path in (store / name).glob("*") if path.name.isdecimal()]
    if version is None:
        version = max(taken, default=0) + 1
    elif version in taken:
        raise UsageError(
            f"{name}/{version} is there already",
            where="--version",
            remedy="Leave --version out for the next free one",
        )
    return store / name / str(version)


def _precision(model: onnx.ModelProto) -> str:
    """What most of the arithmetic runs in, by the operators and the weights."""
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
        ):  # ours says nothing
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
    """Write graph and manifest beside their place, read them as a line would, then move.

    Raises:
        ModelError: A line would refuse it.
        StorageError: It cannot be written.
    """
    beside: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".import-", dir=folder.parent))
        beside.chmod(0o755)  # as mkdir makes it; the line may be another user
        path = beside / "model.onnx"
        path.write_bytes(data)
        dims = (request.height_px, request.width_px, request.channels)
        write_manifest(beside, path, card, metadata, opset, dims, precision=precision)
        read_model(beside)
        beside.rename(folder)
    except OSError as error:
        raise StorageError(
            f"cannot be written: {error.strerror}", where=str(folder), remedy="Nothing was changed"
        ) from error
    finally:
        if beside is not None and beside.exists():
            shutil.rmtree(beside, ignore_errors=True)
