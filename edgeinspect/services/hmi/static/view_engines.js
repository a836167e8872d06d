// The models' versions, and the results of candidates in shadow.

import { fetchJson, count, failure, h, millis } from "./dom.js";
import { dialog, session } from "./session.js";

const STATE = { live: "Live", shadow: "In shadow", candidate: "Candidate" };

export function make() {
  const element = h("div", { class: "stack" }, h("p", { class: "panel quiet", text: "Loading …" }));
  let data = null;
  const show = () => data && element.replaceChildren(...data.map(model));
  const load = () => fetchJson("api/engines").then((response) => { data = response; show(); }).catch((error) => element.replaceChildren(failure(error)));
  load();

  function model(one) {
    const head = `engine-${one.name}`;
    return h("section", { class: "panel", "aria-labelledby": head }, h("h2", { id: head, text: one.name }),
      one.problem ? failure(new Error(one.problem)) : null,
      h("ul", { class: "versions" }, ...one.versions.map(version)));
  }

  function version(one) {
    const speed = (one.latency || []).map((each) => `${each.backend} ${millis(each.p50_us)} / ${millis(each.p99_us)} ms`).join(", ");
    const button = one.state !== "live" && !one.problem && session.may("engineer")
      ? h("button", { type: "button", text: "Make it live …", "aria-label": `Make ${one.ref} live`, onclick: () => promote(one.ref) }) : null;
    return h("li", { class: one.state },
      h("div", { class: "row" }, h("strong", { text: one.ref }), h("span", { class: `chip ${one.state}`, text: one.was_live && one.state === "candidate" ? "Was live" : STATE[one.state] }),
        one.precision ? h("span", { text: one.precision.toUpperCase() }) : null, h("span", { class: "spacer" }), button),
      one.problem ? failure(new Error(one.problem)) : h("p", { class: "quiet" }, [one.calibration ? `calibration ${one.calibration}` : "no calibration", `made ${one.created || "–"}`, speed && `p50 / p99: ${speed}`, one.sha256 && one.sha256.slice(0, 12)].filter(Boolean).join(" · ")),
      ...one.shadow.map(comparison));
  }

  function comparison(one) {
    const differences = one.only_live_rejects + one.only_shadow_rejects;
    return h("dl", { class: "shadow" }, ...[["Inspected in shadow", `${count(one.frames)} frames`], ["Different decisions", `${count(differences)} (${one.frames ? ((100 * differences) / one.frames).toFixed(2) : "0"} %)`], ["Only the live one rejects", count(one.only_live_rejects)], ["Only this one rejects", count(one.only_shadow_rejects)], ["p99", `${millis(one.p99_us)} ms`]]
      .map(([label, value]) => h("div", {}, h("dt", { text: label }), h("dd", { text: value }))));
  }

  function promote(ref) {
    dialog(`Make ${ref} live`, [
      h("p", { text: "It is loaded and verified first. The line takes it at its next reload, between two frames. The ledger records who did it and why." }),
      h("label", {}, h("span", { text: "Why" }), h("input", { name: "why", required: true, maxlength: 200, autocomplete: "off" })),
    ], "Make it live", async (fields) => {
      session.notify((await session.post("api/promote", { model: ref, why: fields.why })).words);
      await load();
    });
  }

  return { element, session: show };
}
