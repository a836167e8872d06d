// Who is logged in, and the actions that need it.

import { h, say } from "./dom.js";

const RANK = { "": 0, viewer: 0, operator: 1, engineer: 2 };
let now = { name: "", role: "", csrf: "", logins: false, challenges: [] };
let button, toast, timer;
const watchers = [];

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": now.csrf },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  let told = null;
  try { told = JSON.parse(text); } catch { /* the fence answers in plain words */ }
  if (!response.ok) {
    if (response.status === 401 && path !== "api/login") await refresh();
    throw new Error((told && told.problem) || text);
  }
  return told;
}

async function refresh() {
  const response = await fetch("api/session");
  if (response.ok) now = await response.json();
  button.hidden = !now.logins;
  say(button, now.name ? `${now.name} · log out` : "Log in");
  watchers.forEach((tell) => tell());
}

function notify(words) {
  say(toast, words);
  toast.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => { toast.hidden = true; }, 6000);
}

function field(label, name, type, complete) {
  return h("label", {}, h("span", { text: label }), h("input", { name, type, autocomplete: complete, required: true, maxlength: 128 }));
}

// A dialog with its own words; resolves to the fields, or null.
export function dialog(title, fields, yes, send) {
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const go = h("button", { type: "submit", class: "primary", text: yes });
  const form = h("form", { method: "dialog" }, h("h2", { text: title }), ...fields, problem,
    h("div", { class: "buttons" }, h("button", { type: "button", text: "Cancel", onclick: () => box.close() }), go));
  const box = h("dialog", { "aria-label": title }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    problem.hidden = true;
    try {
      await send(Object.fromEntries(new FormData(form)));
      box.close();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
    go.disabled = false;
  });
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}

export const session = {
  get name() { return now.name; },
  get challenges() { return now.challenges; },
  may(role) { return RANK[now.role] >= RANK[role] && now.name !== ""; },
  watch(tell) { watchers.push(tell); },

  begin(who, message) {
    button = who;
    toast = message;
    button.addEventListener("click", () => (now.name ? this.logout() : this.login()));
    refresh().catch(() => {});
  },

  login() {
    dialog("Log in", [field("Name", "name", "text", "username"), field("Password", "password", "password", "current-password")], "Log in", async (fields) => {
      await post("api/login", fields);
      await refresh();
      notify(`Logged in as ${now.name}`);
    });
  },

  async logout() {
    await post("api/logout", {}).catch(() => {});
    await refresh();
  },

  async act(path, body) {
    try {
      notify((await post(path, body)).words);
    } catch (error) {
      notify(error.message);
    }
  },

  post,
  notify,
};
