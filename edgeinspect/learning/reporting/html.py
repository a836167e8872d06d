"""Pieces of a self-contained HTML document: no script, no font, no external image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging import class_color
from edgeinspect.learning.reporting.overlay import jpeg_data_uri
from edgeinspect.learning.reporting.svg_plot import Plot

STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:#1c2430;
background:#f5f6f8;margin:0}
main{max-width:1060px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:24px;margin:0 0 2px}h2{font-size:18px;margin:34px 0 8px}
h3{font-size:15px;margin:18px 0 6px}
p{margin:6px 0;max-width:78ch}.faint{color:#5b6675}.small{font-size:13px}
.card{background:#fff;border:1px solid #dde2e8;border-radius:6px;padding:14px 16px;margin:10px 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:10px;
margin:16px 0}
.tile{background:#fff;border:1px solid #dde2e8;border-top:4px solid #1f5fbf;border-radius:6px;
padding:10px 14px}
.tile.bad{border-top-color:#c4314b}.tile.warn{border-top-color:#b7791f}
.tile.good{border-top-color:#2f7d4f}
.tile b{display:block;font-size:27px;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{display:block;font-size:13px;color:#5b6675}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(470px,1fr));gap:10px}
.cols{display:flex;flex-wrap:wrap;gap:0 56px;align-items:flex-start}
.plots .text{padding:10px}
.plots figure,.plot{background:#fff;border:1px solid #dde2e8;border-radius:6px;margin:0;
padding:10px}
figcaption{font-weight:600;margin:0 0 4px 4px}svg{max-width:100%;height:auto;display:block}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:4px 12px 4px 0;text-align:right;border-bottom:1px solid #e9edf1}
th:first-child,td:first-child{text-align:left}th{font-weight:600;color:#5b6675;font-size:13px}
td.heat{padding:4px 10px;border:1px solid #fff}
.note{border-left:4px solid #b7791f;background:#fdf6e7;padding:8px 12px;margin:8px 0}
.frame{background:#fff;border:1px solid #dde2e8;border-radius:6px;padding:10px;margin:10px 0;
break-inside:avoid}
.row{display:flex;flex-wrap:wrap;gap:8px}.row div{font-size:12px;color:#5b6675}
.row img{display:block;max-width:100%}
.key i{display:inline-block;width:12px;height:12px;margin:0 5px 0 14px;vertical-align:-1px}
code{font-size:13px}
@media print{body{background:#fff}main{max-width:none;padding:0}}
"""


def document(title: str, body: Iterable[str]) -> str:
    """Return a complete document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def stat_tile(name: str, value: str, *lines: str, kind: str = "") -> str:
    """Return one headline figure. `kind`: `good`, `warn`, `bad` or nothing."""
    details = "".join(f"<span>{escape(line)}</span>" for line in lines if line)
    return (
        f'<div class="tile {kind}"><span>{escape(name)}</span><b>{escape(value)}</b>{details}</div>'
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "") -> str:
    """Return a table whose cells are text."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    title = f"<h3>{escape(caption)}</h3>" if caption else ""
    inner = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div>{title}{inner}</div>"


def confusion_table(
    names: Sequence[str], rows: Sequence[Sequence[int]], *, counted: str = "pixels"
) -> str:
    """Return a confusion matrix, each row as shares of its true class; darker is more."""
    out = ["<table><thead><tr><th>true \\ predicted</th>"]
    out += [f"<th>{escape(name)}</th>" for name in names]
    out.append(f"<th>{escape(counted)}</th></tr></thead><tbody>")
    for name, row in zip(names, rows, strict=True):
        total = sum(row)
        out.append(f"<tr><td>{escape(name)}</td>")
        for count in row:
            share = count / total if total else 0.0
            ink = "#fff" if share > 0.5 else "#1c2430"
            out.append(
                f'<td class="heat" style="background:rgba(31,95,191,{share:.3f});color:{ink}">'
                f"{100 * share:.1f} %</td>"
            )
        out.append(f"<td>{total:,}</td></tr>".replace(",", " "))
    return "".join([*out, "</tbody></table>"])


def plot_grid(plots: Iterable[Plot], text: str = "") -> str:
    """Return plots side by side, followed by `text`, which is HTML."""
    figures = "".join(
        f"<figure><figcaption>{escape(plot.title)}</figcaption>{plot.to_svg()}</figure>"
        for plot in plots
    )
    beside = f'<div class="text">{text}</div>' if text else ""
    return f'<div class="plots">{figures}{beside}</div>'


def image_row(title: str, images: Iterable[tuple[str, NDArray[np.uint8]]], text: str = "") -> str:
    """Return one frame as several labelled images side by side.

    Args:
        title: Name of the frame, text.
        images: (label, BGR image) in display size.
        text: Follows the title.
    """
    cells = "".join(
        f'<div>{escape(label)}<img alt="{escape(title)}, {escape(label)}" '
        f'width="{image.shape[1]}" src="{jpeg_data_uri(image)}"></div>'
        for label, image in images
    )
    head = f'<div class="small"><b>{escape(title)}</b> {escape(text)}</div>'
    return f'<div class="frame">{head}<div class="row">{cells}</div></div>'


def warning_note(text: str) -> str:
    """Return a highlighted warning."""
    return f'<p class="note">{escape(text)}</p>'


def paragraph(text: str, *, faint: bool = False) -> str:
    """Return a paragraph of text."""
    return f'<p class="{"faint small" if faint else ""}">{escape(text)}</p>'


def legend_paragraph(classes: Sequence[str]) -> str:
    """Return the colours of the classes; empty without classes."""
    if not classes:
        return ""
    items = "".join(
        f'<i style="background:{class_color(index)}"></i>{escape(name)}'
        for index, name in enumerate(classes, 1)
    )
    return f'<p class="key small">{items}</p>'
