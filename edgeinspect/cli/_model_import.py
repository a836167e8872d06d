"""`edgeinspect models import`: bring a model from another tool into the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeinspect.cli._command import Command, Option
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._model_options import REPLACES_LINEAGE_OPTION
from edgeinspect.cli._options import NEW_STORE, parse_size
from edgeinspect.cli._paths import IMAGES_FOLDER, ONNX_FILE
from edgeinspect.cli._ranges import FiniteRange, IntRange
from edgeinspect.cli._results.models import ModelImport
from edgeinspect.cli._tables import format_number_of, print_text
from edgeinspect.cli._terminal import echo
from edgeinspect.errors import UsageError
from edgeinspect.system import is_short_decimal

_ORDER = click.Choice(["bgr", "rgb"])
_LAYOUT = click.Choice(["nchw", "nhwc"])
_MAX_SIDE_PX = 65_536


class _ImportCommand(Command):
    def missing_parameters(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Return what every network needs, and what a segmenter needs besides."""
        missing = super().missing_parameters(ctx, args)
        given, _rest, _order = self.make_parser(ctx).parse_args(args=list(args))
        if given.get("kind") == "segmenter" and not isinstance(given.get("classes"), str):
            missing.append("--classes A,B,C")
        return missing


@click.command(
    "import",
    cls=_ImportCommand,
    examples=[
        (
            "Import a classifier whose output 1 is good",
            "edgeinspect models import net.onnx --kind gate --name castings --size 300x300 "
            "--channels 1 --good-index 1 --samples pictures",
        ),
    ],
    renamed={"--layout": "--input-layout LAYOUT"},
)
@click.argument("file", metavar="ONNX_FILE", type=ONNX_FILE)
@click.option(
    "--kind",
    required=True,
    type=click.Choice(["gate", "segmenter"]),
    help="gate: classifies whole frames; segmenter: classifies pixels.",
)
@click.option("--name", metavar="NAME", required=True, help="The model's name in the store.")
@click.option(
    "--version",
    metavar="N",
    type=IntRange(1),
    help="Version number; the next free one by default.",
)
@click.option("--size", required=True, metavar="HxW", help="Size of the line's frames.")
@click.option(
    "--channels",
    required=True,
    type=click.Choice(["1", "3"]),
    help="Channels of the line's frames: 1 grey, 3 colour.",
)
@click.option(
    "--samples",
    required=True,
    metavar="FOLDER",
    type=IMAGES_FOLDER,
    help="Images on which both graphs must agree.",
)
@NEW_STORE
@click.option(
    "--input-layout",
    "layout",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "nchw", "nhwc"]),
    help="Layout of the network's input.",
)
@click.option("--color", type=_ORDER, help="Colour order that the network expects.")
@click.option(
    "--frame-color",
    default="bgr",
    show_default=True,
    type=_ORDER,
    help="Colour order of the line's frames.",
)
@click.option(
    "--scale",
    cls=Option,
    default=255.0,
    show_default=True,
    metavar="NUMBER",
    type=FiniteRange(0, min_open=True),
    help="Grey levels are divided by this, before --mean and --std.",
)
@click.option(
    "--mean",
    default="",
    metavar="A,B,C",
    help="Subtracted after --scale, in the network's order of colours.",
)
@click.option("--std", default="", metavar="A,B,C", help="Divided by, after --mean.")
@click.option("--output-name", metavar="NAME", help="Output to use if the network has several.")
@click.option(
    "--output",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "logits", "probs"]),
    help="What the network outputs.",
)
@click.option(
    "--activation",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "sigmoid", "softmax", "none"]),
    help="Activation that turns the output into probabilities.",
)
@click.option("--output-layout", type=_LAYOUT, help="Layout of a segmenter's map.")
@click.option(
    "--classes",
    default="",
    metavar="A,B,C",
    help="Segmenter: defect classes, without background. Gate: its outputs.",
)
@click.option(
    "--good-class",
    metavar="CLASS",
    help="Gate: the output for good, by its name in --classes; all others are kinds of defects.",
)
@click.option(
    "--kinds-only",
    is_flag=True,
    help="Gate: every output is a kind of defect; it cannot tell good from defective.",
)
@click.option(
    "--good-index",
    type=IntRange(0),
    metavar="N",
    help="Gate: the output for good, from 0; all others are defective.",
)
@click.option(
    "--defect-index",
    type=IntRange(0),
    metavar="N",
    help="Gate: the output for defective, from 0.",
)
@click.option(
    "--background",
    type=click.Choice(["first", "none"]),
    help="Segmenter: whether channel 0 is background.",
)
@click.option(
    "--threshold",
    default="0.5",
    show_default=True,
    metavar="A[,B,C]",
    help="Segmenter with sigmoids: threshold of a pixel; one, or one per class.",
)
@click.option(
    "--stride",
    default="auto",
    show_default=True,
    metavar="N",
    help="Frame pixels per class-map pixel.",
)
@click.option(
    "--model-size",
    metavar="HxW",
    help="Size at which a network of free size runs; the frame's by default.",
)
@click.option(
    "--allow-uniform",
    is_flag=True,
    help="Accept a network that gives the same result on every sample.",
)
@REPLACES_LINEAGE_OPTION
@json_option("edgeinspect.cli._results.models:ModelImport")
def import_(file: Path, as_json: bool, **options: Any) -> None:
    """Import the network in ONNX_FILE.

    Scaling, resizing, activation, arg-max and areas are written into its graph. What the file
    shows is inferred and printed; the rest must be given. The new graph must agree with the
    original on the samples, or nothing is written (exit code 65).
    """
    from edgeinspect.domain import ModelKind
    from edgeinspect.learning.onnx_graphs.importer.importer import import_model
    from edgeinspect.learning.onnx_graphs.importer.request import ImportRequest, find_good_index
    from edgeinspect.storage.model_store import ModelStore

    height, width = _size(options["size"], "--size")
    model_size = options["model_size"]
    model_height, model_width = _size(model_size, "--model-size") if model_size else (None, None)
    classes = tuple(name.strip() for name in options["classes"].split(",") if name.strip())
    good_index = options["good_index"]
    if options["good_class"] is not None:
        if good_index is not None:
            raise UsageError("give --good-class or --good-index, not both")
        good_index = find_good_index(classes, options["good_class"].strip())
    request = ImportRequest(
        file=file,
        kind=ModelKind(options["kind"]),
        height_px=height,
        width_px=width,
        channels=int(options["channels"]),
        color=options["color"],
        frame_color=options["frame_color"],
        layout=_none_if_auto(options["layout"]),
        output_layout=options["output_layout"],
        mean=_parse_numbers(options["mean"], "--mean"),
        std=_parse_numbers(options["std"], "--std"),
        scale=options["scale"],
        output=_none_if_auto(options["output"]),
        activation=_none_if_auto(options["activation"]),
        classes=classes,
        defect_index=options["defect_index"],
        good_index=good_index,
        kinds_only=options["kinds_only"],
        background=options["background"],
        thresholds=_parse_numbers(options["threshold"], "--threshold"),
        stride=_parse_stride(options["stride"]),
        output_name=options["output_name"],
        model_height_px=model_height,
        model_width_px=model_width,
        allow_uniform=options["allow_uniform"],
        replaces_lineage=options["replaces_lineage"],
    )
    store = ModelStore(options["store"]).root
    result = import_model(
        request, store, options["name"], options["samples"], version=options["version"]
    )
    report = result.equivalence
    given = f"scale {request.scale:g}, mean {options['mean'] or '0'}, std {options['std'] or '1'}"
    outcome = ModelImport(
        model=f"{options['name']}/{result.folder.name}",
        folder=str(result.folder),
        notes=list(result.notes),
        samples=report.sample_count,
        tolerance=report.tolerance,
        largest_errors=dict(report.largest_errors),
        result=report.result_summary,
        warning=report.uniform_result or report.doubtful_result or "",
    )
    if outcome.warning:
        echo(f"WARNING: it gives {outcome.warning}: check it before a line uses it", err=True)
    print_result(outcome, as_json, lambda it: _show(it, given))


def _show(outcome: ModelImport, given: str) -> None:
    for note in outcome.notes:
        print_text(f"found: {note}")
    print_text(f"given: {given}: the graph does not show them")
    errors = ", ".join(f"{name} {error:.2g}" for name, error in outcome.largest_errors.items())
    samples = format_number_of(outcome.samples, "sample")
    print_text(f"equal: on {samples} within {outcome.tolerance:g}; errors: {errors}")
    print_text(f"result: {outcome.result}")
    print_text(f"wrote: {outcome.folder}")


def _size(text: str, where: str) -> tuple[int, int]:
    return parse_size(text, where, max_height_px=_MAX_SIDE_PX, max_width_px=_MAX_SIDE_PX)


def _none_if_auto(text: str) -> Any:
    return None if text == "auto" else text


def _parse_numbers(text: str, where: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError as error:
        raise UsageError(
            f"'{text}' is not a list of numbers",
            where=where,
            remedy="For example 0.485,0.456,0.406",
        ) from error


def _parse_stride(text: str) -> int | None:
    if text == "auto":
        return None
    if not is_short_decimal(text):
        raise UsageError(
            f"'{text}' is not a stride", where="--stride", remedy="For example 2, or auto"
        )
    return int(text)
