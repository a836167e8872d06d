// The shift in quarters of an hour: rejects by class, and frames without a verdict.

import { fetchJson, count, failure, h, hours, svg, zone } from "./dom.js";
import { swatch } from "./overlay.js";

const HEIGHT = 300;
const LEFT = 48;
const LABEL = 58;
const BOTTOM = 34;
const NO_VERDICT = "no verdict";
const COLORS = { [NO_VERDICT]: "var(--no-verdict)", "several classes": "#d98cff", "challenge part": "#8fa1b3" };
const OTHER = "#c98f5a";

export function make(_argument, latest) {
  const plot = h("div", { class: "plot" });
  const table = h("div", {});
  const element = h("div", { class: "stack" }, h("section", { class: "panel", "aria-labelledby": "trend-head" }, h("h2", { id: "trend-head", text: "Rejects of this shift, by class" }), plot), table);
  let data = null;
  const show = () => data && draw(plot, table, data, (latest.board && latest.board.classes) || {});
  const load = () => fetchJson("api/trend").then((response) => { data = response; show(); }).catch((error) => plot.replaceChildren(failure(error)));
  load();
  const timer = setInterval(load, 10_000);
  addEventListener("resize", show);
  let colored = Boolean(latest.board);
  return {
    element,
    board() { if (!colored) { colored = true; show(); } }, // the classes' colours have arrived
    close() { clearInterval(timer); removeEventListener("resize", show); },
  };
}

function draw(plot, table, data, classes) {
  const present = new Set(data.buckets.flatMap((bucket) => Object.keys(bucket.classes)));
  const series = [...Object.keys(classes).filter((name) => present.has(name)), ...[...present].filter((name) => !(name in classes))];
  const hasNoVerdict = data.buckets.some((bucket) => bucket.NO_VERDICT);
  const color = (name) => COLORS[name] || classes[name] || OTHER;
  const height = (bucket) => series.reduce((sum, name) => sum + (bucket.classes[name] || 0), 0) + (bucket.NO_VERDICT || 0);
  const top = nice(Math.max(1, ...data.buckets.map(height)));
  const slots = Math.max(1, Math.round((data.end_ms - data.start_ms) / data.bucket_ms));
  const WIDTH = Math.max(300, plot.clientWidth); // drawn to size: text stays legible on a phone
  const step = (WIDTH - LEFT - 8) / slots;
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - 14);
  const marks = [];
  for (let line = 0; line <= 4; line += 1) {
    const value = (top * line) / 4;
    if (!Number.isInteger(value)) continue;
    marks.push(svg("line", { x1: LEFT, x2: WIDTH - 8, y1: y(value), y2: y(value), class: "grid" }), svg("text", { x: LEFT - 8, y: y(value) + 5, "text-anchor": "end", text: count(value) }));
  }
  const room = (3_600_000 / data.bucket_ms) * step;
  const hour = 3_600_000 * Math.max(1, Math.ceil(LABEL / room));
  for (let at = Math.ceil(data.start_ms / 3_600_000) * 3_600_000; at <= data.end_ms; at += hour) {
    const x = LEFT + ((at - data.start_ms) / data.bucket_ms) * step;
    marks.push(svg("text", { x, y: HEIGHT - 8, "text-anchor": at === data.end_ms ? "end" : "middle", text: hours(at) }), svg("line", { x1: x, x2: x, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 5, class: "tick" }));
  }
  const bars = data.buckets.flatMap((bucket) => {
    let below = 0;
    return [...series.map((name) => [name, bucket.classes[name] || 0]), [NO_VERDICT, bucket.NO_VERDICT || 0]].filter(([, value]) => value).map(([name, value]) => {
      const piece = svg("rect", { x: LEFT + bucket.index * step + step * 0.06, width: step * 0.88, y: y(below + value), height: y(below) - y(below + value), fill: color(name) },
        svg("title", { text: `${hours(data.start_ms + bucket.index * data.bucket_ms)}: ${value} ${name}` }));
      below += value;
      return piece;
    });
  });
  const names = hasNoVerdict ? [...series, NO_VERDICT] : series;
  plot.replaceChildren(
    svg("svg", { class: "trend", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Rejects by class, each frame once, for each quarter of an hour since ${hours(data.start_ms)}; the table below has the numbers` }, ...marks, ...bars),
    h("p", { class: "row" }, ...names.map((name) => h("span", { class: "key" }, swatch(color(name)), name)), names.length ? null : h("span", { class: "quiet", text: "No reject in this shift so far." })));
  table.replaceChildren(rows(data, names));
}

function rows(data, names) {
  const body = data.buckets.toReversed().map((bucket) => h("tr", {},
    h("th", { scope: "row", text: hours(data.start_ms + bucket.index * data.bucket_ms) }),
    ...cells(bucket, names)));
  const sum = { classes: {} };
  for (const bucket of data.buckets) {
    for (const name of ["PASS", "REJECT", "NO_VERDICT"]) sum[name] = (sum[name] || 0) + (bucket[name] || 0);
    for (const [name, times] of Object.entries(bucket.classes)) sum.classes[name] = (sum.classes[name] || 0) + times;
  }
  if (body.length > 1) body.unshift(h("tr", { class: "sum" }, h("th", { scope: "row", text: "Shift" }), ...cells(sum, names)));
  return h("section", { class: "panel", "aria-labelledby": "rows-head" }, h("h2", { id: "rows-head", text: "By quarter of an hour" }),
    h("div", { class: "scroll", tabindex: "0", role: "group", "aria-labelledby": "rows-head" }, h("table", {}, h("thead", {}, h("tr", {}, ...[`From, UTC${zone(data.start_ms)}`, "Frames", "Rejects", ...names].map((text, index) => h("th", { scope: "col", class: index ? "number" : "", text })))), h("tbody", {}, ...body))));
}

// Frames, rejects, and one cell per series; the series add up to rejects and no verdicts.
function cells(bucket, names) {
  const numbers = [(bucket.PASS || 0) + (bucket.REJECT || 0) + (bucket.NO_VERDICT || 0), bucket.REJECT, ...names.map((name) => (name === NO_VERDICT ? bucket.NO_VERDICT : bucket.classes[name]))];
  return numbers.map((number) => h("td", { class: "number", text: count(number) }));
}

// The next of 4, 8, 20, 40, 80, 200 …: four lines with whole numbers.
function nice(value) {
  let unit = 4;
  while (unit < value) {
    if (unit * 2 >= value) return unit * 2;
    if (unit * 5 >= value) return unit * 5;
    unit *= 10;
  }
  return unit;
}
