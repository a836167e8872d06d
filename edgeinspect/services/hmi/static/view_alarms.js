// Alarms with times and remedies, events of the line, and the challenge part.

import { fetchJson, failure, h, when, zone } from "./dom.js";
import { dialog, session } from "./session.js";
import { describe } from "./view_line.js";

export function make(_argument, latest) {
  const list = h("ul", { class: "alarms" });
  const tools = h("div", { class: "tools" });
  const table = h("tbody", {});
  const history = h("section", { class: "panel", "aria-labelledby": "events-head" }, h("h2", { id: "events-head", text: "Events of the line" }),
    h("div", { class: "scroll", tabindex: "0", role: "group", "aria-labelledby": "events-head" }, h("table", {}, h("thead", {}, h("tr", {}, ...[`Time, UTC${zone()}`, "What", "By", "Detail"].map((text) => h("th", { scope: "col", text })))), table)));
  const element = h("div", { class: "stack" }, h("section", { class: "panel", "aria-labelledby": "alarms-head" }, h("h2", { id: "alarms-head", text: "Alarms" }), list, tools), history);
  let key = "";

  function showTools() {
    tools.replaceChildren(session.may("operator") && session.challenges.length
      ? h("button", { type: "button", text: "Send a challenge part …", onclick: challenge })
      : h("p", { class: "quiet", text: session.name ? "" : "Log in to acknowledge alarms or to send a challenge part." }));
  }

  fetchJson("api/events").then((events) => {
    table.replaceChildren(...events.map((one) => h("tr", {}, h("td", { class: "when", text: when(one.at_ms) }), h("td", { text: one.kind }), h("td", { text: one.actor }), h("td", { class: "detail", text: plain(one.detail) }))));
  }).catch((error) => history.append(failure(error)));
  showTools();

  return {
    element,
    board(board) {
      const next = JSON.stringify(board.alarms) + session.name;
      if (next === key) return;
      key = next;
      list.replaceChildren(...board.alarms.map((alarm) => h("li", { class: alarm.cleared_ms ? "past" : "standing" }, ...describe(alarm))));
      if (!board.alarms.length) list.append(h("li", { class: "quiet", text: "None so far." }));
    },
    session: showTools,
  };
}

function plain(detail) {
  try {
    return Object.entries(JSON.parse(detail)).map(([name, value]) => `${name}: ${value}`).join(", ");
  } catch {
    return detail;
  }
}

function challenge() {
  const select = h("select", { name: "picture", required: true }, ...session.challenges.map((name) => h("option", { value: name, text: name })));
  dialog("Send a challenge part", [
    h("p", { text: "An image of a known defect goes through the line in place of the next frame. Its verdict is marked; if it is not a reject, an alarm is raised." }),
    h("label", {}, h("span", { text: "Image" }), select),
  ], "Send it", async (fields) => session.notify((await session.post("api/challenge", fields)).words));
}
