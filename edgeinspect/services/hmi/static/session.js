// The login session, and the actions that need it.

import { h, setText } from "./dom.js";

const RANK = { "": 0, viewer: 0, operator: 1, engineer: 2 };
let current = { name: "", role: "", csrf: "", logins: false, challenges: [] };
let button, toast, timer;
const listeners = [];

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": current.csrf },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  let data = null;
  try { data = JSON.parse(text); } catch { /* the request guard answers in plain text */ }
  if (!response.ok) {
    if (response.status === 401 && path !== "api/login") await refresh();
    throw new Error((data && data.problem) || text);
  }
  return data;
}

async function refresh() {
  const response = await fetch("api/session");
  if (response.ok) current = await response.json();
  button.hidden = !current.logins;
  setText(button, current.name ? `${current.name} · log out` : "Log in");
  listeners.forEach((listener) => listener());
}

function notify(message) {
  setText(toast, message);
  toast.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => { toast.hidden = true; }, 6000);
}

function field(label, name, type, complete) {
  return h("label", {}, h("span", { text: label }), h("input", { name, type, autocomplete: complete, required: true, maxlength: 128 }));
}

// Open a dialog; `send` receives its fields.
export function dialog(title, fields, submitLabel, send) {
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const submit = h("button", { type: "submit", class: "primary", text: submitLabel });
  const form = h("form", { method: "dialog" }, h("h2", { text: title }), ...fields, problem,
    h("div", { class: "buttons" }, h("button", { type: "button", text: "Cancel", onclick: () => box.close() }), submit));
  const box = h("dialog", { "aria-label": title }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    problem.hidden = true;
    try {
      await send(Object.fromEntries(new FormData(form)));
      box.close();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
    submit.disabled = false;
  });
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}

export const session = {
  get name() { return current.name; },
  get challenges() { return current.challenges; },
  may(role) { return RANK[current.role] >= RANK[role] && current.name !== ""; },
  onChange(listener) { listeners.push(listener); },

  start(loginButton, toastElement) {
    button = loginButton;
    toast = toastElement;
    button.addEventListener("click", () => (current.name ? this.logout() : this.login()));
    refresh().catch(() => {});
  },

  login() {
    dialog("Log in", [field("Name", "name", "text", "username"), field("Password", "password", "password", "current-password")], "Log in", async (fields) => {
      await post("api/login", fields);
      await refresh();
      notify(`Logged in as ${current.name}`);
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
