"""`edgeinspect compare`: two models, precisions or backends, paired, on one data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeinspect.cli import _evaluation_options
from edgeinspect.cli._command import Command
from edgeinspect.cli._group_options import GROUPS, group_rule
from edgeinspect.cli._json_output import JSON_FILE, json_option, print_result
from edgeinspect.cli._options import BOXES, GOOD_CLASS, LAYOUT, SEED, STORE
from edgeinspect.cli._paths import MODEL
from edgeinspect.cli._progress import QUIET, progress_bar
from edgeinspect.cli._ranges import IntRange
from edgeinspect.cli._tables import TextTable, format_number_of, number, print_table, print_text
from edgeinspect.errors import UsageError

if TYPE_CHECKING:
    from edgeinspect.learning.evaluate import ComparisonDocument


@click.command(
    cls=Command,
    examples=[
        (
            "Compare a new version with the earlier one",
            "edgeinspect compare strip-gate/1 strip-gate/2 --data castings",
        ),
        (
            "Compare two backends on the same model",
            "edgeinspect compare strip-gate strip-gate --backend ort --backend-b ov "
            "--data strip:7:200",
        ),
    ],
    renamed=_evaluation_options.RENAMED,
)
@click.argument("a", metavar="MODEL_A", type=MODEL)
@click.argument("b", metavar="MODEL_B", type=MODEL)
@_evaluation_options.DATA
@_evaluation_options.SPLIT
@_evaluation_options.FILE_OF_SPLITS
@_evaluation_options.ON_TRAINING_IMAGES
@GROUPS
@_evaluation_options.GATE
@click.option("--gate-b", metavar="MODEL", type=MODEL, help="Gate of MODEL_B, if it differs.")
@_evaluation_options.line_option("Use a line's thresholds for both models.")
@_evaluation_options.BACKEND
@STORE
@click.option("--backend-b", metavar="NAME", help="Backend of MODEL_B, if it differs.")
@_evaluation_options.REPORT
@JSON_FILE
@QUIET
@json_option("edgeinspect.learning.evaluate:ComparisonDocument")
@click.option(
    "--rounds",
    default=2000,
    show_default=True,
    metavar="N",
    type=IntRange(100, 100_000),
    help="Bootstrap samples.",
)
@LAYOUT
@GOOD_CLASS
@BOXES
@SEED
def compare(
    a: str,
    b: str,
    data: str,
    split: str,
    split_file: Path | None,
    on_training_images: bool,
    group_pattern: str | None,
    group_folder: bool,
    group_gap: float | None,
    gate: str | None,
    gate_b: str | None,
    config: Path | None,
    backend: str | None,
    store: Path | None,
    backend_b: str | None,
    report: Path | None,
    json_path: Path | None,
    as_json: bool,
    rounds: int,
    layout: str | None,
    good_classes: tuple[str, ...],
    draws_boxes: bool,
    seed: int,
) -> None:
    """Inspect the same images with two models, and test the differences.

    The models are given as for `evaluate`; the same model twice with --backend-b compares
    backends. Differences are MODEL_B minus MODEL_A.
    """
    from edgeinspect.learning.evaluate import (
        ComparisonDocument,
        DifferenceImages,
        comparison,
        open_image_source,
        render_comparison,
        training_knowledge,
    )

    first = _evaluation_options.load_inspector(a, gate, config, backend, store)
    try:
        second = _evaluation_options.load_inspector(
            b, gate_b or gate, config, backend_b or backend, store
        )
        try:
            if (first.mapper is None) != (second.mapper is None):
                kinds = " with a ".join(_kind_of(one.spec) for one in (first, second))
                raise UsageError(f"a {kinds} cannot be compared")
            source = open_image_source(
                data,
                first.spec,
                split=split,
                split_file=split_file,
                training=training_knowledge((*first.specs, *second.specs)),
                on_training_images=on_training_images,
                groups=group_rule(group_pattern, group_folder, group_gap),
                classes=first.classes,
                good_classes=good_classes,
                draws_boxes=draws_boxes,
                layout=layout,
            )
            images = DifferenceImages(
                strides=(first.stride, second.stride),
                has_masks=source.has_masks,
            )
            with progress_bar("comparing", source.image_count) as done:
                paired = comparison.compare_inspectors(
                    first,
                    second,
                    source,
                    seed=seed,
                    rounds=rounds,
                    progress=done,
                    on_pair=images.add,
                )
        finally:
            second.close()
    finally:
        first.close()
    notes = list(dict.fromkeys((*first.notes, *second.notes, *source.notes)))
    notes += [f"{name} is skipped: {why}" for name, why in source.skipped.items()]
    if report is not None:
        page = render_comparison(
            paired,
            images.render(),
            data=source.where,
            classes=first.classes,
            notes=notes,
        )
        _evaluation_options.write_text(report, page)
    document = ComparisonDocument.from_comparison(
        paired, source.where, notes, source.training_images
    )
    print_result(document, as_json, _print_comparison, path=json_path)


def _print_comparison(paired: ComparisonDocument) -> None:
    """Print the main differences."""
    from edgeinspect.learning.evaluate import describe_discordant_pairs

    print_text(f"A: {paired.a}")
    print_text(f"B: {paired.b}")
    print_text(f"{format_number_of(paired.pictures, 'image')}, {paired.defective} defective")
    print_text(f"same decision on {100 * paired.agreement_ratio:.2f} % of them")
    for name, flips in (
        ("escapes", paired.escapes),
        ("overkills", paired.overkills),
    ):
        if flips is not None:
            print_text(describe_discordant_pairs(name, flips))
    table = TextTable("", number("A"), number("B"), number("B minus A"), "95 % interval")
    for each in (*paired.dice, *([paired.auc] if paired.auc else [])):
        plain = {"AUC": "AUC", "mean": "mean Dice"}
        table.add_row(
            plain.get(each.name, f"Dice of {each.name}"),
            f"{each.a:.4f}",
            f"{each.b:.4f}",
            f"{each.difference:+.4f}",
            f"{each.low:+.4f} to {each.high:+.4f}",
        )
    if len(table):
        print_table(table)
    if paired.groups is not None:
        print_text(f"intervals over {paired.groups} groups of images")
    if paired.pixel_agreement_ratio is not None:
        print_text(f"same class on {100 * paired.pixel_agreement_ratio:.4f} % of the pixels")
    if paired.largest_prob_difference is not None:
        print_text(f"largest change of the probability {paired.largest_prob_difference:.5f}")
    for text in paired.notes:
        print_text(f"note: {text}")


def _kind_of(spec: Any) -> str:
    return "good-parts model" if spec.is_good_parts else str(spec.kind.value)
