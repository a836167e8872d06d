// The frame of the page: the line's state, the event stream, and the views.

import { ago, clock, h, setText, WORDS, zone } from "./dom.js";
import { session } from "./session.js";
import * as line from "./view_line.js";
import * as verdict from "./view_verdict.js";
import * as search from "./view_search.js";
import * as trend from "./view_trend.js";
import * as engines from "./view_engines.js";
import * as alarms from "./view_alarms.js";

const SERVER_SILENT_MS = 700;
const VIEWS = { line, search, trend, alarms, engines, verdict };
const TABS = [["line", "Line"], ["search", "Search"], ["trend", "Shift"], ["alarms", "Alarms"], ["engines", "Engines"]];
const STATES = {
  inspecting: ["INSPECTING", "✓"],
  alarm: ["ALARM", "!"],
  not_inspected: ["NOT INSPECTED", "✕"],
};
const at = (id) => document.getElementById(id);

const latest = { beat: null, board: null, live: {}, receivedAt: -Infinity };
let view = null;

// -- state: from the server, or from this clock while the server is silent ------------------

function currentStatus() {
  const silence = performance.now() - latest.receivedAt;
  const beat = latest.beat;
  if (!beat || silence > SERVER_SILENT_MS) {
    return { state: "not_inspected", why: "No connection to the HMI server. The line may be running: check the PC.", remedy: "systemctl status edgeinspect-hmi@LINE", side: null };
  }
  // The age of the heartbeat increases here, independent of the last message.
  if (beat.state !== "not_inspected" && beat.silent_ms + silence > beat.silent_after_ms + SERVER_SILENT_MS) {
    return { ...beat, state: "not_inspected", why: "the daemon is silent" };
  }
  return beat;
}

function capitalize(text) {
  return text ? text[0].toUpperCase() + text.slice(1) : "";
}

function renderStatus() {
  const now = currentStatus();
  const [word, icon] = STATES[now.state];
  const band = at("band");
  const name = `band ${now.state}${now.seen ? " seen" : ""}`;
  if (band.className !== name) band.className = name;
  setText(at("band-word"), now.state === "alarm" ? "INSPECTING" : word);
  setText(at("band-icon"), icon);
  document.body.classList.toggle("not-inspected", now.state === "not_inspected");
  const silent = now.state === "not_inspected" && now.silent_ms > 1500 ? ` for ${ago(now.silent_ms)}` : "";
  setText(at("band-why"), now.state === "inspecting" ? "" : `${now.state === "alarm" ? "Alarm: " : ""}${capitalize(now.why)}${silent}`);
  const side = at("band-side");
  const beat = latest.beat;
  if (!side.firstChild) side.append(h("p", {}), h("p", {}), h("p", {}));
  const [first, second, third] = side.children;
  if (!beat || now.side === null) { setText(first, ""); setText(second, ""); setText(third, ""); return; }
  const status = latest.board && latest.board.status;
  setText(first, `since ${clock(beat.since_ms)}`);
  setText(second, now.state !== "not_inspected" && status ? `${status.rate_hz.toFixed(1)} parts/s` : "");
  setText(third, beat.last ? `last: ${WORDS[beat.last.decision].toLowerCase()}, ${ago(beat.now_ms - beat.last.at_ms)} ago` : "no part yet");
  document.title = `${now.state === "inspecting" ? "✓" : now.state === "alarm" ? "!" : "✕"} ${(latest.board && latest.board.line) || "edgeinspect"}`;
}

// All times on the page are in this zone.
function showClock(ms) {
  const element = at("clock");
  if (!element.firstChild) element.append(h("strong", {}), " ", h("span", {}));
  setText(element.firstChild, clock(ms));
  setText(element.lastChild, `UTC${zone(ms)}`);
}

function connect() {
  const stream = new EventSource("stream");
  const on = (name, handle) => stream.addEventListener(name, (event) => {
    latest.receivedAt = performance.now();
    handle(JSON.parse(event.data));
  });
  on("beat", (beat) => {
    latest.beat = beat;
    renderStatus();
    showClock(beat.now_ms);
    view?.beat?.(beat);
  });
  on("board", (board) => {
    latest.board = board;
    setText(at("line-name"), board.line);
    const hasAlarm = board.alarms.some((alarm) => !alarm.cleared_ms);
    at("nav").querySelector('[data-view="alarms"]').classList.toggle("marked", hasAlarm);
    view?.board?.(board);
  });
  on("live", (live) => {
    latest.live = live;
    view?.live?.(live);
  });
  // Not every browser reconnects a refused or ended stream.
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
  });
}

// -- views --------------------------------------------------------------------------------------

function route() {
  const [name, argument] = location.hash.replace(/^#\/?/, "").split("/");
  const chosen = Object.hasOwn(VIEWS, name) ? name : "line";
  view?.close?.();
  view = VIEWS[chosen].make(argument ? decodeURIComponent(argument) : "", latest);
  at("main").replaceChildren(view.element);
  for (const tab of at("nav").children) {
    const here = tab.dataset.view === chosen;
    if (here) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  if (latest.board) view.board?.(latest.board);
  if (latest.beat) view.beat?.(latest.beat);
  if (latest.live) view.live?.(latest.live);
  scrollTo(0, 0);
}

at("nav").append(...TABS.map(([name, text]) => h("a", { href: `#/${name}`, "data-view": name, text })));
addEventListener("hashchange", () => { route(); at("main").focus({ preventScroll: true }); });
session.onChange(() => { if (latest.board) view?.board?.(latest.board); view?.session?.(); });
session.start(at("who"), at("toast"));
setInterval(renderStatus, 100);
route();
connect();
