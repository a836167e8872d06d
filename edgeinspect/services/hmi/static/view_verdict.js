// One verdict: image, regions, stage times and models.

import { fetchJson, chip, day, failure, h, millis, reason, svg } from "./dom.js";
import { overlay, swatch } from "./overlay.js";

const STAGES = [["queue_us", "Waited"], ["gate_us", "Gate"], ["segmenter_us", "Segmenter"], ["regions_us", "Regions and decision"], ["unknown_us", "Good-parts model"]];

export function make(seq, latest) {
  const element = h("div", { class: "stack" }, h("p", { class: "panel quiet", text: "Loading …" }));
  if (!/^[0-9]{1,18}$/.test(seq)) {
    element.replaceChildren(failure(new Error("There is no such frame.")));
    return { element };
  }
  fetchJson(`api/verdict/${seq}`).then((data) => show(element, data, (latest.board && latest.board.classes) || {}))
    .catch((error) => element.replaceChildren(h("section", { class: "panel" }, failure(error), h("p", {}, h("a", { href: "#/search", text: "Search the ledger" })))));
  return { element };
}

function show(element, data, colors) {
  const verdict = data.verdict;
  const frame = overlay(`Image of frame ${verdict.seq}`);
  const marks = h("button", { type: "button", class: "small", "aria-pressed": "true", text: "Marks", onclick: () => {
    const on = marks.getAttribute("aria-pressed") !== "true";
    marks.setAttribute("aria-pressed", String(on));
    frame.marks(on);
  } });
  if (data.picture) frame.show({ ...data, seq: verdict.seq }, colors);
  const step = (number, label) => h("a", { class: "button small", href: `#/verdict/${number}`, text: label });
  element.replaceChildren(
    h("section", { class: "panel", "aria-labelledby": "frame-head" },
      h("div", { class: "row head" }, h("h2", { id: "frame-head", text: `Frame ${verdict.seq}` }), chip(verdict.decision),
        h("span", { class: "words", text: reason(verdict.reason) + (verdict.degraded ? ", with fewer models for lack of time" : "") + (verdict.unknown && verdict.unknown.review ? ", for review" : "") + (verdict.simulated ? ", challenge part" : "") }),
        h("span", { class: "spacer" }), data.picture ? marks : null, verdict.seq > 1 ? step(verdict.seq - 1, "‹ before") : null, step(verdict.seq + 1, "after ›")),
      data.picture ? frame.element : h("p", { class: "quiet", text: "No image: it has left the ring, and no archive has it." }),
      verdict.detail ? h("p", { class: "problem", text: verdict.detail }) : null),
    h("div", { class: "two" }, regions(verdict, colors), h("div", { class: "stack" }, times(verdict), provenance(verdict))),
  );
}

function regions(verdict, colors) {
  const rows = verdict.regions.map((region) => h("tr", { class: region.fatal ? "" : "past" },
    h("td", { class: "whole" }, swatch(colors[region.class_name]), region.class_name),
    h("td", { text: region.fatal ? "reject" : "tolerated" }),
    h("td", { class: "number", text: region.score.toFixed(2) }),
    h("td", { class: "number", text: region.area_mm2.toFixed(1) }),
    h("td", { class: "number", text: `${region.centroid_mm.map((value) => value.toFixed(0)).join(", ")}` }),
    h("td", { class: "number wide", text: `${region.box[2]} × ${region.box[3]}` })));
  const body = rows.length
    ? h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Regions" }, h("table", {}, h("thead", {}, h("tr", {}, ...["Class", "", "Score", "mm²", "at mm", "px"].map((text, index) => (text ? h("th", { scope: "col", class: `${index > 1 ? "number" : ""} ${index === 5 ? "wide" : ""}`, text }) : h("td", {}))))), h("tbody", {}, ...rows)))
    : h("p", { class: "quiet", text: verdict.defect_prob !== null ? "None: the gate decided." : verdict.unknown || verdict.segmenter ? "None." : "No engine inspected it." });
  const more = verdict.regions_total - verdict.regions.length;
  return h("section", { class: "panel", "aria-labelledby": "regions-head" }, h("h2", { id: "regions-head", text: "Regions" }), body,
    more > 0 ? h("p", { class: "quiet", text: `and ${more} more` }) : null,
    h("dl", { class: "facts" }, ...fact("Gate's defect probability", verdict.defect_prob === null ? "–" : verdict.defect_prob.toFixed(4)), ...(verdict.kinds || []).flatMap((one) => fact(h("span", {}, swatch(colors[one.name]), `Gate: ${one.name}`), one.prob.toFixed(4) + (one.name === verdict.kind ? ", reject" : ""))), ...(verdict.unknown ? fact("Good-parts model's score", verdict.unknown.state === "asked" ? verdict.unknown.prob.toFixed(4) : verdict.unknown.state === "no_time" ? "not asked: no time" : "not asked: rejected before") : []), ...fact("Reject code", verdict.reject_code || "–"), ...fact("Severity", verdict.severity || "–"), ...fact("Part", verdict.part_id || "–"), ...(verdict.label ? fact("Image", verdict.label) : [])));
}

function times(verdict) {
  const stages = verdict.stages;
  const whole = Math.max(verdict.budget_us, stages.total_us, 1);
  let x = 0;
  const ran = STAGES.filter(([name]) => stages[name] !== undefined);
  const pieces = ran.map(([name], index) => {
    const width = (stages[name] / whole) * 1000;
    const piece = svg("rect", { x, y: 0, width, height: 30, class: `stage-${index}` });
    x += width;
    return piece;
  });
  return h("section", { class: "panel", "aria-labelledby": "times-head" }, h("h2", { id: "times-head", text: `Decided after ${millis(stages.total_us)} of ${millis(verdict.budget_us)} ms` }),
    svg("svg", { class: "timeline", viewBox: "0 0 1000 30", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { x: 0, y: 0, width: 1000, height: 30, class: "rail" }), ...pieces),
    h("dl", { class: "facts" }, ...ran.flatMap(([name, label], index) => fact(h("span", {}, svg("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, rx: 2, class: `stage-${index}` })), label), `${millis(stages[name])} ms`))));
}

function provenance(verdict) {
  const model = (one) => (one ? `${one.name}/${one.version} · ${one.calibration ? `calibration ${one.calibration}` : "no calibration"} · ${one.sha256.slice(0, 12)}` : "did not run");
  return h("section", { class: "panel", "aria-labelledby": "provenance-head" }, h("h2", { id: "provenance-head", text: "Provenance" }),
    h("dl", { class: "facts long" }, ...fact("Captured", `${day(verdict.captured_at_utc_ns / 1e6)}, camera ${verdict.camera}`), ...fact("Gate", model(verdict.gate)), ...fact("Segmenter", model(verdict.segmenter)), ...(verdict.unknown ? fact("Good-parts model", model(verdict.unknown.model)) : []), ...fact("Configuration", verdict.config_hash || "–"), ...fact("Epoch", String(verdict.epoch))));
}

function fact(label, value) {
  return [h("dt", {}, label), h("dd", { text: String(value) })];
}
