"""The page of one calibration: self-contained, for the person who signs it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.calibrate.acceptance import Acceptance, Changed
from edgeinspect.learning.calibrate.calibration import Outcome
from edgeinspect.learning.calibrate.layer_sensitivity import Blame
from edgeinspect.learning.evaluate.metrics.detection_by_size import Sizes
from edgeinspect.learning.evaluate.metrics.scores import enlarge
from edgeinspect.learning.reporting import html
from edgeinspect.learning.reporting.overlay import data_uri, fit, overlay, shown_width
from edgeinspect.learning.reporting.svg_plot import AMBER, BLUE, Axis, Plot

_BLAMED_IN_PLOT = 30


def write_page(outcome: Outcome) -> str:
    """A calibration as one HTML document."""
    parent = outcome.request.parent
    body = [
        f"<h1>{escape(str(parent.id))} in INT8</h1>",
        html.words(
            f"Calibration {outcome.id}, {len(outcome.sample.calibration)} frames of "
            f"{outcome.frames.where}, seed {outcome.request.seed}, method {outcome.method}; "
            f"proved on {outcome.acceptance.frames} "
            f"{'labelled' if outcome.acceptance.labelled else 'unlabelled'} frames "
            f"({outcome.backend}).",
            faint=True,
        ),
        *_tiles(outcome),
        *(
            html.note(f"The sample does not look like the reference: {each}")
            for each in outcome.drift
        ),
        *_checks(outcome),
        *_sizes(outcome.acceptance),
        *_changed(outcome),
        *_methods(outcome),
        *_blame(outcome.blame),
        *_layers(outcome),
    ]
    return html.page(f"{parent.id} in INT8", body)


def _tiles(outcome: Outcome) -> Iterator[str]:
    proof, placement = outcome.acceptance, outcome.placement
    failed = sum(not check.passed for check in proof.checks)
    tiles = [
        html.tile(
            "acceptance",
            "accepted" if proof.accepted else "refused",
            f"{len(proof.checks) - failed} of {len(proof.checks)} bounds hold",
            kind="good" if proof.accepted else "bad",
        ),
        html.tile(
            "verdicts that agree",
            f"{100 * proof.paired.agreement_ratio:.2f} %",
            f"of {proof.frames} frames",
        ),
        html.tile(
            "layers in int8",
            f"{len(placement.quantized)} of {len(placement.layers)}",
            f"left in float on purpose: {', '.join(outcome.left_float) or 'none'}",
        ),
    ]
    if proof.paired.pixel_agreement_ratio is not None:
        share = f"{100 * proof.paired.pixel_agreement_ratio:.3f} %"
        tiles.append(html.tile("pixels of one class", share, "the same under FP32 and INT8"))
    if proof.paired.auc is not None:
        auc = proof.paired.auc
        tiles.append(
            html.tile("AUC", f"{auc.b:.4f}", f"FP32 {auc.a:.4f}", f"change {auc.difference:+.4f}")
        )
    yield f'<div class="tiles">{"".join(tiles)}</div>'


def _checks(outcome: Outcome) -> Iterator[str]:
    yield "<h2>Bounds</h2>"
    yield '<div class="card">'
    if outcome.first is not outcome.acceptance:
        yield html.words("With every layer in int8, before any was left in float:")
        yield _check_table(outcome.first)
        yield html.words(f"With {', '.join(outcome.left_float)} in float:")
    yield _check_table(outcome.acceptance)
    yield "</div>"


def _check_table(proof: Acceptance) -> str:
    return html.table(
        ("figure", "FP32", "INT8", "bound", ""),
        [
            (
                check.name,
                f"{check.fp32:.4f}",
                f"{check.int8:.4f}",
                "holds" if check.passed else "PASSED OVER",
                check.words,
            )
            for check in proof.checks
        ],
    )


def _sizes(proof: Acceptance) -> Iterator[str]:
    before, after = proof.sizes
    if before is None or after is None:
        return
    yield "<h2>Recall by area of the defect</h2>"
    yield '<div class="card">'
    rows = [
        (
            f"{a.low_px} to {a.high_px - 1} px",
            str(a.recall.total),
            _percent(a.recall.value),
            _percent(b.recall.value),
        )
        for a, b in zip(before.bins, after.bins, strict=True)
    ]
    rows.append(("found with 90 % from", "", _a90(before), _a90(after)))
    yield html.table(("area", "defects", "FP32", "INT8"), rows)
    yield "</div>"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _a90(sizes: Sizes) -> str:
    return "never" if sizes.a90_px is None else f"{sizes.a90_px:.0f} px"


def _changed(outcome: Outcome) -> Iterator[str]:
    proof = outcome.acceptance
    flips = [each for each in proof.changed if each.rejected[0] != each.rejected[1]]
    yield "<h2>Frames that changed</h2>"
    yield html.words(
        f"{len(flips)} of the {len(proof.changed)} shown changed their verdict; the others "
        "changed most without that."
        if proof.changed
        else "No frame changed at all."
    )
    yield html.key(
        outcome.request.parent.classes
        if proof.changed and proof.changed[0].maps[0] is not None
        else ()
    )
    for each in proof.changed:
        yield _picture(each, outcome.request.parent.output_stride)


def _picture(changed: Changed, stride: int) -> str:
    width = shown_width(*changed.image.shape[:2])
    height, wide = changed.image.shape[:2]
    shown: list[tuple[str, NDArray[np.uint8]]] = []
    if changed.mask is not None:
        shown.append(("truth", overlay(changed.image, changed.mask, width)))
    else:
        shown.append(("picture", fit(changed.image, width)))
    for name, found in zip(("FP32", "INT8"), changed.maps, strict=True):
        if found is not None:
            whole = enlarge(found, stride, height, wide)
            shown.append((name, overlay(changed.image, whole, width)))
    row = "".join(
        f'<div>{name}<img alt="{escape(changed.name)}, {name}" width="{width}" '
        f'src="{data_uri(pixels)}"></div>'
        for name, pixels in shown
    )
    said = " to ".join("reject" if each else "pass" for each in changed.rejected)
    before, after = changed.probs
    probs = f", probability {before:.4f} to {after:.4f}" if before is not None and after else ""
    truth = {True: "defective, ", False: "sound, ", None: ""}[changed.defective]
    head = f"<b>{escape(changed.name)}</b> <span>{truth}{said}{probs}</span>"
    return f'<div class="picture"><div class="small">{head}</div><div class="row">{row}</div></div>'


def _methods(outcome: Outcome) -> Iterator[str]:
    yield "<h2>Range methods</h2>"
    yield '<div class="card">'
    measure = next(iter(outcome.distances.values())).words
    yield html.words(
        f"On {len(outcome.sample.held_out)} held-out frames: {measure}; less is better."
    )
    yield html.table(
        ("method", "distance", ""),
        [
            (name, f"{each.total:.6f}", "chosen" if name == outcome.method else "")
            for name, each in outcome.distances.items()
        ],
    )
    yield "</div>"


def _blame(found: Blame | None) -> Iterator[str]:
    if found is None:
        return
    yield "<h2>Blame</h2>"
    yield html.words(
        f"What each layer costs, on {found.frames} frames ({found.fp32.words}: FP32 "
        f"{found.fp32.total:.5f}, INT8 {found.int8.total:.5f}). The ranking goes by how far the "
        "outputs stray from FP32 when the layer alone is in int8, and by how much of that goes "
        "when it alone is in float."
    )
    rows = found.rows[:_BLAMED_IN_PLOT]
    largest = max(1e-6, *(max(row.strays, row.restores) for row in rows))
    plot = Plot(
        "Distance from FP32, layer by layer",
        Axis("layers, the first to blame first", 0, len(rows)),
        Axis("distance of the outputs", 0, 1.05 * largest),
    )
    loudest = max(60.0, *(row.signal_db for row in rows))
    noise = Plot(
        "Signal to noise of the layer's output",
        Axis("layers, the first to blame first", 0, len(rows)),
        Axis("dB, alone in int8", 0, loudest),
    )
    plot.bars(
        [(i + 0.1, i + 0.5, max(0.0, row.strays)) for i, row in enumerate(rows)],
        AMBER,
        "strays, alone in int8",
    )
    plot.bars(
        [(i + 0.5, i + 0.9, max(0.0, row.restores)) for i, row in enumerate(rows)],
        BLUE,
        "restores, alone in float",
    )
    noise.bars([(i + 0.15, i + 0.85, row.signal_db) for i, row in enumerate(rows)], BLUE)
    yield html.plots((plot, noise))
    yield '<div class="card">'
    yield html.table(
        (
            "layer",
            "channels",
            "signal to noise",
            "strays",
            "restores",
            "task worse by, alone in int8",
            "task better by, alone in float",
        ),
        [
            (
                row.layer,
                f"{row.inputs} to {row.outputs}",
                f"{row.signal_db:.1f} dB",
                f"{row.strays:.5f}",
                f"{row.restores:+.5f}",
                f"{row.alone_int8:+.5f}",
                f"{row.alone_float:+.5f}",
            )
            for row in found.rows
        ],
    )
    yield "</div>"


def _layers(outcome: Outcome) -> Iterator[str]:
    yield "<h2>Layers</h2>"
    yield '<div class="card">'
    yield html.table(
        ("layer", "type", "channels", "runs in", "why"),
        [
            (
                layer.name,
                layer.op,
                f"{layer.inputs} to {layer.outputs}",
                "int8" if layer.quantized else "float",
                layer.why,
            )
            for layer in outcome.placement.layers
        ],
    )
    yield "</div>"
