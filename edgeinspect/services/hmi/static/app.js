// The page's frame: the state, the stream that tells it, and the views.

import { ago, clock, h, say, WORDS, zone } from "./dom.js";
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

const known = { beat: null, board: null, live: {}, heardAt: -Infinity };
let view = null;

// -- the state: from the server while it speaks, from this clock when it does not ------------

function truth() {
  const silence = performance.now() - known.heardAt;
  const beat = known.beat;
  if (!beat || silence > SERVER_SILENT_MS) {
    return { state: "not_inspected", why: "This page has lost its server. The line may run: look at the PC.", remedy: "systemctl status edgeinspect-hmi@LINE", side: null };
  }
  // The age of the heartbeat goes on counting here, whatever the server said last.
  if (beat.state !== "not_inspected" && beat.silent_ms + silence > beat.silent_after_ms + SERVER_SILENT_MS) {
    return { ...beat, state: "not_inspected", why: "the daemon is silent" };
  }
  return beat;
}

function sentence(text) {
  return text ? text[0].toUpperCase() + text.slice(1) : "";
}

function showState() {
  const now = truth();
  const [word, icon] = STATES[now.state];
  const band = at("band");
  const name = `band ${now.state}${now.seen ? " seen" : ""}`;
  if (band.className !== name) band.className = name;
  say(at("band-word"), now.state === "alarm" ? "INSPECTING" : word);
  say(at("band-icon"), icon);
  document.body.classList.toggle("not-inspected", now.state === "not_inspected");
  const silent = now.state === "not_inspected" && now.silent_ms > 1500 ? ` for ${ago(now.silent_ms)}` : "";
  say(at("band-why"), now.state === "inspecting" ? "" : `${now.state === "alarm" ? "Alarm: " : ""}${sentence(now.why)}${silent}`);
  const side = at("band-side");
  const beat = known.beat;
  if (!side.firstChild) side.append(h("p", {}), h("p", {}), h("p", {}));
  const [first, second, third] = side.children;
  if (!beat || now.side === null) { say(first, ""); say(second, ""); say(third, ""); return; }
  const status = known.board && known.board.status;
  say(first, `since ${clock(beat.since_ms)}`);
  say(second, now.state !== "not_inspected" && status ? `${status.rate_hz.toFixed(1)} parts/s` : "");
  say(third, beat.last ? `last: ${WORDS[beat.last.decision].toLowerCase()}, ${ago(beat.now_ms - beat.last.at_ms)} ago` : "no part yet");
  document.title = `${now.state === "inspecting" ? "✓" : now.state === "alarm" ? "!" : "✕"} ${(known.board && known.board.line) || "edgeinspect"}`;
}

// Every time on the page is of this zone, unless it says another.
function showClock(ms) {
  const element = at("clock");
  if (!element.firstChild) element.append(h("strong", {}), " ", h("span", {}));
  say(element.firstChild, clock(ms));
  say(element.lastChild, `UTC${zone(ms)}`);
}

function listen() {
  const stream = new EventSource("stream");
  const hear = (name, take) => stream.addEventListener(name, (event) => {
    known.heardAt = performance.now();
    take(JSON.parse(event.data));
  });
  hear("beat", (beat) => {
    known.beat = beat;
    showState();
    showClock(beat.now_ms);
    view?.beat?.(beat);
  });
  hear("board", (board) => {
    known.board = board;
    say(at("line-name"), board.line);
    const standing = board.alarms.some((alarm) => !alarm.cleared_ms);
    at("nav").querySelector('[data-view="alarms"]').classList.toggle("marked", standing);
    view?.board?.(board);
  });
  hear("live", (live) => {
    known.live = live;
    view?.live?.(live);
  });
  // A refused or ended stream is not tried again by every browser.
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 1000);
  });
}

// -- views --------------------------------------------------------------------------------------

function route() {
  const [name, argument] = location.hash.replace(/^#\/?/, "").split("/");
  const chosen = Object.hasOwn(VIEWS, name) ? name : "line";
  view?.close?.();
  view = VIEWS[chosen].make(argument ? decodeURIComponent(argument) : "", known);
  at("main").replaceChildren(view.element);
  for (const tab of at("nav").children) {
    const here = tab.dataset.view === chosen;
    if (here) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  if (known.board) view.board?.(known.board);
  if (known.beat) view.beat?.(known.beat);
  if (known.live) view.live?.(known.live);
  scrollTo(0, 0);
}

at("nav").append(...TABS.map(([name, words]) => h("a", { href: `#/${name}`, "data-view": name, text: words })));
addEventListener("hashchange", () => { route(); at("main").focus({ preventScroll: true }); });
session.watch(() => { if (known.board) view?.board?.(known.board); view?.session?.(); });
session.begin(at("who"), at("toast"));
setInterval(showState, 100);
route();
listen();
