// Invisible and bidirectional control characters are shown as escapes.
const HIDDEN = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const escapeHidden = (text) => String(text).replace(HIDDEN, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);

// Elements are built without HTML text, so no text from a line can become markup.

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = escapeHidden(value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

// Written only when changed: a screen reader would announce it five times a second.
export function setText(element, text) {
  const escaped = escapeHidden(text);
  if (element.textContent !== escaped) element.textContent = escaped;
}

const two = (number) => String(number).padStart(2, "0");

export function clock(ms) {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export function hours(ms) {
  return clock(ms).slice(0, 5);
}

export function day(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(ms)}${zone(ms)}`;
}

// The offset of this browser's zone at an instant, such as +01:00.
export function zone(ms = Date.now()) {
  const minutes = -new Date(ms).getTimezoneOffset();
  return `${minutes < 0 ? "-" : "+"}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
}

// The time for today, otherwise date and time.
export function when(ms) {
  return day(ms).slice(0, 10) === day(Date.now()).slice(0, 10) ? clock(ms) : day(ms);
}

export function ago(ms) {
  const seconds = Math.max(0, ms / 1000);
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

export const count = (number) => (number ?? 0).toLocaleString("en-US").replaceAll(",", "\u202f");

export const millis = (us) => (us < 100_000 ? (us / 1000).toFixed(1) : String(Math.round(us / 1000)));

export const WORDS = { PASS: "Pass", REJECT: "Reject", NO_VERDICT: "No verdict" };

const REASONS = {
  clean: "clean", below_thresholds: "below thresholds", defect: "defect", gate: "gate alone",
  deadline: "out of time", overrun: "overrun", shape: "wrong size", capture_error: "unreadable image",
  capture_health: "black, white or frozen image", capture_lost: "frame lost by the camera",
  engine_error: "engine error", restart: "daemon restarted", shutdown: "daemon stopped",
};
export const reason = (name) => REASONS[name] || name;

export function chip(decision) {
  return h("span", { class: `chip ${decision.toLowerCase()}`, text: WORDS[decision] || decision });
}

export async function fetchJson(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  const text = await response.text();
  let data = null;
  try { data = JSON.parse(text); } catch { /* the request guard answers in plain text */ }
  if (!response.ok) throw new Error((data && data.problem) || text || `status ${response.status}`);
  return data;
}

export function failure(error) {
  return h("p", { class: "problem", role: "alert", text: error.message });
}
