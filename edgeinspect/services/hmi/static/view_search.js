// Search in the ledger.

import { fetchJson, chip, failure, h, millis, reason, when, zone } from "./dom.js";

const field = (label, input) => h("label", {}, h("span", { text: label }), input);
const options = (pairs) => pairs.map(([value, text]) => h("option", { value, text }));
let last = "";

export function make(_argument, latest) {
  const board = latest.board;
  const classes = Object.keys((board && board.classes) || {});
  const result = h("div", {});
  const form = h("form", { class: "search", role: "search", "aria-label": "Ledger" },
    field("From", h("input", { type: "datetime-local", name: "since" })),
    field("Until", h("input", { type: "datetime-local", name: "until" })),
    field("Decision", h("select", { name: "decision" }, ...options([["", "any"], ["REJECT", "Reject"], ["PASS", "Pass"], ["NO_VERDICT", "No verdict"]]))),
    field("Class", h("select", { name: "class" }, ...options([["", "any"], ...classes.map((name) => [name, name])]))),
    field("Part", h("input", { name: "part", maxlength: 64, autocomplete: "off" })),
    field("Frame", h("input", { name: "seq", inputmode: "numeric", pattern: "[0-9]*", maxlength: 18, autocomplete: "off" })),
    h("button", { type: "submit", class: "primary", text: "Search" }));
  form.addEventListener("submit", (event) => { event.preventDefault(); find(form, result); });
  const element = h("div", { class: "stack" }, h("section", { class: "panel", "aria-labelledby": "search-head" }, h("h2", { id: "search-head", text: "Search the ledger" }), form), result);
  if (last) { for (const [name, value] of new URLSearchParams(last)) if (form.elements[name]) form.elements[name].value = value; }
  find(form, result);
  return { element };
}

async function find(form, result) {
  const fields = new FormData(form);
  const query = new URLSearchParams();
  for (const [name, value] of fields) {
    if (!value) continue;
    if (name === "since" || name === "until") query.set(`${name}_ms`, String(new Date(value).getTime()));
    else query.set(name, value.trim());
  }
  last = new URLSearchParams(fields).toString();
  try {
    const data = await fetchJson(`api/search?${query}`);
    result.replaceChildren(table(data));
  } catch (error) {
    result.replaceChildren(failure(error));
  }
}

function table(data) {
  const rows = data.rows.map((row) => h("tr", {},
    h("td", {}, h("a", { href: `#/verdict/${row.seq}`, text: String(row.seq) })),
    h("td", { class: "when", text: when(row.at_ms) }),
    h("td", {}, chip(row.decision)),
    h("td", { text: row.classes ? row.classes.replaceAll(",", ", ") : reason(row.reason) }),
    h("td", { class: "detail", text: [row.part_id, row.label].filter(Boolean).join(" · ") }),
    h("td", { class: "wide", text: row.camera }),
    h("td", { class: "number", text: row.defect_prob === null ? "" : row.defect_prob.toFixed(2) }),
    h("td", { class: "number", text: millis(row.total_us) })));
  const title = rows.length ? `${rows.length === data.most ? `The newest ${rows.length}` : rows.length} verdicts` : "No matching verdict.";
  return h("section", { class: "panel", "aria-labelledby": "found-head" }, h("h2", { id: "found-head", text: title }),
    h("div", { class: "scroll", tabindex: "0", role: "group", "aria-labelledby": "found-head" }, h("table", {}, h("thead", {}, h("tr", {}, ...["Frame", `Captured, UTC${zone()}`, "Decision", "Why", "Part or image", "Camera", "Gate", "ms"].map((text, index) => h("th", { scope: "col", class: index > 5 ? "number" : index === 5 ? "wide" : "", text })))), h("tbody", {}, ...rows))));
}
