"""The HTML report of one calibration, self-contained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from edgeinspect.imaging import upsample_class_map
from edgeinspect.learning.calibrate.acceptance import AcceptanceResult
from edgeinspect.learning.calibrate.calibration import CalibrationResult
from edgeinspect.learning.calibrate.frame_recorder import ChangedFrame
from edgeinspect.learning.calibrate.layer_sensitivity import SensitivityReport
from edgeinspect.learning.evaluate import DetectionBySize
from edgeinspect.learning.reporting import (
    AMBER,
    BLUE,
    Axis,
    Plot,
    display_width_px,
    html,
    overlay_class_map,
    to_display_size,
)

_MAX_PLOTTED_LAYERS = 30


def render_report(result: CalibrationResult) -> str:
    """Return the report as one HTML document."""
    parent = result.config.parent
    body = [
        f"<h1>{escape(str(parent.id))} in INT8</h1>",
        html.paragraph(
            f"Calibration {result.id}, {len(result.selection.calibration)} frames of "
            f"{result.frames.where}, seed {result.config.seed}, method {result.method}; "
            f"verified on {result.acceptance.frames} "
            f"{'labelled' if result.acceptance.is_labelled else 'unlabelled'} frames "
            f"({result.backend}).",
            faint=True,
        ),
        *_tiles(result),
        *(
            html.warning_note(f"The sample differs from the reference: {each}")
            for each in result.drift
        ),
        *(
            (html.warning_note if result.training_images else html.paragraph)(note)
            for note in result.notes
        ),
        *_checks(result),
        *_thresholds(result.acceptance),
        *_recall_by_size(result.acceptance),
        *_changed_frames(result),
        *_methods(result),
        *_sensitivity(result.sensitivity),
        *_layers(result),
    ]
    return html.document(f"{parent.id} in INT8", body)


def _tiles(result: CalibrationResult) -> Iterator[str]:
    acceptance, comparison = result.acceptance, result.acceptance.comparison
    placement = result.placement
    failed = sum(not check.passed for check in acceptance.checks)
    tiles = [
        html.stat_tile(
            "acceptance",
            "accepted" if acceptance.is_accepted else "rejected",
            f"{len(acceptance.checks) - failed} of {len(acceptance.checks)} checks passed",
            kind="good" if acceptance.is_accepted else "bad",
        ),
        html.stat_tile(
            "verdicts that agree",
            f"{100 * comparison.agreement_ratio:.2f} %",
            f"of {acceptance.frames} frames",
        ),
        html.stat_tile(
            "layers in int8",
            f"{len(placement.int8_layers)} of {len(placement.layers)}",
            f"kept in float: {', '.join(result.float_layers) or 'none'}",
        ),
    ]
    if comparison.pixel_agreement_ratio is not None:
        share = f"{100 * comparison.pixel_agreement_ratio:.3f} %"
        tiles.append(html.stat_tile("pixels of one class", share, "the same under FP32 and INT8"))
    if comparison.auc is not None:
        auc = comparison.auc
        tiles.append(
            html.stat_tile(
                "AUC", f"{auc.b:.4f}", f"FP32 {auc.a:.4f}", f"change {auc.difference:+.4f}"
            )
        )
    yield f'<div class="tiles">{"".join(tiles)}</div>'


def _checks(result: CalibrationResult) -> Iterator[str]:
    tables = [_check_table(result.acceptance)]
    if result.first_acceptance is not result.acceptance:
        tables = [
            html.paragraph("With all layers in int8:"),
            _check_table(result.first_acceptance),
            html.paragraph(f"With {', '.join(result.float_layers)} in float:"),
            *tables,
        ]
    yield from _section("Acceptance checks", *tables)


def _check_table(acceptance: AcceptanceResult) -> str:
    return html.table(
        ("metric", "FP32", "INT8", "result", "limit"),
        [
            (
                check.name,
                f"{check.fp32:.4f}",
                f"{check.int8:.4f}",
                "passed" if check.passed else "FAILED",
                check.words,
            )
            for check in acceptance.checks
        ],
    )


def _thresholds(acceptance: AcceptanceResult) -> Iterator[str]:
    """Show what both models reject at old and new thresholds."""
    choice = acceptance.thresholds
    if choice is None or not acceptance.operating_points:
        return
    rows = [
        (f"{words} at {point.name}", *map(_format_percent, shares))
        for point in acceptance.operating_points
        for words, shares in (("recall", point.recall), ("false rejects", point.false_rejects))
    ]
    table = html.table(("", "FP32", "INT8 at FP32's thresholds", "INT8 at its own"), rows)
    how = (
        f"Chosen on the {choice.frames} images of {choice.where}, so that INT8 rejects as many of "
        "them as FP32."
        if choice.where
        else f"As FP32: {choice.note}."
    )
    limits = html.table(
        ("threshold", "FP32", "INT8"),
        [
            (str(name), _format_limit(choice.parent[name]), _format_limit(choice.child[name]))
            for name in choice.parent
        ],
    )
    yield from _section("Thresholds", html.paragraph(how), limits, table)


def _format_limit(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{value['score']:g}, {value['area_px']:g} px"
    return f"{value:g}"


def _recall_by_size(acceptance: AcceptanceResult) -> Iterator[str]:
    before, after = acceptance.recall_by_size
    if before is None or after is None:
        return
    rows = [
        (
            f"{a.low_px} to {a.high_px - 1} px",
            str(a.recall.total),
            _format_percent(a.recall.value),
            _format_percent(b.recall.value),
        )
        for a, b in zip(before.bins, after.bins, strict=True)
    ]
    rows.append(("90 % recall from", "", _describe_a90(before), _describe_a90(after)))
    table = html.table(("area", "defects", "FP32", "INT8"), rows)
    yield from _section("Recall by defect area", table)


def _format_percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _describe_a90(sizes: DetectionBySize) -> str:
    return "never" if sizes.a90_px is None else f"{sizes.a90_px:.0f} px"


def _changed_frames(result: CalibrationResult) -> Iterator[str]:
    changed = result.acceptance.changed_frames
    flips = [each for each in changed if each.rejected[0] != each.rejected[1]]
    yield "<h2>Frames that changed</h2>"
    yield html.paragraph(
        f"{len(flips)} of the {len(changed)} frames shown changed their verdict; the "
        "others changed most without that."
        if changed
        else "No frame changed."
    )
    yield html.legend_paragraph(
        result.config.parent.classes if changed and changed[0].class_maps[0] is not None else ()
    )
    for each in changed:
        yield _changed_frame(each, result.config.parent.output_stride)


def _changed_frame(changed: ChangedFrame, stride: int) -> str:
    height, width = changed.image.shape[:2]
    display_px = display_width_px(height, width)
    if changed.mask is not None:
        images = [("label", overlay_class_map(changed.image, changed.mask, display_px))]
    else:
        images = [("image", to_display_size(changed.image, display_px))]
    for name, class_map in zip(("FP32", "INT8"), changed.class_maps, strict=True):
        if class_map is not None:
            whole = upsample_class_map(class_map, stride, height, width)
            images.append((name, overlay_class_map(changed.image, whole, display_px)))
    verdicts = " to ".join("reject" if each else "pass" for each in changed.rejected)
    before, after = changed.probs
    probs = f", probability {before:.4f} to {after:.4f}" if before is not None and after else ""
    label = {True: "defective, ", False: "good, ", None: ""}[changed.is_defective]
    return html.image_row(changed.name, images, f"{label}{verdicts}{probs}")


def _methods(result: CalibrationResult) -> Iterator[str]:
    measure = next(iter(result.distances.values())).words
    rows = [
        (name, f"{each.total:.6f}", "chosen" if name == result.method else "")
        for name, each in result.distances.items()
    ]
    yield from _section(
        "Range methods",
        html.paragraph(
            f"On {len(result.selection.held_out)} held-out frames: {measure}; lower is better."
        ),
        html.table(("method", "distance", ""), rows),
    )


def _sensitivity(sensitivity: SensitivityReport | None) -> Iterator[str]:
    if sensitivity is None:
        return
    yield "<h2>Layer sensitivity</h2>"
    yield html.paragraph(
        f"The cost of quantizing each layer, on {sensitivity.frames} frames "
        f"({sensitivity.fp32.words}: FP32 {sensitivity.fp32.total:.5f}, "
        f"INT8 {sensitivity.int8.total:.5f}). Layers are ranked by the distance from FP32 with "
        "only this layer in int8, plus its decrease with only this layer in float."
    )
    rows = sensitivity.rows[:_MAX_PLOTTED_LAYERS]
    largest = max(1e-6, *(max(row.distance_int8, row.distance_recovered) for row in rows))
    plot = Plot(
        "Distance from FP32, layer by layer",
        Axis("layers, most sensitive first", 0, len(rows)),
        Axis("distance of the outputs", 0, 1.05 * largest),
    )
    highest = max(60.0, *(row.signal_db for row in rows))
    noise = Plot(
        "Signal-to-noise ratio of the layer's output",
        Axis("layers, most sensitive first", 0, len(rows)),
        Axis("dB, only this layer in int8", 0, highest),
    )
    plot.bars(
        [(i + 0.1, i + 0.5, max(0.0, row.distance_int8)) for i, row in enumerate(rows)],
        AMBER,
        "distance, only this layer in int8",
    )
    plot.bars(
        [(i + 0.5, i + 0.9, max(0.0, row.distance_recovered)) for i, row in enumerate(rows)],
        BLUE,
        "decrease, only this layer in float",
    )
    noise.bars([(i + 0.15, i + 0.85, row.signal_db) for i, row in enumerate(rows)], BLUE)
    yield html.plot_grid((plot, noise))
    table = html.table(
        (
            "layer",
            "channels",
            "signal to noise",
            "distance in int8",
            "decrease in float",
            "task worse by, in int8",
            "task better by, in float",
        ),
        [
            (
                row.layer,
                f"{row.inputs} to {row.outputs}",
                f"{row.signal_db:.1f} dB",
                f"{row.distance_int8:.5f}",
                f"{row.distance_recovered:+.5f}",
                f"{row.alone_int8:+.5f}",
                f"{row.alone_float:+.5f}",
            )
            for row in sensitivity.rows
        ],
    )
    yield f'<div class="card">{table}</div>'


def _layers(result: CalibrationResult) -> Iterator[str]:
    rows = [
        (
            layer.name,
            layer.op,
            f"{layer.inputs} to {layer.outputs}",
            "int8" if layer.quantized else "float",
            layer.why,
        )
        for layer in result.placement.layers
    ]
    yield from _section(
        "Layers", html.table(("layer", "type", "channels", "precision", "reason"), rows)
    )


def _section(title: str, *content: str) -> Iterator[str]:
    yield f"<h2>{title}</h2>"
    yield f'<div class="card">{"".join(content)}</div>'
