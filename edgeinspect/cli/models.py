"""`edgeinspect models`: bring models from elsewhere into the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeinspect.cli._terminal import echo
from edgeinspect.errors import UsageError
from edgeinspect.system import is_short_decimal

_FOLDER = click.Path(file_okay=False, path_type=Path)
_ORDER = click.Choice(["bgr", "rgb"])
_LAYOUT = click.Choice(["nchw", "nhwc"])


@click.group()
def models() -> None:
    """Bring models from elsewhere under the model contract."""


@models.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--kind", required=True, type=click.Choice(["gate", "segmenter"]))
@click.option("--name", required=True, help="The model's name in the store.")
@click.option("--version", type=click.IntRange(1), help="The next free one otherwise.")
@click.option("--size", required=True, metavar="HxW", help="Size of the line's frames.")
@click.option(
    "--channels",
    required=True,
    type=click.Choice(["1", "3"]),
    help="Of the line's frames: 1 grey, 3 colour.",
)
@click.option(
    "--samples", required=True, type=_FOLDER, help="Pictures on which old and new must agree."
)
@click.option(
    "--out", required=True, type=_FOLDER, help="Model store to write into: <out>/<name>/<version>/."
)
@click.option(
    "--layout",
    default="auto",
    type=click.Choice(["auto", "nchw", "nhwc"]),
    help="Of the network's input.",
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
    default=255.0,
    show_default=True,
    metavar="NUMBER",
    help="Grey levels are divided by it first, ...",
)
@click.option(
    "--mean",
    default="",
    metavar="A,B,C",
    help="... then these are subtracted, in the network's order, ...",
)
@click.option("--std", default="", metavar="A,B,C", help="... and divided by these.")
@click.option("--output-name", metavar="NAME", help="Where the network has several outputs.")
@click.option(
    "--output",
    default="auto",
    type=click.Choice(["auto", "logits", "probs"]),
    help="What the network gives.",
)
@click.option(
    "--activation",
    default="auto",
    type=click.Choice(["auto", "sigmoid", "softmax", "none"]),
    help="What makes probabilities of it.",
)
@click.option("--output-layout", type=_LAYOUT, help="Of a segmenter's map.")
@click.option(
    "--classes",
    default="",
    metavar="A,B,C",
    help="Segmenter: kinds of defect, without background. Gate: its outputs.",
)
@click.option(
    "--good-index",
    type=click.IntRange(0),
    metavar="I",
    help="Gate: the output that stands for good, from 0; defective is the rest.",
)
@click.option(
    "--defect-index",
    type=click.IntRange(0),
    metavar="I",
    help="Gate: the output that stands for defective, from 0.",
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
    help="Segmenter with sigmoids: what a pixel must exceed; one, or one per class.",
)
@click.option("--stride", default="auto", metavar="S", help="Frame pixels per class-map pixel.")
@click.option(
    "--model-size",
    metavar="HxW",
    help="Size to run a network of free size at; the frame's otherwise.",
)
@click.option(
    "--allow-uniform",
    is_flag=True,
    help="Take a network that gives the same answer on every sample.",
)
def import_(file: Path, **options: Any) -> None:
    """Import the ONNX network in FILE.

    Scaling, resizing, activation, arg-max and areas are written into its graph. What can be
    seen in the file is found and printed; what cannot must be said. The new graph must give
    on the samples what the old one gives, or nothing is written (exit code 65).
    """
    from edgeinspect.domain import ModelKind
    from edgeinspect.learning.onnx_graphs.importer.importer import import_model
    from edgeinspect.learning.onnx_graphs.importer.request import ImportRequest

    height, width = _parse_size(options["size"], "--size")
    model_size = options["model_size"]
    model_height, model_width = (
        _parse_size(model_size, "--model-size") if model_size else (None, None)
    )
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
        classes=tuple(name.strip() for name in options["classes"].split(",") if name.strip()),
        defect_index=options["defect_index"],
        good_index=options["good_index"],
        background=options["background"],
        thresholds=_parse_numbers(options["threshold"], "--threshold"),
        stride=_parse_stride(options["stride"]),
        output_name=options["output_name"],
        model_height_px=model_height,
        model_width_px=model_width,
        allow_uniform=options["allow_uniform"],
    )
    done = import_model(
        request, options["out"], options["name"], options["samples"], version=options["version"]
    )
    for finding in done.notes:
        echo(f"found: {finding}")
    taken = f"scale {request.scale:g}, mean {options['mean'] or '0'}, std {options['std'] or '1'}"
    echo(f"told:  {taken}: the graph cannot show it")
    worst = ", ".join(f"{name} {off:.2g}" for name, off in done.equivalence.largest_errors.items())
    echo(
        f"equal: on {done.equivalence.sample_count} samples within "
        f"{done.equivalence.tolerance:g}; worst: {worst}"
    )
    echo(f"says:  {done.equivalence.result_summary}")
    if doubt := done.equivalence.uniform_result or done.equivalence.doubtful_result:
        echo(f"WARNING: it says {doubt}: look at it before a line runs it", err=True)
    echo(f"wrote: {done.folder}")


def _none_if_auto(text: str) -> Any:
    return None if text == "auto" else text


def _parse_numbers(text: str, where: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError as error:
        raise UsageError(
            f"'{text}' is no list of numbers", where=where, remedy="As 0.485,0.456,0.406"
        ) from error


def _parse_stride(text: str) -> int | None:
    if text == "auto":
        return None
    if not is_short_decimal(text):
        raise UsageError(f"'{text}' is no stride", where="--stride", remedy="As 2, or auto")
    return int(text)


def _parse_size(text: str, where: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (
        is_short_decimal(height)
        and is_short_decimal(width)
        and 1 <= int(height) <= 65_536
        and 1 <= int(width) <= 65_536
    ):
        raise UsageError(
            f"'{text}' is no size", where=where, remedy="Give HEIGHTxWIDTH, as 256x1600"
        )
    return int(height), int(width)
