// The line now: live image, counts of the shift with their balance, time, alarms, last rejects.

import { ago, chip, clock, count, h, hours, millis, reason, setText, svg } from "./dom.js";
import { legend, overlay, swatch } from "./overlay.js";
import { session } from "./session.js";

const STAGES = [["queue", "wait"], ["gate", "gate"], ["segmenter", "segmenter"], ["regions", "regions"], ["unknown", "good-parts model"]];

export function make(_argument, latest) {
  let camera = "";
  let shown = 0;
  const frame = overlay("Newest image of the line");
  const caption = h("p", { class: "caption" });
  const cameras = h("div", { class: "tabs", role: "group", "aria-label": "Camera", hidden: true });
  const marks = h("button", { type: "button", class: "small", "aria-pressed": "true", text: "Marks", onclick: () => {
    const on = marks.getAttribute("aria-pressed") !== "true";
    marks.setAttribute("aria-pressed", String(on));
    frame.marks(on);
  } });
  const live = h("section", { class: "panel live", "aria-label": "Live image" },
    frame.element, h("div", { class: "row" }, caption, cameras, marks));

  const counts = countsCard();
  const time = timeCard();
  const alarm = alarmCard();
  const strip = h("ul", { class: "strip", tabindex: "0", "aria-label": "Last rejects" });
  const rejects = h("section", { class: "panel rejects", "aria-labelledby": "rejects-head" }, h("h2", { id: "rejects-head", text: "Last rejects" }), strip);
  const element = h("div", { class: "line-grid" }, live, counts.element, time.element, alarm.element, rejects);
  let stripKey = "";

  function showLive(all) {
    const names = Object.keys(all);
    if (!names.length) return;
    if (!names.includes(camera)) camera = names[0];
    cameras.hidden = names.length < 2;
    if (cameras.childElementCount !== names.length) {
      cameras.replaceChildren(...names.map((name) => h("button", { type: "button", class: "small", "data-camera": name, text: name, onclick: () => { camera = name; shown = 0; showLive(latest.live); } })));
    }
    for (const button of cameras.children) button.setAttribute("aria-pressed", String(button.dataset.camera === camera));
    const data = all[camera];
    if (data.seq === shown) return;
    shown = data.seq;
    const colors = (latest.board && latest.board.classes) || {};
    frame.show(data, colors);
    const verdict = data.verdict;
    caption.replaceChildren(
      ...(verdict ? [chip(verdict.decision), h("span", { class: "words", text: reason(verdict.reason) }), ...legend(verdict, colors), ...(verdict.unknown && verdict.unknown.review ? [h("span", { class: "words", text: "for review" })] : [])] : []),
      h("a", { href: `#/verdict/${data.seq}`, text: `frame ${data.seq}` }),
    );
  }

  return {
    element,
    live: showLive,
    board(board) {
      counts.show(board);
      time.show(board);
      alarm.show(board);
      const key = board.rejects.map((one) => `${one.seq}${one.picture}`).join();
      if (key === stripKey) return;
      stripKey = key;
      strip.replaceChildren(...board.rejects.map((one) => tile(one, board.classes)));
      if (!board.rejects.length) strip.append(h("li", { class: "quiet", text: "none yet" }));
    },
    session() { if (latest.board) alarm.show(latest.board, true); },
  };
}

function tile(one, colors) {
  const label = one.classes.length ? one.classes.join(", ") : reason(one.reason);
  const thumbnail = one.picture
    ? h("img", { src: `thumb/${one.seq}.jpg`, alt: "", width: 128, height: 96, loading: "lazy" })
    : h("span", { class: "no-thumbnail", text: "no image" });
  return h("li", {}, h("a", { href: `#/verdict/${one.seq}`, "aria-label": `Reject, frame ${one.seq}, ${label}, ${clock(one.at_ms)}` }, thumbnail,
    h("span", { class: "tile-words" }, one.classes.length ? swatch(colors[one.classes[0]]) : null, label),
    h("span", { class: "tile-time", text: clock(one.at_ms) + (one.simulated ? " · challenge" : "") }),
    one.label ? h("span", { class: "tile-time", title: one.label, text: one.label }) : null));
}

// -- counts and their balance ------------------------------------------------------------------

function countsCard() {
  const since = h("span", { class: "since" });
  const number = (name) => h("dd", { class: name, text: "–" });
  const cells = { pass: number("pass"), reject: number("reject"), no_verdict: number("no_verdict") };
  const captured = h("strong", { text: "–" });
  const balance = h("p", { class: "balance" });
  const reasons = h("p", { class: "quiet" });
  const element = h("section", { class: "panel counts", "aria-labelledby": "counts-head" },
    h("h2", { id: "counts-head" }, "This shift ", since),
    h("dl", { class: "figures" },
      h("div", {}, h("dt", { text: "Pass" }), cells.pass),
      h("div", {}, h("dt", { text: "Reject" }), cells.reject),
      h("div", {}, h("dt", { text: "No verdict" }), cells.no_verdict)),
    balance, reasons);
  return {
    element,
    show(board) {
      const shift = board.shift;
      setText(since, `since ${hours(shift.start_ms)}`);
      for (const [name, cell] of Object.entries(cells)) setText(cell, count(shift[name]));
      setText(captured, count(shift.captured));
      balance.className = `balance ${shift.holds ? "holds" : "broken"}`;
      setText(balance, `${count(shift.captured)} captured ${shift.holds ? "=" : "≠"} ${count(shift.pass)} + ${count(shift.reject)} + ${count(shift.no_verdict)} ${shift.holds ? "✓" : "✕"}`);
      const named = Object.entries(shift.reasons).sort((a, b) => b[1] - a[1]).slice(0, 3).map(([name, times]) => `${reason(name)} ${count(times)}`);
      if (shift.unknown) named.unshift(`${count(shift.unknown)} not received`);
      setText(reasons, named.length ? `No verdict: ${named.join(", ")}` : "Every frame has its verdict.");
    },
  };
}

// -- time against the budget ----------------------------------------------------------------------

function timeCard() {
  const figure = h("p", { class: "big-figure" }, "–");
  const bar = svg("svg", { class: "budget", viewBox: "0 0 1000 60", preserveAspectRatio: "none", "aria-hidden": "true" });
  const scale = h("p", { class: "scale" });
  const stages = h("ul", { class: "stages" });
  const element = h("section", { class: "panel time", "aria-labelledby": "time-head" },
    h("h2", { id: "time-head", text: "Time per frame" }), figure, bar, scale, stages);
  return {
    element,
    show(board) {
      const data = board.latency;
      if (!data.frames) { setText(figure, "no frame yet"); return; }
      const share = data.p99_us / data.budget_us;
      const level = share > 0.9 ? "hot" : share > 0.7 ? "warm" : "good";
      figure.replaceChildren(h("strong", { class: level, text: `${millis(data.p99_us)} ms` }), h("span", { text: ` p99 of ${millis(data.budget_us)} ms budget` }));
      const x = (us) => Math.min(1000, (us / data.budget_us) * 1000);
      bar.replaceChildren(
        svg("rect", { x: 0, y: 18, width: 1000, height: 24, rx: 4, class: "rail" }),
        svg("rect", { x: 0, y: 18, width: x(data.p99_us), height: 24, rx: 4, class: `share ${level}` }),
        svg("rect", { x: x(data.p50_us) - 3, y: 10, width: 6, height: 40, class: "mark" }),
        svg("rect", { x: Math.min(994, x(data.max_us) - 3), y: 10, width: 6, height: 40, class: "mark faint" }));
      setText(scale, `median ${millis(data.p50_us)} · longest ${millis(data.max_us)} ms, last ${data.frames} frames`);
      stages.replaceChildren(...STAGES.filter(([name]) => data.stages_us[name] !== undefined).map(([name, label]) => h("li", {}, h("span", { text: label }), h("span", { text: `${millis(data.stages_us[name])} ms` }))));
    },
  };
}

// -- the active alarm -------------------------------------------------------------------------------

function alarmCard() {
  const body = h("div", { class: "alarm-body" });
  const element = h("section", { class: "panel alarm-card", "aria-labelledby": "alarm-head" }, h("h2", { id: "alarm-head", text: "Alarm" }), body);
  let key = "";
  return {
    element,
    show(board, force) {
      const newest = board.alarms[0];
      const active = newest && !newest.cleared_ms ? newest : null;
      const next = JSON.stringify([active, newest && newest.cleared_ms]);
      if (next === key && !force) return;
      key = next;
      element.classList.toggle("standing", Boolean(active));
      if (!active) {
        const cameras = board.status ? Object.entries(board.status.cameras).map(([name, state]) => `camera ${name} ${state}`).join(", ") : "";
        body.replaceChildren(h("p", { class: "fine", text: "No active alarm." }),
          cameras ? h("p", { class: "quiet", text: cameras[0].toUpperCase() + cameras.slice(1) + "." }) : null,
          newest ? h("p", { class: "quiet" }, `Last: ${newest.text}, ${hours(newest.raised_ms)} to ${hours(newest.cleared_ms)}. `, h("a", { href: "#/alarms", text: "All" })) : "");
        return;
      }
      body.replaceChildren(...describe(active));
    },
  };
}

const times = (alarm) => (alarm.times > 1 ? `, ${alarm.times} times` : "");

export function describe(alarm) {
  const acknowledged = alarm.by ? h("p", { class: "quiet", text: `Acknowledged by ${alarm.by} at ${clock(alarm.seen_ms)}.` }) : null;
  const button = !alarm.cleared_ms && !alarm.by && !alarm.own && session.may("operator")
    ? h("button", { type: "button", class: "primary", text: "Acknowledge", onclick: () => session.act("api/acknowledge", { alarm: alarm.text }) })
    : null;
  return [
    h("p", { class: "alarm-text" }, h("strong", { text: alarm.text[0].toUpperCase() + alarm.text.slice(1) })),
    alarm.began_as ? h("p", { class: "quiet", text: `First reported as: ${alarm.began_as}.` }) : null,
    h("p", { class: "remedy", text: alarm.remedy }),
    h("p", { class: "quiet", text: alarm.cleared_ms ? `${clock(alarm.raised_ms)} to ${clock(alarm.cleared_ms)}, ${ago(alarm.cleared_ms - alarm.raised_ms)}${times(alarm)}` : `since ${clock(alarm.raised_ms)}${times(alarm)}` }),
    acknowledged, button,
  ].filter(Boolean);
}
